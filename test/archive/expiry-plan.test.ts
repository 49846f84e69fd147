/** The facts that an expiry reads before it decides, one at a time: each of them protects data. */
import type { WalPlan } from "../../src/archive/retention/model.ts";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import {
  type ExpiryFacts,
  type ExpiryPlan,
  lookAtUnfinished,
  planExpiry,
} from "../../src/archive/retention/expiry-plan.ts";
import { putMark } from "../../src/archive/retention/marks.ts";
import { backupManifestKey, backupPartKey, gapKey, historyKey, lineKey, segmentKey } from "../../src/archive/keys.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { emptyArchive, MIB, NEW, OLD, putBackupDocument, putSegments, putWholeBackup } from "./retained.ts";
import { putChunkWithDigest, putPartialWithDigest } from "./tail-archive.ts";

const HALF = "20260203T120000Z-12345678";

let store: MemoryStore;
let archive: Archive;

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.parse("2026-03-01T00:00:00.000Z") });
  store = new MemoryStore();
  archive = await emptyArchive(store);
});
afterEach(() => vi.useRealTimers());

/** Whatever is stored next is stored at this minute. */
const minute = (value: number): number => Date.parse("2026-03-01T00:00:00.000Z") + value * 60_000;
const atMinute = (value: number): void => void vi.setSystemTime(minute(value));

const place = (timeline: number, segment: number) => ({
  ...{ timeline: timelineOf(timeline), segment: segment as SegmentNumber, segmentSize: MIB },
});
const lsnAt = (segment: number, offset = 0): Lsn => BigInt(segment * MIB + offset) as Lsn;
const options = {
  confirm: false,
};
const wholeFacts = (segment: number, bytes: number) => ({
  ...{ startLsn: lsnAt(segment), endLsn: lsnAt(segment, bytes), verifiedLsn: lsnAt(segment, bytes) },
});
const storePartial = (timeline: number, segment: number, bytes: number): Promise<unknown> =>
  putPartialWithDigest(archive, place(timeline, segment), new Uint8Array(MIB), wholeFacts(segment, bytes), options);
const storeChunk = (timeline: number, segment: number, bytes: number): Promise<unknown> =>
  putChunkWithDigest(archive, place(timeline, segment), 0, new Uint8Array(bytes), wholeFacts(segment, bytes), options);
const fork = (timeline: number, parent: number, at: string): Promise<unknown> =>
  store.put(historyKey("main", timelineOf(timeline)), Buffer.from(`${parent}\t${at}\tx\n`));

const noWal: WalPlan = { goes: [], partials: [], tails: [], gaps: [], staysBecause: undefined };

/** Returns the facts that the decision of an expiry is given; the decision keeps everything. */
async function factsNow(more: { ignoreStandstill?: boolean } = {}): Promise<ExpiryFacts> {
  let seen: ExpiryFacts | undefined;
  await planExpiry(
    archive,
    (facts) => {
      seen = facts;
      return planRetention(facts, {}, new Date());
    },
    more,
  );
  if (seen === undefined) throw new Error("no decision was asked for");
  return seen;
}

describe("the newest WAL was stored", () => {
  test("when the last segment of the line was", async () => {
    atMinute(1);
    await putSegments(archive, 1, 1, 3);
    atMinute(5);
    await putSegments(archive, 1, 4, 4);
    const { newestWalMs, timelineEndsMs } = await factsNow();
    expect(newestWalMs).toBe(minute(5));
    expect([...timelineEndsMs]).toEqual([]);
  });

  test("never, where there is none; and at no moment that counts for a test that plays with time", async () => {
    expect((await factsNow()).newestWalMs).toBeUndefined();
    await putSegments(archive, 1, 1, 3);
    expect((await factsNow({ ignoreStandstill: true })).newestWalMs).toBeUndefined();
    expect((await factsNow({ ignoreStandstill: false })).newestWalMs).toBe(minute(0));
  });

  test("on each timeline beside the line when its last segment, partial or chunk was", async () => {
    await fork(2, 1, "0/600000");
    await fork(3, 2, "0/900000");
    await fork(4, 3, "0/C00000");
    atMinute(10);
    await putSegments(archive, 1, 2, 5);
    atMinute(20);
    await putSegments(archive, 2, 6, 8);
    atMinute(25);
    await storePartial(2, 9, 100);
    atMinute(30);
    await putSegments(archive, 3, 9, 11);
    atMinute(35);
    await storeChunk(3, 12, 100);
    atMinute(31);
    await putSegments(archive, 4, 12, 12);
    const facts = await factsNow();
    expect(facts.tip?.timeline).toBe(4);
    expect([...facts.timelineEndsMs]).toEqual([
      [1, minute(10)],
      [2, minute(25)],
      [3, minute(35)],
    ]);
    expect(facts.newestWalMs).toBe(minute(35));
  });

  test("when its last run was, whatever is stored again further back", async () => {
    await fork(2, 1, "0/600000");
    atMinute(10);
    await putSegments(archive, 1, 4, 5);
    atMinute(20);
    await putSegments(archive, 1, 1, 2);
    await putSegments(archive, 2, 6, 6);
    const { timelineEndsMs } = await factsNow();
    expect([...timelineEndsMs]).toEqual([[1, minute(10)]]);
  });

  test("never on a timeline whose last segment vanished since it was listed", async () => {
    await fork(2, 1, "0/600000");
    await putSegments(archive, 1, 4, 5);
    atMinute(20);
    await putSegments(archive, 2, 6, 6);
    const gone = segmentKey("main", place(1, 5));
    const head = store.head.bind(store);
    store.head = (key, request) => (key === gone ? Promise.resolve(undefined) : head(key, request));
    const { timelineEndsMs, newestWalMs } = await factsNow();
    expect([...timelineEndsMs]).toEqual([]);
    expect(newestWalMs).toBe(minute(20));
  });
});

describe("a backup is useless for the policy", () => {
  const ids = async (): Promise<string[]> => [...(await factsNow()).unusable];
  beforeEach(async () => {
    await putWholeBackup(archive, { id: OLD, startLsn: "0/500028", stopLsn: "0/680000" });
    await putWholeBackup(archive, { id: NEW, startLsn: "0/900028", stopLsn: "0/980000" });
  });

  test("when WAL up to its end is missing, and no other", async () => {
    await putSegments(archive, 1, 5, 5);
    await putSegments(archive, 1, 9, 9);
    expect(await ids()).toEqual([OLD]);
  });

  test("never, when all WAL is there", async () => {
    await putSegments(archive, 1, 5, 9);
    expect(await ids()).toEqual([]);
  });

  test("when no WAL is there at all", async () => {
    expect((await ids()).sort()).toEqual([OLD, NEW]);
  });
});

describe("damage that keeps WAL", () => {
  test("is none in a sound archive, nor in one without WAL", async () => {
    expect((await factsNow()).damaged).toEqual([]);
    await putSegments(archive, 1, 5, 9);
    expect((await factsNow()).damaged).toEqual([]);
  });

  test("is the end of the WAL where it cannot be found", async () => {
    await store.put(lineKey("main", 1), Buffer.from("{"));
    expect((await factsNow()).damaged).toEqual([]);
    await putSegments(archive, 1, 5, 9);
    expect((await factsNow()).damaged).toEqual(["the end of the WAL"]);
  });

  test("is a backup's document and a history that cannot be read", async () => {
    await putSegments(archive, 1, 5, 9);
    await store.put(`main/backups/${OLD}/backup.json`, Buffer.from("{"));
    await store.put(historyKey("main", timelineOf(2)), Buffer.from("no history\n"));
    expect((await factsNow()).damaged).toEqual([`the document of backup ${OLD}`, "main/wal/00000002.history"]);
  });
});

describe("an unfinished backup", () => {
  test("counts Seawall's objects below its id, and takes the newest object's time as its own", async () => {
    atMinute(7);
    await store.put(backupPartKey("main", HALF, "00001.tar.zst"), Buffer.alloc(30));
    atMinute(9);
    await store.put(backupPartKey("main", HALF, "00002.tar.zst"), Buffer.alloc(12));
    atMinute(8);
    await store.put(backupPartKey("main", HALF, "00003.tar.zst"), Buffer.alloc(1));
    atMinute(50);
    await store.put(`main/backups/${HALF}/notes.txt`, Buffer.alloc(500));
    const known = { id: HALF, startedAtMs: 5, isMarked: true };
    const looked = { ...known, newestObjectMs: minute(9), storedBytes: 43 };
    expect(await lookAtUnfinished(archive, known)).toEqual(looked);
    const startedAtMs = Date.parse("2026-02-03T12:00:00.000Z");
    expect((await factsNow()).unfinished).toEqual([{ ...looked, startedAtMs, isMarked: false }]);
    await putMark(archive, HALF, new Date());
    expect((await factsNow()).unfinished).toEqual([{ ...looked, startedAtMs }]);
  });

  test("of which nothing of ours is stored was never added to", async () => {
    const known = { id: HALF, startedAtMs: 5, isMarked: false };
    await store.put(`main/backups/${HALF}/notes.txt`, Buffer.alloc(500));
    expect(await lookAtUnfinished(archive, known)).toEqual({ ...known, newestObjectMs: undefined, storedBytes: 0 });
  });
});

describe("a backup of which an object is missing", () => {
  const found = async (): Promise<object> => {
    const { backups, unfinished } = await factsNow();
    return { backups: backups.map(({ id }) => id), unfinished: unfinished.map(({ id }) => id) };
  };
  beforeEach(async () => {
    await putSegments(archive, 1, 5, 9);
    await putWholeBackup(archive, { id: OLD, startLsn: "0/500028", stopLsn: "0/680000" });
    await putWholeBackup(archive, { id: NEW, startLsn: "0/700028", stopLsn: "0/780000" });
  });

  test("is a backup all the same while no expiry has marked it", async () => {
    await store.delete([backupManifestKey("main", OLD)]);
    expect(await found()).toEqual({ backups: [OLD, NEW], unfinished: [] });
  });

  test("is what an expiry left of it when it is marked", async () => {
    await store.delete([backupManifestKey("main", OLD)]);
    await store.put(backupPartKey("main", HALF, "00001.tar.zst"), Buffer.alloc(30));
    await putMark(archive, OLD, new Date());
    expect(await found()).toEqual({ backups: [NEW], unfinished: [HALF, OLD] });
    expect((await factsNow()).unfinished[1]?.startedAtMs).toBe(Date.parse("2026-02-03T04:05:06.000Z"));
  });

  test("is none: a marked one that is whole is a backup", async () => {
    await putMark(archive, OLD, new Date());
    expect(await found()).toEqual({ backups: [OLD, NEW], unfinished: [] });
  });
});

describe("a plan", () => {
  /** Keeps NEW only, and lets go of the given WAL. */
  async function planned(wal: Partial<WalPlan> | ((facts: ExpiryFacts) => Partial<WalPlan>)) {
    return planExpiry(archive, (facts): ExpiryPlan => {
      const keeps = facts.backups.filter(({ id }) => id === NEW).map((backup) => ({ backup, reasons: [] }));
      const goes = facts.backups.filter(({ id }) => id !== NEW);
      const more = typeof wal === "function" ? wal(facts) : wal;
      return { keeps, goes, leftovers: facts.unfinished, running: [], wal: { ...noWal, ...more } };
    });
  }
  beforeEach(async () => {
    await putSegments(archive, 1, 5, 9);
    await putBackupDocument(archive, { id: OLD, startLsn: "0/500028", stopLsn: "0/680000" });
    await putBackupDocument(archive, { id: NEW, startLsn: "0/700028", stopLsn: "0/780000" });
  });

  test("counts the bytes of backups, of what failed ones left, and of WAL together", async () => {
    await store.put(backupPartKey("main", HALF, "00001.tar.zst"), Buffer.alloc(30));
    const bytes = async (segment: number): Promise<number> =>
      (await store.head(segmentKey("main", place(1, segment))))?.bytes ?? 0;
    const first = timelineOf(1);
    const goes = [{ timeline: first, first: 5 as SegmentNumber, last: 6 as SegmentNumber }];
    const { wal, storedBytes } = await planned({ goes });
    expect(wal).toEqual({ segments: 2, storedBytes: (await bytes(5)) + (await bytes(6)) });
    // A backup of these tests says that it takes 1000.
    expect(storedBytes).toBe(1_000 + 30 + wal.storedBytes);
  });

  test("shows the windows as they are and as they will be", async () => {
    const { windowsBefore, windowsAfter } = await planned({});
    const shown = (windows: typeof windowsBefore): unknown => windows.map(({ backup, toLsn }) => [backup, toLsn]);
    expect(shown(windowsBefore)).toEqual([[OLD, parseLsn("0/A00000")]]);
    expect(shown(windowsAfter)).toEqual([[NEW, parseLsn("0/A00000")]]);
  });

  test("shows no gap that goes", async () => {
    const [fromLsn, toLsn] = [parseLsn("0/800000"), parseLsn("0/900000")];
    const gap = { timeline: timelineOf(1), fromLsn, toLsn, detectedAt: "", reason: "lost" };
    await store.put(gapKey("main", gap.timeline, fromLsn, toLsn), encodeGap(gap));
    const reach = async (wal: (facts: ExpiryFacts) => Partial<WalPlan>) =>
      (await planned(wal)).windowsAfter.map(({ toLsn: end }) => end);
    expect(await reach(() => ({}))).toEqual([parseLsn("0/800000")]);
    expect(await reach(({ gaps }) => ({ gaps }))).toEqual([parseLsn("0/A00000")]);
  });
});

test("an abort ends the reading of an unfinished backup and of the times of WAL", async () => {
  await putSegments(archive, 1, 5, 9);
  const known = { id: HALF, startedAtMs: 5, isMarked: false };
  await expect(lookAtUnfinished(archive, known, { signal: AbortSignal.abort() })).rejects.toThrow();
  const stop = new AbortController();
  const head = store.head.bind(store);
  store.head = (key, request) => (stop.abort(), head(key, request));
  const planning = planExpiry(archive, (facts) => planRetention(facts, {}, new Date()), { signal: stop.signal });
  await expect(planning).rejects.toThrow();
});
