/** Expiries carried out: in which order things go, what an interruption leaves, and who may be in the way. */
import type { RetentionPolicy } from "../../src/archive/retention/model.ts";
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { expire, type Expired, type ExpireOptions } from "../../src/archive/retention/expire.ts";
import { type Decide, type PlannedExpiry, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { refusedDeletion } from "../../src/archive/retention/bulk-delete.ts";
import { putMark, refuseRemoved } from "../../src/archive/retention/marks.ts";
import { backupDocumentKey, backupPartKey, expiringKey, pinKey } from "../../src/archive/keys.ts";
import { listPins, putPin } from "../../src/archive/backups/pins.ts";
import { planDeletion, planRetention } from "../../src/archive/retention/plan.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { emptyArchive, keyOfSegment, NEW, OLD, putSegments, putWholeBackup } from "./retained.ts";

const MIDDLE = "20260202T000000Z-aaaaaaaa";
const RUNNING = "20260203T120000Z-12345678";
/** Memory stores stamp objects with the real time: a day later nothing in them is fresh. */
const now = (): Date => new Date(Date.now() + 2 * 86_400_000);
const pinOf = (backup: string) => ({ backup, pinnedAt: now().toISOString(), expiresAt: null, note: "" });

let inner: MemoryStore;
let store: FaultyStore;
let archive: Archive;

/** Segments 1 to 30, and backups that begin in segments 5, 12 and 20. */
async function furnished(): Promise<void> {
  inner = new MemoryStore();
  store = new FaultyStore(inner);
  archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 30);
  const day = (id: string): { startedAt: string; finishedAt: string } => {
    const at = `2026-02-${id.slice(6, 8)}T00:00:00.000Z`;
    return { startedAt: at, finishedAt: at };
  };
  await putWholeBackup(archive, { id: OLD, startLsn: "0/500028", stopLsn: "0/500100", ...day(OLD) });
  await putWholeBackup(archive, { id: MIDDLE, startLsn: "0/C00028", stopLsn: "0/C00100", ...day(MIDDLE) });
  await putWholeBackup(archive, { id: NEW, startLsn: "0/1400028", stopLsn: "0/1400100", ...day(NEW) });
  await store.put("main/backups/README", Buffer.from("by hand"));
  await store.put(`main/backups/${OLD}/notes.txt`, Buffer.from("by hand"));
  await store.put("main/wal/00000001/00000000/copy-of-000000010000000000000003.zst", Buffer.from("by hand"));
  await store.put("main/wal/00000001/00000000/000000010000000000000003.00000028.backup", Buffer.from("a history file"));
  store.calls.length = 0;
}
beforeEach(furnished);

const keeping =
  (policy: RetentionPolicy): Decide =>
  (facts) =>
    planRetention(facts, policy, now());

const optionsFor = (decide: Decide, changes: Partial<ExpireOptions> = {}): ExpireOptions => ({
  now,
  decide,
  withWal: true,
  ...changes,
});

async function expireBy(policy: RetentionPolicy, changes: Partial<ExpireOptions> = {}): Promise<Expired> {
  const decide = keeping(policy);
  return expire(archive, await planExpiry(archive, decide, { ignoreStandstill: true }), optionsFor(decide, changes));
}

const deletedKeys = (): string[] =>
  store.calls.filter(({ operation }) => operation === "delete").flatMap(({ key }) => key.split(" "));

const EXPIRED_ALL = { keepFull: 1 };

test("documents go before data, data before WAL, and WAL from its beginning", async () => {
  const planned = await planExpiry(archive, keeping(EXPIRED_ALL), { ignoreStandstill: true });
  expect(store.calls.filter(({ operation }) => operation === "put" || operation === "delete")).toEqual([]);
  expect(planned.wal.segments).toBe(19);
  const result = await expire(archive, planned, optionsFor(keeping(EXPIRED_ALL)));
  expect(result.removed.map(({ id }) => id)).toEqual([OLD, MIDDLE]);
  expect(result).toMatchObject({ leftovers: [], spared: [], refused: 0, walStaysBecause: undefined });
  // The backup history file is not worth a look before it goes.
  expect(result.bytes).toBe(planned.wal.storedBytes + "a history file".length + 2 * 400);
  const deleted = deletedKeys();
  const first = (pattern: RegExp): number => deleted.findIndex((key) => pattern.test(key));
  const last = (pattern: RegExp): number => deleted.findLastIndex((key) => pattern.test(key));
  expect(last(/backup\.json$/)).toBeLessThan(first(/parts/));
  expect(last(/parts|files\.jsonl|backup_manifest/)).toBeLessThan(first(/\/wal\//));
  const wal = deleted.filter((key) => key.includes("/wal/"));
  expect(wal).toEqual([...wal].sort());
  expect(await keysBelow(store, "main/")).toEqual(
    [
      "main/backups/README",
      `main/backups/${OLD}/notes.txt`,
      ...["backup.json", "backup_manifest", "files.jsonl.zst", "parts/00001.tar.zst", "parts/00002.tar.zst"].map(
        (name) => `main/backups/${NEW}/${name}`,
      ),
      "main/cluster.json",
      "main/wal/00000001/00000000/copy-of-000000010000000000000003.zst",
      ...Array.from({ length: 11 }, (_, i) => keyOfSegment(20 + i)),
    ].sort(),
  );
});

test("what was promised for afterwards is so, and a second expiry has nothing to do", async () => {
  const planned = await planExpiry(archive, keeping({ keepFull: 2 }), { ignoreStandstill: true });
  await expire(archive, planned, optionsFor(keeping({ keepFull: 2 })));
  const again = await planExpiry(archive, keeping({ keepFull: 2 }), { ignoreStandstill: true });
  expect(again.windowsBefore).toEqual(planned.windowsAfter);
  expect(again.plan).toMatchObject({ goes: [], leftovers: [], wal: { goes: [], partials: [], tails: [], gaps: [] } });
  expect(again.storedBytes).toBe(0);
  expect(planned.windowsBefore.map(({ backup }) => backup)).toEqual([OLD]);
  expect(planned.windowsAfter.map(({ backup }) => backup)).toEqual([MIDDLE]);
});

test("an expiry that breaks off anywhere is finished by the next one, and never shows half a backup", async () => {
  await expireBy(EXPIRED_ALL);
  const wanted = await keysBelow(store, "main/");
  const steps = store.calls.filter(({ operation }) => operation === "put" || operation === "delete").length;
  expect(steps).toBeGreaterThan(6);
  for (const fault of ["fail-before", "fail-after"] as const) {
    for (let nth = 1; nth <= steps; nth++) {
      await furnished();
      const point = store.failpoint({ operation: ["put", "delete"], nth, fault });
      await expect(expireBy(EXPIRED_ALL), `${fault} ${nth}`).rejects.toMatchObject({ code: "store-unavailable" });
      expect(point.hits).toBe(1);
      await expectWhole();
      await expireBy(EXPIRED_ALL);
      expect(await keysBelow(store, "main/"), `${fault} ${nth}`).toEqual(wanted);
    }
  }
});

/** Whatever has a document has all it needs. */
async function expectWhole(): Promise<void> {
  for (const [id, from] of [
    [OLD, 5],
    [MIDDLE, 12],
    [NEW, 20],
  ] as const) {
    if ((await inner.head(backupDocumentKey("main", id))) === undefined) continue;
    expect((await keysBelow(inner, `main/backups/${id}/`)).filter((key) => !key.endsWith("txt"))).toHaveLength(5);
    for (let number: number = from; number <= 30; number++)
      expect(await inner.head(keyOfSegment(number))).toBeDefined();
  }
}

test("an abort ends it where it is, and the next one goes on", async () => {
  const stop = new AbortController();
  const point = store.failpoint({ operation: "delete", key: /parts/, fault: "stall" });
  const running = expireBy(EXPIRED_ALL, { signal: stop.signal });
  await point.reached;
  stop.abort();
  await expect(running).rejects.toMatchObject({ code: "aborted" });
  await expectWhole();
  expect((await expireBy(EXPIRED_ALL)).leftovers).toEqual([OLD, MIDDLE]);
});

describe("backups that are not finished", () => {
  test("one that may still be taken stays, and all WAL with it", async () => {
    await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.alloc(10));
    const decide: Decide = (facts) => planRetention(facts, EXPIRED_ALL, new Date());
    const planned = await planExpiry(archive, decide, { ignoreStandstill: true });
    expect(planned.plan.running.map(({ id }) => id)).toEqual([RUNNING]);
    const result = await expire(archive, planned, optionsFor(decide));
    expect(result.removed.map(({ id }) => id)).toEqual([OLD, MIDDLE]);
    expect(result.walStaysBecause).toMatch(/is being taken, or failed less than a day ago/);
    expect(await keysBelow(store, `main/backups/${RUNNING}/`)).toHaveLength(1);
    expect(await store.head(keyOfSegment(1))).toBeDefined();
  });

  test("one to which nothing was added for a day goes, with what is ours in it", async () => {
    await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.alloc(10));
    await store.put(`main/backups/${RUNNING}/core`, Buffer.alloc(10));
    const result = await expireBy(EXPIRED_ALL);
    expect(result.leftovers).toEqual([RUNNING]);
    expect(await keysBelow(store, `main/backups/${RUNNING}/`)).toEqual([`main/backups/${RUNNING}/core`]);
    expect((await expireBy(EXPIRED_ALL)).leftovers).toEqual([]);
  });

  test("one that is being taken stays when this machine's clock runs two days ahead of the store's", async () => {
    await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.alloc(10));
    const planned = await planExpiry(archive, keeping(EXPIRED_ALL));
    expect(planned.plan.running.map(({ id }) => id)).toEqual([RUNNING]);
    const result = await expire(archive, planned, optionsFor(keeping(EXPIRED_ALL)));
    expect(result.leftovers).toEqual([]);
    expect(await keysBelow(store, `main/backups/${RUNNING}/`)).toHaveLength(1);
  });

  test("the mark of another expiry that is at it stays when this machine's clock runs two days ahead", async () => {
    await putMark(archive, MIDDLE, new Date());
    await expire(archive, await planExpiry(archive, keeping({ keepFull: 9 })), optionsFor(keeping({ keepFull: 9 })));
    expect(await keysBelow(store, "main/expiring/")).toEqual([expiringKey("main", MIDDLE)]);
  });

  test("one that ends after all while it is taken for dead is a backup, and stays", async () => {
    await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.alloc(10));
    const planned = await planExpiry(archive, keeping({ keepFull: 9 }), { ignoreStandstill: true });
    await putWholeBackup(archive, { id: RUNNING, startLsn: "0/1500028", stopLsn: "0/1500100" });
    const result = await expire(archive, planned, optionsFor(keeping({ keepFull: 9 })));
    expect(result.spared).toEqual([{ id: RUNNING, why: "it has been finished meanwhile" }]);
    expect(await keysBelow(store, `main/backups/${RUNNING}/`)).toHaveLength(5);
    expect(await keysBelow(store, "main/expiring/")).toEqual([]);
  });

  test("one that ends after it was removed is told so", async () => {
    const document = await putWholeBackup(archive, { id: RUNNING });
    await refuseRemoved(archive, document);
    await putMark(archive, RUNNING, now());
    await expect(refuseRemoved(archive, document)).rejects.toMatchObject({ code: "backup-removed" });
    await store.delete([expiringKey("main", RUNNING), backupPartKey("main", RUNNING, "00002.tar.zst")]);
    await expect(refuseRemoved(archive, document)).rejects.toThrow(/parts\/00002\.tar\.zst is gone/);
  });

  test("what one leaves that was removed and died of it is no backup", async () => {
    await putWholeBackup(archive, { id: RUNNING, startLsn: "0/1500028", stopLsn: "0/1500100" });
    await store.delete([backupPartKey("main", RUNNING, "00002.tar.zst")]);
    await putMark(archive, RUNNING, now());
    const result = await expireBy(EXPIRED_ALL);
    expect([result.leftovers, result.removed.map(({ id }) => id)]).toEqual([[RUNNING], [OLD, MIDDLE]]);
    expect(await keysBelow(store, `main/backups/${RUNNING}/`)).toEqual([]);
    expect(await keysBelow(store, "main/expiring/")).toEqual([]);
    await expectWhole();
  });

  test("one that begins while WAL goes puts an end to that", async () => {
    const point = store.failpoint({ operation: "delete", key: /parts/, fault: "stall" });
    const running = expireBy(EXPIRED_ALL);
    await point.reached;
    await store.put(backupPartKey("main", RUNNING, "00001.tar.zst"), Buffer.alloc(10));
    point.release();
    expect((await running).walStaysBecause).toMatch(/a backup has begun meanwhile/);
    expect(await store.head(keyOfSegment(1))).toBeDefined();
  });
});

describe("another process at the same time", () => {
  test("a backup that is pinned after the plan was made stays", async () => {
    const planned = await planExpiry(archive, keeping(EXPIRED_ALL), { ignoreStandstill: true });
    await putPin(archive, pinOf(OLD));
    const result = await expire(archive, planned, optionsFor(keeping(EXPIRED_ALL)));
    expect(result.removed.map(({ id }) => id)).toEqual([MIDDLE]);
    expect(result.spared).toEqual([{ id: OLD, why: "it is pinned" }]);
    expect(await keysBelow(store, "main/expiring/")).toEqual([]);
    await expectWhole();
  });

  test("a pin that comes too late says so, and is no pin", async () => {
    const point = store.failpoint({ operation: "delete", key: backupDocumentKey("main", OLD), fault: "stall" });
    const running = expireBy(EXPIRED_ALL);
    await point.reached;
    await expect(putPin(archive, pinOf(OLD), { waitMs: 0 })).rejects.toMatchObject({ code: "backup-removed" });
    const patient = putPin(archive, pinOf(OLD));
    point.release();
    await running;
    await expect(patient).rejects.toMatchObject({ code: "backup-absent" });
    await expireBy(EXPIRED_ALL);
    expect(await listPins(archive)).toEqual([]);
  });

  test("pins of what is gone go, others stay", async () => {
    await putPin(archive, { ...pinOf(OLD), expiresAt: "2026-02-02T00:00:00.000Z" });
    await putPin(archive, pinOf(NEW));
    await expireBy(EXPIRED_ALL);
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", NEW, 1)]);
  });

  test("two that would together take the last backup leave it", async () => {
    const deletion: Decide = (facts) => planDeletion(facts, { id: NEW, force: true }, now());
    const careful: Decide = (facts) => planDeletion(facts, { id: NEW, force: false }, now());
    const [one, other] = [
      await planExpiry(archive, keeping(EXPIRED_ALL), { ignoreStandstill: true }),
      await planExpiry(archive, deletion, { ignoreStandstill: true }),
    ];
    // Both have marked before either looks again.
    const point = store.failpoint({ operation: "list", key: "main/pins/", times: 2, fault: "stall" });
    const first = expire(archive, one, optionsFor(keeping(EXPIRED_ALL)));
    const second = expire(archive, other, optionsFor(careful, { withWal: false }));
    await point.reached;
    await settled(() => store.calls.filter(({ key }) => key.startsWith("main/expiring/2")).length === 3);
    point.release();
    const results = [await first, await second];
    expect(results.flatMap(({ removed }) => removed.map(({ id }) => id))).toEqual([OLD]);
    expect(results.flatMap(({ spared }) => spared.map(({ id }) => id)).sort()).toEqual([MIDDLE, NEW]);
    expect(await keysBelow(store, "main/expiring/")).toEqual([]);
    await expectWhole();
  });

  test("two of one mind do the same work twice, and nothing else", async () => {
    await Promise.all([expireBy(EXPIRED_ALL), expireBy(EXPIRED_ALL)]);
    const done = await keysBelow(store, "main/");
    await furnished();
    await expireBy(EXPIRED_ALL);
    expect(done).toEqual(await keysBelow(store, "main/"));
  });
});

describe("a store that will not let go (Object Lock)", () => {
  test("of a document: the backup stays, whole, with its WAL", async () => {
    store.failpoint({ operation: "delete", key: new RegExp(`${MIDDLE}/backup.json`), times: Infinity, fault: "deny" });
    const result = await expireBy(EXPIRED_ALL);
    expect(result.removed.map(({ id }) => id)).toEqual([OLD]);
    expect(result.spared).toEqual([{ id: MIDDLE, why: "the store refuses to delete it" }]);
    expect(result.refusals.map(({ key }) => key)).toEqual([backupDocumentKey("main", MIDDLE)]);
    await expectWhole();
    expect(await store.head(keyOfSegment(11))).toBeUndefined();
    store.heal();
    expect((await expireBy(EXPIRED_ALL)).removed.map(({ id }) => id)).toEqual([MIDDLE]);
  });

  test("of data: everything else goes, and the rest once the lock is gone", async () => {
    const locked = backupPartKey("main", OLD, "00002.tar.zst");
    store.failpoint({ operation: "delete", key: new RegExp(locked), times: Infinity, fault: "deny" });
    const result = await expireBy(EXPIRED_ALL);
    expect(result).toMatchObject({ leftovers: [], remains: [OLD], refused: 1, walStaysBecause: undefined });
    expect(result.removed.map(({ id }) => id)).toEqual([OLD, MIDDLE]);
    expect(refusedDeletion(result)?.message).toBe(`the store refused to delete ${locked}`);
    expect((await keysBelow(store, `main/backups/${OLD}/`)).filter((key) => !key.endsWith("txt"))).toEqual([locked]);
    expect(await store.head(keyOfSegment(19))).toBeUndefined();
    expect(await expireBy(EXPIRED_ALL)).toMatchObject({ leftovers: [], remains: [OLD], refused: 1 });
    store.heal();
    expect(await expireBy(EXPIRED_ALL)).toMatchObject({ leftovers: [OLD], remains: [], refused: 0 });
    expect(await keysBelow(store, `main/backups/${OLD}/`)).toHaveLength(1);
    expect(await keysBelow(store, "main/expiring/")).toEqual([]);
  });

  test("of a segment: the WAL behind it stays, so that no hole hides the end of the archive from a receiver", async () => {
    const tip = await findTip(archive);
    store.failpoint({ operation: "delete", key: new RegExp(keyOfSegment(7)), times: Infinity, fault: "deny" });
    const result = await expireBy(EXPIRED_ALL);
    expect(result.walStaysBecause).toBe(`the store refuses to delete ${keyOfSegment(7)}: WAL behind it stays too`);
    expect(result.refusals.map(({ key }) => key)).toEqual([keyOfSegment(7)]);
    const wal = await keysBelow(store, "main/wal/00000001/00000000/0");
    expect(wal).toEqual(Array.from({ length: 24 }, (_, i) => keyOfSegment(7 + i)));
    expect(await findTip(archive)).toEqual(tip);
    store.heal();
    expect((await expireBy(EXPIRED_ALL)).walStaysBecause).toBeUndefined();
    expect(await store.head(keyOfSegment(19))).toBeUndefined();
    expect(await findTip(archive)).toEqual(tip);
  });

  test("of anything at all: every backup stays, and each refusal is counted", async () => {
    store.failpoint({ operation: "delete", times: Infinity, fault: "deny" });
    const result = await expireBy(EXPIRED_ALL);
    expect(result).toMatchObject({ removed: [], leftovers: [], remains: [], objects: 0 });
    expect(result.spared.map(({ id }) => id)).toEqual([OLD, MIDDLE]);
    expect(refusedDeletion(result)).toMatchObject({ code: "deletion-refused", details: { objects: result.refused } });
    expect(await keysBelow(store, "main/backups/")).toHaveLength(3 * 5 + 2);
    await expectWhole();
  });
});

test("an unreadable backup document keeps all WAL, and itself", async () => {
  await store.put(backupDocumentKey("main", RUNNING), Buffer.from('{"version":2}'));
  const result = await expireBy(EXPIRED_ALL);
  expect(result.removed.map(({ id }) => id)).toEqual([OLD, MIDDLE]);
  expect(result.walStaysBecause).toBe(
    `the document of backup ${RUNNING} cannot be read, so it is unknown which WAL is needed`,
  );
  expect(await store.head(keyOfSegment(1))).toBeDefined();
});

test("the plan says why all WAL stays where there is no backup", async () => {
  await store.delete([OLD, MIDDLE, NEW].map((id) => backupDocumentKey("main", id)));
  const planned: PlannedExpiry = await planExpiry(archive, keeping(EXPIRED_ALL), { ignoreStandstill: true });
  expect(planned.plan.wal.staysBecause).toMatch(/there is no backup/);
});

async function settled(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1000 && !condition(); turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(condition()).toBe(true);
}

test("a history that cannot be read keeps all WAL: it is unknown which timeline left which", async () => {
  await store.put("main/wal/00000002.history", Buffer.from("no history\n"));
  expect((await planExpiry(archive, keeping(EXPIRED_ALL), { ignoreStandstill: true })).plan.wal).toMatchObject({
    goes: [],
    staysBecause: "main/wal/00000002.history cannot be read, so it is unknown which WAL is needed",
  });
});
