/** A whole cluster is removed: in which order, what stays, what speaks against it, and how an interrupted removal goes on. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { backupDocumentKey, identityKey, segmentKey } from "../../src/archive/keys.ts";
import { removalStepOf } from "../../src/archive/retention/belongings.ts";
import { listMarks } from "../../src/archive/retention/marks.ts";
import { removeArchive, surveyArchive } from "../../src/archive/retention/removal.ts";
import { SeawallError } from "../../src/errors.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { emptyArchive, MIB, putSegments, putWholeBackup } from "./retained.ts";

const OLD = "20260201T000000Z-ffffffff";
const NEW = "20260203T000000Z-00000000";
const BY_HAND = ["main/README", `main/backups/${OLD}/notes.txt`, "other/cluster.json", "main2/cluster.json"];
/** Memory stores stamp objects with the real time: two days later nothing in them is fresh. */
const now = (): Date => new Date(Date.now() + 2 * 86_400_000);

let inner: MemoryStore;
let store: FaultyStore;
let archive: Archive;
beforeEach(furnish);

async function furnish(): Promise<void> {
  inner = new MemoryStore();
  store = new FaultyStore(inner);
  archive = await emptyArchive(store);
  await putSegments(archive, 1, 1, 12);
  const at = { startedAt: "2026-02-01T00:00:00.000Z", finishedAt: "2026-02-01T00:00:00.000Z" };
  await putWholeBackup(archive, { id: OLD, startLsn: "0/300028", stopLsn: "0/300100", ...at });
  await putWholeBackup(archive, { id: NEW, startLsn: "0/500028", stopLsn: "0/500100", ...at });
  for (const key of BY_HAND) await store.put(key, Buffer.from("by hand"));
  await store.put("main/gaps/00000001-0000000001000000-0000000002000000.json", Buffer.from("{}"));
  await store.put("main/encryption/00000001.json", Buffer.from("{}"));
  store.calls.length = 0;
}

const remove = (force = false) => removeArchive(archive, { now, force });
const failureOf = async (work: Promise<unknown>): Promise<SeawallError> => {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof SeawallError)) throw new Error(`it did not fail as expected: ${String(error)}`);
  return error;
};
const left = async (): Promise<string[]> => (await keysBelow(inner, "")).sort();

test("everything of the cluster goes; objects of other clusters and of no cluster stay", async () => {
  const before = await left();
  const found = await surveyArchive(archive, now());
  expect(found).toMatchObject({ backups: [OLD, NEW], pinned: [], running: [] });
  expect(found.foreign).toEqual({ objects: 2, first: "main/README" });
  const { objects, refused } = await remove();
  expect(await left()).toEqual([...BY_HAND].sort());
  // As many as the survey found: the marks of both backups, which were made on the way, are not counted.
  expect([objects, refused]).toEqual([before.length - BY_HAND.length, 0]);
  expect(Object.values(found.steps).reduce((sum, step) => sum + step.objects, 0)).toBe(objects);
});

test("documents go before data, all backups before WAL, and cluster.json last", async () => {
  const steps: string[] = [];
  const deleted = store.calls;
  await remove();
  for (const { operation, keys } of deleted.map((call) => ({ operation: call.operation, keys: keysOf(call) }))) {
    if (operation !== "delete") continue;
    for (const key of keys) steps.push(removalStepOf("main", key, MIB) ?? "foreign");
  }
  const order = steps.filter((step, i) => step !== steps[i - 1]);
  expect(order).toEqual(["backup documents", "backups", "records", "WAL", "history", "identity"]);
});

/** The keys of a recorded call. */
function keysOf(call: { readonly key: string }): string[] {
  return call.key.split(" ");
}

describe("it is refused, and nothing is gone", () => {
  const unchanged = async (work: Promise<unknown>, message: RegExp): Promise<void> => {
    const before = await left();
    const error = await failureOf(work);
    expect([error.code, error.message]).toEqual(["cluster-protected", expect.stringMatching(message)]);
    expect(await left()).toEqual(before);
    expect([...(await listMarks(archive)).keys()]).toEqual([]);
  };

  test("while WAL is being stored, also with --force", async () => {
    const fresh = { now: () => new Date(), force: true };
    await unchanged(removeArchive(archive, fresh), /a receiver still stores WAL/);
  });

  test("for a pinned backup, unless it is forced; a pin that has run out is none", async () => {
    await putPin(archive, { backup: OLD, pinnedAt: now().toISOString(), expiresAt: null, note: "" });
    await unchanged(remove(), new RegExp(`backup ${OLD} is pinned`));
    await remove(true);
    expect(await left()).toEqual([...BY_HAND].sort());
  });

  test("for a backup that is being taken, unless it is forced; one that died long ago is none", async () => {
    const running = "20260204T000000Z-12345678";
    await store.put(`main/backups/${running}/parts/00001.tar.zst`, Buffer.from("a part"));
    const soon = () => new Date(Date.now() + 3_600_000);
    await unchanged(
      removeArchive(archive, { now: soon, force: false }),
      new RegExp(`backup ${running} is being taken`),
    );
    await removeArchive(archive, { now, force: false });
    expect(await left()).toEqual([...BY_HAND].sort());
  });
});

test("a removal that is killed at any deletion goes on where it was; until the last one the archive can be opened", async () => {
  let killed = 0;
  for (let nth = 1; ; nth++) {
    await furnish();
    const point = store.failpoint({ operation: "delete", nth, fault: nth % 2 === 0 ? "fail-after" : "fail-before" });
    const isWhole = await remove().then(
      () => true,
      () => false,
    );
    point.remove();
    if (isWhole) break;
    killed++;
    if (await inner.head(identityKey("main"))) {
      archive = await openRunArchive(store, "main");
      await remove();
    }
    expect(await left()).toEqual([...BY_HAND].sort());
  }
  expect(killed).toBeGreaterThan(5);
});

test("WAL that arrives meanwhile keeps cluster.json, so that the next run finds it", async () => {
  const late = segmentKey("main", { timeline: timelineOf(1), segment: 40 as SegmentNumber, segmentSize: MIB });
  const point = store.failpoint({ operation: "delete", key: /\/gaps\//, nth: 1, fault: "stall" });
  const removing = failureOf(remove());
  await point.reached;
  await inner.put(late, Buffer.from("late"));
  point.release();
  expect((await removing).message).toContain("objects were stored while it was removed (WAL)");
  expect(await left()).toEqual([...BY_HAND, identityKey("main"), late].sort());
  await remove();
  expect(await left()).toEqual([...BY_HAND].sort());
});

test("a backup whose document the store keeps stays whole, and so does all WAL", async () => {
  store.failpoint({ operation: "delete", key: new RegExp(`${OLD}/backup.json`), times: Infinity, fault: "deny" });
  const { refused, refusals } = await remove();
  expect([refused, refusals.map(({ key }) => key)]).toEqual([1, [backupDocumentKey("main", OLD)]]);
  const rest = await left();
  expect(rest.filter((key) => key.startsWith(`main/backups/${OLD}/`)).length).toBeGreaterThan(2);
  expect(rest.filter((key) => key.startsWith("main/wal/")).length).toBe(12);
});
