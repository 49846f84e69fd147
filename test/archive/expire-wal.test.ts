/** Expiries: the WAL of a backup that ends while it is taken for dead, and the signal of every request. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { expire, type Expired, type ExpireOptions } from "../../src/archive/retention/expire.ts";
import { type Decide, type PlannedExpiry, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { backupDocumentKey, backupPartKey, segmentKey } from "../../src/archive/keys.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { emptyArchive, MIB, putSegments, putWholeBackup } from "./retained.ts";

const OLD = "20260201T000000Z-ffffffff";
const SLOW = "20260202T000000Z-12345678";
const NEW = "20260203T000000Z-00000000";
/** Memory stores stamp objects with the real time: two days later nothing in them is fresh. */
const now = (): Date => new Date(Date.now() + 2 * 86_400_000);
const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, now());
const plan = (): Promise<PlannedExpiry> => planExpiry(archive, decide, { ignoreStandstill: true });
const run = (planned: PlannedExpiry, changes: Partial<ExpireOptions> = {}): Promise<Expired> =>
  expire(archive, planned, { now, decide, withWal: true, ...changes });

let store: FaultyStore;
let archive: Archive;

/** Segments 1 to 30, and whole backups that begin in segments 5 and 20. One that began in segment 12 has stored a part. */
beforeEach(async () => {
  store = new FaultyStore(new MemoryStore());
  archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 30);
  const at = (id: string): string => `2026-02-${id.slice(6, 8)}T00:00:00.000Z`;
  for (const [id, start] of [
    [OLD, "5"],
    [NEW, "14"],
  ] as const) {
    const lsns = { startLsn: `0/${start}00028`, stopLsn: `0/${start}00100` };
    await putWholeBackup(archive, { id, ...lsns, startedAt: at(id), finishedAt: at(id) });
  }
  await store.put(backupPartKey("main", SLOW, "00001.tar.zst"), Buffer.alloc(10));
});

const finishSlow = (): Promise<unknown> =>
  putWholeBackup(archive, { id: SLOW, startLsn: "0/C00028", stopLsn: "0/1600100" });
const segmentsLeft = async (): Promise<number[]> => {
  const keys = new Set(await keysBelow(store, "main/wal/"));
  const key = (segment: number): string =>
    segmentKey("main", { timeline: timelineOf(1), segment: segment as SegmentNumber, segmentSize: MIB });
  return Array.from({ length: 30 }, (_, index) => index + 1).filter((segment) => keys.has(key(segment)));
};
const from = (first: number): number[] => Array.from({ length: 31 - first }, (_, index) => first + index);

describe("a backup that was taken for dead and ends after all keeps the WAL that it needs", () => {
  test("when it ended before the expiry looked again", async () => {
    const planned = await plan();
    expect(planned.plan.leftovers.map(({ id }) => id)).toEqual([SLOW]);
    await finishSlow();
    const { spared } = await run(planned);
    expect(spared).toEqual([{ id: SLOW, why: "it has been finished meanwhile" }]);
    expect(await segmentsLeft()).toEqual(from(12));
  });

  test("when it ended between the second look and its own removal", async () => {
    const planned = await plan();
    const point = store.failpoint({ operation: "delete", key: backupDocumentKey("main", OLD), fault: "stall" });
    const running = run(planned);
    await point.reached;
    await finishSlow();
    point.release();
    const { spared, removed } = await running;
    expect(removed.map(({ id }) => id)).toEqual([OLD]);
    expect(spared).toEqual([{ id: SLOW, why: "it has been finished meanwhile" }]);
    expect(await segmentsLeft()).toEqual(expect.arrayContaining(from(12)));
  });
});
