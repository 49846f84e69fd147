/** Damaged backups that are encrypted, as a restore and a verification meet them. */
import { randomBytes } from "node:crypto";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { backupRecipients } from "../../src/archive/backups/encrypted-to.ts";
import { checkManifest, readIndex } from "../../src/archive/backups/index.ts";
import { PartReader } from "../../src/archive/backups/part-reader.ts";
import { agreeOnEncryption } from "../../src/archive/encryption.ts";
import { backupFilesKey, backupManifestKey, backupPartKey } from "../../src/archive/keys.ts";
import { verifyArchive } from "../../src/archive/verify/verify.ts";
import { Identities } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { layDown } from "../restore/archived-backup.ts";
import { backupDocument, NEW } from "./retained.ts";
import { newArchive, SIZE } from "./tail-archive.ts";

const identity = await generateX25519Identity();
const writing = new Codec({ recipients: await Recipients.of([await identityToRecipient(identity)]) });
const reading = new Codec({ identities: new Identities([identity]) });

interface Laid {
  readonly writer: Archive;
  readonly reader: Archive;
  readonly backup: BackupDocument;
}

function flipped(stored: Buffer, at: number): Buffer {
  const copy = Buffer.from(stored);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

describe("a flipped bit of an encrypted backup is damage of the backup, whatever it is in:", () => {
  const content = randomBytes(200_000);
  const entries = [{ path: "base/1", type: "file", content, mode: 0o600, mtime: 1_700_000_000 }] as const;

  async function laidDown(): Promise<Laid> {
    const store = new MemoryStore();
    const [writer, reader] = [newArchive(store, SIZE, writing), newArchive(store, SIZE, reading)];
    const facts = { ...backupDocument({ id: NEW }), systemIdentifier: writer.identity.systemIdentifier };
    const trees = [{ tablespace: null, files: entries }];
    return { writer, reader, backup: await layDown(writer, { ...facts, trees, tablespaces: [], options: {} }) };
  }

  test.each([
    { what: "the index", keyOf: (id: string) => backupFilesKey("main", id) },
    { what: "the manifest", keyOf: (id: string) => backupManifestKey("main", id) },
  ])("$what", async ({ keyOf }) => {
    const { writer, reader, backup } = await laidDown();
    const key = keyOf(backup.id);
    const stored = Buffer.from((await writer.store.get(key))?.body ?? []);
    await checkManifest(reader, backup, await readIndex(reader, backup));
    const header = [...Array(600).keys()].filter((at) => at % 11 === 0 && at < stored.length);
    for (const at of [...header, stored.length >> 1, stored.length - 1]) {
      await writer.store.delete([key]);
      await writer.store.put(key, flipped(stored, at));
      const reading = readIndex(reader, backup).then(async (index) => checkManifest(reader, backup, index));
      await expect(reading, `byte ${at}`).rejects.toMatchObject({
        ...{ code: "backup-corrupt", message: expect.stringContaining(key) as unknown },
      });
    }
  });

  test("what the index says of recipients, as `show` reads it", async () => {
    const { writer, reader, backup } = await laidDown();
    const key = backupFilesKey("main", backup.id);
    const stored = Buffer.from((await writer.store.get(key))?.body ?? []);
    expect(await backupRecipients(reader, backup.id)).toEqual([await identityToRecipient(identity)]);
    const end = stored.indexOf("-> X25519");
    for (let at = stored.indexOf("-> seawall"); at < end; at += 7) {
      await writer.store.delete([key]);
      await writer.store.put(key, flipped(stored, at));
      await expect(backupRecipients(reader, backup.id), `byte ${at}`).rejects.toMatchObject({
        ...{ code: "backup-corrupt", message: expect.stringContaining(key) as unknown },
      });
    }
    // A verification reports the damage, and does not call the backup plain.
    const facts = { recipients: [await identityToRecipient(identity)], now: "2026-01-01T00:00:00Z" };
    await agreeOnEncryption({ store: writer.store, folder: "main" }, facts, {});
    const progress = { begin: () => undefined, advance: () => undefined, detail: () => undefined };
    const now = (): Date => new Date("2026-11-22T10:00:00Z");
    const report = await verifyArchive(reader, { deep: false, full: true, jobs: 1, progress, random: 7, now });
    expect(report.backups).toEqual([]);
  });

  test("a part, with the file", async () => {
    const { writer, reader, backup } = await laidDown();
    const [part] = backup.parts;
    const files = [...(await readIndex(reader, backup)).byPath.values()];
    const stored = Buffer.from(
      (await writer.store.get(backupPartKey("main", backup.id, part?.name ?? "")))?.body ?? [],
    );
    const read = async (bytes: Uint8Array): Promise<void> => {
      const facts = { subject: "part 1 of a backup", tablespace: null, bytes: part?.bytes ?? 0, entries: files };
      const sink = { begin: () => true, data: () => undefined, close: () => undefined, end: () => undefined };
      const taking = new PartReader({ ...facts, identities: [identity] }, sink);
      // The first piece of the payload is read before the damage comes.
      await taking.push(bytes.subarray(0, 100_000));
      await taking.push(bytes.subarray(100_000));
      await taking.end();
    };
    await read(stored);
    const damaged = (at: number): Promise<void> => read(flipped(stored, at));
    const said = (message: RegExp) => ({ code: "backup-corrupt", message: expect.stringMatching(message) as unknown });
    await expect(damaged(50)).rejects.toMatchObject(said(/^part 1 of a backup: /));
    await expect(damaged(stored.length - 1)).rejects.toMatchObject(
      said(/^part 1 of a backup: .* in or after base\/1$/),
    );
  });
});
