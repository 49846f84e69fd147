/** Waits for room in a spool: at `--spool-max`, or before its disk is full. The wait is the backpressure that the server feels. */
import { setTimeout as sleep } from "node:timers/promises";
import { onAbort } from "../../signals.ts";
import { type DiskSpace, lackOfRoom, noRoom, type SpoolUse } from "../spool-room.ts";
import type { Journal } from "./journal.ts";

export interface RoomOptions {
  readonly journal: Journal;
  readonly spoolBytesMax: number;
  /** Asks the spool's disk; absent where that is not known. */
  readonly diskSpace?: (() => Promise<DiskSpace>) | undefined;
  /** Told once for each wait. */
  readonly onFull: (error: unknown) => void;
  /** A file was found room for. */
  readonly onRoom?: () => void;
}

/** So long until the disk is asked again. */
const LOOK_MS = 1_000;

/** True when one more segment file fits. */
export async function hasRoom(options: RoomOptions): Promise<boolean> {
  return lackOfRoom(await useOf(options)) === undefined;
}

/** Resolves when the journal may have one more segment. Rejects `aborted`. */
export async function waitForRoom(options: RoomOptions, signal: AbortSignal): Promise<void> {
  const { journal, onFull, onRoom } = options;
  for (let isTold = false; ; isTold = true) {
    signal.throwIfAborted();
    const use = await useOf(options);
    const lack = lackOfRoom(use);
    if (lack === undefined || journal.hasFileForOpen) return onRoom?.();
    if (!isTold) onFull(noRoom(lack, use, journal.where));
    const changed = new AbortController();
    using _changing = journal.onChange(() => changed.abort());
    using _ending = onAbort(signal, () => changed.abort());
    await sleep(LOOK_MS, undefined, { signal: changed.signal }).catch(() => undefined);
  }
}

async function useOf({ journal, spoolBytesMax, diskSpace }: RoomOptions): Promise<SpoolUse> {
  // A disk that does not answer is no limit: a write into it fails by itself.
  const disk = await diskSpace?.().catch(() => undefined);
  const { bytes, identity } = journal;
  const diskBytesMax = disk === undefined ? Infinity : bytes + disk.freeBytes;
  return { bytes, spoolBytesMax, diskBytesMax, segmentSize: identity?.segmentSize ?? 0 };
}
