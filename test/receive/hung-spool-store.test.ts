/** `--durability spool` beside a directory whose file system answers nothing: every call into it holds a thread for good. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startReceiver } from "../campaigns/receiver-process.ts";
import { until } from "../campaigns/campaign.ts";
import { startPostgres, type PostgresServer } from "../harness/postgres.ts";
import type { CliProcess } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

/** A folder for one test, with a store, a spool, and a pipe. */
function makeFolder(): Disposable & { readonly folder: string } {
  const folder = makeTempDir("hung-spool-store");
  mkdirSync(join(folder, "store"));
  mkdirSync(join(folder, "spool"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
  return { folder, [Symbol.dispose]: () => removeTree(folder) };
}

/** Has every call on a path below `store` open a pipe instead that has no other end: it takes a thread and never returns. */
function hanging(store: string, pipe: string): string {
  const source = `
    import fs from "node:fs";
    import promises from "node:fs/promises";
    import { syncBuiltinESMExports } from "node:module";
    const isHung = (path) => String(path).startsWith(${JSON.stringify(store)});
    const { open: openBack } = fs;
    const { open } = promises;
    const names = ["open", "stat", "lstat", "opendir", "readdir", "mkdir", "link", "unlink", "access", "rename", "rmdir", "statfs"];
    for (const name of names) {
      const back = fs[name];
      const promise = promises[name];
      fs[name] = (path, ...rest) => (isHung(path) ? openBack(${JSON.stringify(pipe)}, "r", rest.at(-1)) : back(path, ...rest));
      promises[name] = (path, ...rest) => (isHung(path) ? open(${JSON.stringify(pipe)}, "r") : promise(path, ...rest));
    }
    syncBuiltinESMExports();`;
  return `data:text/javascript,${encodeURIComponent(source)}`;
}

function start(server: PostgresServer, folder: string, nodeArgs: readonly string[]): CliProcess {
  const spool = ["--durability", "spool", "--spool-dir", join(folder, "spool")];
  return startReceiver({
    dsn: server.dsn,
    storeUrl: `file://${join(folder, "store")}`,
    flags: ["--slot", "seawall", "--shutdown-timeout", "1s", ...spool],
    nodeArgs,
  });
}

async function acknowledged(server: PostgresServer, receiver: CliProcess): Promise<void> {
  const [row] = await server.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn");
  await until(
    "WAL to be acknowledged from the spool",
    async () => {
      if (!receiver.running) throw new Error(`the receiver ended by itself:\n${receiver.stderr}`);
      const rows = await server.sql("SELECT 1 FROM pg_stat_replication WHERE flush_lsn >= $1::pg_lsn", [row?.["lsn"]]);
      return rows.length > 0;
    },
    120_000,
  );
}

// What takes time is the store's silence: the tests wait for it side by side.
test.concurrent(
  "a receiver with WAL in its spool starts beside a store that hangs, acknowledges, and says so",
  async () => {
    using made = makeFolder();
    const { folder } = made;
    await using server = await startPostgres({ segmentSizeMiB: 1 });
    await server.sql("CREATE TABLE t (pad text)");
    {
      await using before = start(server, folder, []);
      await server.sql("INSERT INTO t VALUES ('x')");
      await acknowledged(server, before);
      expect((await before.end("SIGTERM")).code, before.stderr).toBe(0);
    }
    const nodeArgs = ["--import", hanging(join(folder, "store"), join(folder, "pipe"))];
    await using receiver = start(server, folder, nodeArgs);
    // More than there are threads for calls into file systems: no call that hangs is made twice.
    for (let i = 0; i < 6; i++) {
      await server.sql("INSERT INTO t SELECT repeat('x', 100) FROM generate_series(1, 5000)");
      await acknowledged(server, receiver);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    expect(receiver.stderr).toContain("the store does not answer: going on from the spool alone");
    expect(await receiver.end("SIGTERM")).toEqual({ code: null, signal: "SIGKILL" });
    // What was acknowledged reaches the store once it answers again.
    await using after = start(server, folder, []);
    await acknowledged(server, after);
    expect((await after.end("SIGTERM")).code, after.stderr).toBe(0);
    expect(
      execFileSync("find", [join(folder, "store"), "-name", "*.zst"])
        .toString()
        .split("\n").length,
    ).toBeGreaterThan(4);
  },
  300_000,
);

test.concurrent(
  "a receiver with an empty spool says that it waits for a store that hangs, and ends when it is told to",
  async () => {
    using made = makeFolder();
    const { folder } = made;
    await using server = await startPostgres({ segmentSizeMiB: 1 });
    const nodeArgs = ["--import", hanging(join(folder, "store"), join(folder, "pipe"))];
    await using receiver = start(server, folder, nodeArgs);
    await receiver.waitForLine(/the store does not answer: an empty spool needs it to begin/);
    expect(receiver.running).toBe(true);
    expect(await receiver.end("SIGTERM")).toMatchObject({ signal: "SIGKILL" });
  },
  120_000,
);
