/** `seawall list` and `show` on an archive made by real servers: backups, lost WAL, a failover; and what a restore says to it. */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { shownTimesIn } from "../../src/cli/views/time.ts";
import { type Archive, openArchive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { backupPartKey, backupsPrefix, segmentKey } from "../../src/archive/keys.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import { resolvePlan } from "../../src/restore/target/resolve.ts";
import { parseTarget, type TargetTexts } from "../../src/restore/target/target.ts";
import { formatLsn, parseLsn, segmentOf } from "../../src/wal/lsn.ts";
import { backupOptions } from "../backup/taking.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { directoryPlace } from "../restore/servers.ts";
import { inProcess } from "./cli.ts";

const FORGETTING = { max_slot_wal_keep_size: "2MB", wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };
const LOAD = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i";

interface Listed {
  readonly tip: { readonly timeline: number; readonly lsn: string };
  readonly backups: readonly Record<string, unknown>[];
  readonly windows: readonly {
    readonly timeline: number;
    readonly fromLsn: string;
    readonly toLsn: string;
    readonly fromTime: string;
    readonly toTime: string;
    readonly backup: string;
  }[];
  readonly gaps: readonly Record<string, unknown>[];
  readonly timelines: readonly Record<string, unknown>[];
  readonly leftovers: readonly { readonly id: string }[];
  readonly damaged: readonly { readonly object: string; readonly message: string }[];
}

let place: Awaited<ReturnType<typeof directoryPlace>>;
let archive: Archive;
let early: BackupDocument;
let late: BackupDocument;
let promoted: BackupDocument;
let listed: Listed;

const seawall = (...args: string[]) => inProcess([...args, "--store", place.url]);
const list = async (): Promise<Listed> => JSON.parse((await seawall("list", "--json")).stdout) as Listed;

beforeAll(async () => {
  place = await directoryPlace();
  let second: PostgresServer;
  await using first = await startPostgres({ segmentSizeMiB: 1, settings: FORGETTING });
  await first.sql("CREATE TABLE t (i int, pad text)");
  {
    await using receiver = receive(first, place.store);
    await first.sql(LOAD);
    early = await takeBackup(backupOptions(first, place.store));
    await first.sql(LOAD);
    await receiver.stored(await flushLsn(first));
    await receiver.stop();
  }
  await invalidateSlot(first);
  // From here on nothing is lost: a standby is made of this server.
  await first.sql("ALTER SYSTEM SET wal_keep_size = '512MB'");
  await first.sql("SELECT pg_reload_conf()");
  {
    await using receiver = receive(first, place.store);
    await first.sql(LOAD);
    late = await takeBackup(backupOptions(first, place.store));
    await first.sql(LOAD);
    second = await first.cloneAsStandby();
    await first.sql(LOAD);
    await receiver.stored(await flushLsn(first));
    await receiver.stop();
  }
  await using promotable = second;
  await first.stop("fast");
  await promotable.promote();
  await using receiver = receive(promotable, place.store);
  await promotable.sql(LOAD);
  promoted = await takeBackup(backupOptions(promotable, place.store));
  await promotable.sql(LOAD);
  await receiver.stored(await flushLsn(promotable));
  await receiver.stop();
  archive = await openArchive(place.store, "main");
  listed = await list();
}, 120_000);

afterAll(async () => place[Symbol.asyncDispose]());

async function invalidateSlot(server: PostgresServer): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await server.sql(LOAD);
    await server.sql("CHECKPOINT");
    const [slot] = await server.sql("SELECT wal_status FROM pg_replication_slots");
    if (slot?.["wal_status"] === "lost") return;
  }
  throw new Error("the server kept the slot");
}

test("backups are listed with what they are and how far they lead", () => {
  expect(listed.backups.map(({ id, timeline }) => [id, timeline])).toEqual([
    [early.id, 1],
    [late.id, 1],
    [promoted.id, 2],
  ]);
  expect(listed.backups[0]).toMatchObject({
    ...{ type: "full", startLsn: formatLsn(early.startLsn), stopLsn: formatLsn(early.stopLsn), parent: null },
    ...{ bytes: early.bytes, storedBytes: early.storedBytes, pgVersion: early.pgVersion, pinned: false },
    ...{ startedAt: early.startedAt, finishedAt: early.finishedAt, restorable: true },
  });
});

test("windows end at the gap and at the tip, and begin with the first backup behind each", () => {
  const [gap, ...others] = listed.gaps;
  expect(others).toEqual([]);
  expect(gap).toMatchObject({ timeline: 1, isRecorded: true });
  const windows = listed.windows.map(({ timeline, fromLsn, toLsn, backup }) => ({ timeline, fromLsn, toLsn, backup }));
  const [beforeGap, behindGap] = [formatLsn(early.stopLsn), formatLsn(late.stopLsn)];
  const end = String(listed.timelines[0]?.["toLsn"]);
  expect(windows).toEqual([
    { timeline: 1, fromLsn: beforeGap, toLsn: gap?.["fromLsn"], backup: early.id },
    { timeline: 1, fromLsn: behindGap, toLsn: end, backup: late.id },
    { timeline: 2, fromLsn: beforeGap, toLsn: gap?.["fromLsn"], backup: early.id },
    { timeline: 2, fromLsn: behindGap, toLsn: listed.tip.lsn, backup: late.id },
  ]);
  expect(listed.tip.timeline).toBe(2);
});

test("the tree of timelines says where and why the second left the first", () => {
  expect(listed.timelines).toMatchObject([
    { timeline: 1, parent: null, forkLsn: null },
    { timeline: 2, parent: 1, reason: "no recovery target specified", toLsn: listed.tip.lsn },
  ]);
  expect(parseLsn(String(listed.timelines[1]?.["forkLsn"]))).toBeGreaterThan(late.stopLsn);
});

describe("a restore", () => {
  const plan = (texts: Partial<TargetTexts>) => {
    const none = { inclusive: false, exclusive: false };
    return resolvePlan(archive, { target: parseTarget({ ...none, ...texts }, Date.now()) });
  };
  // Recovery stops at the end of a record that begins there or later.
  const before = (lsn: string) => parseLsn(formatLsn((parseLsn(lsn) - 4096n) as typeof early.stopLsn));

  test("accepts both ends of each window, in LSNs and in time", async () => {
    for (const window of listed.windows) {
      const timeline = String(window.timeline);
      const [from, to] = [parseLsn(window.fromLsn), before(window.toLsn)];
      expect((await plan({ lsn: from, timeline })).landing.lsn).toBeGreaterThanOrEqual(from);
      expect((await plan({ lsn: to, timeline })).landing.lsn).toBeLessThanOrEqual(parseLsn(window.toLsn));
      expect((await plan({ time: window.fromTime, timeline })).landing.lsn).toBeGreaterThanOrEqual(from);
      // The last commit itself: recovery stops at it, and would go on looking for a later one.
      const last = await plan({ time: window.toTime, exclusive: true, timeline });
      expect(last.landing.lsn).toBeLessThanOrEqual(parseLsn(window.toLsn));
    }
  });

  test("refuses what lies before, between and behind them", async () => {
    const [first, second] = listed.windows.filter(({ timeline }) => timeline === 2);
    const between = parseLsn(String(listed.gaps[0]?.["toLsn"]));
    expect([first?.fromLsn, second?.fromLsn]).toEqual([early.stopLsn, late.stopLsn].map(formatLsn));
    for (const lsn of [early.startLsn, between, late.startLsn]) {
      await expect(plan({ lsn })).rejects.toMatchObject({ code: "target-unreachable" });
    }
    const beyond = (parseLsn(second?.toLsn ?? "") + 1n) as typeof between;
    await expect(plan({ lsn: beyond })).rejects.toMatchObject({ code: "target-unreachable" });
  });
});

test("people read a table", async () => {
  const { stdout, code, stderr } = await seawall("list");
  expect([code, stderr]).toEqual([0, ""]);
  const lines = stdout.split("\n");
  expect(lines).toContainEqual(expect.stringMatching(/^tip {2,}\S+ on timeline 2$/));
  expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^  ${early.id}  .*  full  1 .* on timeline 2$`)));
  expect(lines).toContainEqual(
    expect.stringMatching(/^  └─ 2 +from 1 at \S+ \(no recovery target specified\) +to \S+/),
  );
  expect(lines.filter((line) => line.includes("has already been removed"))).toHaveLength(1);
});

test("one backup is shown with the WAL it needs, how far it leads, and its pin", async () => {
  const note = "before the migration";
  await putPin(archive, { backup: late.id, pinnedAt: new Date().toISOString(), expiresAt: null, note });
  const json = JSON.parse((await seawall("show", late.id, "--json")).stdout) as Record<string, unknown>;
  expect(json).toMatchObject({ id: late.id, pinned: true, pin: { note }, wal: { missing: [] }, fromStandby: false });
  expect(json["reaches"]).toMatchObject([
    { timeline: 2, toLsn: listed.tip.lsn },
    { timeline: 1, toLsn: listed.timelines[0]?.["toLsn"] },
  ]);
  const { stdout } = await seawall("show", late.id);
  expect(stdout).toMatch(new RegExp(`^backup +${late.id}, full, labelled "test"$`, "m"));
  expect(stdout).toMatch(/^pinned +since .*: before the migration$/m);
  expect((await seawall("list")).stdout).toMatch(new RegExp(`^  ${late.id} .* pinned$`, "m"));
});

test("a verification notes the gap that later backups cover, and exits with 0", async () => {
  const { code, stdout } = await seawall("verify", "--json");
  expect(code).toBe(0);
  const report = JSON.parse(stdout) as { ok: boolean; problems: object[]; notes: { kind: string; message: string }[] };
  expect(report).toMatchObject({ ok: true, problems: [], checked: { backups: 3, tails: 2, partials: 1 } });
  const since = `everything since ${late.finishedAt} is recoverable with backup ${late.id}`;
  expect(report.notes.map(({ kind }) => kind)).toEqual(["gap"]);
  expect(report.notes[0]?.message).toMatch(new RegExp(`: unreachable: 2\\S+ to ${late.finishedAt}; ${since}$`));
  expect(listed.gaps).toMatchObject([{ coveredBy: { backup: late.id, finishedAt: late.finishedAt } }]);
  expect((await seawall("list")).stdout).toContain(shownTimesIn(since));
  const text = await seawall("verify", "--deep");
  expect(text.code).toBe(0);
  expect(text.stdout).toMatch(/^verified \d+ segments, 1 partial, 2 tails, 3 backups in .* read\n/);
  expect((await seawall("verify", "--deep")).stdout).toMatch(
    /^unchanged since an earlier run: \d+ segments, 3 backups$/m,
  );
});

test("without the backups behind it the gap is a problem that names what it means, and the exit status is 1", async () => {
  const folder = makeTempDir("verify");
  try {
    cpSync(place.folder, folder, { recursive: true });
    for (const { id } of [late, promoted]) rmSync(join(folder, "main", "backups", id), { recursive: true });
    const { code, stdout } = await inProcess(["verify", "--full", "--json", "--store", `file://${folder}`]);
    expect(code).toBe(1);
    const { problems } = JSON.parse(stdout) as { problems: { kind: string; message: string }[] };
    const from = String(listed.gaps[0]?.["fromLsn"]);
    expect(problems.map(({ kind }) => kind)).toEqual(["gap"]);
    expect(problems[0]?.message).toMatch(new RegExp(`: backup ${early.id} cannot reach past ${from}$`));
    const text = await inProcess(["verify", "--full", "--store", `file://${folder}`]);
    expect(text.stdout).toMatch(/\n1 problem\n$/);
  } finally {
    removeTree(folder);
  }
});

test("status tells of the last backup and the last verification", async () => {
  await seawall("verify", "--deep");
  const { stdout } = await seawall("status", "--listen", "off", "--json");
  const { archive: last } = JSON.parse(stdout) as { archive: Record<string, unknown> };
  expect(last).toMatchObject({
    backup: { id: promoted.id, finishedAt: promoted.finishedAt, bytes: promoted.bytes },
    verify: { ok: true, deep: true, problems: 0, gaps: 0 },
    drill: null,
  });
  const text = (await seawall("status", "--listen", "off")).stdout;
  expect(text).toMatch(
    new RegExp(`^last backup +${promoted.finishedAt.slice(0, 19).replace("T", " ")}Z, .*, ${promoted.id}$`, "m"),
  );
  expect(text).toMatch(/^last verify +\S+ \S+, deep: ok$/m);
  expect(text).toMatch(/^last drill +none$/m);
});

test("without the backups that the gap cuts off, all is well, and 0 says so", async () => {
  const folder = makeTempDir("verify");
  try {
    cpSync(place.folder, folder, { recursive: true });
    rmSync(join(folder, "main", "backups", early.id), { recursive: true });
    const { code, stdout } = await inProcess(["verify", "--full", "--store", `file://${folder}`]);
    expect(stdout).toMatch(/\neverything is there and unbroken; --deep reads what is inside\n$/);
    expect(code).toBe(0);
  } finally {
    removeTree(folder);
  }
});

test("what cannot be shown is refused", async () => {
  expect(await seawall("show", "20260203T040506Z-00000000")).toMatchObject({ code: 1 });
  expect(await seawall("show", "newest")).toMatchObject({ code: 2 });
  expect(await seawall("list", "--cluster", "other")).toMatchObject({ code: 1 });
  expect(await inProcess(["list"])).toMatchObject({ code: 2 });
});

test("a missing segment, a damaged document and what a backup left behind are named", async () => {
  const { segmentSize } = archive.identity;
  const segment = segmentOf(late.startLsn, segmentSize);
  await place.store.delete([segmentKey("main", { timeline: late.timeline, segment, segmentSize })]);
  const unfinished = "20260203T040506Z-0badcafe";
  await place.store.put(backupPartKey("main", unfinished, "00001.tar.zst"), Buffer.from("x"));
  const torn = "20260203T040507Z-0badcafe";
  await place.store.put(`${backupsPrefix("main")}${torn}/backup.json`, Buffer.from("{"));
  const now = await list();
  expect(now.leftovers.map(({ id }) => id)).toEqual([unfinished]);
  expect(now.damaged.map(({ object }) => object)).toEqual([`backup ${torn}`]);
  expect(now.gaps.filter(({ isRecorded }) => isRecorded === false)).toMatchObject([{ timeline: 1 }]);
  expect(now.backups[1]).toMatchObject({ id: late.id, restorable: false });
  const { stdout } = await seawall("show", late.id);
  expect(stdout).toMatch(/not in the archive: 0000000100000000/);
  expect(stdout).toMatch(/^reaches +nothing: it cannot be restored$/m);
  expect(now.windows.map(({ backup }) => backup)).toEqual([early.id, early.id, promoted.id]);
});
