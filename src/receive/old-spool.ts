/**
 * Uploads a spool of the layout before the journal: an archive in a local directory. `receive` does so once, at its start, and
 * removes it then. Objects are immutable, so it can be interrupted and repeated anywhere.
 */
import { type Archive, openFolder } from "../archive/archive.ts";
import { readIdentity } from "../archive/identity.ts";
import { identityKey, parseWalKey, type SegmentPlace, uploadedKey, walPrefix } from "../archive/keys.ts";
import { listBreaks, putBreak } from "../archive/wal/breaks.ts";
import { putGap } from "../archive/wal/put-gap.ts";
import { putPlainOnce } from "../archive/put-once.ts";
import { listTails, readTailEnd, readTailPart, tailCuts } from "../archive/wal/tail.ts";
import { listGaps } from "../archive/wal/gaps.ts";
import { putChunk } from "../archive/wal/objects.ts";
import { digestOf } from "../codec/age/digest.ts";
import type { Codec } from "../codec/codec.ts";
import { LARGE_OBJECT_BYTES } from "../codec/pool.ts";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Store } from "../store/store.ts";
import { addBytes, bytesBetween, minLsn, segmentStart } from "../wal/lsn.ts";
import { copyObject } from "./copy-object.ts";
import { persist } from "./persist.ts";
import { StoreBehind } from "./store-behind.ts";
import { delaysUpload } from "./upload-failures.ts";

export interface OldSpoolOptions {
  /** The directory of the spool, as a store. */
  readonly spool: Store;
  readonly store: Store;
  /** The folder of the generation. */
  readonly cluster: string;
  readonly codec: Codec;
  readonly log: Log;
  /** Told each failure; the upload is tried again. */
  readonly onFailure: (error: unknown) => void;
}

/**
 * Uploads and removes an old spool, if there is one; waits for the store as long as it takes. Nothing can be acknowledged
 * meanwhile: the journal begins where the old spool ends. Rejects `aborted`, and with what contradicts the archive.
 */
export async function replaceOldSpool(options: OldSpoolOptions, signal: AbortSignal): Promise<void> {
  const { spool, cluster, log, onFailure } = options;
  if ((await readIdentity(spool, cluster, { signal })) === undefined) return;
  log.warn("the spool has the layout of an earlier version: it is uploaded, and replaced by a journal");
  const work = async (): Promise<void> => upload(options, signal);
  const what = "the spool of an earlier version";
  await persist(work, { what, log, signal, onFailure, isPassing: delaysUpload });
  // The files of a journal lie in the folder itself: an older version may have run on a spool that had one.
  const own = [identityKey(cluster), uploadedKey(cluster)];
  const keys: string[] = [];
  for await (const { key } of spool.list(`${cluster}/`, { signal })) {
    if (own.includes(key) || key.slice(cluster.length + 1).includes("/")) keys.push(key);
  }
  // Its identity last: what a crash leaves is uploaded and removed again.
  await spool.delete(
    keys.filter((key) => !key.endsWith("/cluster.json")),
    { signal },
  );
  await spool.delete(
    keys.filter((key) => key.endsWith("/cluster.json")),
    { signal },
  );
  log.info("uploaded the spool of the earlier version");
}

/** Histories and gaps before the WAL that follows them; whole segments before tails. */
async function upload({ spool, store, cluster, codec }: OldSpoolOptions, signal: AbortSignal): Promise<void> {
  const local = await openFolder(spool, cluster, { codec, signal });
  const note = {
    read: async () => ((await spool.head(uploadedKey(cluster), { signal })) === undefined ? undefined : "known"),
    write: async () => Promise.resolve(),
    name: `${uploadedKey(cluster)} from the spool`,
  };
  const remote = await new StoreBehind({ store, cluster, codec, note }).open(local.identity, signal);
  for await (const { key } of spool.list(walPrefix(cluster), { signal })) {
    if (!key.endsWith(".history")) continue;
    const found = await spool.get(key, { signal });
    if (found !== undefined) await putPlainOnce(store, key, found.body, { signal });
  }
  for (const gap of await listGaps(local, { signal })) await putGap(remote, gap, { signal });
  for (const { timeline, fromLsn: lsn, toLsn: end, detectedAt } of await listBreaks(local, { signal })) {
    await putBreak(remote, { timeline, record: { lsn, end }, detectedAt: new Date(detectedAt) }, { signal });
  }
  for (const object of await listObjects(local, signal)) {
    await copyObject({ from: local, to: remote }, object, signal);
    if ((await store.head(object.key, { signal })) === undefined) {
      throw new SeawallError("store-lied", `the store confirmed ${object.key} but has none`);
    }
  }
  const { segmentSize } = local.identity;
  for (const { timeline, segment } of await listTails(local, {}, { signal })) {
    await uploadTail({ local, remote }, { timeline, segment, segmentSize }, signal);
  }
}

interface SpooledObject {
  readonly key: string;
  readonly bytes: number;
}

/** Segments and partials, oldest first, so that a hole never precedes what the store has. */
async function listObjects(local: Archive, signal: AbortSignal): Promise<SpooledObject[]> {
  const found: (SpooledObject & Pick<SegmentPlace, "timeline" | "segment">)[] = [];
  for await (const { key, bytes } of local.store.list(walPrefix(local.cluster), { signal })) {
    const parsed = parseWalKey(key, local.identity.segmentSize);
    if (parsed?.kind !== "segment" && parsed?.kind !== "partial") continue;
    found.push({ key, bytes, timeline: parsed.timeline, segment: parsed.segment });
  }
  return found.sort((a, b) => a.timeline - b.timeline || a.segment - b.segment);
}

/** Uploads the part of a tail that the store lacks: as one chunk, or as several when it is long. */
async function uploadTail(
  { local, remote }: { readonly local: Archive; readonly remote: Archive },
  place: SegmentPlace,
  signal: AbortSignal,
): Promise<void> {
  const startLsn = segmentStart(place.segment, place.segmentSize);
  const stored = await readTailEnd(remote, place, { signal });
  const from = stored === undefined ? 0 : bytesBetween(startLsn, stored.endLsn);
  const cuts = await tailCuts(local, place, from, { signal });
  for (let start = from, at = 0; at < cuts.length;) {
    // At least one object of the spool, however long it is.
    let end = cuts[at] ?? start;
    for (at++; at < cuts.length && (cuts[at] ?? 0) - start <= LARGE_OBJECT_BYTES; at++) end = cuts[at] ?? end;
    const part = await readTailPart(local, place, { start, end }, { signal });
    // A sealed segment covers it.
    if (part === undefined) return;
    const endLsn = addBytes(startLsn, end);
    const digest = remote.codec.recipients === undefined ? undefined : await digestTo(local, place, end, signal);
    const verifiedLsn = minLsn(part.verifiedLsn, endLsn);
    const facts = { startLsn: addBytes(startLsn, start), endLsn, verifiedLsn, digest };
    await putChunk(remote, place, start, part.bytes, facts, { signal, confirm: true });
    start = end;
  }
}

/** The digest of the segment's front, for an encrypted chunk that ends there. */
async function digestTo(local: Archive, place: SegmentPlace, end: number, signal: AbortSignal): Promise<string> {
  const front = await readTailPart(local, place, { start: 0, end }, { signal });
  if (front === undefined) throw new SeawallError("internal", "a spool's tail begins behind its segment's start");
  return digestOf(front.bytes);
}
