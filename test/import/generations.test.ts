/** WAL and base backups of a server that was upgraded go into the generation that has ended, up to its declared end. */
import { chmodSync, copyFileSync, mkdirSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { serverAccount } from "../harness/account.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { newestUnderTest, oracleOf, startPostgres, tool } from "../harness/postgres.ts";
import { type CliResult, runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Elsewhere, importFrom } from "./archived-elsewhere.ts";

const AS_SERVER = { asServer: true, timeoutMs: 300_000 };

test("an ended generation takes its history, and nothing behind its end", { timeout: 300_000 }, async () => {
  const place = makeTempDir("ended");
  giveToServer(place, 0o755);
  await using elsewhere = await Elsewhere.start({ version: 14 });
  await using next = await startPostgres({ version: newestUnderTest(), segmentSizeMiB: 1 });
  const { server, url } = elsewhere;
  const store = ["--store", url];
  const baseBackup = async (name: string): Promise<string> => {
    const target = join(place, name);
    const args = ["-d", server.dsn, "-c", "fast", "-D", target, "-Ft", "-X", "stream"];
    const program = (await oracleOf(server, "pg_basebackup")) ?? tool("pg_basebackup");
    if (program === undefined) throw new Error("there is no pg_basebackup: apt-get install postgresql-client");
    await run(program, args, { account: serverAccount(), cwd: "/" });
    return target;
  };
  const take = (source: string, ...flags: string[]): Promise<CliResult> =>
    runCli(["import", source, ...store, ...flags], AS_SERVER);

  await elsewhere.fill(2);
  const old = await baseBackup("old");
  await elsewhere.fill(3);
  // The archive begins after the backup: the history before it is still to come.
  const late = join(place, "late");
  mkdirSync(late);
  const lastTwo = elsewhere
    .files()
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .slice(-2);
  for (const name of lastTwo) {
    copyFileSync(elsewhere.path(name), join(late, name));
    chmodSync(join(late, name), 0o644);
  }
  expect((await importFrom([late, ...store, "--cluster", "orders"], AS_SERVER)).code).toBe(0);
  for (const entry of readdirSync(elsewhere.store, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), 1_700_000_000, 1_700_000_000);
  }
  const declare = ["cluster", "upgrade", ...store, "--cluster", "orders", "--dsn", next.dsn, "--force"];
  const declared = await runCli(declare, AS_SERVER);
  expect(declared, declared.stderr).toMatchObject({ code: 0 });
  await elsewhere.fill(1);
  const behind = await baseBackup("behind");

  const wrong = await take(old, "--cluster", "orders@2");
  expect(wrong, wrong.stderr).toMatchObject({ code: 6 });
  expect(wrong.stderr).toContain("it belongs to orders@1: import it with --cluster orders@1");
  const wrongWal = await take(elsewhere.folder, "--cluster", "orders@2");
  expect(wrongWal.code).toBe(1);
  expect(wrongWal.stdout).toContain("it belongs to orders@1: import it with --cluster orders@1");
  const tooLate = await take(behind, "--cluster", "orders@1");
  expect(tooLate.code).toBe(3);
  expect(tooLate.stderr).toMatch(/orders@1 ended at .* when orders@2 was declared/);

  const named = await take(old, "--cluster", "orders@1");
  expect(named, named.stderr).toMatchObject({ code: 0 });
  // The cluster's name means the generation with the system identifier of the source.
  const again = await take(old, "--cluster", "orders");
  expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining("has this backup already") as string });
  const { code, report } = await importFrom([elsewhere.folder, ...store, "--cluster", "orders"], AS_SERVER);
  expect(code).toBe(1);
  const last = elsewhere
    .files()
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .at(-1);
  expect(report.refused.filter(({ kind }) => kind !== "ended")).toEqual([]);
  expect(report.refused.map(({ path }) => path)).toContain(last);
  expect(report.missing).toEqual([]);

  const outputs = [wrong, wrongWal, tooLate, named, again].map(({ stdout, stderr }) => stdout + stderr).join("");
  expect(outputs).not.toContain("cluster remove");
  const verified = await runCli(["verify", "--deep", ...store, "--cluster", "orders@1", "--json"], AS_SERVER);
  expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });
  removeTree(place);
});
