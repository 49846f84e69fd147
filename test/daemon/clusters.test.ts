/**
 * Several clusters in one process, on real servers: all are archived, whatever breaks one leaves the other's commits being
 * stored and acknowledged, and SIGHUP changes what the file changes and nothing else.
 */
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StatusDocument, StatusOverview } from "../../src/daemon/status/document.ts";
import { listBackups } from "../../src/archive/backups/list.ts";
import { hasCode } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { lockSpool } from "../../src/receive/spool-lock.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { BackupServer, type Place } from "./backup-server.ts";
import { freePort } from "../harness/postgres-process.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { parseExposition } from "../metrics/exposition.ts";

/** Its commits wait until they are stored: Seawall is its synchronous standby. */
let orders: PostgresServer;
let billing: PostgresServer;
let dir: string;
beforeAll(async () => {
  [orders, billing] = await Promise.all([
    startPostgres({ version: 14, segmentSizeMiB: 1, freshIdentifier: true }),
    startPostgres({ version: 18, segmentSizeMiB: 1, freshIdentifier: true }),
  ]);
  await orders.sql("CREATE TABLE t (i int)");
  await billing.sql("CREATE TABLE t (i int)");
  dir = makeTempDir("clusters");
});
afterAll(async () => {
  await Promise.all([orders[Symbol.asyncDispose](), billing[Symbol.asyncDispose]()]);
  removeTree(dir);
});

const place = (): Place => ({ dir, orders, billing });

/** A commit that the archive has: the server waited for it, and the status says so. */
async function commitIsStored(server: BackupServer, value: number): Promise<void> {
  await orders.sql("INSERT INTO t VALUES ($1)", [value]);
  const lsn = await orders.value("SELECT flush_lsn::text FROM pg_stat_replication WHERE sync_state = 'sync'");
  const stored = (await server.of("orders"))?.storedLsn ?? "";
  const isBehind = await orders.value("SELECT ($1::pg_lsn < $2::pg_lsn)::text", [stored, lsn]);
  expect(isBehind).toBe("false");
}

const walsenders = async (server: PostgresServer): Promise<Record<string, number>> => {
  const rows = await server.sql("SELECT slot_name, active_pid FROM pg_replication_slots WHERE active_pid IS NOT NULL");
  return Object.fromEntries(rows.map((row) => [String(row["slot_name"]), Number(row["active_pid"])]));
};

describe("two clusters in one process", () => {
  test("are both archived and shown, and what breaks one leaves the other's commits alone", async () => {
    await using server = await BackupServer.start(place(), "broken");
    await billing.sql("INSERT INTO t VALUES (1)");
    await commitIsStored(server, 1);

    // The slots are made with the first connection, and looked at now and then.
    await until("the slots are known", async () =>
      (await server.overview()).clusters.every(({ slot }) => slot?.walStatus === "reserved"),
    );
    const table = await server.cli("status");
    expect(table.stdout).toMatch(/^CLUSTER +HEALTH +STATE +TL .*PROBLEM$/m);
    expect(table.stdout).toMatch(/^orders +(ok|critical) +streaming +1 +0\/\w+ .* reserved/m);
    expect(table.stdout).toMatch(/^billing +(ok|critical) +streaming +1 +0\/\w+ .* reserved/m);
    const one = await server.cli("status", "--cluster", "billing");
    expect(one.stdout).toMatch(/^cluster +billing, system identifier \d+/);
    expect(one.stdout).toMatch(/PostgreSQL 18\./);
    const json = JSON.parse((await server.cli("status", "--json")).stdout) as StatusOverview;
    expect(json.clusters.map(({ cluster, state }) => [cluster, state])).toEqual([
      ["orders", "streaming"],
      ["billing", "streaming"],
    ]);
    // Without the file, the receiver alone says what it serves.
    const bare = await runCli(["status", "--listen", server.address]);
    expect(bare.stdout).toMatch(/^orders +(ok|critical) +streaming/m);
    const metrics = parseExposition(await (await server.get("/metrics")).text());
    const labels = (name: string): unknown[] => (metrics.get(name)?.samples ?? []).map((one) => one.labels["cluster"]);
    expect(labels("seawall_stored_lsn_bytes")).toEqual(["orders", "billing"]);
    expect(labels("process_resident_memory_bytes")).toEqual([undefined]);
    expect(await (await server.get("/")).text()).toMatch(/streaming[^]*streaming/);

    // Its server is killed.
    await billing.kill9();
    await until("billing noticed", async () => (await server.of("billing"))?.state !== "streaming");
    await commitIsStored(server, 2);
    expect((await server.get("/healthz")).status).toBe(200);
    const ready = await server.get("/readyz");
    expect([ready.status, await ready.text()]).toEqual([503, expect.stringMatching(/^billing: /)]);
    expect((await server.cli("status")).stdout).toMatch(/^billing +critical +(waiting|connecting) /m);
    // Without a base backup that is the table's problem; the cluster's own status has the server's.
    expect((await server.cli("status", "--cluster", "billing")).stdout).toMatch(/connection refused/);
    await billing.start();
    await server.streams("billing");

    // Its slot is dropped under it, with what the slot kept.
    const { broken } = await walsenders(billing);
    await billing.sql("SELECT pg_terminate_backend($1)", [broken]);
    await until("the slot could be dropped", async () =>
      billing.sql("SELECT pg_drop_replication_slot('broken')").then(
        () => true,
        () => false,
      ),
    );
    await commitIsStored(server, 3);
    await server.streams("billing");

    // Its store is gone: nothing is acknowledged until the store is back.
    renameSync(join(server.folder, "b"), join(server.folder, "away"));
    await billing.sql("INSERT INTO t SELECT generate_series(1, 1000)");
    await commitIsStored(server, 4);
    const isStored =
      "SELECT coalesce(bool_or(flush_lsn >= pg_current_wal_flush_lsn()), false)::text FROM pg_stat_replication";
    expect(await billing.value(isStored)).toBe("false");
    renameSync(join(server.folder, "away"), join(server.folder, "b"));
    await until("billing is stored", async () => (await billing.value(isStored)) === "true");

    // It is pointed to the wrong server: a fatal error, which would end the process of a single cluster.
    server.clusters["billing"] = { ...server.clusters["billing"], dsn: orders.dsn, slot: "foreign" };
    server.write();
    await server.reload();
    await until("billing refused the foreign server", async () => (await server.of("billing"))?.state === "failed");
    const failed = await server.of("billing");
    expect(failed?.restart?.failures).toBe(1);
    expect(failed?.lastError?.message).toMatch(/belongs to system identifier/);
    // No restart of the process helps against a foreign server: the daemon tries again by itself.
    expect((await server.get("/healthz?cluster=billing")).status).toBe(200);
    expect((await server.get("/readyz?cluster=billing")).status).toBe(503);
    await commitIsStored(server, 5);
    server.clusters["billing"] = { dsn: billing.dsn, store: `file://${server.folder}/b` };
    server.write();
    await server.reload();
    await server.streams("billing");

    expect(await server.daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    await orders.configure({ synchronous_standby_names: "" });
    // It was refused before it had made its slot there.
    expect(await orders.value("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'foreign'")).toBe("0");
    for (const name of ["orders", "billing"]) {
      expect(JSON.parse((await server.cli("verify", "--cluster", name, "--json")).stdout)).toMatchObject({ ok: true });
    }
  }, 120_000);

  test("SIGHUP adds, changes and removes clusters, and never touches one whose lines are the same", async () => {
    await using server = await BackupServer.start(place(), "reloaded");
    const pid = async (from: PostgresServer, slot: string): Promise<number | undefined> =>
      (await walsenders(from))[slot];
    const [ordersPid, billingPid] = [await pid(orders, "reloaded"), await pid(billing, "reloaded")];
    expect(ordersPid).toBeDefined();

    // Commits go on all the while, each of them waiting until it is stored.
    let isOver = false;
    let commits = 0;
    const committing = (async () => {
      while (!isOver) await orders.sql("INSERT INTO t VALUES ($1)", [(commits += 1)]);
    })();

    server.clusters["second"] = { dsn: billing.dsn, slot: "second" };
    server.clusters["billing"] = { ...server.clusters["billing"], "verify-schedule": "0 3 * * *" };
    server.write();
    expect(await server.reload()).toMatchObject({ error: null });
    await server.streams("second");
    expect((await server.of("billing"))?.jobs).toMatchObject([{ job: "verify", schedule: "0 3 * * *" }]);
    expect([await pid(orders, "reloaded"), await pid(billing, "reloaded")]).toEqual([ordersPid, billingPid]);

    // The synchronous standby itself is changed: it stops in order, starts again, and no commit is lost.
    server.clusters["orders"] = { ...server.clusters["orders"], "status-interval": "5s" };
    server.write();
    const before = commits;
    await server.reload();
    await until("another walsender", async () => ![undefined, ordersPid].includes(await pid(orders, "reloaded")));
    await until("commits go on", () => commits > before + 5);
    expect(await pid(billing, "reloaded")).toBe(billingPid);
    const changedPid = await pid(orders, "reloaded");

    // A file with an error changes nothing and is shown.
    writeFileSync(
      server.file,
      `${Object.entries(server.top)
        .map(([k, v]) => `${k}: ${v}`)
        .join("\n")}\nclusters:\n  orders:\n    slott: x\n`,
    );
    expect((await server.reload())?.error?.message).toBe(
      `${server.file}:7:5: unknown key "slott" in the cluster "orders"`,
    );
    const status = await runCli(["status", "--listen", server.address]);
    expect(status.stdout).toMatch(/could not be reloaded .*unknown key "slott"/);
    const metrics = await (await server.get("/metrics")).text();
    expect(metrics).toMatch(/^seawall_config_last_reload_successful 0$/m);
    expect(await (await server.get("/")).text()).toContain("unknown key &quot;slott&quot;");

    // So does an address that is taken, with everything else that is new in the file.
    const old = server.address;
    server.top = { ...server.top, listen: `127.0.0.1:${orders.port}` };
    delete server.clusters["second"];
    server.write();
    server.daemon.signal("SIGHUP");
    const there = async (address: string): Promise<StatusOverview> =>
      (await (await fetch(`http://${address}/status.json`)).json()) as StatusOverview;
    await until("it was refused", async () => (await there(old)).configuration?.error?.code === "listen-failed");
    expect((await there(old)).clusters).toHaveLength(3);

    // A free one is taken, the cluster goes, and its slot stays.
    server.top = { ...server.top, listen: `127.0.0.1:${await freePort()}`, "log-level": "debug" };
    server.write();
    server.daemon.signal("SIGHUP");
    await until("it listens elsewhere", async () =>
      there(server.address).then(
        ({ clusters }) => clusters.length === 2,
        () => false,
      ),
    );
    await expect(fetch(`http://${old}/`)).rejects.toThrow();
    await until("the second has left", async () => (await pid(billing, "second")) === undefined);
    expect([await pid(orders, "reloaded"), await pid(billing, "reloaded")]).toEqual([changedPid, billingPid]);
    expect(
      parseExposition(await (await server.get("/metrics")).text()).get("seawall_timeline_id")?.samples,
    ).toHaveLength(2);
    await server.daemon.waitForLine(/"level":"debug"/);

    isOver = true;
    await committing;
    expect(await server.daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    const dropped = await server.cli("slot drop", "--cluster", "billing", "--slot", "second", "--json");
    expect(JSON.parse(dropped.stdout)).toEqual({ slot: { name: "second", dropped: true } });
  }, 120_000);

  test("SIGHUP leaves each spool locked by the one run of its cluster that uses it, and free without one", async () => {
    await using server = await BackupServer.start(place(), "respooled");
    const [first, second] = [join(server.folder, "spool-1"), join(server.folder, "spool-2")];
    for (const folder of [first, second]) mkdirSync(folder);
    const isLocked = async (directory: string): Promise<boolean> => {
      const options = { directory, folder: "spooled", log: silentLog, signal: new AbortController().signal };
      const lock = await lockSpool(options).catch((error: unknown) => {
        if (hasCode(error, "spool-in-use")) return undefined;
        throw error;
      });
      await lock?.[Symbol.asyncDispose]();
      return lock === undefined;
    };
    const walsender = async (): Promise<number | undefined> => (await walsenders(billing))["spooled"];
    const apply = async (options: Record<string, string> | undefined): Promise<void> => {
      const before = await walsender();
      delete server.clusters["spooled"];
      if (options !== undefined) server.clusters["spooled"] = options;
      server.write();
      expect(await server.reload()).toMatchObject({ error: null });
      await until("the change", async () => {
        const now = await walsender();
        return options === undefined ? now === undefined : now !== undefined && now !== before;
      });
      if (options !== undefined) await server.streams("spooled");
    };
    const spooled = { dsn: billing.dsn, slot: "spooled", durability: "spool", "spool-dir": first };

    await apply(spooled);
    expect(await isLocked(first)).toBe(true);
    // The same process takes it again.
    await apply({ ...spooled, "status-interval": "5s" });
    expect(await isLocked(first)).toBe(true);
    // All is uploaded, so the cluster may leave the spool.
    await until("the upload", async () => (await server.of("spooled"))?.isUploaded === true);
    await apply({ ...spooled, "spool-dir": second });
    expect(await isLocked(second)).toBe(true);
    expect(await isLocked(first)).toBe(false);
    await apply(undefined);
    await until("the spool to be free", async () => !(await isLocked(second)));
    await apply({ ...spooled, "spool-dir": second });
    expect(await isLocked(second)).toBe(true);
    await billing.sql("INSERT INTO t VALUES (7)");
    const lsn = await billing.value("SELECT pg_current_wal_flush_lsn()::text");
    await until("the commit to be acknowledged from the spool", async () => {
      const flushed =
        "SELECT count(*)::text FROM pg_stat_replication WHERE flush_lsn >= $1::pg_lsn AND pid = " +
        "(SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'spooled')";
      return (await billing.value(flushed, [lsn])) === "1";
    });
    expect(server.daemon.stderr).not.toContain("another process uses");
    expect(await server.daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    expect(await isLocked(second)).toBe(false);
    await billing.dropSlot("spooled");
  }, 120_000);

  test("their jobs run with their own settings, those that the daemon has loaded", async () => {
    const jobs = {
      checkpoint: "fast",
      "schedule-jitter": "0s",
      "backup-schedule": "*/2 * * * * *",
      "jobs-at-once": "1",
    };
    await using server = await BackupServer.start(place(), "jobs", jobs);
    const [ordersPid] = Object.values(await walsenders(orders));
    // Edited and not reloaded: nothing changes.
    for (const name of ["orders", "billing"]) {
      server.clusters[name] = { ...server.clusters[name], label: `of ${name}`, "manifest-checksums": "SHA256" };
    }
    server.write();
    const runs = async (name: string): Promise<number> => (await server.of(name))?.jobs[0]?.runs ?? 0;
    await until("a backup of each", async () => (await runs("orders")) > 0 && (await runs("billing")) > 0);
    await until("one of them waits for the other", async () =>
      (await server.overview()).clusters.some(({ jobs: [job] }) => typeof job?.waitingSince === "string"),
    );
    const labels = async (name: string, folder: string): Promise<Set<string>> => {
      const { backups } = await listBackups(await openRunArchive(new FileStore(join(server.folder, folder)), name));
      return new Set(backups.map(({ label }) => label));
    };
    expect([await labels("orders", "a"), await labels("billing", "b")]).toEqual([
      new Set(["seawall"]),
      new Set(["seawall"]),
    ]);
    expect(await server.reload()).toMatchObject({ error: null });
    await until("backups of the new kind", async () => {
      return (await labels("orders", "a")).has("of orders") && (await labels("billing", "b")).has("of billing");
    });
    for (const name of ["orders", "billing"]) expect((await server.of(name))?.jobs[0]?.failures).toBe(0);
    expect(await labels("orders", "a")).toEqual(new Set(["seawall", "of orders"]));
    expect(Object.values(await walsenders(orders))).toContain(ordersPid);
    expect((await server.cli("list", "--cluster", "billing")).stdout).toMatch(/^ +20\d+T\S+ .* full /m);
    expect(await server.daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
  }, 120_000);

  test("a file without clusters is reloaded, too; and what ends its cluster still ends the process", async () => {
    const folder = join(dir, "plain");
    mkdirSync(join(folder, "archive"), { recursive: true });
    const file = join(folder, "seawall.yaml");
    const address = `127.0.0.1:${await freePort()}`;
    const lines = [`store: file://${folder}/archive`, `listen: ${address}`, "log-format: json", "slot: plain"];
    const write = (dsn: string, ...more: readonly string[]): void =>
      writeFileSync(file, `${[...lines, `dsn: ${dsn}`, ...more].join("\n")}\n`);
    write(billing.dsn);
    await using daemon = startCli(["receive", "--config", file]);
    const status = async (): Promise<StatusDocument> =>
      (await (await fetch(`http://${address}/status.json`)).json()) as StatusDocument;
    const pid = async (): Promise<number | undefined> => (await walsenders(billing))["plain"];
    await until("it streams", async () =>
      status().then(
        ({ state }) => state === "streaming",
        () => false,
      ),
    );
    const first = await pid();
    write(billing.dsn, "verify-schedule: 0 3 * * *");
    daemon.signal("SIGHUP");
    await until("the schedule", async () => (await status()).jobs.length === 1);
    expect(await pid()).toBe(first);
    write(billing.dsn, "verify-schedule: 0 3 * * *", "ship-interval: 2s");
    daemon.signal("SIGHUP");
    await until("another walsender", async () => ![undefined, first].includes(await pid()));
    await until("it streams again", async () => (await status()).state === "streaming");
    write(billing.dsn, "cluster: other");
    daemon.signal("SIGHUP");
    await until("it is refused", async () => /was "main"/.test((await status()).configuration?.error?.message ?? ""));
    write(orders.dsn);
    daemon.signal("SIGHUP");
    expect(await daemon.ended()).toEqual({ code: 6, signal: null });
    expect(daemon.stderr).toMatch(/belongs to system identifier/);
  }, 60_000);

  test("without a daemon, status looks at each by itself, and one that cannot be looked at hides no other", async () => {
    const folder = join(dir, "outside");
    mkdirSync(folder);
    const file = join(folder, "seawall.yaml");
    const lines = ["listen: off", "slot: outside", "clusters:"];
    for (const [name, dsn] of Object.entries({ orders: orders.dsn, nobody: "host=127.0.0.1 port=1" })) {
      lines.push(`  ${name}:`, `    dsn: ${dsn}`, `    store: file://${folder}/none`);
    }
    writeFileSync(file, `${lines.join("\n")}\n`);
    const shown = await runCli(["status", "--config", file]);
    expect(shown.code).toBe(0);
    expect(shown.stdout).toMatch(/^No receiver answers/);
    expect(shown.stdout).toMatch(/^orders +critical +unreachable +1 .*no receiver answers/m);
    expect(shown.stdout).toMatch(/^nobody +critical +unreachable .*connection refused/m);
    const needsName = await runCli(["list", "--config", file]);
    expect(needsName.code).toBe(2);
    expect(needsName.stderr).toMatch(/the file has several clusters[^]*--cluster orders or nobody/);
    const created = await runCli(["slot", "create", "--config", file, "--cluster", "orders"]);
    expect(created.stdout).toMatch(/created physical replication slot "outside"/);
    expect((await runCli(["slot", "drop", "--config", file, "--cluster", "orders"])).code).toBe(0);
  }, 60_000);
});
