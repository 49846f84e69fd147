/** When WAL was stored, by the store's clock: a second clock beside this machine's. */
import type { RequestOptions } from "../../store/store.ts";
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { partialKey, segmentKey } from "../keys.ts";
import { listChunks } from "./tail.ts";
import { locateTip } from "./tip.ts";

/** The last segments of a timeline of which something is stored. */
export interface LastStored {
  readonly timeline: TimelineId;
  readonly sealed: SegmentNumber | undefined;
  readonly partial: SegmentNumber | undefined;
  readonly tail: SegmentNumber | undefined;
}

/** The latest date of these objects, in milliseconds; undefined when none of them is there. */
export async function storedAtMs(
  archive: Archive,
  { timeline, sealed, partial, tail }: LastStored,
  { signal }: RequestOptions = {},
): Promise<number | undefined> {
  const { cluster, store, identity } = archive;
  const place = (segment: SegmentNumber) => ({ timeline, segment, segmentSize: identity.segmentSize });
  const keys = [
    ...(sealed === undefined ? [] : [segmentKey(cluster, place(sealed))]),
    ...(partial === undefined ? [] : [partialKey(cluster, place(partial))]),
    ...(tail === undefined ? [] : (await listChunks(archive, place(tail), { signal })).map(({ key }) => key)),
  ];
  const times: number[] = [];
  for (const key of keys) {
    const found = await store.head(key, { signal });
    if (found !== undefined) times.push(found.modifiedAt.getTime());
  }
  return times.length === 0 ? undefined : Math.max(...times);
}

/** WAL that was stored so lately comes from a receiver that still runs: one that has WAL stores some of it every second. */
const ALIVE_MS = 120_000;

/** Says, for people, that an archive is still written; empty for one that is not. `newestMs`: when its newest WAL was stored. Pure. */
export function aliveObstacles(newestMs: number | undefined, now: Date): string[] {
  const isAlive = newestMs !== undefined && now.getTime() - newestMs < ALIVE_MS;
  return isAlive ? ["a receiver still stores WAL: the newest is less than two minutes old"] : [];
}

/** When the newest WAL on the line was stored; undefined without WAL. */
export async function newestWalMs(archive: Archive, options: RequestOptions = {}): Promise<number | undefined> {
  const tip = await locateTip(archive, options);
  if (tip === undefined) return undefined;
  const { timeline, segment } = tip;
  const sealed = segment === 0 ? undefined : ((segment - 1) as SegmentNumber);
  return storedAtMs(archive, { timeline, sealed, partial: segment, tail: segment }, options);
}
