/**
 * The commands of docs/restore-over-ssh.md, as they stand there, with a real SSH server between the host that has Seawall and the
 * host that has PostgreSQL only.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { streaming } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { type PostgresServer, startPostgres, tool } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { runCli, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverCli } from "../harness/server-cli.ts";
import { findSsh, type SshServer, startSsh } from "../harness/ssh.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "./page-blocks.ts";

const access = await findSsh();
const page = readFileSync(join(ROOT, "docs/restore-over-ssh.md"), "utf8");

const block = (name: string): string => pageBlock("docs/restore-over-ssh.md", name);

describe.skipIf("unavailable" in access)("a host with PostgreSQL and ssh alone", () => {
  let dir: string;
  let bin: string;
  let server: PostgresServer;
  let host: SshServer;
  let moment: string;
  let PATH: string;

  /** A command of the page, with the folders of here. */
  const here = (command: string, own: readonly (readonly [string, string])[] = []): string =>
    [["/srv/restore/orders", join(dir, "orders")] as const, ...own].reduce(
      (text, [name, place]) => text.replaceAll(name, place),
      command,
    );
  const shell = async (command: string, env: Readonly<Record<string, string>> = {}) =>
    run("/bin/bash", ["-ec", command], { account: serverAccount(), env: { PATH, ...env }, cwd: "/" });

  beforeAll(async () => {
    if ("unavailable" in access) return;
    dir = makeTempDir("over-ssh");
    giveToServer(dir, 0o755);
    bin = join(dir, "bin");
    mkdirSync(bin);
    const { node, main } = serverCli();
    const scripts = { seawall: `#!/bin/sh\nexec '${node}' '${main}' "$@"\n`, "wal-for-orders": here(block("script")) };
    for (const [name, text] of Object.entries(scripts)) {
      writeFileSync(join(bin, name), text);
      chmodSync(join(bin, name), 0o755);
    }
    const store = join(dir, "store");
    mkdirSync(store);
    const SEAWALL_STORE = `file://${store}`;
    host = await startSsh(access, { host: "backup-host", env: { PATH: `${bin}:/usr/bin:/bin`, SEAWALL_STORE } });
    PATH = [host.binDir, bin, process.env["PATH"]].join(delimiter);
    server = await startPostgres({ version: 18, segmentSizeMiB: 1, env: { PATH } });
    await server.sql("CREATE TABLE t (i int)");
    const place = ["--store", SEAWALL_STORE, "--dsn", server.dsn];
    await using daemon = startCli(["receive", ...place, "--listen", "127.0.0.1:0", "--log-format", "json"]);
    await streaming(daemon);
    const backup = await runCli(["backup", ...place, "--checkpoint", "fast"]);
    expect(backup, backup.stderr).toMatchObject({ code: 0 });
    await server.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()");
    await server.sql("INSERT INTO t VALUES (2); SELECT pg_switch_wal()");
    moment = await server.value("SELECT clock_timestamp()::text");
    await server.sql("SELECT pg_sleep(0.01); INSERT INTO t VALUES (3); SELECT pg_switch_wal()");
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });
    await run("chmod", ["-R", "a+rX", store]);
    await shell(here(block("backup-host"), [["2026-11-29 18:00:00+00", moment]]), { SEAWALL_STORE });
  }, 300_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await host[Symbol.asyncDispose]();
    removeTree(dir);
  });

  /** The directory on the target, by the commands of the page up to the start of the server. */
  const copied = async (): Promise<PostgresServer> =>
    server.fromDataDir(
      async (target) => {
        const lines = block("target").trim().split("\n");
        for (const line of lines.slice(
          0,
          lines.findIndex((one) => one.startsWith("pg_ctl start")),
        )) {
          await shell(`set -o pipefail; ${here(line, [["/var/lib/postgresql/18/main", target]])}`);
        }
      },
      { start: false },
    );

  test("does not take a backup host that is away for the end of WAL", async () => {
    await using restored = await copied();
    await host.kill();
    await restored.start({ wait: false });
    expect(await restored.exited()).not.toBe(0);
    expect(restored.log()).toMatch(/FATAL: {2}could not restore file "[0-9A-F]{24}" from archive/);
    expect(restored.log()).not.toContain("archive recovery complete");
    await host.start();
  }, 300_000);

  test("recovers to the moment, with nothing but a key that may fetch WAL", async () => {
    await using restored = await copied();
    const restriction = /`(restrict,command=.*) ssh-ed25519 …`/.exec(page)?.[1];
    if (restriction === undefined) throw new Error("the page does not restrict the key");
    host.restrictTo(restriction);
    await restored.start();
    const [psql = ""] = block("target")
      .split("\n")
      .filter((line) => line.startsWith("psql"));
    const client = tool("psql");
    const env = { PGHOST: restored.socketDir, PGPORT: String(restored.port), PGUSER: "postgres" };
    await until("recovery has ended", async () => {
      if (client === undefined) return (await restored.value("SELECT pg_is_in_recovery()::text")) === "false";
      return /^ f$/m.test((await shell(psql, env)).stdout);
    });
    expect(await restored.sql("SELECT i FROM t ORDER BY i")).toEqual([{ i: 1 }, { i: 2 }]);
    expect(restored.log()).toMatch(/restored log file "[0-9A-F]{24}" from archive/);
  }, 300_000);
});
