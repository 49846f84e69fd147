/**
 * `seawall cluster upgrade` between two servers that no pg_upgrade leads from one to the other: who is refused, what is
 * declared, how it is undone.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { statusOf, streaming } from "../daemon/hooked.ts";
import { openCalendar } from "../harness/calendar.ts";
import { newestUnderTest, type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const calendar = await openCalendar();

let dir: string;
let old: PostgresServer;
let next: PostgresServer;
beforeAll(async () => {
  dir = makeTempDir("generations");
  old = await startPostgres({ version: 14, segmentSizeMiB: 1 });
  next = await startPostgres({ version: newestUnderTest(), segmentSizeMiB: 1 });
});
afterAll(async () => {
  await old[Symbol.asyncDispose]();
  await next[Symbol.asyncDispose]();
  removeTree(dir);
});

function placeOf(name: string): string[] {
  mkdirSync(join(dir, name), { recursive: true });
  return ["--store", `file://${join(dir, name)}`, "--slot", name];
}

const receive = (server: PostgresServer, place: readonly string[], ...flags: string[]): CliProcess =>
  startCli(["receive", ...place, "--dsn", server.dsn, "--listen", "127.0.0.1:0", "--log-format", "json", ...flags]);

const withoutSlot = (place: readonly string[]): string[] => place.slice(0, 2);

async function upgrade(server: PostgresServer, place: readonly string[], ...flags: string[]) {
  return runCli(["cluster", "upgrade", ...withoutSlot(place), "--dsn", server.dsn, ...flags]);
}

async function backup(server: PostgresServer, place: readonly string[]): Promise<string> {
  const args = ["backup", ...withoutSlot(place), "--dsn", server.dsn, "--checkpoint", "fast", "--json"];
  const done = await runCli(args);
  expect(done, done.stderr).toMatchObject({ code: 0 });
  return (JSON.parse(done.stdout) as { id: string }).id;
}

function text(pattern: string | RegExp): unknown {
  return typeof pattern === "string" ? expect.stringContaining(pattern) : expect.stringMatching(pattern);
}

/** Every object as old as if nothing had been stored for long. */
function age(name: string): void {
  for (const entry of readdirSync(join(dir, name), { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), 1_700_000_000, 1_700_000_000);
  }
}

test("a rehearsal on a copy is refused while production runs, and declared once production has stopped in order", async () => {
  const place = placeOf("rehearsal");
  await using daemon = receive(old, place);
  await streaming(daemon);
  await backup(old, place);
  await old.sql("CREATE TABLE rehearsal (i int)");
  const early = await upgrade(next, place);
  expect([early.code, early.stderr]).toEqual([1, text("[cluster-protected]")]);
  expect(early.stderr).toMatch(/the archive of main@1 ends at .* without the checkpoint of an orderly shutdown/);
  expect((await upgrade(next, place, "--dry-run")).stdout).toMatch(/^It would be refused:$/m);
  // The server itself is at home.
  expect(await upgrade(old, place)).toMatchObject({ code: 0, stdout: text("belongs to main@1 already") });

  await old.stop("fast");
  const dry = await upgrade(next, place, "--dry-run", "--json");
  expect(JSON.parse(dry.stdout)).toMatchObject({ generation: "main@2", declared: false, obstacles: [] });
  expect(readdirSync(join(dir, "rehearsal", "main"))).not.toContain("generations");
  const declared = await upgrade(next, place);
  expect(declared, declared.stderr).toMatchObject({ code: 0, stdout: text("main@2 is declared") });
  expect(await upgrade(next, place)).toMatchObject({ code: 0, stdout: text("belongs to main@2 already") });
  await old.start();
});

test("each server is told its next step, and the undone upgrade goes back to the old one", async () => {
  const place = placeOf("undo");
  {
    await using daemon = receive(old, place);
    await streaming(daemon);
  }
  const stranger = receive(next, place);
  expect((await stranger.ended(60_000)).code).toBe(6);
  expect(stranger.stderr).toContain("foreign-cluster");
  expect(stranger.stderr).toContain("seawall cluster upgrade --cluster main");
  const check = await runCli(["check", ...place, "--dsn", next.dsn]);
  expect(check.stdout).toContain("seawall cluster upgrade --cluster main");
  const statusText = async (server: PostgresServer): Promise<string> =>
    (await runCli(["status", "--check", ...place, "--dsn", server.dsn, "--listen", "off"])).stdout;
  const status = await statusText(next);
  expect(status).toContain("receive refuses this server");
  expect(status).toContain("seawall cluster upgrade --cluster main");
  expect(status).not.toMatch(/Start seawall receive|makes the slot anew/);
  const taken = await runCli(["backup", ...withoutSlot(place), "--dsn", next.dsn]);
  expect([taken.code, taken.stderr]).toEqual([6, text("seawall cluster upgrade --cluster main")]);

  age("undo");
  const forced = await upgrade(next, place, "--force");
  expect(forced, forced.stderr).toMatchObject({ code: 0 });
  const former = receive(old, place);
  expect((await former.ended(60_000)).code).toBe(6);
  expect(former.stderr).toContain("generation-ended");
  expect(former.stderr).toContain("seawall cluster remove --cluster main@2 --confirm main@2");
  expect(await upgrade(old, place)).toMatchObject({ code: 6, stderr: text("[generation-ended]") });
  expect(await statusText(old)).toContain("seawall cluster remove --cluster main@2 --confirm main@2");
  {
    await using daemon = receive(next, place);
    const address = await streaming(daemon);
    // The label of metrics and the name in the status stay.
    expect((await statusOf(address)).cluster).toBe("main");
    expect(await (await fetch(`http://${address}/metrics`)).text()).toContain('cluster="main"');
    await next.sql("CREATE TABLE undo (i int)");
    expect(readdirSync(join(dir, "undo"))).toContain("main@2");
    await until("WAL is stored", async () => (await statusOf(address)).storedLsn !== null);
  }
  const listed = async (name: string): Promise<string> =>
    (await runCli(["list", ...withoutSlot(place), "--cluster", name])).stdout;
  expect(await listed("main@1")).toMatch(
    /^older +the cluster has gone on as main@2 since \d{4}-.*; seawall list --cluster main shows/m,
  );
  for (const name of ["main", "main@2"]) expect(await listed(name)).not.toMatch(/^older/m);
  // A history file names no cluster: the data directory around it does.
  const remove = (name: string) =>
    runCli(["cluster", "remove", ...withoutSlot(place), "--cluster", name, "--confirm", name]);
  age("undo");
  expect(await remove("main")).toMatchObject({ code: 1, stderr: text("--cluster main@2 --confirm main@2") });
  expect(await remove("main@1")).toMatchObject({ code: 1, stderr: text("main@2 follows it") });
  const removed = await remove("main@2");
  expect(removed, removed.stderr).toMatchObject({ code: 0 });
  expect(readdirSync(join(dir, "undo", "main"))).not.toContain("generations");
  await using daemon = receive(old, place);
  await streaming(daemon);
});

test("--force does not end a generation whose receiver stores WAL; a receiver that is overtaken all the same ends", async () => {
  const place = placeOf("overtaken");
  await using daemon = receive(old, place);
  const address = await streaming(daemon);
  await old.sql("CREATE TABLE overtaken (i int)");
  const lsn = await old.value("SELECT pg_current_wal_flush_lsn()");
  const isStored = async () =>
    old.value("SELECT ($1::pg_lsn >= $2::pg_lsn)::text", [(await statusOf(address)).storedLsn ?? "0/0", lsn]);
  await until("WAL is stored", async () => (await isStored()) === "true");
  const refused = await upgrade(next, place, "--force");
  expect([refused.code, refused.stderr]).toEqual([1, text(/a receiver still stores WAL: .* \(main@1\)/)]);

  if (calendar.available) {
    // The store's clock counts, whatever this machine's shows.
    using clock = calendar.begin(Date.now() + 3_600_000);
    const args = ["cluster", "upgrade", ...withoutSlot(place), "--dsn", next.dsn, "--force"];
    const ahead = await runCli(args, { env: clock.env });
    expect([ahead.code, ahead.stderr]).toEqual([1, text("a receiver still stores WAL")]);
    expect(readdirSync(join(dir, "overtaken", "main"))).not.toContain("probe");
  }

  await until("the receiver is quiet", async () => {
    age("overtaken");
    return (await upgrade(next, place, "--force")).code === 0;
  });
  // The slot in use is that of the old server, and says nothing about main@2.
  const dry = ["--dsn", old.dsn, "--dry-run", "--json"];
  const ofOld = await runCli(["cluster", "remove", ...place, "--cluster", "main@2", ...dry]);
  expect(JSON.parse(ofOld.stdout), ofOld.stderr).toMatchObject({ obstacles: [] });
  const verified = await runCli(["verify", ...withoutSlot(place)]);
  expect(verified).toMatchObject({
    code: 0,
    stdout: text(/main@2: it holds no WAL and no backup.*\nthe archive is empty$/m),
  });
  await until("the receiver notices", async () => {
    await old.sql("INSERT INTO overtaken VALUES (1)");
    return daemon.stderr.includes("generation-ended");
  });
  expect((await daemon.ended(60_000)).code).toBe(6);
});

test("a spool goes on in the folder of the new generation", async () => {
  const place = placeOf("spooled");
  const spool = join(dir, "spool");
  mkdirSync(spool);
  const spooled = ["--durability", "spool", "--spool-dir", spool];
  {
    await using daemon = receive(old, place, ...spooled);
    await streaming(daemon);
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });
  }
  age("spooled");
  expect(await upgrade(next, place, "--force")).toMatchObject({ code: 0 });
  await using daemon = receive(next, place, ...spooled);
  const address = await streaming(daemon);
  await next.sql("CREATE TABLE spooled (i int)");
  const lsn = await next.value("SELECT pg_current_wal_flush_lsn()");
  const isUploaded = async () =>
    next.value("SELECT ($1::pg_lsn >= $2::pg_lsn)::text", [(await statusOf(address)).uploadedLsn ?? "0/0", lsn]);
  await until("the spool is uploaded", async () => (await isUploaded()) === "true");
  expect(readdirSync(spool).filter((name) => name.startsWith("main"))).toEqual(["main", "main@2"]);
  const identity = readFileSync(join(dir, "spooled", "main@2", "cluster.json"), "utf8");
  expect(identity).toContain(String(await next.systemIdentifier()));
});

test("in a copy of the store without the new generation every writer is refused, and nothing is created", async () => {
  const place = placeOf("copied");
  {
    await using daemon = receive(old, place);
    await streaming(daemon);
  }
  age("copied");
  expect(await upgrade(next, place, "--force")).toMatchObject({ code: 0 });
  rmSync(join(dir, "copied", "main@2"), { recursive: true });
  const received = receive(next, place);
  expect([(await received.ended(60_000)).code, received.stderr]).toEqual([6, text("object-corrupt")]);
  expect(received.stderr).toContain("copy the folders of all generations");
  const segment = join(next.walDir, next.walFiles()[0] ?? "");
  for (const writer of [
    ["backup", "--dsn", next.dsn],
    ["wal-push", segment],
  ]) {
    const [command = "", ...rest] = writer;
    const refused = await runCli([command, ...withoutSlot(place), ...rest]);
    expect([command, refused.code, refused.stderr]).toEqual([command, 6, text("[object-corrupt]")]);
  }
  expect(readdirSync(join(dir, "copied")).filter((name) => name.startsWith("main"))).toEqual(["main"]);
});

test("archive_command of the old server puts no history into the new generation", async () => {
  const place = placeOf("pushed");
  {
    await using daemon = receive(old, place);
    await streaming(daemon);
  }
  age("pushed");
  expect(await upgrade(next, place, "--force")).toMatchObject({ code: 0 });
  const history = join(old.walDir, "00000002.history");
  writeFileSync(history, "1\t0/2000000\tno recovery target specified\n");
  const pushed = await runCli(["wal-push", ...withoutSlot(place), history]);
  expect([pushed.code, pushed.stderr]).toEqual([6, text("[foreign-cluster]")]);
  expect(readdirSync(join(dir, "pushed", "main@2"))).toEqual(["cluster.json"]);
  const segment = join(old.walDir, old.walFiles()[0] ?? "");
  expect(await runCli(["wal-push", ...withoutSlot(place), segment])).toMatchObject({
    code: 6,
    stderr: text("[generation-ended]"),
  });
});

test.each([
  ["main@x", "is not a valid name"],
  ["main@0", "is not a valid name"],
  ["main@2@2", "is not a valid name"],
])("--cluster %s is refused", async (name, why) => {
  const listed = await runCli(["list", ...withoutSlot(placeOf("names")), "--cluster", name]);
  expect([listed.code, listed.stderr]).toEqual([2, text(why)]);
});

test("receive takes no generation, and one that was never declared is named", async () => {
  const place = placeOf("named");
  const received = await runCli(["receive", ...place, "--dsn", old.dsn, "--cluster", "main@2", "--listen", "off"]);
  expect([received.code, received.stderr]).toEqual([2, text("Name the cluster: main")]);
  {
    await using daemon = receive(old, place);
    await streaming(daemon);
  }
  const listed = await runCli(["list", ...withoutSlot(place), "--cluster", "main@2"]);
  expect([listed.code, listed.stderr]).toEqual([1, text("The newest one is main@1")]);
});
