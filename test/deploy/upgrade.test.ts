/**
 * The commands of docs/upgrade.md, as they stand there, over a real pg_upgrade: one cluster, two generations. Each is restored
 * by its own programs, and the older one expires by the policy of the cluster.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { streaming } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { systemBinaries } from "../harness/postgres-binaries.ts";
import { provideDebianPostgres } from "../harness/postgres-debian.ts";
import { type CliProcess, type CliResult, runCli, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { commandsOf } from "./commands-of-pages.ts";
import { pageBlock } from "./page-blocks.ts";

interface Upgrade {
  readonly from: number;
  readonly to: number;
}

/** The machine's own version, where it is older, and one to the newest. */
const UPGRADES: readonly Upgrade[] = [
  { from: 15, to: 18 },
  { from: 18, to: 19 },
];

/** The folder of a whole installation; undefined where there is none. */
async function programsOf(version: number): Promise<string | undefined> {
  const machines = await systemBinaries();
  if (machines?.version === version) return machines.binDir;
  const found = await provideDebianPostgres(version);
  return "unavailable" in found ? undefined : found.binDir;
}

let dir: string;
beforeAll(() => {
  dir = makeTempDir("upgrade");
  // The page's `seawall` is the program that was built here.
  mkdirSync(join(dir, "bin"));
  writeFileSync(join(dir, "bin", "seawall"), `#!/bin/sh\nexec '${process.execPath}' '${ROOT}/dist/cli/main.js' "$@"\n`);
  chmodSync(join(dir, "bin", "seawall"), 0o755);
});
afterAll(() => removeTree(dir));

/** The commands of the page, without their comments. */
function commands(marker: string): string[] {
  return pageBlock("docs/upgrade.md", marker)
    .trim()
    .split("\n")
    .map((line) => line.replace(/\s+# .*$/, ""));
}

/** Loads a row, and waits until the archive has it. Gives a moment before which it was committed. */
async function insert(server: PostgresServer, i: number): Promise<string> {
  await server.sql(`INSERT INTO t VALUES (${i})`);
  const at = await server.value(
    "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
  );
  // A later commit, so that the moment lies inside the window.
  await server.sql("SELECT pg_sleep(0.01); CREATE TABLE IF NOT EXISTS later (i int); INSERT INTO later VALUES (1)");
  const lsn = await server.value("SELECT pg_current_wal_flush_lsn()");
  const isStored = "SELECT coalesce(bool_or(restart_lsn >= $1::pg_lsn), false)::text FROM pg_replication_slots";
  await until("the row is stored", async () => (await server.value(isStored, [lsn])) === "true", 60_000);
  return at;
}

/** Restores run as the server's account, which reads the archive. */
async function share(store: string): Promise<void> {
  await run("chmod", ["-R", "a+rX", store]);
}

/** A restored directory, started by the programs of `server`: the rows in it. */
async function rowsIn(server: PostgresServer, restore: (target: string) => Promise<CliResult>): Promise<number[]> {
  await using restored = await server.fromDataDir(async (target) => {
    const result = await restore(target);
    expect(result, result.stderr).toMatchObject({ code: 0 });
  });
  await until("recovery has ended", async () => (await restored.value("SELECT pg_is_in_recovery()::text")) === "false");
  return (await restored.sql("SELECT i FROM t ORDER BY i")).map(({ i }) => i as number);
}

/** What a listing says about the generations. */
interface Listing {
  readonly generations: readonly Record<string, unknown>[];
  readonly backups: readonly { readonly id: string; readonly generation: string }[];
}

describe.each(UPGRADES)("pg_upgrade from $from to $to", ({ from, to }) => {
  test("main goes on as main@2: one story, restored on both sides, and the older one expires", async (context) => {
    const [oldBin, newBin] = [await programsOf(from), await programsOf(to)];
    if (oldBin === undefined || newBin === undefined) return context.skip();
    const common = { segmentSizeMiB: 1, initdbArgs: ["--data-checksums"], freshIdentifier: true };
    await using old = await startPostgres({ binDir: oldBin, ...common });
    await using upgraded = await startPostgres({ binDir: newBin, ...common, start: false });
    await old.sql("CREATE TABLE t (i int)");
    const store = join(dir, `store-${from}`);
    mkdirSync(store);
    const env: Record<string, string> = { SEAWALL_STORE: `file://${store}`, SEAWALL_DSN: old.dsn };
    const fast = { SEAWALL_LISTEN: "127.0.0.1:0", SEAWALL_LOG_FORMAT: "json", SEAWALL_CHECKPOINT: "fast" };
    const seawall = (...args: string[]) => runCli(args, { env: { ...env, ...fast }, timeoutMs: 120_000 });
    const restore =
      (...args: string[]) =>
      async (target: string) => {
        await share(store);
        return runCli(["restore", "--target-dir", target, ...args], { env, timeoutMs: 120_000, asServer: true });
      };
    /** A line of the page, with the target and the moment of this test. */
    const restoreAsOnPage = (line: string, moment: string) => async (target: string) => {
      await share(store);
      const own: Readonly<Record<string, string>> = { "/srv/restored": target, "2026-11-29 18:00+00": moment };
      const [args = []] = commandsOf(line);
      return runCli(
        args.map((word) => own[word] ?? word),
        { env, timeoutMs: 120_000, asServer: true },
      );
    };
    const list = async (): Promise<Listing> => JSON.parse((await seawall("list", "--json")).stdout) as Listing;
    const receive = (): CliProcess => startCli(["receive"], { env: { ...env, ...fast } });
    let daemon = receive();
    await streaming(daemon);
    const moments: string[] = [];
    const PATH = [join(dir, "bin"), newBin, process.env["PATH"]].join(delimiter);
    const names: readonly (readonly [string, string])[] = [
      ["/usr/lib/postgresql/17/bin", oldBin],
      ["/usr/lib/postgresql/18/bin", newBin],
      ["/var/lib/postgresql/17/main", old.dataDir],
      ["/var/lib/postgresql/18/main", upgraded.dataDir],
    ];
    // In one go: what stands in for a name may contain the next one.
    const here = (command: string): string =>
      command.replaceAll(new RegExp(names.map(([name]) => name).join("|"), "g"), (found) => {
        return names.find(([name]) => name === found)?.[1] ?? found;
      });
    try {
      for (const command of commands("steps")) {
        switch (command) {
          case "systemctl stop postgresql@17-main":
            moments.push(await insert(old, 1));
            await old.stop("fast");
            break;
          case "systemctl start postgresql@18-main":
            await upgraded.start();
            env["SEAWALL_DSN"] = upgraded.dsn;
            break;
          case "seawall cluster upgrade": {
            // Before it, the new server is refused, with this very command as the next step.
            const refused = await seawall("receive");
            expect([refused.code, refused.stderr]).toEqual([
              6,
              expect.stringContaining("seawall cluster upgrade --cluster main") as unknown,
            ]);
            await run("/bin/bash", ["-ec", command], { env: { ...env, PATH } });
            break;
          }
          case "systemctl restart seawall": {
            // The only backup stays while the new generation has none, whatever the policy says.
            const kept = await seawall("expire", "--keep-full", "1", "--json");
            expect(kept, kept.stderr).toMatchObject({ code: 0 });
            expect((await list()).backups.map(({ generation }) => generation)).toEqual(["main@1"]);
            await daemon[Symbol.asyncDispose]();
            daemon = receive();
            await streaming(daemon);
            break;
          }
          default: {
            const isUpgrade = command.startsWith("pg_upgrade");
            // PostgreSQL's programs do not run as root.
            await run("/bin/bash", ["-ec", isUpgrade ? `cd /tmp && ${here(command)} --username postgres` : command], {
              env: { ...env, ...fast, PATH, HOME: "/tmp" },
              timeoutMs: 240_000,
              ...(isUpgrade ? { account: serverAccount() } : {}),
            });
          }
        }
      }
      moments.push(await insert(upgraded, 2));
      // What it stores from now on would not be open to the server's account.
      expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });

      const { generations, backups } = await list();
      expect(generations).toMatchObject([
        { generation: "main@1", pgMajor: from, backups: 1 },
        {
          generation: "main@2",
          pgMajor: to,
          backups: 1,
          systemIdentifier: String(await upgraded.systemIdentifier()),
          endOfGenerationBefore: { timeline: 1, isShutdown: true },
        },
      ]);
      expect(backups.map(({ generation }) => generation)).toEqual(["main@1", "main@2"]);
      const shown = await seawall("list");
      expect(shown.stdout).toMatch(/^cluster +main, 2 generations$/m);

      // A moment picks its generation; each is recovered by its own programs.
      const [before = "", after = ""] = moments;
      const [byTime = "", byName = ""] = commands("restore");
      expect(await rowsIn(old, restoreAsOnPage(byTime, before))).toEqual([1]);
      expect(await rowsIn(upgraded, restore("--target-time", after))).toEqual([1, 2]);
      expect(await rowsIn(old, restoreAsOnPage(byName, before))).toEqual([1]);
      expect(await rowsIn(upgraded, restore())).toEqual([1, 2]);
      // The files of the older generation beside the programs of the newer one.
      const other = await runCli(
        ["restore", "--target-dir", join(dir, `other-${from}`), "--target-time", before, "--json"],
        {
          env: { ...env, PATH: `${newBin}:/usr/bin:/bin` },
        },
      );
      const { generation, notes } = JSON.parse(other.stdout) as { generation: string; notes: string[] };
      expect(generation).toBe("main@1");
      expect(notes.join("\n")).toContain(`start the server with those of PostgreSQL ${from}.`);
      const drilled = await seawall("drill", "--cluster", "main@1", "--pg-bin", newBin);
      expect([drilled.code, drilled.stderr]).toEqual([
        2,
        expect.stringContaining(`a drill of this backup needs PostgreSQL ${from}`) as unknown,
      ]);
      const status = await seawall("status");
      expect(status.stdout).toMatch(/^cluster +main, generation main@2, /m);
      const verified = await seawall("verify", "--cluster", "main@1", "--deep");
      expect(verified, verified.stdout).toMatchObject({ code: 0 });

      // Two full backups may stay: the older generation has the second one. Of one alone it has none.
      const both = await seawall("expire", "--keep-full", "2");
      expect(both, both.stderr).toMatchObject({ code: 0 });
      expect((await list()).backups.map(({ generation }) => generation)).toEqual(["main@1", "main@2"]);
      const one = await seawall("expire", "--keep-full", "1");
      expect(one, one.stderr).toMatchObject({ code: 0 });
      const left = await list();
      expect(left.backups.map(({ generation }) => generation)).toEqual(["main@2"]);
      expect(left.generations[0]).toMatchObject({ backups: 0, recoverable: null, wal: { segments: 0 } });
      expect(await rowsIn(upgraded, restore())).toEqual([1, 2]);

      // The upgrade is undone, long after the last WAL.
      await run("find", [store, "-exec", "touch", "-d", "1 hour ago", "{}", "+"]);
      const [stop, remove = "", start] = commands("give up");
      expect([stop, start]).toEqual(["systemctl stop seawall", "systemctl start seawall"]);
      const removed = await seawall(...(commandsOf(remove)[0] ?? []));
      expect(removed, removed.stderr).toMatchObject({ code: 0 });
      await upgraded.stop("fast");
      await old.start();
      env["SEAWALL_DSN"] = old.dsn;
      daemon = receive();
      await streaming(daemon);
      await insert(old, 3);
      expect((await list()).generations).toMatchObject([{ generation: "main@1", pgMajor: from }]);
    } finally {
      await daemon[Symbol.asyncDispose]();
    }
  }, 600_000);
});
