/** slot, check, status, receive, wal-fetch and wal-push as a user runs them, against real servers of the oldest and newest version. */
import { chmodSync, copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { parseLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { startPostgres, type PostgresServer, versionsUnderTest } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { parseExposition } from "../metrics/exposition.ts";

interface CheckResult {
  readonly ok: boolean;
  readonly findings: readonly {
    readonly group: string;
    readonly name: string;
    readonly verdict: string;
    readonly message: string;
    readonly remedy: string | null;
  }[];
}

const verdictOf = ({ findings }: CheckResult, name: string): string | undefined =>
  findings.find((finding) => finding.name === name)?.verdict;

async function json<T>(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; result: T }> {
  const { code, stdout, stderr } = await runCli([...args, "--json"], { env });
  if (stdout === "") throw new Error(stderr);
  return { code, result: JSON.parse(stdout) as T };
}

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  let server: PostgresServer;
  let dir = "";
  let store = "";
  beforeAll(async () => {
    dir = makeTempDir("cli-server");
    server = await startPostgres({ version, segmentSizeMiB: 1 });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    removeTree(dir);
  });

  const newStore = (name: string): string => {
    store = join(dir, name);
    mkdirSync(store);
    return `file://${store}`;
  };

  describe("slot", () => {
    it("create makes it and reserves WAL; again is success; drop removes it; again is status 1, or 0 with --if-exists", async () => {
      const dsn = ["--dsn", server.dsn, "--slot", "one"];
      const created = await runCli(["slot", "create", ...dsn]);
      expect(created).toMatchObject({ code: 0, stderr: "" });
      expect(created.stdout).toMatch(
        /^created physical replication slot "one" on .*: WAL is kept from [0-9A-F]+\/[0-9A-F]+ on\n$/,
      );
      const again = await json<{ slot: Record<string, unknown> }>(["slot", "create", ...dsn]);
      expect(again).toMatchObject({ code: 0, result: { slot: { name: "one", created: false } } });
      expect(String(again.result.slot["restartLsn"])).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
      const dropped = await json(["slot", "drop", ...dsn]);
      expect(dropped).toEqual({ code: 0, result: { slot: { name: "one", dropped: true } } });
      const missing = await runCli(["slot", "drop", ...dsn]);
      expect(missing).toMatchObject({ code: 1, stderr: "" });
      expect(missing.stdout).toMatch(/^there is no replication slot "one"/);
      expect(await runCli(["slot", "drop", ...dsn, "--if-exists"])).toMatchObject({ code: 0 });
    });

    it("a slot that keeps nothing is not passed off as ours", async () => {
      await server.sql("SELECT pg_create_physical_replication_slot('empty')");
      const { code, stderr } = await runCli(["slot", "create", "--dsn", server.dsn, "--slot", "empty"]);
      expect(code).toBe(4);
      expect(stderr).toMatch(
        /^error: the replication slot "empty" is there but keeps no WAL \[slot-invalidated\]\nhint: /,
      );
      await server.dropSlot("empty");
    });

    it("a server that is not there is status 4 with one line and a hint", async () => {
      const { code, stdout, stderr } = await runCli(["slot", "create", "--dsn", "host=127.0.0.1 port=1 user=x"]);
      expect([code, stdout]).toEqual([4, ""]);
      expect(stderr).toMatch(/^error: 127\.0\.0\.1:1: .*\[server-unreachable\]\n(  because: .*\n)?hint: .*\n$/);
    });
  });

  describe("check", () => {
    it("a sound server and an empty store: nothing fails, nothing is left behind", async () => {
      const url = newStore("checked");
      const { code, result } = await json<CheckResult>(["check", "--dsn", server.dsn, "--store", url]);
      expect(result.findings.filter(({ verdict }) => verdict === "fail")).toEqual([]);
      expect([code, result.ok]).toEqual([0, true]);
      expect(result.findings.map(({ name }) => name)).toEqual([
        ...["connection", "version", "role", "recovery", "wal_level", "max_wal_senders", "max_replication_slots"],
        ...["wal_sender_timeout", "full_page_writes", "fsync", "data_checksums", "archive_mode"],
        ...["wal_segment_size", "synchronous_standby_names", "clock", "slot", "max_slot_wal_keep_size"],
        ...(version >= 18 ? ["idle_replication_slot_timeout"] : []),
        ...["archive", "write", "conditional write", "read", "list", "delete", "zstd"],
      ]);
      for (const finding of result.findings) {
        expect(Object.keys(finding).sort()).toEqual(["group", "message", "name", "remedy", "verdict"]);
        expect(finding.remedy === null, finding.name).toBe(finding.verdict === "ok");
      }
      // The file store leaves its marker and its folder for unfinished files.
      expect(readdirSync(store, { recursive: true }).sort()).toEqual(["~store", "~tmp"]);
    });

    it("reads like a table, with the remedy below what needs one", async () => {
      const { stdout } = await runCli(["check", "--dsn", server.dsn, "--store", newStore("table")]);
      expect(stdout).toMatch(/^server\n {2}ok +connection +127\.0\.0\.1:\d+ as postgres, without TLS\n/);
      expect(stdout).toMatch(
        /\n {2}warn +role +postgres is a superuser.*\n {8}→ CREATE ROLE seawall LOGIN REPLICATION;\n/,
      );
      expect(stdout).toMatch(/\n\nstore\n {2}ok +archive /);
      expect(stdout).toMatch(/\n\n0 failed, \d+ warnings, \d+ ok\n$/);
    });

    it("a part of the connection string without effect is named with the reason, by check and by receive", async () => {
      const store = ["--store", newStore("ignored")];
      const { code, result } = await json<CheckResult>([
        "check",
        "--dsn",
        `${server.dsn}?tcp_user_timeout=5000`,
        ...store,
      ]);
      expect(code).toBe(0);
      const finding = result.findings.find(({ name }) => name === "connection string");
      expect(finding).toMatchObject({
        verdict: "warn",
        message: expect.stringMatching(/^tcp_user_timeout=5000 has no effect: Node\.js/) as string,
      });
      // Nothing listens there: the warning comes before the first attempt.
      const dsn = "host=127.0.0.1 port=1 user=x tcp_user_timeout=5000 connect_timeout=1";
      await using receiver = startCli(["receive", "--dsn", dsn, ...store, "--listen", "off", "--log-format", "json"]);
      await receiver.waitForLine(/"part":"tcp_user_timeout=5000"/);
    });

    it("a role that may not replicate fails under its name, with the statement that helps", async () => {
      await server.sql("CREATE ROLE plain LOGIN");
      const dsn = server.dsn.replace("postgres@", "plain@");
      const { code, result } = await json<CheckResult>(["check", "--dsn", dsn, "--store", newStore("role")]);
      expect([code, result.ok]).toEqual([1, false]);
      expect(result.findings[0]).toMatchObject({
        name: "role",
        verdict: "fail",
        remedy: "ALTER ROLE plain REPLICATION;",
      });
      // The store is looked at all the same.
      expect(verdictOf(result, "write")).toBe("ok");
    });

    it("a replication role without a superuser's rights passes without a warning about the role", async () => {
      await server.sql("CREATE ROLE repl LOGIN REPLICATION");
      const dsn = server.dsn.replace("postgres@", "repl@");
      const { code, result } = await json<CheckResult>(["check", "--dsn", dsn, "--store", newStore("repl")]);
      expect([code, verdictOf(result, "role"), verdictOf(result, "slot")]).toEqual([0, "ok", "ok"]);
    });

    it("no server, no store: each side fails by itself", async () => {
      const args = ["check", "--dsn", "host=127.0.0.1 port=1 user=x", "--store", `file://${dir}/not-there`];
      const { code, result } = await json<CheckResult>(args);
      expect(code).toBe(1);
      expect(result.findings.map(({ group, name, verdict }) => [group, name, verdict])).toEqual([
        ["server", "connection", "fail"],
        ["store", "reach", "fail"],
      ]);
    });

    it("a directory for the spool that is missing is named with its option, and receive starts nothing", async () => {
      const missing = join(dir, "no-spool");
      const where = ["--dsn", server.dsn, "--store", newStore("spooled"), "--durability", "spool"];
      const { code, result } = await json<CheckResult>(["check", ...where, "--spool-dir", missing]);
      expect([code, verdictOf(result, "spool"), verdictOf(result, "write")]).toEqual([1, "fail", "ok"]);
      const found = result.findings.find(({ name }) => name === "spool");
      expect(found?.message).toBe(`--spool-dir: ${missing} does not exist`);
      expect(found?.remedy).toMatch(/^Create the directory on a disk/);
      const there = await json<CheckResult>(["check", ...where, "--spool-dir", dir]);
      expect(verdictOf(there.result, "spool")).toBe("ok");
      expect(verdictOf(there.result, "spool room")).toMatch(/^(ok|warn)$/);

      const receiving = await runCli([
        "receive",
        ...where,
        "--spool-dir",
        missing,
        "--slot",
        "unspooled",
        "--listen",
        "off",
      ]);
      expect(receiving).toMatchObject({ code: 5, stdout: "" });
      expect(receiving.stderr).toContain(`--spool-dir: ${missing} does not exist`);
      expect(receiving.stderr).not.toContain("the store's root");
      expect(await server.value("SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = 'unspooled'")).toBe(
        "0",
      );
    });

    it("a store that may not be written fails at the write, with its remedy", async () => {
      const url = newStore("read-only");
      mkdirSync(join(store, "main"));
      // Root may write anywhere: only a folder that is none stops it.
      writeFileSync(join(store, "main", "probe"), "");
      const { code, result } = await json<CheckResult>(["check", "--dsn", server.dsn, "--store", url]);
      expect([code, verdictOf(result, "archive"), verdictOf(result, "write")]).toEqual([1, "ok", "fail"]);
      expect(result.findings.find(({ name }) => name === "write")?.remedy).toMatch(/\w/);
    });
  });

  describe("receive", () => {
    let receiver: CliProcess;
    let url = "";
    let address = "";
    const status = async (): Promise<StatusDocument> => {
      const answer = await fetch(`http://${address}/status.json`);
      return (await answer.json()) as StatusDocument;
    };
    const storedUpToNow = async (): Promise<void> => {
      const [row] = await server.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn");
      const lsn = parseLsn(String(row?.["lsn"]));
      while (parseLsn((await status()).storedLsn ?? "0/0") < lsn) await new Promise((r) => setTimeout(r, 50));
    };

    beforeAll(async () => {
      url = newStore("archive");
      await server.sql("CREATE TABLE t (i int, pad text)");
      receiver = startCli([
        "receive",
        "--dsn",
        server.dsn,
        "--store",
        url,
        "--listen",
        "127.0.0.1:0",
        "--ship-interval",
        "200ms",
      ]);
      const line = await receiver.waitForLine(/"msg":"listening"/);
      address = (JSON.parse(line) as { address: string }).address;
      await server.sql("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i");
      await storedUpToNow();
    });
    afterAll(async () => receiver[Symbol.asyncDispose]());

    it("logs JSON lines on stderr and nothing on stdout", () => {
      const lines = receiver.stderr.trimEnd().split("\n");
      for (const line of lines) expect(JSON.parse(line)).toMatchObject({ level: "info" });
      expect(receiver.stdout).toBe("");
    });

    it("is alive and ready, and its metrics are a valid exposition that tells the same story", async () => {
      expect((await fetch(`http://${address}/healthz`)).status).toBe(200);
      expect((await fetch(`http://${address}/readyz`)).status).toBe(200);
      const families = parseExposition(await (await fetch(`http://${address}/metrics`)).text());
      const value = (name: string): number | undefined => families.get(name)?.samples[0]?.value;
      const { counters } = await status();
      expect(value("seawall_sealed_segments_total")).toBe(counters?.segmentsSealed);
      expect(counters?.segmentsSealed).toBeGreaterThan(2);
      expect(value("seawall_stored_lsn_bytes")).toBeGreaterThan(0);
      expect(value("seawall_reported_lsn_bytes") ?? 0).toBeLessThanOrEqual(value("seawall_stored_lsn_bytes") ?? 0);
      // Absent once the archive was looked at: without a base backup nothing can be recovered.
      expect(value("seawall_rpo_seconds") ?? 0).toBeLessThan(60);
      const puts = families.get("seawall_store_put_duration_seconds")?.samples ?? [];
      const sealed = puts.find(({ name, labels }) => name.endsWith("_count") && labels["kind"] === "segment");
      expect(sealed).toMatchObject({ labels: { outcome: "created" }, value: counters?.segmentsSealed });
      expect((await fetch(`http://${address}/`)).headers.get("content-type")).toBe("text/html; charset=utf-8");
    });

    it("status asks the receiver: the keys that scripts rely on, and a table", async () => {
      await expect.poll(async () => (await status()).slot?.walStatus, { timeout: 30_000 }).toBe("reserved");
      // The receiver looks at its archive by itself.
      const archive = { backup: null, verify: null, drill: null };
      await expect.poll(async () => (await status()).archive, { timeout: 30_000 }).toEqual(archive);
      const { code, result } = await json<Record<string, unknown>>(["status", "--listen", address]);
      expect(code).toBe(0);
      expect(result).toMatchObject({
        source: "receiver",
        cluster: "main",
        state: "streaming",
        timeline: 1,
        gaps: [],
        archive,
        errors: [],
        slot: { name: "seawall", exists: true, active: true },
      });
      const documented = [
        "cluster",
        "systemIdentifier",
        "timeline",
        "state",
        "serverLsn",
        "receivedLsn",
        "verifiedLsn",
      ];
      for (const key of [...documented, "storedLsn", "lagBytes", "rpoSeconds", "slot"])
        expect(result).toHaveProperty(key);
      const { stdout } = await runCli(["status", "--listen", address]);
      expect(stdout).toMatch(
        /^cluster +main, system identifier \d+, timeline 1\nhealth +(ok|critical)\nstate +streaming since /,
      );
      expect(stdout).toMatch(/\nstored +[0-9A-F]+\/[0-9A-F]+ +(up to date|.* behind)\n/);
      expect(stdout).toMatch(/\nslot +seawall: reserved, /);
      const looked = await runCli(["status", "--listen", address, "--store", url]);
      expect(looked.stdout).toMatch(/\nlast backup +none\nlast verify +none\nlast drill +none\n/);
    });

    it("status of another store than the receiver's is not the receiver's answer", async () => {
      const elsewhere = join(dir, "elsewhere");
      mkdirSync(elsewhere);
      const other = `file://${elsewhere}`;
      const absent = await runCli(["status", "--listen", address, "--store", other]);
      expect([absent.code, absent.stdout]).toEqual([1, ""]);
      expect(absent.stderr).toContain(`no archive of cluster "main" in ${other}`);
      // The receiver's own store in other spellings.
      const link = join(dir, "link");
      symlinkSync(store, link);
      for (const same of [`${url}/`, url.replace("file:///", "file:////"), `file://${link}`]) {
        const asked = await json<{ source: string }>(["status", "--listen", address, "--store", same]);
        expect(asked.result.source, same).toBe("receiver");
      }
      const { result } = await json<{ source: string; store: string }>([
        "status",
        "--listen",
        address,
        "--store",
        other,
        "--dsn",
        server.dsn,
      ]);
      expect(result).toMatchObject({ source: "server-and-store", store: other });
      const { stdout } = await runCli(["status", "--listen", address, "--store", other, "--dsn", server.dsn]);
      expect(stdout).toContain(
        `No receiver of this archive answers (the receiver there stores into ${url}, and not into ${other})`,
      );
    });

    it("a second receiver on the same address is refused and disturbs nothing", async () => {
      const args = ["receive", "--dsn", server.dsn, "--store", url, "--listen", address, "--slot", "other"];
      const { code, stderr } = await runCli(args);
      expect(code).toBe(3);
      expect(stderr).toContain("the address is in use");
      expect((await status()).state).toBe("streaming");
    });

    it("slot drop refuses while the receiver streams", async () => {
      const { code, stderr } = await runCli(["slot", "drop", "--dsn", server.dsn]);
      expect(code).toBe(4);
      expect(stderr).toMatch(/\[slot-active\]\nhint: /);
    });

    it("wal-fetch gives segments byte for byte, the open one zero-padded, and says 1 beyond the tip", async () => {
      const segments = readdirSync(server.walDir)
        .filter((name) => /^[0-9A-F]{24}$/.test(name))
        .sort();
      const sealed = readdirSync(join(store, "main", "wal"), { recursive: true })
        .map(String)
        .flatMap((path) => /([0-9A-F]{24})\.zst$/.exec(path)?.[1] ?? []);
      const name = segments.find((segment) => sealed.includes(segment)) ?? "none";
      const target = join(dir, "fetched");
      expect(await runCli(["wal-fetch", "--store", url, name, target])).toEqual({
        code: 0,
        signal: null,
        stdout: "",
        stderr: "",
      });
      expect(readFileSync(target).equals(readFileSync(join(server.walDir, name)))).toBe(true);
      const [row] = await server.sql("SELECT pg_walfile_name(pg_current_wal_flush_lsn()) AS name");
      const open = await json<Record<string, unknown>>(["wal-fetch", "--store", url, String(row?.["name"]), target]);
      expect(open).toMatchObject({ code: 0, result: { kind: "fetched", from: "tail", bytes: 1_048_576 } });
      const beyond = await runCli(["wal-fetch", "--store", url, "0000000100000000000000FF", join(dir, "none")]);
      expect(beyond).toEqual({ code: 1, signal: null, stdout: "", stderr: "" });
      expect(readdirSync(dir)).not.toContain("none");
    });

    it("wal-push finds the same bytes there already, and refuses others under the name", async () => {
      const sealed = readdirSync(join(store, "main", "wal"), { recursive: true })
        .map(String)
        .flatMap((path) => /([0-9A-F]{24})\.zst$/.exec(path)?.[1] ?? []);
      const name = readdirSync(server.walDir).find((file) => sealed.includes(file)) ?? "none";
      const path = join(dir, name);
      copyFileSync(join(server.walDir, name), path);
      chmodSync(path, 0o644);
      const same = await json<Record<string, unknown>>(["wal-push", "--store", url, path]);
      expect(same).toEqual({ code: 0, result: { path, result: "exists" } });
      const content = readFileSync(path);
      content[content.length - 300_000] = (content[content.length - 300_000] ?? 0) ^ 1;
      writeFileSync(path, content);
      const other = await runCli(["wal-push", "--store", url, path]);
      expect(other.code).toBe(6);
      expect(other.stderr).toMatch(/^error: .*\[(wal-corrupt|segment-conflict)\]\nhint: /m);
    });

    it("SIGTERM stores the tail, frees the slot and exits 0; then status looks at server and store itself", async () => {
      await server.sql("INSERT INTO t VALUES (0, 'the last one')");
      const [row] = await server.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn");
      const isSent = `SELECT coalesce(bool_or(sent_lsn >= '${String(row?.["lsn"])}'), false)::text FROM pg_stat_replication`;
      await until("it to be sent", async () => (await server.value(isSent)) === "true");
      expect(await receiver.end("SIGTERM")).toEqual({ code: 0, signal: null });
      expect(receiver.stderr.trimEnd().split("\n").at(-1)).toContain('"msg":"stopped"');
      const args = ["status", "--listen", address, "--dsn", server.dsn, "--store", url];
      const { code, result } = await json<StatusDocument>(args);
      expect(code).toBe(0);
      expect(result).toMatchObject({
        source: "server-and-store",
        state: "unreachable",
        slot: { active: false },
        counters: null,
      });
      expect(parseLsn(result.storedLsn ?? "0/0")).toBeGreaterThanOrEqual(parseLsn(String(row?.["lsn"])));
      const { stdout } = await runCli(args);
      expect(stdout).toMatch(
        /^No receiver answers \(.*: no process listens there\): this is what server and store say themselves\.\n\n/,
      );
    });

    it("check knows the archive as this server's, and a foreign server is refused by check and by receive", async () => {
      const own = await json<CheckResult>(["check", "--dsn", server.dsn, "--store", url]);
      expect(own.result.findings.find(({ name }) => name === "archive")?.message).toMatch(/, which is this server$/);
      await using other = await startPostgres({ version, segmentSizeMiB: 1, freshIdentifier: true });
      const foreign = await json<CheckResult>(["check", "--dsn", other.dsn, "--store", url]);
      expect([foreign.code, verdictOf(foreign.result, "archive")]).toEqual([1, "fail"]);
      const refused = await runCli(["receive", "--dsn", other.dsn, "--store", url, "--listen", "off"]);
      expect(refused.code).toBe(6);
      expect(refused.stderr).toContain('"code":"foreign-cluster"');
    });
  });
});
