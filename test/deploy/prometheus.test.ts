/**
 * A real Prometheus over a real receiver of two clusters: outages of store and server, a gap, late backups, failed jobs. Each
 * alert fires with the right names in its text and clears again, and every rule and panel finds its series. The rules are a
 * generated copy with shorter durations (hastened-rules.ts); the rules themselves are tested by promtool, first.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { openArchive } from "../../src/archive/archive.ts";
import { backupIdOf } from "../../src/archive/keys.ts";
import { putDrill } from "../../src/archive/records/drills.ts";
import { openStore } from "../../src/store/open.ts";
import { until } from "../campaigns/campaign.ts";
import { addressOf } from "../daemon/hooked.ts";
import { openCalendar } from "../harness/calendar.ts";
import { ROOT } from "../harness/build.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { type Alert, findPrometheus, type Prometheus } from "../harness/prometheus.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { startProxy } from "../store/scripted-s3.ts";
import { hastenedRules, type RuleFile, selectorsOf } from "./hastened-rules.ts";

const prometheus = await findPrometheus();
const calendar = await openCalendar();
const s3 = await startS3();
const RULES = join(ROOT, "deploy/prometheus/alerts.yml");
const DAY_MS = 86_400_000;
const PATIENCE_MS = 180_000;
const SERVER = { wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "1GB", max_slot_wal_keep_size: "8GB" };

describe.skipIf(!prometheus.available)("promtool", () => {
  test("accepts the rules, and they pass their tests", async () => {
    const checked = await prometheus.promtool(["check", "rules", RULES]);
    expect(checked).toMatchObject({ code: 0 });
    const tested = await prometheus.promtool(["test", "rules", join(ROOT, "deploy/prometheus/alerts_test.yml")]);
    expect(tested, tested.stdout + tested.stderr).toMatchObject({ code: 0 });
  });
});

/** Files and servers of the story, from the first backup to the last alert. */
interface World {
  readonly dir: string;
  readonly server: PostgresServer;
  readonly daemon: CliProcess;
  readonly address: string;
  readonly watcher: Prometheus;
  /** Replaces the file and has the daemon read it. */
  configure(changes: Readonly<Record<string, unknown>>, orders?: Readonly<Record<string, unknown>>): void;
}

/** The alerts that fire, by name; and a memory of those that have fired. */
const firing = async ({ watcher }: World, name: string): Promise<readonly Alert[]> =>
  (await watcher.alerts()).filter(({ labels, state }) => state === "firing" && labels["alertname"] === name);

const fired = new Set<string>();

/** Waits until the alert fires for these labels, with this summary. */
async function fires(world: World, name: string, labels: Readonly<Record<string, string>>, summary: RegExp) {
  let found: readonly Alert[] = [];
  const isThis = (alert: Alert): boolean => Object.entries(labels).every(([key, value]) => alert.labels[key] === value);
  await until(
    `${name} ${JSON.stringify(labels)}`,
    async () => {
      found = (await firing(world, name)).filter(isThis);
      return found.length > 0;
    },
    PATIENCE_MS,
  );
  expect(found[0]?.annotations["summary"]).toMatch(summary);
  // A label that does not exist leaves a hole in a text.
  for (const text of Object.values(found[0]?.annotations ?? {})) expect(text).not.toMatch(/<no value>|^:|the {2}|: :/);
  fired.add(name);
}

async function clears(world: World, ...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await until(`the end of ${name}`, async () => (await firing(world, name)).length === 0, PATIENCE_MS);
  }
}

/** About 25 MB of WAL that does not compress. The rows do not stay: every scheduled backup would hold them. */
async function writeWal({ server }: World): Promise<void> {
  await server.sql(
    "INSERT INTO t SELECT string_agg(sha512(random()::text::bytea), '') FROM generate_series(1, 400000) g GROUP BY g % 25000",
  );
  await server.sql("TRUNCATE t");
}

describe.skipIf(!prometheus.available || !s3.available || !calendar.available)("a Prometheus over a receiver", () => {
  let dir: string;
  let away = false;
  let hookStatus = 404;
  beforeAll(() => {
    dir = makeTempDir("watched");
  });
  afterAll(() => removeTree(dir));

  test("each alert fires and clears when it should, and no rule or panel names a missing series", async () => {
    await using bucket = await s3.bucket();
    await using proxy = await startProxy(s3.endpoint, () =>
      away ? { kind: "answer", answer: { status: 503 } } : undefined,
    );
    const hook = createServer((request, response) => {
      request.resume().on("end", () => response.writeHead(hookStatus).end());
    });
    await new Promise<void>((resolve) => hook.listen(0, "127.0.0.1", resolve));
    await using server = await startPostgres({
      version: 18,
      segmentSizeMiB: 1,
      settings: SERVER,
    });
    await server.sql("CREATE TABLE t (pad bytea)");
    const store = bucket.url.replace(encodeURIComponent(s3.endpoint), encodeURIComponent(proxy.endpoint));
    const at = async (daysAgo: number, ...args: readonly string[]): Promise<void> => {
      using clock = calendar.begin(Date.now() - daysAgo * DAY_MS);
      const env = { ...s3.env, ...clock.env };
      const place = ["--store", bucket.url, "--cluster", "orders"];
      const ended = await runCli([...args, ...place], { env, timeoutMs: PATIENCE_MS });
      expect(ended, ended.stdout + ended.stderr).toMatchObject({ code: 0 });
    };
    const backup = ["backup", "--dsn", server.dsn, "--with-wal", "--checkpoint", "fast"];
    await at(11, ...backup);
    await storeOldDrill(bucket.url);

    const file = join(dir, "seawall.yaml");
    const spool = join(dir, "spool");
    mkdirSync(spool);
    const write = (changes: object = {}, orders: object = {}, spooled: object = {}): void => {
      const common = { store, listen: "127.0.0.1:0", "log-format": "json", dsn: server.dsn, "ship-interval": "100ms" };
      const quick = {
        "reconnect-max-delay": "200ms",
        "schedule-jitter": "0s",
        checkpoint: "fast",
        "pg-bin": server.binDir,
      };
      const spooling = { durability: "spool", "spool-dir": spool, "spool-max": "64MiB", slot: "spooled", ...spooled };
      const told = { "notify-url": `http://127.0.0.1:${(hook.address() as AddressInfo).port}/`, "notify-after": "1s" };
      const clusters = { orders: { slot: "orders", ...told, ...orders }, spooled: spooling };
      writeFileSync(file, JSON.stringify({ ...common, ...quick, ...changes, clusters }));
    };
    write();
    await using daemon = startCli(["receive", "--config", file], { env: s3.env });
    const address = await addressOf(daemon);
    await using watcher = await prometheus.start({
      targets: [address],
      rules: hastenedRules(readFileSync(RULES, "utf8")),
    });
    const configure = (changes: object, orders: object = {}): void => {
      write(changes, orders);
      daemon.signal("SIGHUP");
    };
    const world: World = { dir, server, daemon, address, watcher, configure };
    try {
      await lateBackups(world);
      await failedJobs(world);
      await storeAway(world, (isAway) => (away = isAway));
      await serverAway(world);
      await slotUnseen(world);
      await brokenFile(world, file);
      await slotOverBudget(world, (isAway) => (away = isAway));
      await slotEndangered(world, (isAway) => (away = isAway));
      await lostWal(world);
      await everySeriesExists(world);
      expect(await daemon.end("SIGTERM")).toEqual({ code: 0, signal: null });
    } finally {
      hook.close();
    }
  }, 1_500_000);

  /** A server does not start under a calendar of its own here, so the drill's record is written by itself. */
  async function storeOldDrill(url: string): Promise<void> {
    const store = openStore(url, { env: s3.env });
    const at = new Date(Date.now() - 10 * DAY_MS);
    const times = { startedAt: at.toISOString(), finishedAt: at.toISOString() };
    const unknown = { backup: undefined, timeline: undefined, promisedLsn: undefined, reachedLsn: undefined };
    const more = {
      lastCommitAt: undefined,
      restoreSeconds: undefined,
      recoverySeconds: undefined,
      checks: [],
      proved: [],
    };
    const drill = { id: backupIdOf(at, 1), ...times, ok: true, ...unknown, ...more };
    await putDrill(await openArchive(store, "orders"), drill);
    await store.close();
  }

  /** The newest backup is eleven days old, and "spooled" has none. */
  async function lateBackups(world: World): Promise<void> {
    await fires(world, "SeawallBackupOld", { cluster: "orders" }, /^orders: the newest base backup is 11d .* old$/);
    await fires(world, "SeawallDrillOverdue", { cluster: "orders" }, /^orders: the newest drill was 10d .* ago$/);
    await fires(world, "SeawallNoBackup", { cluster: "spooled" }, /^spooled: there is no base backup$/);
    world.configure({ "backup-schedule": "*/20 * * * * *", "verify-schedule": "*/30 * * * * *" });
    await clears(world, "SeawallBackupOld", "SeawallNoBackup");
  }

  async function failedJobs(world: World): Promise<void> {
    const drills = { "drill-schedule": "*/10 * * * * *" };
    world.configure({}, { ...drills, sql: "SELECT false" });
    await fires(
      world,
      "SeawallJobFailed",
      { cluster: "orders", task: "drill" },
      /^orders: the scheduled drill has failed$/,
    );
    await fires(world, "SeawallDrillFailed", { cluster: "orders" }, /^orders: the newest drill has failed$/);
    // The webhook refuses what is told of that.
    await fires(
      world,
      "SeawallNotificationsFailing",
      { channel: "webhook" },
      /^orders: notifications over the webhook/,
    );
    hookStatus = 200;
    world.configure({}, drills);
    await clears(world, "SeawallDrillFailed", "SeawallDrillOverdue");
    world.configure({ "backup-schedule": "*/20 * * * * *" });
    await clears(world, "SeawallJobFailed");
  }

  async function storeAway(world: World, setAway: (isAway: boolean) => void): Promise<void> {
    setAway(true);
    for (let round = 0; round < 4; round++) await writeWal(world);
    await fires(world, "SeawallStoreFailing", { cluster: "orders" }, /^orders: more than a tenth of all writes/);
    await fires(
      world,
      "SeawallRecoveryPointOld",
      { cluster: "orders" },
      /^orders: losing the server now loses \S+.* of commits$/,
    );
    await fires(world, "SeawallStoreStalled", { cluster: "orders" }, /^orders: the store takes no WAL$/);
    await fires(
      world,
      "SeawallSlotRetainsWal",
      { cluster: "orders" },
      /^orders: the server keeps \S+MiB of WAL for Seawall$/,
    );
    await fires(world, "SeawallSpoolFull", { cluster: "spooled" }, /^spooled: the spool is \S+MiB full$/);
    setAway(false);
    await clears(world, "SeawallStoreStalled", "SeawallRecoveryPointOld", "SeawallSpoolFull", "SeawallStoreFailing");
    await clears(world, "SeawallSlotRetainsWal");
  }

  async function serverAway(world: World): Promise<void> {
    await world.server.stop("immediate");
    for (const cluster of ["orders", "spooled"]) {
      await fires(world, "SeawallNotStreaming", { cluster }, new RegExp(`^${cluster}: no WAL is being received$`));
    }
    // No commit is known to wait.
    const atMost = /^orders: losing the server now loses at most \S.* of commits$/;
    await fires(world, "SeawallRecoveryPointOld", { cluster: "orders" }, atMost);
    await fires(
      world,
      "SeawallJobOverdue",
      { cluster: "orders", task: "backup" },
      /^orders: the scheduled backup has not begun/,
    );
    await world.server.start();
    await clears(world, "SeawallNotStreaming", "SeawallJobOverdue", "SeawallRecoveryPointOld");
  }

  /** Replication is allowed, an ordinary connection is not. */
  async function slotUnseen(world: World): Promise<void> {
    // The last answer may be that of the outage before.
    const unseen = async () => (await world.watcher.query("seawall_slot_seen_state == 0")).length;
    await until("the slots are seen", async () => (await unseen()) === 0);
    await clears(world, "SeawallSlotUnseen");
    const local = ["local all all trust"];
    const replication = ["host replication all 127.0.0.1/32 trust"];
    await world.server.configure(SERVER, [...local, ...replication]);
    await fires(world, "SeawallSlotUnseen", { cluster: "orders" }, /^orders: the replication slot cannot be seen$/);
    const { stdout } = await runCli(["status", "--listen", world.address, "--cluster", "orders"]);
    expect(stdout).toMatch(/^slot +unknown since .+: .*pg_hba\.conf.*\[server-hba\]/m);
    await world.server.configure(SERVER, [...local, ...replication, "host all all 127.0.0.1/32 trust"]);
    await clears(world, "SeawallSlotUnseen");
  }

  async function brokenFile(world: World, file: string): Promise<void> {
    const before = readFileSync(file);
    writeFileSync(file, "clusters: [");
    world.daemon.signal("SIGHUP");
    await fires(world, "SeawallConfigNotLoaded", {}, /^Seawall on 127\.0\.0\.1:\d+ goes on with an old configuration$/);
    writeFileSync(file, before);
    world.daemon.signal("SIGHUP");
    await clears(world, "SeawallConfigNotLoaded");
  }

  /** The store is away until the slot keeps more than the server promises to keep. */
  async function slotOverBudget(world: World, setAway: (isAway: boolean) => void): Promise<void> {
    world.configure({ "slot-budget": "4MiB", "slot-budget-grace": "1s" });
    await until(
      "the new budget is in force",
      async () => (await world.watcher.query("seawall_slot_budget_bytes")).length === 2,
      PATIENCE_MS,
    );
    setAway(true);
    await writeWal(world);
    const over = { cluster: "orders", kind: "slot-over-budget" };
    await fires(
      world,
      "SeawallSlotOverBudget",
      over,
      /^orders: the server keeps more WAL for Seawall than slot-budget/,
    );
    setAway(false);
    await clears(world, "SeawallSlotOverBudget");
  }

  async function slotEndangered(world: World, setAway: (isAway: boolean) => void): Promise<void> {
    world.configure({});
    await world.server.configure({ ...SERVER, max_wal_size: "8GB", max_slot_wal_keep_size: "16MB" });
    setAway(true);
    for (let round = 0; round < 2; round++) await writeWal(world);
    const endangered = { cluster: "orders", status: "unreserved" };
    await fires(world, "SeawallSlotEndangered", endangered, /^orders: the replication slot is unreserved$/);
    setAway(false);
    await clears(world, "SeawallSlotEndangered");
    await world.server.configure(SERVER);
  }

  /** The receiver stands still while the server forgets its slots and recycles WAL. */
  async function lostWal(world: World): Promise<void> {
    const { daemon, server } = world;
    daemon.signal("SIGSTOP");
    await fires(world, "SeawallDown", { job: "seawall" }, /^Seawall on 127\.0\.0\.1:\d+ does not answer$/);
    const [first] = server.walFiles();
    await server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    for (const slot of ["orders", "spooled"]) await server.dropSlot(slot);
    await until(
      "the WAL is gone",
      async () => {
        await writeWal(world);
        await server.sql("CHECKPOINT");
        return !server.walFiles().includes(first ?? "");
      },
      PATIENCE_MS,
    );
    daemon.signal("SIGCONT");
    await clears(world, "SeawallDown");
    await fires(world, "SeawallGap", { cluster: "orders" }, /^orders: WAL is missing from the archive$/);
    // Jobs again: a backup heals the gap, and the panels show them.
    world.configure({ "backup-schedule": "*/20 * * * * *" });
    await clears(world, "SeawallGap");
    const durations = async () => (await world.watcher.query("seawall_job_duration_seconds")).length;
    await until("both clusters have a job", async () => (await durations()) === 2, PATIENCE_MS);
  }

  async function everySeriesExists({ watcher }: World): Promise<void> {
    const { groups } = parse(readFileSync(RULES, "utf8")) as RuleFile;
    const asked = groups.flatMap(({ rules }) => rules.flatMap(({ expr }) => selectorsOf(expr)));
    const dashboard = JSON.parse(readFileSync(join(ROOT, "deploy/grafana/seawall.json"), "utf8")) as Dashboard;
    const panels = dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr })));
    expect([asked.length > 20, panels.length > 20]).toEqual([true, true]);
    // The archives of this story are plain; alerts_test.yml tries the alert for encrypted ones.
    for (const selector of asked.filter((one) => !one.startsWith("seawall_archive_identity_proved_"))) {
      // In the time of the whole story: an error that is over has no series any more.
      const found = await watcher.query(`count_over_time(${selector}[1h])`);
      expect(found.length, `series of ${selector}`).toBeGreaterThan(0);
    }
    for (const { title, expr } of panels) {
      const filled = expr.replaceAll("$cluster", ".*").replaceAll("$__rate_interval", "10m");
      expect((await watcher.query(filled)).length, `panel "${title}": ${expr}`).toBeGreaterThan(0);
    }
  }

  test("every alert has fired", () => {
    const { groups } = parse(readFileSync(RULES, "utf8")) as RuleFile;
    const names = groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
    // A job of many hours, another server that writes and an identity without a drill are left to alerts_test.yml.
    expect(names.filter((name) => !fired.has(name)).sort()).toEqual([
      ...["SeawallIdentityUnproved", "SeawallJobLong", "SeawallRival"],
    ]);
  });

  test("promtool finds nothing to say of what a receiver of two clusters exposes", async () => {
    await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
    const store = `file://${makeFolder(dir, "checked")}`;
    const clusters = { one: { slot: "one" }, two: { slot: "two" } };
    const file = join(dir, "checked.yaml");
    writeFileSync(
      file,
      JSON.stringify({ store, listen: "127.0.0.1:0", "log-format": "json", dsn: server.dsn, clusters }),
    );
    await using daemon = startCli(["receive", "--config", file]);
    const address = await addressOf(daemon);
    let text = "";
    await until("both archives were looked at", async () => {
      text = await (await fetch(`http://${address}/metrics`)).text();
      return [...text.matchAll(/^seawall_archive_backups\{/gm)].length === 2;
    });
    expect(await prometheus.promtool(["check", "metrics"], text)).toMatchObject({ code: 0, stdout: "", stderr: "" });
  });
});

interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets: readonly { readonly expr: string }[] }[];
}

function makeFolder(dir: string, name: string): string {
  mkdirSync(join(dir, name));
  return join(dir, name);
}
