/**
 * A restore as an operator does it: `seawall restore` by the server's own account, then `pg_ctl start`. No configuration is touched
 * in between; the server runs the restore_command that the restore wrote.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { serverAccount } from "../harness/account.ts";
import { runKeys } from "../harness/encryption.ts";
import { type PostgresServer, versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { serverCli } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, promoted, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 180_000;
const newest = Math.max(...versionsUnderTest()) as 18;
/** What a login shell has. Node.js may well be elsewhere. */
const OPERATOR = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** `pg_ctl start`, and in the end `pg_ctl stop`. */
async function startedByPgCtl(
  server: PostgresServer,
  place: { readonly home: string; readonly dataDir: string },
  use: () => Promise<void>,
): Promise<void> {
  const { home, dataDir } = place;
  const log = join(home, "log");
  const pgCtl = async (...args: string[]) =>
    run(join(server.binDir, "pg_ctl"), [...args, "-w", "-D", dataDir], {
      account: serverAccount(),
      env: OPERATOR,
      cwd: "/",
    });
  try {
    await pgCtl("start", "-l", log);
    await use();
  } catch (error) {
    throw new Error(existsSync(log) ? readFileSync(log, "utf8").slice(-3000) : "no log", { cause: error });
  } finally {
    if (existsSync(join(dataDir, "postmaster.pid"))) await pgCtl("stop", "-m", "immediate");
  }
}

test(
  "after the loss of the primary: restore, pg_ctl start, and every row is back through the restore_command it wrote",
  async () => {
    await using archived = await Archived.filled({ version: newest });
    // Its port and its socket are those of the restored one.
    await archived.server.kill9();
    await archived.share();

    const home = makeTempDir("operator");
    giveToServer(home, 0o700);
    const dataDir = join(home, "data");
    const { node, main } = serverCli();
    // By a flag: the server has no variables, and the command that the restore writes must name the file.
    const { SEAWALL_IDENTITY: identity } = runKeys();
    const flags = identity === undefined ? [] : ["--identity", identity];
    const seawall = async (...args: string[]) =>
      run(node, [main, "restore", ...args, ...flags], { account: serverAccount(), env: OPERATOR, cwd: home });
    await seawall("--store", archived.url, "--target-dir", dataDir);
    const written = readFileSync(join(dataDir, "postgresql.auto.conf"), "utf8");
    expect(written).toMatch(/restore_command = 'exec .*seawall-wal-fetch/);
    await startedByPgCtl(archived.server, { home, dataDir }, async () => {
      await promoted(archived.server);
      expect(await rowsOf(archived.server)).toEqual([1, 2]);
      expect((await seawall("--check", dataDir, "--json")).stdout).toContain('"ok":true');
      expect(readFileSync(join(home, "log"), "utf8")).toMatch(/restored log file "[0-9A-F]{24}" from archive/);
    });
    removeTree(home);
  },
  TIMEOUT_MS,
);
