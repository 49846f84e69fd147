/**
 * What the demo proves, from the two folders alone: the archive's objects and the primary's own pg_wal. Sealed segments are
 * decompressed as any zstd tool would, without Seawall's code; the open segment's tail is read as a restore reads it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decompress } from "zstd-napi";
import { type Archive, openArchive } from "../../src/archive/archive.ts";
import { parseWalKey, segmentName, walPrefix } from "../../src/archive/keys.ts";
import { firstDifference } from "../../src/archive/put-once.ts";
import { readTail } from "../../src/archive/wal/tail.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import type { Store } from "../../src/store/store.ts";
import { formatLsn, type Lsn, type SegmentNumber, segmentOf, timelineOf } from "../../src/wal/lsn.ts";

export interface Proof {
  readonly failures: readonly string[];
  readonly segments: number;
  readonly segmentBytes: number;
  readonly storedBytes: number;
  readonly tailBytes: number;
  readonly tip: Lsn | undefined;
}

const CLUSTER = "main";

/** The archive's tip just now, from the store alone. */
export async function tipOf(store: Store): Promise<Lsn | undefined> {
  return (await findTip(await openArchive(store, CLUSTER)))?.lsn;
}

export interface ProofOptions {
  readonly store: Store;
  /** The primary's pg_wal, with every segment since `fromLsn` still in it. */
  readonly walDir: string;
  /** Where archiving began. */
  readonly fromLsn: Lsn;
  /** The archive must reach at least this far. */
  readonly toldLsn: Lsn;
}

/** Compares everything; whatever does not hold is a line in `failures`. */
export async function prove(options: ProofOptions): Promise<Proof> {
  const { store, walDir, fromLsn, toldLsn } = options;
  const failures: string[] = [];
  const archive = await openArchive(store, CLUSTER);
  const { segmentSize } = archive.identity;
  const sealed = new Set<SegmentNumber>();
  let storedBytes = 0;
  for await (const { key, bytes } of store.list(walPrefix(CLUSTER))) {
    const found = parseWalKey(key, segmentSize);
    if (found?.kind !== "segment") continue;
    sealed.add(found.segment);
    storedBytes += bytes;
    const name = segmentName({ ...found, segmentSize });
    const failure = await compareSegment(store, key, join(walDir, name));
    if (failure !== undefined) failures.push(`${name}: ${failure}`);
  }
  const tip = await tipOf(store).catch((error: unknown) => void failures.push(`the tip: ${String(error)}`));
  const open = segmentOf(tip ?? toldLsn, segmentSize);
  for (let segment = segmentOf(fromLsn, segmentSize); segment < open; segment++) {
    if (!sealed.has(segment))
      failures.push(`segment ${segmentName({ timeline: timelineOf(1), segment, segmentSize })} is missing`);
  }
  const tail = await proveTail(archive, open, walDir).catch((error: unknown) => ({ bytes: 0, failure: String(error) }));
  if (tail.failure !== undefined) failures.push(tail.failure);
  if (tip === undefined || tip < toldLsn) {
    failures.push(`the tip is ${tip === undefined ? "nowhere" : formatLsn(tip)}, short of ${formatLsn(toldLsn)}`);
  }
  const segments = sealed.size;
  return {
    failures,
    segments,
    segmentBytes: segments * segmentSize,
    storedBytes,
    tailBytes: tail.bytes,
    tip: tip ?? undefined,
  };
}

async function compareSegment(store: Store, key: string, path: string): Promise<string | undefined> {
  const stored = await store.get(key);
  if (stored === undefined) return "vanished while it was compared";
  try {
    const at = firstDifference(decompress(stored.body), readFileSync(path));
    return at < 0 ? undefined : `differs from the primary's file at byte ${at}`;
  } catch (error) {
    return String(error);
  }
}

async function proveTail(
  archive: Archive,
  segment: SegmentNumber,
  walDir: string,
): Promise<{ readonly bytes: number; readonly failure?: string }> {
  const place = { timeline: timelineOf(1), segment, segmentSize: archive.identity.segmentSize };
  const tail = await readTail(archive, place);
  if (tail === undefined) return { bytes: 0 };
  const bytes = tail.bytes.byteLength;
  const theirs = readFileSync(join(walDir, segmentName(place))).subarray(0, bytes);
  const at = firstDifference(tail.bytes, theirs);
  return at < 0 ? { bytes } : { bytes, failure: `the tail differs from the primary's file at byte ${at}` };
}
