/**
 * Expiries of an archive that real servers fill, over a failover and beside a running receiver: every backup that is left
 * restores, to the end of the archive and to moments before it; also when the expiry was killed.
 */
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { readBackup } from "../../src/archive/backups/list.ts";
import { keysBelow } from "../store/keys-below.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { type CliResult, runCli, startCli } from "../harness/process.ts";
import { flushLsn } from "../receive/receiving.ts";
import { Archived, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 240_000;

interface Outcome {
  readonly goes: readonly { readonly id: string }[];
  readonly stays: readonly { readonly id: string }[];
  readonly bytesToFree: number;
  readonly bytesFreed?: number;
  readonly windows: readonly { readonly timeline: number; readonly fromLsn: string; readonly backup: string }[];
}

let archived: Archived;
/** The primary of timeline 2. */
let primary: PostgresServer;
const backups: BackupDocument[] = [];
/** The LSN behind each row. */
const behind = new Map<number, string>();

async function insert(server: PostgresServer, row: number): Promise<void> {
  await server.sql(`INSERT INTO t VALUES (${row})`);
  behind.set(row, await server.value("SELECT pg_current_wal_flush_lsn()::text"));
  await server.sql("SELECT pg_switch_wal()");
}

async function backup(server: PostgresServer): Promise<void> {
  const where = ["--dsn", server.dsn, "--store", archived.url, "--checkpoint", "fast", "--json"];
  const { code, stdout, stderr } = await runCli(["backup", ...where, "--log-level", "warn"]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  backups.push(await readBackup(await archived.archive(), (JSON.parse(stdout) as { id: string }).id));
}

const seawall = (folder: string, ...args: string[]): Promise<CliResult> =>
  runCli([...args, "--store", `file://${folder}`, "--log-level", "warn"]);

async function expire(folder: string, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await seawall(folder, "expire", ...args, "--json");
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Outcome;
}

const storeFolder = (): string => archived.url.replace("file://", "");
const ids = (found: readonly { readonly id: string }[]): string[] => found.map(({ id }) => id).sort();

/** Rows 1 and 2 and two backups on timeline 1, then as many on timeline 2. */
beforeAll(async () => {
  archived = await Archived.start();
  const { server } = archived;
  await insert(server, 1);
  await backup(server);
  await insert(server, 2);
  await backup(server);
  await insert(server, 3);
  primary = await server.cloneAsStandby();
  await archived.stored();
  await server.stop("fast");
  await primary.promote();
  await archived.follow(primary);
  await insert(primary, 4);
  await backup(primary);
  await insert(primary, 5);
  await backup(primary);
  await insert(primary, 6);
  await archived.follow(primary);
}, TIMEOUT_MS);

afterAll(async () => {
  await archived[Symbol.asyncDispose]();
});

async function expectRestores(from: BackupDocument, flags: readonly string[], rows: readonly number[]): Promise<void> {
  await using restored = await archived.restored(["--backup", from.id, ...flags]);
  expect({ from: from.id, flags, rows: await rowsOf(restored) }).toEqual({ from: from.id, flags, rows });
  await restored.stop("immediate");
}

describe("an expiry that is killed", () => {
  test(
    "leaves backups that are whole, and the next one finishes it",
    async () => {
      // The receiver goes on: every copy is one of the same moment.
      const moment = join(archived.folder, "moment");
      cpSync(storeFolder(), moment, { recursive: true });
      const reference = join(archived.folder, "reference");
      cpSync(moment, reference, { recursive: true });
      await expire(reference, "--keep-full", "2");
      const wanted = namesBelow(reference);
      for (let round = 0; round < 3; round++) {
        const folder = join(archived.folder, `killed-${round}`);
        cpSync(moment, folder, { recursive: true });
        await using child = startCli(["expire", "--keep-full", "2", "--store", `file://${folder}`]);
        // Wherever it is by then: anything from the first mark to the end.
        while (child.running && !existsSync(join(folder, "main", "expiring"))) await new Promise(setImmediate);
        await child.end("SIGKILL");
        const listed = await seawall(folder, "list", "--json");
        const { backups: left } = JSON.parse(listed.stdout) as { backups: { id: string; restorable: boolean }[] };
        expect(left.filter(({ restorable }) => !restorable)).toEqual([]);
        await expire(folder, "--keep-full", "2");
        expect(namesBelow(folder)).toEqual(wanted);
      }
    },
    TIMEOUT_MS,
  );
});

test(
  "what is left restores: every backup, to the end and to moments before it, and what is archived afterwards",
  async () => {
    const [first, second, third, fourth] = backups as [BackupDocument, BackupDocument, BackupDocument, BackupDocument];
    const folder = storeFolder();
    expect((await seawall(folder, "pin", second.id)).code).toBe(0);

    // A pin keeps the second one, and with it the way over the failover.
    const planned = await expire(folder, "--keep-full", "2", "--dry-run");
    const done = await expire(folder, "--keep-full", "2");
    expect([ids(done.goes), ids(done.stays)]).toEqual([[first.id], ids([second, third, fourth])]);
    expect(done.bytesFreed).toBe(planned.bytesToFree);
    expect(done.windows.map(({ timeline, backup: id }) => [timeline, id])).toEqual([
      [1, second.id],
      [2, second.id],
    ]);
    // What it stores from here on, the restored server's account might not be let in to.
    await archived.stopReceiving();
    await expectRestores(second, ["--target-lsn", behind.get(3) ?? ""], [1, 2, 3]);
    await expectRestores(second, [], [1, 2, 3, 4, 5, 6]);

    // Without it nothing leads through timeline 1 any more.
    await archived.follow(primary);
    expect((await seawall(folder, "unpin", second.id)).code).toBe(0);
    const { windows } = await expire(folder, "--keep-full", "2");
    expect(windows.map(({ timeline, backup: id }) => [timeline, id])).toEqual([[2, third.id]]);
    expect((await keysBelow(archived.store, "main/wal/00000001")).length).toBe(0);
    expect(await keysBelow(archived.store, "main/wal/00000002.history")).toHaveLength(1);
    await insert(primary, 7);
    await archived.follow(primary);
    expect(await flushLsn(primary)).toBeGreaterThan(fourth.stopLsn);
    await archived.stopReceiving();
    await expectRestores(third, ["--target-lsn", behind.get(5) ?? ""], [1, 2, 3, 4, 5]);
    await expectRestores(third, [], [1, 2, 3, 4, 5, 6, 7]);

    // One is deleted, the last one stays.
    expect((await seawall(folder, "delete", third.id)).code).toBe(0);
    expect((await seawall(folder, "delete", fourth.id)).stderr).toContain("it is the last good backup");
    await expire(folder, "--keep-full", "1");
    await expectRestores(fourth, [], [1, 2, 3, 4, 5, 6, 7]);
  },
  TIMEOUT_MS,
);

function namesBelow(folder: string): string[] {
  return (
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length))
      // What a killed writer leaves is the store's own business.
      .filter((name) => !name.startsWith("/~tmp/"))
      .sort()
  );
}
