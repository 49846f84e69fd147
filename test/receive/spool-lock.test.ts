/** Two processes on one spool: the second is refused, whatever the first one does, and a dead one leaves nothing behind. */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { silentLog } from "../../src/log.ts";
import { lockSpool } from "../../src/receive/spool-lock.ts";
import { startPostgres, type PostgresServer } from "../harness/postgres.ts";
import { type CliProcess, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const dir = makeTempDir("spool-lock");
afterAll(() => removeTree(dir));

function newFolder(name: string): string {
  const path = join(dir, name);
  mkdirSync(path);
  return path;
}

function lock(directory: string, changes: Partial<Parameters<typeof lockSpool>[0]> = {}): Promise<AsyncDisposable> {
  const signal = new AbortController().signal;
  return lockSpool({ directory, folder: "main", log: silentLog, signal, ...changes });
}

function receiver(server: PostgresServer, slot: string, spool: string, store: string): CliProcess {
  const place = ["--store", `file://${store}`, "--durability", "spool", "--spool-dir", spool];
  return startCli(["receive", "--dsn", server.dsn, ...place, "--slot", slot, "--create-slot", "--listen", "off"]);
}

test("a second receiver on the spool of a first is refused, and starts at once when the first was killed", async () => {
  await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  const [spool, store] = [newFolder("spool"), newFolder("store")];
  await using first = receiver(server, "first", spool, store);
  await first.waitForLine(/starting to stream/);
  // Stopped, it may go on at any moment.
  for (const signal of ["SIGCONT", "SIGSTOP"] as const) {
    first.signal(signal);
    await using second = receiver(server, "second", spool, store);
    expect((await second.ended()).code).toBe(3);
    expect(second.stderr).toContain(`another process uses ${spool}/main: process ${first.pid} on `);
    expect(second.stderr).toContain("Stop that receiver, or give this one a --spool-dir of its own.");
  }
  expect(existsSync(join(spool, "main", "journal.json"))).toBe(true);
  await first.end("SIGKILL");
  await using third = receiver(server, "second", spool, store);
  await third.waitForLine(/starting to stream/);
  expect((await third.end("SIGTERM")).code).toBe(0);
});

test("a lock is free again when its holder lets it go, and folders of one spool do not meet", async () => {
  const directory = newFolder("turns");
  {
    await using _first = await lock(directory);
    await using _other = await lock(directory, { folder: "main@2" });
    await expect(lock(directory)).rejects.toMatchObject({ code: "spool-in-use" });
  }
  await using _second = await lock(directory);
  expect(readFileSync(join(directory, "~lock-main"), "utf8")).toContain(`process ${process.pid} on `);
});

test("a lock file that was removed keeps no later holder from being seen", async () => {
  const directory = newFolder("removed");
  await using _first = await lock(directory);
  rmSync(join(directory, "~lock-main"));
  await using _second = await lock(directory);
  await expect(lock(directory)).rejects.toMatchObject({ code: "spool-in-use" });
});

test.each([
  ["is not installed", undefined],
  ["finds no locks on the file system", "#!/bin/sh\necho 'flock: 3: No locks available' >&2; exit 1\n"],
  ["crashes", "#!/bin/sh\nkill -9 $$\n"],
])("where the locking program %s, the spool is used with a warning", async (what, script) => {
  const program = join(dir, `program that ${what}`);
  if (script !== undefined) {
    writeFileSync(program, script);
    chmodSync(program, 0o755);
  }
  const warnings: string[] = [];
  const log: typeof silentLog = { ...silentLog, warn: (message) => void warnings.push(message), child: () => log };
  const directory = newFolder(what);
  await using _lock = await lock(directory, { program, log });
  expect(warnings).toEqual(["the spool cannot be locked: make sure that no other process uses it"]);
});

test("a lock that gets no answer is not waited for after a stop", async () => {
  const program = join(dir, "hangs");
  writeFileSync(program, "#!/bin/sh\nexec sleep 60\n");
  chmodSync(program, 0o755);
  const stop = new AbortController();
  const locking = lock(newFolder("hanging"), { program, signal: stop.signal });
  stop.abort();
  await expect(locking).rejects.toMatchObject({ code: "aborted" });
});
