/** The watch over the archive's contents: it finds what others stored, asks nothing while nothing is stored, and counts right. */
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { putDeclaration } from "../../src/archive/generations.ts";
import { putGap } from "../../src/archive/wal/put-gap.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { type SegmentNumber, segmentStart } from "../../src/wal/lsn.ts";
import type { LastEvents } from "../../src/archive/records/last-events.ts";
import { ArchiveWatch, type ArchiveWatchOptions } from "../../src/daemon/status/archive-watch.ts";
import type { ArchiveContents } from "../../src/daemon/status/document.ts";
import type { RecoveryMap } from "../../src/daemon/status/recovery-map.ts";
import { silentLog } from "../../src/log.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { observed } from "../../src/store/observe.ts";
import { lsnOf } from "../../src/wal/lsn.ts";
import { emptyArchive, NEW, putWholeBackup, SYSTEM_IDENTIFIER } from "../archive/retained.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { ROOT } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const NEWEST = "20250306T080001Z-d652b08a";

let dir: string;
beforeEach(() => {
  dir = makeTempDir("contents");
  cpSync(join(ROOT, "test/fixtures/archive"), dir, { recursive: true });
});
afterEach(() => removeTree(dir));

interface Seen {
  readonly last: LastEvents;
  readonly contents: ArchiveContents;
  readonly recovery: RecoveryMap;
}

/** A watch that looks every 50 ms, over a receiver that streams. */
function watched(times: Partial<ArchiveWatchOptions> = {}, buffersInUse = () => 0) {
  const state = new ReceiverState({ cluster: "main", synchronous: false, durability: "store", nowMs: Date.now });
  state.phase = "streaming";
  state.buffersInUse = buffersInUse;
  state.storedLsn = lsnOf(0x100_0000n);
  const seen: Seen[] = [];
  let stale = 0;
  let requests = 0;
  const store = observed(new FileStore(dir), { classify: () => "", observe: () => void requests++ });
  const watch = new ArchiveWatch({
    ...{ store, cluster: "main", state, log: silentLog, lookEveryMs: 50, listEveryMs: 3_600_000, ...times },
    onSeen: (last, contents, recovery) => void seen.push({ last, contents, recovery }),
    onStale: () => void stale++,
  });
  const ended = new AbortController();
  const running = watch.run(ended.signal);
  const stop = async (): Promise<void> => {
    ended.abort();
    await running;
  };
  return { watch, state, seen, requests: () => requests, stale: () => stale, stop };
}

/** The files of WAL and backups, by the file system; a backup's document and histories are not counted. */
function storedBytes(): number {
  const files = ["wal", "tail", "backups"]
    .flatMap((room) => readdirSync(join(dir, "main", room), { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && !/backup\.json$|\.history$/.test(entry.name));
  return files.map((entry) => statSync(join(entry.parentPath, entry.name)).size).reduce((sum, size) => sum + size, 0);
}

test("the first look finds backups, sizes, the oldest moment, and the newest drill and verification", async () => {
  const { seen, stop } = watched();
  await until("a look", () => seen.length > 0);
  await stop();
  expect(seen[0]?.last).toMatchObject({ backup: { id: NEWEST }, drill: { ok: true }, verify: { ok: true } });
  // The end of the older backup, as its document says.
  expect(seen[0]?.contents).toMatchObject({ backups: 2, oldestRecoverableAt: "2025-03-03T08:00:07.347Z" });
  // WAL is unbroken from there on, over a failover.
  expect(seen[0]?.contents.recoverableSince).toBe("2025-03-03T08:00:07.347Z");
  expect(seen[0]?.contents.storedBytes).toBe(storedBytes());
});

/** Ends of a timeline's windows by `list`, which reads the WAL at each. */
async function listedEnds(timelines: readonly number[]): Promise<(string | null)[]> {
  const { windows } = await readCatalog(await openRunArchive(new FileStore(dir), "main"));
  return windows.filter(({ timeline }) => timelines.includes(timeline)).map(({ toTime }) => toTime);
}

const shownEnds = (seen: Seen | undefined): (string | null)[] =>
  (seen?.recovery.windows ?? []).filter(({ isOpen }) => !isOpen).map(({ toTime }) => toTime);

test("after an upgrade without a backup the newest window of the older generation is told, and no longer behind one", async () => {
  const store = new FileStore(dir);
  const declared = { generation: 2, systemIdentifier: SYSTEM_IDENTIFIER, pgMajor: 18, before: undefined };
  await emptyArchive(store, "main@2");
  await putDeclaration(store, "main", { ...declared, declaredAt: "2025-03-09T00:00:00.000Z" });
  const { windows } = await readCatalog(await openRunArchive(store, "main@1"));
  const last = windows.find(({ timeline }) => timeline === 2);
  const { seen, watch, stop } = watched();
  await until("a look", () => seen.length > 0);
  expect(seen[0]?.last).toMatchObject({ generation: "main@2", backup: null });
  expect(seen[0]?.contents.older).toEqual({ generation: "main@1", from: last?.fromTime, to: last?.toTime });
  await putWholeBackup(await openRunArchive(store, "main@2"), { id: NEW });
  watch.changed();
  await until("the backup", () => seen.at(-1)?.last.backup?.id === NEW);
  await stop();
  expect(seen.at(-1)?.contents).not.toHaveProperty("older");
});

test("a window that has ended shows the end that list shows, though its last segment is not sealed", async () => {
  const { seen, stop } = watched();
  await until("a look", () => seen.length > 0);
  await stop();
  expect(await listedEnds([1])).toEqual(["2025-03-05T08:00:01.132125Z"]);
  expect(shownEnds(seen[0])).toEqual(await listedEnds([1]));
});

test("a window that a gap ends shows it too, before any WAL behind the gap is stored", async () => {
  const archive = await openRunArchive(new FileStore(dir), "main");
  const tip = await findTip(archive);
  if (tip === undefined) throw new Error("the archive has no WAL");
  const toLsn = segmentStart((tip.segment + 3) as SegmentNumber, archive.identity.segmentSize);
  const facts = { detectedAt: "2025-03-08T10:15:00.000Z", reason: "the slot was lost" };
  await putGap(archive, { timeline: tip.timeline, fromLsn: tip.lsn, toLsn, ...facts });
  const { seen, stop } = watched();
  await until("a look", () => seen.length > 0);
  await stop();
  expect(shownEnds(seen[0]).sort()).toEqual((await listedEnds([1, 2])).sort());
  expect(shownEnds(seen[0])).toHaveLength(2);
});

test("an archive to which nothing is added costs no requests after the first look", async () => {
  const { seen, requests, stop } = watched();
  await until("a look", () => seen.length > 0);
  const before = requests();
  await sleep(1_500);
  expect(requests()).toBe(before);
  await stop();
});

test("a backup that another process took is found once WAL was stored; one that it deleted, after a job", async () => {
  const hidden = join(dir, "hidden");
  const backup = join(dir, "main/backups", NEWEST);
  renameSync(backup, hidden);
  const { watch, state, seen, stop } = watched();
  await until("a look", () => seen.length > 0);
  expect(seen[0]?.contents.backups).toBe(1);
  renameSync(hidden, backup);
  state.storedLsn = lsnOf(0x200_0000n);
  await until("the backup", () => seen.at(-1)?.contents.backups === 2);
  expect(seen.at(-1)?.last.backup?.id).toBe(NEWEST);
  rmSync(join(dir, "main/backups/20250303T080002Z-eb42d435"), { recursive: true });
  watch.changed();
  await until("its end", () => seen.at(-1)?.contents.backups === 1);
  await stop();
});

/** Only the look at the backups' folders comes round; the newest backup is taken away, as if it were not begun. */
function withoutNewest() {
  const [hidden, backup] = [join(dir, "hidden"), join(dir, "main/backups", NEWEST)];
  renameSync(backup, hidden);
  const watching = watched({ lookEveryMs: 3_600_000, backupsEveryMs: 50 });
  return { ...watching, hidden, backup };
}

test("a backup by hand is shown with its windows long before the next listing, and so is its removal", async () => {
  const { state, seen, hidden, backup, stop } = withoutNewest();
  await until("a look", () => seen.length > 0);
  renameSync(hidden, backup);
  state.storedLsn = lsnOf(0x200_0000n);
  await until("the backup", () => seen.length === 2);
  expect(seen[1]?.last.backup?.id).toBe(NEWEST);
  expect(seen[1]?.contents.backups).toBe(2);
  expect(seen[1]?.recovery.backups.map(({ id }) => id)).toContain(NEWEST);
  renameSync(backup, hidden);
  state.storedLsn = lsnOf(0x300_0000n);
  await until("its end", () => seen.length === 3);
  expect(seen[2]?.last.backup?.id).not.toBe(NEWEST);
  expect(seen[2]?.contents.backups).toBe(1);
  expect(seen[2]?.recovery.backups).toHaveLength(1);
  await stop();
});

test("a backup that is finished after its last WAL was stored is seen, though no WAL comes any more", async () => {
  const { state, seen, requests, hidden, backup, stop } = withoutNewest();
  await until("a look", () => seen.length > 0);
  const first = requests();
  state.storedLsn = lsnOf(0x200_0000n);
  // One look that follows the WAL, of one request: it finds nothing yet.
  await until("the look at the folders", () => requests() === first + 1);
  renameSync(hidden, backup);
  await until("the backup", () => seen.length === 2);
  expect(seen[1]?.contents.backups).toBe(2);
  await stop();
});

test("a backup that runs while the receiver starts is waited for, without new WAL", async () => {
  const id = `${new Date().toISOString().slice(0, 19).replace(/[-:]/g, "")}Z-00c0ffee`;
  const older = join(dir, "main/backups/20250303T080002Z-eb42d435");
  cpSync(older, join(dir, "main/backups", id), { recursive: true });
  const document = join(dir, "main/backups", id, "backup.json");
  const text = readFileSync(document, "utf8").replaceAll("20250303T080002Z-eb42d435", id);
  rmSync(document);
  const { seen, stop } = watched({ lookEveryMs: 3_600_000, backupsEveryMs: 50 });
  await until("a look", () => seen.length > 0);
  expect(seen[0]?.contents.backups).toBe(2);
  writeFileSync(document, text);
  await until("the backup", () => seen.length === 2);
  expect(seen[1]?.contents.backups).toBe(3);
  expect(seen[1]?.last.backup?.id).toBe(id);
  await stop();
});

test("a change that cannot be read makes what was seen before stale", async () => {
  const { watch, seen, stale, stop } = watched({ lookEveryMs: 3_600_000 });
  await until("a look", () => seen.length > 0);
  expect(stale()).toBe(0);
  renameSync(join(dir, "main/cluster.json"), join(dir, "main/cluster.json.away"));
  watch.changed();
  await until("the word", () => stale() === 1);
  expect(seen).toHaveLength(1);
  await stop();
});

test("the first backup, taken by hand, is seen soon: looks are frequent until then", async () => {
  const hidden = join(dir, "hidden");
  const backups = join(dir, "main/backups");
  renameSync(backups, hidden);
  const { state, seen, stop } = watched({ lookEveryMs: 3_600_000, lookForBackupEveryMs: 50 });
  await until("a look", () => seen.length > 0);
  expect(seen[0]?.last.backup).toBeNull();
  renameSync(hidden, backups);
  state.storedLsn = lsnOf(0x200_0000n);
  await until("the backup", () => seen.at(-1)?.last.backup?.id === NEWEST);
  const looks = seen.length;
  state.storedLsn = lsnOf(0x300_0000n);
  await sleep(1_500);
  expect(seen.length).toBe(looks);
  await stop();
});

test("a receiver that catches up is not disturbed: the look comes once it has settled", async () => {
  let buffers = 2;
  const { seen, stop } = watched({}, () => buffers);
  await sleep(1_500);
  expect(seen).toEqual([]);
  buffers = 1;
  await until("a look", () => seen.length > 0);
  await stop();
});

test("a look that fails is made again, and the watch goes on", async () => {
  renameSync(join(dir, "main/cluster.json"), join(dir, "main/cluster.json.away"));
  const { seen, stop } = watched();
  await sleep(700);
  expect(seen).toEqual([]);
  renameSync(join(dir, "main/cluster.json.away"), join(dir, "main/cluster.json"));
  await until("a look", () => seen.length > 0);
  await stop();
});
