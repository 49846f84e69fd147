/** The whole way with the commands that an operator runs: receive, backup, verify, drill, restore to a point, check. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { until } from "../campaigns/campaign.ts";
import { giveToServer, giveTree } from "../harness/postgres-template.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import type { Checks } from "./checks.ts";

const COMMAND_MS_MAX = 5 * 60_000;

export async function probeArchive(server: PostgresServer, checks: Checks): Promise<void> {
  const folder = makeTempDir("probe");
  giveToServer(folder, 0o755);
  const store = `file://${join(folder, "store")}`;
  const scratch = join(folder, "scratch");
  for (const path of [join(folder, "store"), scratch]) {
    mkdirSync(path);
    giveToServer(path, 0o755);
  }
  const seawall = async (...args: string[]): Promise<string> => {
    const flags = [...args, "--store", store, "--log-level", "warn"];
    const { code, stdout, stderr } = await runCli(flags, { asServer: true, timeoutMs: COMMAND_MS_MAX });
    if (code !== 0) throw new Error(`seawall ${args[0] ?? ""} exited with ${String(code)}:\n${stderr}${stdout}`);
    return stdout;
  };
  let receiver: CliProcess | undefined;
  try {
    await checks.attempt("receive", async () => {
      const how = ["--listen", "off", "--ship-interval", "50ms"];
      receiver = startCli(["receive", "--dsn", server.dsn, "--store", store, ...how], { asServer: true });
      await server.sql("CREATE TABLE probe (i int)");
      await stored(server, receiver);
      return undefined;
    });
    if (receiver === undefined || checks.differences.some(({ what }) => what === "receive")) return;
    const running = receiver;
    let target = "";
    await checks.attempt("backup", async () => {
      await seawall("backup", "--dsn", server.dsn, "--checkpoint", "fast");
      await server.sql("INSERT INTO probe VALUES (1)");
      target = await server.value("SELECT pg_current_wal_lsn()::text");
      await server.sql("INSERT INTO probe VALUES (2)");
      await server.sql("SELECT pg_switch_wal()");
      await stored(server, running);
      await running.end("SIGTERM");
      return undefined;
    });
    await checks.attempt("verify --deep", async () => void (await seawall("verify", "--deep")));
    await checks.attempt("drill", async () => {
      const query = "SELECT count(*) = 2 FROM probe";
      await seawall("drill", "--pg-bin", server.binDir, "--scratch-dir", scratch, "--sql", query);
      return undefined;
    });
    await checks.attempt("restore to a point in between, and restore --check", async () => {
      giveTree(folder);
      const fetch = serverRestoreCommand(["--store", store]);
      const restored = await server.fromDataDir(async (dataDir) => {
        const where = ["--target-dir", dataDir, "--restore-command", fetch, "--target-lsn", target];
        await seawall("restore", ...where, "--target-action", "promote");
      });
      await until("the end of recovery", async () => (await restored.value("SELECT pg_is_in_recovery()")) === "false");
      const rows = await restored.value("SELECT count(*)::text FROM probe");
      if (rows !== "1") throw new Error(`the restored server has ${rows} rows instead of 1`);
      await seawall("restore", "--check", restored.dataDir);
      return undefined;
    });
  } finally {
    if (receiver?.running === true) await receiver.end("SIGTERM");
    removeTree(folder);
  }
}

async function stored(server: PostgresServer, receiver: CliProcess): Promise<void> {
  const flushed = await server.value("SELECT pg_current_wal_flush_lsn()::text");
  const query = `SELECT coalesce(max(flush_lsn) >= '${flushed}', false)::text FROM pg_stat_replication WHERE application_name = 'seawall'`;
  await until("the receiver", async () => {
    if (!receiver.running) throw new Error(`seawall receive ended:\n${receiver.stderr}`);
    return (await server.value(query)) === "true";
  });
}
