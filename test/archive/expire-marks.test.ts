/** Expiries: whose marks they take back, when WAL stays for a backup that has just begun, and deletions of one backup by hand. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { expire, type Expired, removeUnlisted } from "../../src/archive/retention/expire.ts";
import { listMarks, missingObject, putMark, refuseRemoved } from "../../src/archive/retention/marks.ts";
import { type Decide, type PlannedExpiry, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import {
  backupDocumentKey,
  backupFilesKey,
  backupManifestKey,
  backupPartKey,
  expiringKey,
  gapKey,
  pinKey,
} from "../../src/archive/keys.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { emptyArchive, keyOfSegment, NEW, OLD, putOldAndNew, putSegments, putWholeBackup } from "./retained.ts";

const DEAD = "20260202T120000Z-12345678";
const BEGUN = "20260301T120000Z-87654321";
const GONE = "20260101T000000Z-aaaaaaaa";
const START = Date.parse("2026-03-01T00:00:00.000Z");
const HOUR = 3_600_000;

let store: FaultyStore;
let archive: Archive;
const now = (): Date => new Date();
const later = (ms: number): void => void vi.setSystemTime(Date.now() + ms);
const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, now());
const plan = (): Promise<PlannedExpiry> => planExpiry(archive, decide);
const run = (planned: PlannedExpiry): Promise<Expired> => expire(archive, planned, { now, decide, withWal: true });
const marked = async (): Promise<string[]> =>
  (await keysBelow(store, "main/expiring/")).map((key) => key.slice("main/expiring/".length, -".json".length));
const storePart = (id: string, part = "00001.tar.zst"): Promise<unknown> =>
  store.put(backupPartKey("main", id, part), Buffer.alloc(10));

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: START });
  store = new FaultyStore(new MemoryStore());
  archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 12);
  await putOldAndNew(archive, ["3", "8"]);
  later(48 * HOUR);
});
afterEach(() => vi.useRealTimers());

describe("marks that an earlier expiry left", () => {
  test("go when they are an hour old and the backup stays, or nothing is left of it", async () => {
    await putMark(archive, NEW, now());
    await putMark(archive, GONE, now());
    later(HOUR);
    await run(await plan());
    expect(await marked()).toEqual([]);
    expect((await planExpiry(archive, decide)).facts.backups.map(({ id }) => id)).toEqual([OLD, NEW]);
  });

  test("stay while they are younger: another expiry may still run", async () => {
    await putMark(archive, NEW, now());
    await putMark(archive, GONE, now());
    later(HOUR - 1);
    // The newest backup is being removed by another expiry, so the other one stays.
    expect((await run(await plan())).removed).toEqual([]);
    expect(await marked()).toEqual([GONE, NEW]);
  });

  test("stay on a backup that goes now, however old they are, until nothing is left of it", async () => {
    await putMark(archive, OLD, now());
    later(2 * HOUR);
    await storePart(DEAD);
    // The store's clock is known from this mark: the other one is two hours old.
    await putMark(archive, DEAD, now());
    expect((await run(await plan())).removed.map(({ id }) => id)).toEqual([OLD]);
    const deleted = store.calls.filter(({ operation }) => operation === "delete").map(({ key }) => key);
    const mark = deleted.indexOf(expiringKey("main", OLD));
    const parts = deleted.findIndex((key) => key.includes(`${OLD}/parts/`));
    expect([parts >= 0, mark > parts]).toEqual([true, true]);
    expect(deleted.filter((key) => key === expiringKey("main", OLD))).toHaveLength(1);
  });

  test("stay while they are younger where no WAL tells the store's time", async () => {
    await putMark(archive, NEW, now());
    later(HOUR - 1);
    await run(await planExpiry(archive, decide, { ignoreStandstill: true }));
    expect(await marked()).toEqual([NEW]);
  });

  test("stay on what is left of an unfinished backup, beside other leftovers", async () => {
    for (const id of [DEAD, BEGUN]) await storePart(id);
    await putMark(archive, BEGUN, now());
    later(2 * HOUR);
    // Planned before, so that this expiry does not want it.
    const planned = await plan();
    const without = { ...planned, plan: { ...planned.plan, leftovers: [] } };
    await run(without);
    expect(await marked()).toEqual([BEGUN]);
  });

  test("on a backup that is spared are the earlier expiry's: they stay", async () => {
    await putMark(archive, OLD, now());
    const planned = await plan();
    await putPin(
      archive,
      { backup: OLD, pinnedAt: now().toISOString(), expiresAt: null, note: "" },
      { waitMs: 0 },
    ).catch(() => undefined);
    expect((await run(planned)).spared).toEqual([{ id: OLD, why: "it is pinned" }]);
    expect(await marked()).toEqual([OLD]);
  });

  test("stay where readings disagree, while the new ones are taken back", async () => {
    await storePart(DEAD);
    await putMark(archive, OLD, now());
    later(25 * HOUR);
    await putSegments(archive, 1, 13, 13);
    const planned = await plan();
    expect([planned.plan.goes, planned.plan.leftovers].flat().map(({ id }) => id)).toEqual([OLD, DEAD]);
    const folders = store.listPrefixes.bind(store);
    store.listPrefixes = async (prefix, options) =>
      (await folders(prefix, options)).filter((one) => !one.includes(NEW));
    await expect(run(planned)).rejects.toMatchObject({ code: "store-lied" });
    expect(await marked()).toEqual([OLD]);
  });

  test("all stay when the store fails while the readings are compared", async () => {
    const planned = await plan();
    // The first look at a backup's document follows the marks.
    store.failpoint({ operation: "list", key: "main/backups/", fault: "fail-before" });
    await expect(run(planned)).rejects.toMatchObject({ code: "store-unavailable" });
    expect(await marked()).toEqual([OLD]);
  });
});

test("a mark stays while anything is left of the backup: a part that came after the listing", async () => {
  const planned = await plan();
  const list = store.list.bind(store);
  let looks = 0;
  store.list = async function* (prefix, options) {
    yield* list(prefix, options);
    if (prefix === `main/backups/${OLD}/` && ++looks === 1) await storePart(OLD, "00009.tar.zst");
  };
  await run(planned);
  expect(await marked()).toEqual([OLD]);
  expect(await keysBelow(store, `main/backups/${OLD}/`)).toHaveLength(1);
  await run(await plan());
  expect(await marked()).toEqual([]);
});

describe("WAL", () => {
  test("stays for a backup that began after the plan, though the plan had a dead one", async () => {
    await storePart(DEAD);
    // Only WAL that the store dates a day later shows that a day has passed.
    later(25 * HOUR);
    await putSegments(archive, 1, 13, 13);
    const planned = await plan();
    expect(planned.plan.leftovers.map(({ id }) => id)).toEqual([DEAD]);
    await storePart(BEGUN);
    const { leftovers, walStaysBecause } = await run(planned);
    expect(leftovers).toEqual([DEAD]);
    expect(walStaysBecause).toMatch(/is being taken, or failed less than a day ago/);
    expect(await store.head(keyOfSegment(1))).toBeDefined();
  });

  test("that nothing needs goes, and the gaps behind which nothing is left go with it", async () => {
    const gaps = [
      ["0/100000", "0/200000"],
      ["0/A00000", "0/B00000"],
    ].map(([from = "", to = ""]) => ({
      ...{ timeline: timelineOf(1), fromLsn: parseLsn(from), toLsn: parseLsn(to), detectedAt: "", reason: "lost" },
    }));
    for (const gap of gaps) await store.put(gapKey("main", gap.timeline, gap.fromLsn, gap.toLsn), encodeGap(gap));
    expect((await run(await plan())).walStaysBecause).toBeUndefined();
    expect(await store.head(keyOfSegment(7))).toBeUndefined();
    expect(await store.head(keyOfSegment(8))).toBeDefined();
    expect(await keysBelow(store, "main/gaps/")).toEqual([
      gapKey("main", timelineOf(1), parseLsn("0/A00000"), parseLsn("0/B00000")),
    ]);
  });

  test("stays for a document that was damaged after the plan, which is named", async () => {
    const planned = await plan();
    await store.put(backupDocumentKey("main", BEGUN), Buffer.from("{"));
    expect((await run(planned)).walStaysBecause).toBe(
      `the document of backup ${BEGUN} cannot be read, so it is unknown which WAL is needed`,
    );
  });
});

describe("pins of what is gone", () => {
  const pin = { backup: OLD, pinnedAt: "2026-02-02T00:00:00.000Z", expiresAt: "2026-02-03T00:00:00.000Z", note: "" };

  test("stay where the store keeps them, and the expiry goes on", async () => {
    await putPin(archive, pin);
    store.failpoint({ operation: "delete", key: "main/pins/", fault: "deny", times: Infinity });
    expect((await run(await plan())).removed.map(({ id }) => id)).toEqual([OLD]);
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", OLD, 1)]);
  });

  test("end the expiry when the store fails", async () => {
    await putPin(archive, pin);
    store.failpoint({ operation: "delete", key: "main/pins/", fault: "fail-before" });
    await expect(run(await plan())).rejects.toMatchObject({ code: "store-unavailable" });
  });
});

describe("an unfinished backup that is deleted by hand", () => {
  const remove = () => removeUnlisted(archive, DEAD, { now, decide, withWal: false });
  beforeEach(async () => {
    await storePart(DEAD);
    await storePart(DEAD, "00002.tar.zst");
    await store.put(`main/backups/${DEAD}/notes.txt`, Buffer.from("by hand"));
  });

  test("goes with its pin and its mark; what is not ours and other backups stay", async () => {
    const others = [
      ...(await keysBelow(store, `main/backups/${OLD}/`)),
      ...(await keysBelow(store, `main/backups/${NEW}/`)),
    ];
    await store.put(
      pinKey("main", DEAD, 1),
      Buffer.from(
        JSON.stringify({
          version: 1,
          backup: DEAD,
          pinnedAt: "2026-02-02T00:00:00.000Z",
          expiresAt: "2026-02-03T00:00:00.000Z",
          note: "",
        }),
      ),
    );
    const { objects, bytes, refused } = await remove();
    expect([objects, bytes, refused]).toEqual([3, 20, 0]);
    expect(await keysBelow(store, `main/backups/`)).toEqual([...others, `main/backups/${DEAD}/notes.txt`].sort());
    expect(await keysBelow(store, "main/pins/")).toEqual([]);
    expect(await marked()).toEqual([]);
  });

  test("stays whole while a pin of it is in force, and the mark is taken back", async () => {
    const inForce = { version: 1, backup: DEAD, pinnedAt: "2026-02-02T00:00:00.000Z", expiresAt: null, note: "" };
    await store.put(pinKey("main", DEAD, 1), Buffer.from(JSON.stringify(inForce)));
    await expect(remove()).rejects.toMatchObject({ code: "backup-protected" });
    expect(await keysBelow(store, `main/backups/${DEAD}/`)).toHaveLength(3);
    expect(await marked()).toEqual([]);
  });

  test("is not protected by the pin of another backup", async () => {
    await putPin(archive, { backup: NEW, pinnedAt: now().toISOString(), expiresAt: null, note: "" });
    await remove();
    expect(await keysBelow(store, `main/backups/${DEAD}/`)).toEqual([`main/backups/${DEAD}/notes.txt`]);
    expect(await keysBelow(store, "main/pins/")).toEqual([pinKey("main", NEW, 1)]);
  });

  test("stays with its mark where the store keeps its document", async () => {
    await store.put(backupDocumentKey("main", DEAD), Buffer.from("{"));
    store.failpoint({ operation: "delete", key: backupDocumentKey("main", DEAD), fault: "deny", times: Infinity });
    expect((await remove()).refused).toBe(1);
    expect(await keysBelow(store, `main/backups/${DEAD}/`)).toHaveLength(4);
    expect(await store.head(expiringKey("main", DEAD))).toBeDefined();
  });
});

describe("what a backup's document speaks of", () => {
  test("is missing when its manifest is gone, or its index of files, or a part", async () => {
    const backup = await putWholeBackup(archive, { id: DEAD });
    expect(await missingObject(archive, backup)).toBeUndefined();
    for (const key of [
      backupManifestKey("main", DEAD),
      backupFilesKey("main", DEAD),
      backupPartKey("main", DEAD, "00002.tar.zst"),
    ]) {
      const body = (await store.get(key))?.body ?? new Uint8Array(0);
      await store.delete([key]);
      expect(await missingObject(archive, backup)).toBe(key.slice(`main/backups/${DEAD}/`.length));
      await store.put(key, body);
    }
  });

  test("is whole without a manifest where the backup has none", async () => {
    const backup = { ...(await putWholeBackup(archive, { id: DEAD })), manifest: null };
    await store.delete([backupManifestKey("main", DEAD)]);
    expect(await missingObject(archive, backup)).toBeUndefined();
  });

  test("was removed when the document itself is gone", async () => {
    const backup = await putWholeBackup(archive, { id: DEAD });
    await refuseRemoved(archive, backup);
    await store.delete([backupDocumentKey("main", DEAD)]);
    await expect(refuseRemoved(archive, backup)).rejects.toMatchObject({
      code: "backup-removed",
      message: expect.stringContaining("its document is gone") as string,
    });
  });
});

test("marks are listed with the store's time; other objects beside them are none", async () => {
  await putMark(archive, OLD, now());
  await store.put("main/expiring/README", Buffer.from("by hand"));
  expect([...(await listMarks(archive))]).toEqual([[OLD, new Date(START + 48 * HOUR)]]);
  const stored = await store.get(expiringKey("main", OLD));
  const markedAt = new Date(START + 48 * HOUR).toISOString();
  expect(JSON.parse(Buffer.from(stored?.body ?? []).toString())).toEqual({ version: 1, backup: OLD, markedAt });
});

test("a store that keeps every object is an error, and one that keeps some is none", async () => {
  store.failpoint({ operation: "delete", key: /backup\.json/, fault: "deny", times: Infinity });
  const { refused, objects } = await run(await plan());
  expect([refused, objects > 0]).toEqual([1, true]);
});
