/**
 * Reads one part of a backup without writing anything: CRC-32C of the object, zstd, tar, and each file against the
 * index, which was compared with the server's manifest. A restore does the same on the way to disk
 * (restore/part-writer.ts).
 */
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import type { BackupFile } from "../backups/document.ts";
import { readStored } from "../backups/index.ts";
import { PartReader } from "../backups/part-reader.ts";
import type { PartToCheck, VerifyThread } from "./questions.ts";

/** Resolves with the number of files. Throws `backup-corrupt` naming part and file, and what the store throws. */
export async function checkPart(
  archive: Archive,
  input: PartToCheck & { readonly thread: VerifyThread; readonly onBytes: (bytes: number) => void },
  options: RequestOptions = {},
): Promise<number> {
  const { key, part, entries, identities, thread, onBytes } = input;
  const expected = { key, bytes: part.storedBytes, crc32c: part.crc32c };
  let asked = thread.ask({ kind: "part", input: { key, part, entries, identities } });
  asked.catch(() => undefined);
  try {
    await readStored(archive, expected, options, async (stored) => {
      onBytes(stored.byteLength);
      // The thread reads one piece while the next one arrives.
      await asked;
      const bytes = new Uint8Array(stored);
      asked = thread.ask({ kind: "data", bytes }, [bytes.buffer]);
      asked.catch(() => undefined);
    });
  } finally {
    // Wait for the outstanding answer; its error is rethrown below.
    await Promise.allSettled([asked]);
  }
  await asked;
  return (await thread.ask({ kind: "end" })).count;
}

/** Checks a part while its stored bytes arrive. Throws `backup-corrupt` from any method. */
export class PartContents {
  readonly #reader: PartReader<BackupFile>;
  #files = 0;

  constructor({ key, part, entries, identities }: PartToCheck) {
    this.#reader = new PartReader(
      { subject: key, tablespace: part.tablespace, bytes: part.bytes, entries, identities },
      { begin: () => true, data: () => undefined, close: () => undefined, end: () => void this.#files++ },
    );
  }

  async push(stored: Uint8Array): Promise<void> {
    await this.#reader.push(stored);
  }

  /** The number of files. */
  async end(): Promise<number> {
    await this.#reader.end();
    return this.#files;
  }
}
