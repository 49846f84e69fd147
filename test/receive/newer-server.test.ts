/**
 * A server of a version that is newer than the known ones: it is refused, and with --allow-newer-server its WAL is archived
 * as it is. What depends on the contents of records refuses that archive by name.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { verifyArchive } from "../../src/archive/verify/verify.ts";
import { commitTimesIn } from "../../src/archive/wal/commits.ts";
import { peekWal } from "../../src/archive/wal/objects.ts";
import { judgeHealth } from "../../src/daemon/health/health.ts";
import { copyStatus } from "../../src/daemon/status/gauges.ts";
import { createLog } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { walFetch } from "../../src/restore/fetch/wal-fetch.ts";
import { resolvePlan } from "../../src/restore/target/resolve.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { MAJOR_MAX } from "../../src/wal/format.ts";
import { type Lsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { until } from "../campaigns/campaign.ts";
import { statusFixture } from "../daemon/fixture.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { renumbered } from "../harness/renumbered-server.ts";
import { runCli, startCli } from "../harness/process.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { directoryPlace } from "../restore/servers.ts";
import { keysBelow } from "../store/keys-below.ts";
import { filled, mainData, MIB, SYSTEM_ID, timestamp, WalWriter } from "../wal/wal-writer.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

const NEWER = MAJOR_MAX + 1;
const FIRST = segmentOf(BigInt(MIB) as Lsn, MIB);
const ITEM = { timeline: timelineOf(1), segment: FIRST };
const SETTINGS = { wal_segment_size: "1MB", in_hot_standby: "off", wal_sender_timeout: "1min" };
const QUIET = { begin: () => undefined, advance: () => undefined, detail: () => undefined };

/** One sealed segment and a little more, of a version with another magic and a resource manager of its own. */
function newerWal(): WalWriter {
  const wal = new WalWriter({ majorVersion: NEWER, magic: 0xd1f0 });
  wal.write({ rmid: 1, info: 0, data: mainData(timestamp(1_700_000_000_000_000)) });
  wal.write({ rmid: 22, data: filled(20_000) });
  wal.switchSegment();
  wal.write({ rmid: 22, data: filled(300) });
  return wal;
}

async function newerServer(wal = newerWal()): Promise<ScriptedWalsender> {
  return ScriptedWalsender.start({
    ...{ systemIdentifier: SYSTEM_ID, timeline: 1, xlogpos: wal.position, serverVersion: `${NEWER}.0` },
    settings: SETTINGS,
    slots: { seawall: { restartLsn: wal.start, restartTimeline: 1 } },
    stream: async (stream) => {
      await stream.sendWal(stream.startLsn, wal.bytes, { messageBytes: 100_000 });
    },
  });
}

test("a newer server is refused before anything is written, and the hint names the option", async () => {
  await using server = await newerServer();
  const store = new MemoryStore();
  await using receiver = receive(server, store, { once: true, allowNewerServer: false });
  await expect(receiver.done).rejects.toMatchObject({
    code: "server-version",
    message: `the server is PostgreSQL ${NEWER}, newer than this Seawall knows`,
    hint: expect.stringMatching(/--allow-newer-server.*docs\/versions\.md/) as string,
  });
  expect(await keysBelow(store, "")).toEqual([]);
});

describe("with --allow-newer-server", () => {
  test("its WAL is archived, and nothing in the archive says what the records hold", async () => {
    const wal = newerWal();
    await using server = await newerServer(wal);
    const store = new MemoryStore();
    const lines: string[] = [];
    const destination = { write: (line: string) => void lines.push(line) };
    const log = createLog({ level: "warn", format: "json", destination });
    await using receiver = receive(server, store, { allowNewerServer: true, log });
    await receiver.stored(wal.position);
    const status = receiver.state.snapshot();
    expect(status).toMatchObject({ isServerNewer: true, serverVersion: NEWER * 10_000, rpoSeconds: 0 });
    expect(status.counters).toMatchObject({ commits: 0, records: 3 });
    expect(lines.join("")).toContain("the server is newer than this Seawall knows");
    await receiver.kill();
    server.rethrow();

    const archive = await openRunArchive(store, "main");
    expect(archive.identity.pgMajor).toBe(NEWER);
    const place = { ...ITEM, segmentSize: MIB };
    const meta = (await peekWal(archive, "segment", place))?.envelope.meta;
    expect(meta).toMatchObject({ records: 3 });
    for (const name of ["commits", "aborts", "firstCommitAt", "lastCommitAt", "restorePoints", "changes"]) {
      expect(meta).not.toHaveProperty(name);
    }
  });

  test("WAL that is not stored yet counts as a commit: the recovery point is never shown too good", async () => {
    const wal = newerWal();
    await using server = await newerServer(wal);
    const store = new FaultyStore(new MemoryStore());
    const stall = store.failpoint({ operation: "put", key: /\/wal\/|\/tail\//, fault: "stall", times: Infinity });
    await using receiver = receive(server, store, { allowNewerServer: true });
    await stall.reached;
    await until("an age", () => (receiver.state.rpo()?.seconds ?? 0) > 0);
    stall.remove();
    await receiver.stored(wal.position);
    await until("none", () => receiver.state.rpo()?.seconds === 0);
  });

  test("damage in it stops the receiver like any other", async () => {
    const wal = newerWal();
    const bytes = wal.bytes;
    bytes[9000] = (bytes[9000] ?? 0) ^ 1;
    await using server = await ScriptedWalsender.start({
      ...{ systemIdentifier: SYSTEM_ID, timeline: 1, xlogpos: wal.position, serverVersion: `${NEWER}beta1` },
      settings: SETTINGS,
      stream: async (stream) => stream.sendWal(stream.startLsn, bytes),
    });
    await using receiver = receive(server, new MemoryStore(), { once: true, allowNewerServer: true });
    await expect(receiver.done).rejects.toMatchObject({ code: "wal-corrupt" });
  });

  test("verification passes the archive, and everything that needs the records refuses it by name", async () => {
    const wal = newerWal();
    await using server = await newerServer(wal);
    const store = new MemoryStore();
    await using receiver = receive(server, store, { allowNewerServer: true });
    await receiver.stored(wal.position);
    await receiver.kill();
    const archive = await openRunArchive(store, "main");

    const deep = { deep: true, full: true, jobs: 1, progress: QUIET, random: 1, now: () => new Date() };
    expect(await verifyArchive(archive, deep)).toMatchObject({ problems: [], checked: { segments: 1, records: 4 } });
    const catalog = await readCatalog(archive);
    expect(catalog).toMatchObject({ tip: { lsn: wal.position }, windows: [], damaged: [] });

    const unknown = { code: "wal-version", message: expect.stringContaining(`PostgreSQL ${NEWER}`) as string };
    await expect(commitTimesIn(archive, { ...ITEM, kind: "segment" })).rejects.toMatchObject(unknown);
    const target = parseTarget({ time: "2026-11-01T00:00:00Z" }, Date.now());
    await expect(resolvePlan(archive, { target })).rejects.toMatchObject(unknown);

    const folder = makeTempDir("newer");
    try {
      const fileName = segmentFileName(ITEM.timeline, FIRST, MIB);
      const common = { store, cluster: "main", fileName, identities: runCodec.identities };
      await walFetch({ ...common, targetPath: join(folder, fileName) });
      expect(Buffer.compare(readFileSync(join(folder, fileName)), wal.bytes.subarray(0, MIB))).toBe(0);
      mkdirSync(join(folder, "pg_wal"));
      const targetPath = join(folder, "pg_wal", "RECOVERYXLOG");
      await expect(walFetch({ ...common, targetPath })).rejects.toMatchObject(unknown);
      expect(existsSync(targetPath)).toBe(false);
    } finally {
      removeTree(folder);
    }
  });
});

test("health and metrics say it", async () => {
  const status = statusFixture({ isServerNewer: true, serverVersion: NEWER * 10_000 });
  expect(judgeHealth(status)).toMatchObject({
    status: "critical",
    findings: [{ kind: "server-newer", what: `PostgreSQL ${NEWER}.0 is newer than this Seawall knows` }],
  });
  expect(judgeHealth(statusFixture()).findings).not.toContainEqual(expect.objectContaining({ kind: "server-newer" }));
  const metrics = createMetrics({ cluster: "orders", version: "1" });
  copyStatus(status, metrics);
  expect((await metrics.render()).text).toContain('seawall_server_version_unknown{cluster="orders"} 1');
  copyStatus(statusFixture(), metrics);
  expect((await metrics.render()).text).toContain('seawall_server_version_unknown{cluster="orders"} 0');
});

// Its real WAL has the newest known magic, as a version has until its development changes the format.
test.each(versionsUnderTest().filter((version) => version === MAJOR_MAX))(
  "a real server %i that calls itself newer: every command, as a user runs it",
  async (version) => {
    await using place = await directoryPlace();
    await using real = await startPostgres({ version, segmentSizeMiB: 1, settings: { wal_keep_size: "512MB" } });
    await using server = await renumbered(real.dsn, version, NEWER);
    const connected = ["--dsn", server.dsn, "--store", place.url];
    const quiet = ["--listen", "off", "--log-level", "warn"];

    expect(await runCli(["receive", ...connected, ...quiet])).toMatchObject({ code: 4 });
    expect(await runCli(["check", ...connected])).toMatchObject({ code: 1 });
    const warned = await runCli(["check", ...connected, "--allow-newer-server"]);
    expect(warned.stdout).toMatch(/warn +version +PostgreSQL \d+\.\d+ is newer than this Seawall knows/);

    const address = ["--listen", "127.0.0.1:0"];
    const allowed = ["receive", ...connected, "--allow-newer-server", "--ship-interval", "0", "--log-format", "json"];
    await using receiver = startCli([...allowed, ...address]);
    const listening = await receiver.waitForLine(/"address":"[^"]*"/);
    const listen = /"address":"([^"]*)"/.exec(listening)?.[1] ?? "";
    const url = `http://${listen}/`;
    await receiver.waitForLine(/newer than this Seawall knows/);
    await real.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) i");
    await real.sql("SELECT pg_switch_wal()");
    await real.sql("INSERT INTO t VALUES (0)");
    const end = await flushLsn(real);
    await until("all of it", async () => {
      const status = (await (await fetch(new URL("/status.json", url))).json()) as { storedLsn: string | null };
      return status.storedLsn !== null && BigInt(`0x${status.storedLsn.replace(/^.*\//, "")}`) >= (end & 0xffffffffn);
    });
    expect(await (await fetch(new URL("/metrics", url))).text()).toMatch(/seawall_server_version_unknown\S* 1/);
    const { stdout } = await runCli(["status", "--listen", listen]);
    expect(stdout).toMatch(/PostgreSQL \S+ is newer than this Seawall knows/);
    await receiver.end("SIGTERM");
    expect(await expectEqualsServer(real, place.store)).toBeGreaterThan(0);

    expect(await runCli(["verify", "--deep", "--store", place.url])).toMatchObject({ code: 0 });
    const listed = await runCli(["list", "--store", place.url]);
    expect(listed.stdout).toMatch(new RegExp(`version +PostgreSQL ${NEWER}, newer than this Seawall knows`));
    const refusals = [
      ["backup", ...connected],
      ["restore", "--store", place.url, "--target-dir", join(place.folder, "restored")],
      ["drill", "--store", place.url],
    ];
    for (const args of refusals) {
      const { code, stderr } = await runCli(args);
      expect([args[0], code, stderr]).toEqual([
        args[0],
        args[0] === "backup" ? 4 : 3,
        expect.stringContaining(String(NEWER)),
      ]);
    }
  },
  180_000,
);
