/**
 * Expiries: which WAL, marks and pins stay for a backup that ends, begins or cannot be removed while an expiry runs; and
 * the signal of every request.
 */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { expire, type Expired, type ExpireOptions, removeUnlisted } from "../../src/archive/retention/expire.ts";
import { type Decide, type PlannedExpiry, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { backupDocumentKey, backupPartKey, chunkKey, expiringKey, gapKey, pinKey } from "../../src/archive/keys.ts";
import { encodeDocument } from "../../src/archive/json-document.ts";
import { putMark } from "../../src/archive/retention/marks.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { emptyArchive, keyOfSegment, MIB, OLD, putOldAndNew, putSegments, putWholeBackup } from "./retained.ts";

const SLOW = "20260202T000000Z-12345678";
const BEGUN = "20260301T120000Z-87654321";
const DAMAGED = "20260202T180000Z-bbbbbbbb";
const GONE = "20260101T000000Z-aaaaaaaa";
const PIN = { version: 1, pinnedAt: "2026-02-02T00:00:00.000Z", expiresAt: null, note: "" };
const FIRST = { timeline: timelineOf(1), segment: 0 as SegmentNumber, segmentSize: MIB };
const GAP = {
  ...{ timeline: timelineOf(1), fromLsn: parseLsn("0/100000"), toLsn: parseLsn("0/200000") },
  ...{ detectedAt: "2026-02-01T00:00:00.000Z", reason: "lost" },
};
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
  await putOldAndNew(archive, ["5", "14"]);
  await store.put(backupPartKey("main", SLOW, "00001.tar.zst"), Buffer.alloc(10));
});

const finishSlow = (): Promise<unknown> =>
  putWholeBackup(archive, { id: SLOW, startLsn: "0/C00028", stopLsn: "0/1600100" });
const segmentsLeft = async (): Promise<number[]> => {
  const keys = new Set(await keysBelow(store, "main/wal/"));
  return Array.from({ length: 30 }, (_, index) => index + 1).filter((segment) => keys.has(keyOfSegment(segment)));
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

describe("WAL", () => {
  test("goes although a folder beside the backups is not ours", async () => {
    await store.put("main/backups/lost+found/file", Buffer.alloc(1));
    expect((await run(await plan())).walStaysBecause).toBeUndefined();
    expect(await segmentsLeft()).toEqual(from(20));
  });

  test("that was never sealed stays with its gaps when a backup begins after the last segment", async () => {
    const kept = [chunkKey("main", FIRST, 0, 100), gapKey("main", GAP.timeline, GAP.fromLsn, GAP.toLsn)];
    await store.put(chunkKey("main", FIRST, 0, 100), Buffer.alloc(10));
    await store.put(gapKey("main", GAP.timeline, GAP.fromLsn, GAP.toLsn), encodeGap(GAP));
    const planned = await plan();
    expect([planned.plan.wal.tails.length, planned.plan.wal.gaps.length]).toEqual([1, 1]);
    const point = store.failpoint({ operation: "delete", key: keyOfSegment(19), fault: "stall" });
    const running = run(planned);
    await point.reached;
    await store.put(backupPartKey("main", BEGUN, "00001.tar.zst"), Buffer.alloc(10));
    point.release();
    expect((await running).walStaysBecause).toBe("a backup has begun meanwhile; the next expiry goes on");
    for (const key of kept) expect(await store.head(key), key).toBeDefined();
  });
});

test("a document whose parts are gone, and which the store keeps, remains: it is no backup that was spared", async () => {
  await finishSlow();
  await store.delete([backupPartKey("main", SLOW, "00002.tar.zst")]);
  await putMark(archive, SLOW, now());
  const planned = await plan();
  expect(planned.plan.leftovers.map(({ id }) => id)).toEqual([SLOW]);
  store.failpoint({ operation: "delete", key: backupDocumentKey("main", SLOW), fault: "deny", times: Infinity });
  const { leftovers, remains, spared, refused } = await run(planned);
  expect({ leftovers, remains, spared, refused }).toEqual({ leftovers: [], remains: [SLOW], spared: [], refused: 1 });
  expect(await store.head(backupPartKey("main", SLOW, "00001.tar.zst"))).toBeDefined();
  expect(await store.head(expiringKey("main", SLOW))).toBeDefined();
});

test("any number of marks that the store keeps ends no expiry", async () => {
  for (let number = 10; number < 70; number++) await putMark(archive, `20250101T0000${number}Z-aaaaaaaa`, now());
  store.failpoint({ operation: "delete", key: "main/expiring/2025", fault: "deny", times: Infinity });
  const { removed, refused } = await run(await plan());
  expect([removed.map(({ id }) => id), refused]).toEqual([[OLD], 0]);
  expect(await keysBelow(store, "main/expiring/2025")).toHaveLength(60);
});

test("pins of backups that are not there go; the pin of one with a damaged document stays", async () => {
  for (const id of [GONE, DAMAGED]) await store.put(pinKey("main", id, 1), encodeDocument({ ...PIN, backup: id }));
  await store.put(backupDocumentKey("main", DAMAGED), Buffer.from("{"));
  await run(await plan());
  expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", DAMAGED, 1)]);
});

/** Wraps a store: lists the requests that were made without this signal. */
function withoutSignal(inner: Store, signal: AbortSignal): { readonly store: Store; readonly found: string[] } {
  const found: string[] = [];
  const store = new Proxy(inner, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...given: unknown[]): unknown => {
        if (!given.some((one) => (one as { signal?: unknown } | undefined)?.signal === signal))
          found.push(`${String(name)} ${String(given[0])}`);
        return Reflect.apply(member, target, given);
      };
    },
  });
  return { store, found };
}

describe("every request has the signal of the command, so that an abort ends it:", () => {
  const { signal } = new AbortController();

  test("an expiry of backups, leftovers, marks, pins, segments, chunks and gaps", async () => {
    await store.put(chunkKey("main", FIRST, 0, 100), Buffer.alloc(10));
    await store.put(gapKey("main", GAP.timeline, GAP.fromLsn, GAP.toLsn), encodeGap(GAP));
    await putPin(archive, { ...PIN, backup: OLD, expiresAt: "2026-02-02T00:00:00.000Z" });
    await putMark(archive, GONE, new Date(0));
    const planned = await plan();
    const watched = withoutSignal(store, signal);
    const asked = await openRunArchive(watched.store, "main");
    watched.found.length = 0;
    let told = 0;
    const onDeleted = (objects: number): void => void (told += objects);
    const result = await expire(asked, planned, { now, decide, withWal: true, signal, onDeleted });
    expect(result).toMatchObject({ leftovers: [SLOW], walStaysBecause: undefined, objects: told });
    expect([result.removed.map(({ id }) => id), await segmentsLeft()]).toEqual([[OLD], from(20)]);
    expect(await store.head(chunkKey("main", FIRST, 0, 100))).toBeUndefined();
    expect(await keysBelow(store, "main/pins/")).toEqual([]);
    expect(await keysBelow(store, "main/gaps/")).toEqual([]);
    expect(watched.found).toEqual([]);
  });

  test("an expiry that spares a backup", async () => {
    const planned = await plan();
    await finishSlow();
    const watched = withoutSignal(store, signal);
    const asked = await openRunArchive(watched.store, "main");
    watched.found.length = 0;
    await expire(asked, planned, { now, decide, withWal: true, signal });
    expect(watched.found).toEqual([]);
  });

  test("the deletion of an unfinished backup by hand, pinned or not", async () => {
    const watched = withoutSignal(store, signal);
    const asked = await openRunArchive(watched.store, "main");
    watched.found.length = 0;
    const remove = () => removeUnlisted(asked, SLOW, { now, decide, withWal: false, signal });
    await store.put(pinKey("main", SLOW, 1), encodeDocument({ ...PIN, backup: SLOW }));
    await expect(remove()).rejects.toMatchObject({ code: "backup-protected" });
    await store.delete([pinKey("main", SLOW, 1)]);
    let told = 0;
    const onDeleted = (objects: number): void => void (told += objects);
    const { objects } = await removeUnlisted(asked, SLOW, { now, decide, withWal: false, signal, onDeleted });
    expect([told, await keysBelow(store, `main/backups/${SLOW}/`)]).toEqual([objects, []]);
    expect(watched.found).toEqual([]);
  });
});
