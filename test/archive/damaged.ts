/** Archives that were made by a real server, copied into memory, so that each test can damage its own. */
import type { Archive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import { OWN_DIGEST } from "../../src/codec/codec.ts";
import type { Envelope, EnvelopeMeta } from "../../src/codec/envelope.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { archiveOf, backupOptions } from "../backup/taking.ts";
import { startPostgres } from "../harness/postgres.ts";
import { flushLsn, receive } from "../receive/receiving.ts";

export interface RealArchive {
  readonly objects: ReadonlyMap<string, Uint8Array>;
  /** Two, with sealed segments between and behind them. */
  readonly backups: readonly [BackupDocument, BackupDocument];
}

const LOAD = "INSERT INTO t SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 2000) i";

/** Segments of 1 MiB: some sealed ones, and a tail. */
export async function realArchive(): Promise<RealArchive> {
  const store = new MemoryStore();
  await using server = await startPostgres({ segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
  await server.sql("CREATE TABLE t (i int, pad text)");
  await using receiver = receive(server, store);
  await server.sql(LOAD);
  const first = await takeBackup(backupOptions(server, store));
  await server.sql(LOAD);
  await server.sql(LOAD);
  const second = await takeBackup(backupOptions(server, store));
  await server.sql(LOAD);
  await receiver.stored(await flushLsn(server));
  await receiver.stop();
  return { objects: await objectsOf(store), backups: [first, second] };
}

export async function objectsOf(store: Store): Promise<Map<string, Uint8Array>> {
  const objects = new Map<string, Uint8Array>();
  for await (const { key } of store.list("")) {
    const found = await store.get(key);
    if (found !== undefined) objects.set(key, found.body);
  }
  return objects;
}

/** A copy of its own. */
export async function copyOf(
  objects: ReadonlyMap<string, Uint8Array>,
): Promise<{ readonly store: MemoryStore; readonly archive: Archive }> {
  const store = new MemoryStore();
  for (const [key, body] of objects) await store.put(key, body);
  return { store, archive: await archiveOf(store) };
}

export async function replace(
  store: Store,
  key: string,
  change: (body: Buffer) => Uint8Array | Promise<Uint8Array>,
): Promise<void> {
  const found = await store.get(key);
  if (found === undefined) throw new Error(`${key} is not there`);
  const changed = await change(Buffer.from(found.body));
  await store.delete([key]);
  await store.put(key, changed);
}

export function flipped(body: Buffer, at: number): Buffer {
  body[at] = (body[at] ?? 0) ^ 1;
  return body;
}

/** The same WAL object with other content or saying something else of itself, every checksum right. */
export async function reencoded(
  body: Buffer,
  change: { readonly meta?: object; readonly raw?: (raw: Buffer) => Buffer },
): Promise<Uint8Array> {
  const { raw, envelope } = await runCodec.decode(body, { key: "object", rawBytesMax: 1 << 30 });
  const clear = await runCodec.readEnvelope(body, "object");
  const changed = ({ meta }: Envelope): EnvelopeMeta => ({ ...meta, ...change.meta });
  const own = { meta: changed(clear), digest: OWN_DIGEST };
  return (await runCodec.encode(change.raw?.(raw) ?? raw, changed(envelope), own)).stored;
}
