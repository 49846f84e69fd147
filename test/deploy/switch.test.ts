/**
 * The commands of docs/switch.md, as they stand there, beside a real server whose archive_command copies. Each moment before, during
 * and after the switch is recovered by at least one of the two tools.
 */
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { streaming } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { runCli, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverCli, serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Elsewhere } from "../import/archived-elsewhere.ts";

const page = readFileSync(join(ROOT, "docs/switch.md"), "utf8");

/** The lines of a marked block. */
function block(marker: string): string[] {
  const found = new RegExp(`<!-- switch: ${marker} -->\\s*\`\`\`[a-z]+\\n([\\s\\S]*?)\`\`\``).exec(page)?.[1];
  if (found === undefined) throw new Error(`the page has no block "${marker}"`);
  return found.trim().split("\n");
}

/** Commits a row, and gives a moment after it and before the next commit. */
async function insert(server: PostgresServer, i: number): Promise<string> {
  await server.sql(`INSERT INTO t VALUES (${i})`);
  const moment = await server.value("SELECT clock_timestamp()::text");
  await server.sql("SELECT pg_sleep(0.01); CREATE TABLE IF NOT EXISTS later (i int); INSERT INTO later VALUES (1)");
  return moment;
}

/** All WAL that is written by now is stored. */
async function stored(server: PostgresServer): Promise<void> {
  const lsn = await server.value("SELECT pg_current_wal_flush_lsn()");
  const isStored = "SELECT coalesce(bool_or(restart_lsn >= $1::pg_lsn), false)::text FROM pg_replication_slots";
  await until("the WAL is stored", async () => (await server.value(isStored, [lsn])) === "true", 60_000);
}

/** The rows of a server that recovers. */
async function recovered(server: PostgresServer): Promise<unknown[]> {
  await until("recovery has ended", async () => (await server.value("SELECT pg_is_in_recovery()::text")) === "false");
  return (await server.sql("SELECT i FROM t ORDER BY i")).map(({ i }) => i);
}

test("no moment of a switch is without a tool that recovers it", async () => {
  await using elsewhere = await Elsewhere.start({ version: 18 });
  const { server } = elsewhere;
  const dir = makeTempDir("switch");
  giveToServer(dir, 0o755);
  try {
    for (const name of ["bin", "scratch"]) mkdirSync(join(dir, name));
    giveToServer(join(dir, "scratch"), 0o700);
    const { node, main } = serverCli();
    writeFileSync(join(dir, "bin", "seawall"), `#!/bin/sh\nexec '${node}' '${main}' "$@"\n`);
    chmodSync(join(dir, "bin", "seawall"), 0o755);
    const file = join(dir, "seawall.yaml");
    const own: Readonly<Record<string, string>> = { dsn: server.dsn, store: elsewhere.url };
    const config = block("file").map((line) =>
      line.replace(/^(dsn|store): .*/, (_, key: string) => `${key}: ${own[key]}`),
    );
    writeFileSync(file, config.join("\n"), { mode: 0o644 });
    const PATH = [join(dir, "bin"), server.binDir, process.env["PATH"]].join(delimiter);
    const names: Readonly<Record<string, string>> = {
      "/etc/seawall.yaml": file,
      "/mnt/wal_archive": elsewhere.folder,
      "/scratch": join(dir, "scratch"),
    };
    const shell = async (line: string) =>
      run(
        "/bin/bash",
        ["-ec", Object.entries(names).reduce((text, [name, here]) => text.replaceAll(name, here), line)],
        {
          ...{ account: serverAccount(), cwd: dir, timeoutMs: 240_000 },
          env: { PATH, HOME: dir, SEAWALL_CHECKPOINT: "fast" },
        },
      );

    // The old tool's day: a base backup, and WAL behind it.
    await server.sql("CREATE TABLE t (i int)");
    await server.sql("CREATE DATABASE shop");
    const shop = await server.connect("shop");
    await shop.query("CREATE TABLE orders AS SELECT 1 AS id");
    await shop.end();
    const oldTool = [
      await server.clone({ signal: "recovery", start: false }),
      await server.clone({ signal: "recovery", start: false }),
    ];
    const moments = [await insert(server, 1)];
    await elsewhere.fill(2);

    const [check = "", start, backup = "", ...rest] = block("steps");
    await shell(check);
    expect(start).toMatch(/^systemctl start seawall /);
    const flags = ["--config", file, "--listen", "127.0.0.1:0", "--log-format", "json"];
    await using daemon = startCli(["receive", ...flags], { asServer: true });
    await streaming(daemon);
    moments.push(await insert(server, 2));
    await shell(backup);
    moments.push(await insert(server, 3));
    await elsewhere.archiveAll();
    expect(rest.map((line) => /^seawall \w+/.exec(line)?.[0])).toEqual(["seawall import", "seawall drill"]);
    await stored(server);
    for (const line of rest) await shell(line);

    // The old tool stops, and nothing of the WAL behind it reaches its archive.
    for (const line of block("stop")) await server.sql(line);
    await until("the reload", async () => (await server.value("SHOW archive_command")) === "/bin/true");
    moments.push(await insert(server, 4));
    const last = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
    const isPast = "SELECT coalesce(last_archived_wal >= $1, false)::text FROM pg_stat_archiver";
    await until("the server has let it go", async () => (await server.value(isPast, [last])) === "true");
    expect(elsewhere.files()).not.toContain(last);
    await stored(server);

    const [first = "", second = "", third = "", fourth = ""] = moments;
    const oldDay = async (copy: PostgresServer, restore_command: string, moment: string): Promise<unknown[]> => {
      copy.writeConfiguration({
        archive_mode: "off",
        restore_command,
        recovery_target_time: moment,
        recovery_target_action: "promote",
      });
      await copy.start();
      return recovered(copy);
    };
    const newDay = async (moment: string): Promise<unknown[]> => {
      await using restored = await server.fromDataDir(async (target) => {
        const args = ["restore", "--config", file, "--target-dir", target, "--target-time", moment];
        const { code, stderr } = await runCli(args, { asServer: true, timeoutMs: 120_000 });
        expect(code, stderr).toBe(0);
      });
      return await recovered(restored);
    };
    const [byOldTool, byImport] = oldTool;
    if (byOldTool === undefined || byImport === undefined) throw new Error("there are two copies");
    expect(await oldDay(byOldTool, `cp ${elsewhere.folder}/%f %p`, second)).toEqual([1, 2]);
    const early = await runCli(
      ["restore", "--config", file, "--target-dir", join(dir, "early"), "--target-time", second],
      { asServer: true },
    );
    expect(early.code).toBe(1);
    expect(await newDay(third)).toEqual([1, 2, 3]);
    expect(await newDay(fourth)).toEqual([1, 2, 3, 4]);
    // Without the old archive, an old base backup recovers through the imported WAL.
    for (const name of elsewhere.files()) rmSync(elsewhere.path(name));
    expect(await oldDay(byImport, serverRestoreCommand(["--config", file]), first)).toEqual([1]);

    const [stop, ...back] = block("back");
    expect(stop).toBe("systemctl stop seawall");
    expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });
    for (const line of back) await shell(line);
    expect(await server.sql("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
  } finally {
    removeTree(dir);
  }
}, 600_000);
