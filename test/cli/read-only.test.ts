/** An account that may only read the archive: the commands that look, verify and drill say their result all the same. */
import { chmodSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { giveToServer } from "../harness/postgres-template.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

/** Takes the right to write away, or gives it back, below and including a folder. */
function setWritable(folder: string, isWritable: boolean): void {
  chmodSync(folder, isWritable ? 0o755 : 0o555);
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) chmodSync(path, isWritable ? 0o755 : 0o555);
    else chmodSync(path, isWritable ? 0o644 : 0o444);
  }
}

test("verify and drill report, and say that the result is not recorded", async () => {
  const dir = makeTempDir("read-only");
  const [archive, scratch] = ["archive", "scratch"].map((name) => join(dir, name)) as [string, string];
  mkdirSync(archive);
  mkdirSync(scratch);
  giveToServer(scratch, 0o700);
  try {
    await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
    const store = ["--store", `file://${archive}`];
    const backup = await runCli(["backup", ...store, "--dsn", server.dsn, "--with-wal", "--checkpoint", "fast"]);
    expect(backup, backup.stderr).toMatchObject({ code: 0 });
    setWritable(archive, false);
    const before = readdirSync(archive, { recursive: true }).length;
    const read = (...args: readonly string[]) => runCli([...args, ...store], { asServer: true, timeoutMs: 180_000 });
    for (const command of ["list", "status"]) {
      const looked = await read(command);
      expect(looked, looked.stderr).toMatchObject({ code: 0 });
    }
    const verified = await read("verify");
    expect(verified, verified.stderr).toMatchObject({ code: 0 });
    expect(verified.stdout + verified.stderr).toMatch(
      /the result is not recorded, and the next run reads everything again/,
    );
    const drilled = await read("drill", "--pg-bin", server.binDir, "--scratch-dir", scratch);
    expect(drilled, drilled.stdout + drilled.stderr).toMatchObject({ code: 0 });
    expect(drilled.stdout).toMatch(/^passed +drill /m);
    expect(drilled.stdout).toMatch(/^not recorded /m);
    expect(readdirSync(archive, { recursive: true }).length).toBe(before);
  } finally {
    setWritable(archive, true);
    removeTree(dir);
  }
}, 300_000);
