/**
 * Stores the data of one base backup: its parts, its file index and its manifest. The caller fills them, and puts the document
 * that describes them last (promise 8).
 */
import type { ChecksumAlgorithm } from "../../codec/checksum.ts";
import { FrameSlots } from "../../codec/frame-slots.ts";
import type { PlainWriter } from "../../codec/plain-writer.ts";
import type { Archive } from "../archive.ts";
import { BACKUP_FILES, BACKUP_MANIFEST, backupFilesKey, backupManifestKey } from "../keys.ts";
import type { BackupDocument } from "./document.ts";
import { FileLedger } from "./file-ledger.ts";
import { Parts } from "./parts.ts";
import type { Uploads } from "./uploads.ts";

export interface StoreDataOptions {
  readonly id: string;
  readonly archive: Archive;
  readonly uploads: Uploads;
  readonly signal: AbortSignal;
  /** Threads that compress; memory for more frames than these is taken. */
  readonly codecThreads: number;
  /** Tar bytes that a part of several files is closed at. */
  readonly partBytes: number;
  /** The algorithm of the manifest's checksums; `NONE` when it has none. */
  readonly algorithm: ChecksumAlgorithm | "NONE";
  /** False for a backup of a tool that writes no PostgreSQL manifest. */
  readonly hasManifest: boolean;
}

/** Takes the data. */
export interface DataSinks {
  readonly parts: Parts;
  readonly ledger: FileLedger;
  /** Undefined for a backup without a manifest. */
  readonly manifest: PlainWriter | undefined;
}

/** The members of the backup's document that describe its objects. */
export type DataFacts = Pick<BackupDocument, "bytes" | "storedBytes" | "parts" | "files" | "manifest">;

/** Frames on their way beyond those being compressed: being filled, waiting for the store, held by open parts. */
const SLOTS_BESIDE_THREADS = 8;

/**
 * Runs `fill`, and resolves once all data is stored. `fill` ends each archive and the manifest, and compares the ledger with the
 * manifest. Throws what `fill` throws, and the reason of the signal.
 */
export async function storeData<T>(
  options: StoreDataOptions,
  fill: (sinks: DataSinks) => Promise<T>,
): Promise<{ readonly filled: T; readonly ledger: FileLedger; readonly facts: DataFacts }> {
  const { id, archive, uploads, signal, algorithm } = options;
  const { cluster, codec } = archive;
  const slots = new FrameSlots(options.codecThreads + SLOTS_BESIDE_THREADS);
  const index = await codec.writeFrames({ slots, signal });
  const ledger = new FileLedger({ index, algorithm });
  const parts = new Parts({ archive, backupId: id, uploads, slots, signal, partBytes: options.partBytes });
  await uploads.begin(backupFilesKey(cluster, id), index.body(), () => index.storedBytes);
  const manifest = options.hasManifest ? await codec.writePlain({ signal }) : undefined;
  if (manifest !== undefined) {
    await uploads.begin(backupManifestKey(cluster, id), manifest.body(), () => manifest.storedBytes);
  }
  const filled = await fill({ parts, ledger, manifest }).catch((error: unknown) => {
    throw signal.aborted ? signal.reason : error;
  });
  index.end();
  await uploads.settle();
  const facts: DataFacts = {
    bytes: ledger.bytes,
    storedBytes: parts.storedBytes + index.storedBytes + (manifest?.storedBytes ?? 0),
    parts: parts.facts(),
    files: { name: BACKUP_FILES, entries: ledger.entries, storedBytes: index.storedBytes, crc32c: index.crc32c },
    manifest:
      manifest === undefined
        ? null
        : { name: BACKUP_MANIFEST, bytes: manifest.storedBytes, crc32c: manifest.crc32c, algorithm },
  };
  return { filled, ledger, facts };
}
