/** Root restores, and the server runs as another account: what that account may not do is said before anything is restored. */
import { chmodSync, existsSync, mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { lastDrill } from "../../src/archive/records/drills.ts";
import { parseQuery } from "../../src/restore/drill/checks.ts";
import { closedFolders, filledIn } from "../../src/restore/server-account.ts";
import { serverAccount } from "../harness/account.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

const TIMEOUT_MS = 180_000;
const account = serverAccount();
const newest = Math.max(...versionsUnderTest()) as 18;

test.skipIf(account === undefined)(
  "root with an archive, or a scratch folder, that is closed to the server's account is no failed drill",
  async () => {
    await using archived = await Archived.filled({ version: newest });
    const scratch = makeTempDir("scratch");
    const store = join(archived.folder, "s");
    const owner = account?.name ?? "";
    const command = ["--restore-command", archived.fetchCommand, "--owner", owner];
    const drill = async (scratchDir: string) => {
      const where = ["--store", archived.url, "--scratch-dir", scratchDir, "--pg-bin", archived.server.binDir];
      return runCli(["drill", ...where, ...command, "--log-level", "warn"], { timeoutMs: TIMEOUT_MS });
    };
    try {
      await archived.share();
      const closed = join(scratch, "closed");
      mkdirSync(closed, { mode: 0o700 });
      const outside = await drill(closed);
      expect(outside).toMatchObject({ code: 3, stdout: "" });
      expect(outside.stderr).toContain(`may not enter ${closed}`);

      chmodSync(store, 0o700);
      const unread = await drill(scratch);
      expect(unread).toMatchObject({ code: 3, stdout: "" });
      expect(unread.stderr).toMatch(/cannot fetch WAL from the archive: .*EACCES/);
      expect(await lastDrill(await archived.archive(), new Date())).toBeUndefined();

      const target = join(scratch, "data");
      const args = ["restore", "--store", archived.url, "--target-dir", target, ...command];
      const restored = await runCli([...args, "--log-level", "warn"]);
      expect(restored.code, restored.stderr).toBe(0);
      expect(restored.stderr).toContain("the server's account cannot fetch WAL");
      expect(restored.stdout).toMatch(/cannot fetch WAL from the archive, so the server will not start: .*EACCES/);
      expect(existsSync(join(target, "PG_VERSION"))).toBe(true);
    } finally {
      removeTree(scratch);
    }
  },
  TIMEOUT_MS,
);

test.skipIf(account === undefined)(
  "root is told that a --waldir, or a tablespace, lies behind a folder that is closed to the server's account",
  async () => {
    await using archived = await Archived.filled({ version: newest });
    const place = makeTempDir("closed");
    chmodSync(place, 0o755);
    const closed = join(place, "disk");
    mkdirSync(closed, { mode: 0o700 });
    const restore = async (...flags: readonly string[]) => {
      const to = ["--target-dir", join(place, "data"), "--owner", account?.name ?? ""];
      return runCli(["restore", "--store", archived.url, ...to, ...flags, "--log-level", "warn"]);
    };
    try {
      await archived.share();
      const restored = await restore("--waldir", join(closed, "deep", "wal"));
      expect(restored.code, restored.stderr).toBe(0);
      expect(restored.stderr).toContain("may not enter folders on the way to its files");
      expect(restored.stdout).toContain(`(uid ${account?.uid ?? 0}) may not enter ${closed}, so the server`);
      chmodSync(closed, 0o711);
      const again = await restore("--waldir", join(closed, "deep", "wal"), "--delta");
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout).not.toContain("may not enter");
    } finally {
      removeTree(place);
    }
  },
  TIMEOUT_MS,
);

test.skipIf(account === undefined)("each closed folder on the way is named once, also before absent ones", async () => {
  const owner = { uid: account?.uid ?? 0, gid: account?.gid ?? 0 };
  const options = { owner, signal: new AbortController().signal };
  const place = realpathSync(makeTempDir("closed"));
  const folder = (name: string, mode: number): string => {
    const path = join(place, name);
    mkdirSync(path);
    chmodSync(path, mode);
    return path;
  };
  try {
    chmodSync(place, 0o755);
    const [open, closed] = [folder("open", 0o755), folder("closed", 0o700)];
    folder("closed/inner", 0o755);
    // The restore gives the directory itself to the account.
    const own = folder("open/own", 0o700);
    expect(await closedFolders([own, join(open, "a", "b")], options)).toEqual([]);
    const behind = [join(closed, "inner", "x"), own, join(closed, "y"), join(closed, "a", "b")];
    expect(await closedFolders(behind, options)).toEqual([closed]);
    expect(await closedFolders([], options)).toEqual([]);
  } finally {
    removeTree(place);
  }
});

test.each([
  ["exec fetch %f %p", "exec fetch SEGMENT PATH"],
  ["fetch '100%% of %f' %r", "fetch '100% of SEGMENT' SEGMENT"],
  ["cp %%p", "cp %p"],
])("a restore_command %s is run as %s", (command, expected) => {
  expect(filledIn(command, { file: "SEGMENT", path: "PATH" })).toBe(expected);
});

test.each([
  ["SELECT 1", undefined, "SELECT 1"],
  ["shop: SELECT 1", "shop", "SELECT 1"],
  ['"a=b c": SELECT 1', "a=b c", "SELECT 1"],
  ['"say ""x""": SELECT 1', 'say "x"', "SELECT 1"],
  ["SELECT ': ' || 1", undefined, "SELECT ': ' || 1"],
])("the question %s goes to the database %s", (text, database, query) => {
  expect(parseQuery(text)).toEqual({ text, database, query });
});
