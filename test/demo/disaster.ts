/** The demo's second half: the primary and its data directory are gone, and come back from the archive alone. */
import { type Lsn, formatLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import type { Commit } from "./load.ts";

export interface Backup {
  readonly id: string;
  /** Of the files, before compression. */
  readonly bytes: number;
  readonly ms: number;
}

/** `seawall backup` of a server under load, beside the receiver. */
export async function takeBackup(server: PostgresServer, url: string): Promise<Backup> {
  const startMs = performance.now();
  const document = await seawall(["backup", "--dsn", server.dsn, "--store", url, "--checkpoint", "fast"]);
  return { id: String(document["id"]), bytes: Number(document["bytes"]), ms: performance.now() - startMs };
}

export interface Comeback {
  /** Numbers of the noted commits that are there. */
  readonly ids: ReadonlySet<number>;
  readonly restoreMs: number;
  /** From starting the server until it takes writes. */
  readonly recoveryMs: number;
  /** What `seawall restore --check` says of it. */
  readonly checked: boolean;
}

const RECOVERY_MS = 60_000;
const POLL_MS = 20;

/** `seawall restore` with these flags, `pg_ctl start`, and a look into the table. The server is gone again afterwards. */
export async function comeBack(
  primary: PostgresServer,
  archive: { readonly url: string; readonly folder: string },
  flags: readonly string[],
): Promise<Comeback> {
  const startMs = performance.now();
  let restoredMs = startMs;
  const where = ["--store", archive.url];
  await using server = await primary.fromDataDir(async (dataDir) => {
    // PostgreSQL's own account, which may enter neither our folders nor Node.js's, runs the restore_command.
    const command = serverRestoreCommand(where);
    await seawall(["restore", ...where, "--target-dir", dataDir, "--restore-command", command, ...flags]);
    await run("chmod", ["-R", "a+rX", archive.folder]);
    restoredMs = performance.now();
  });
  const deadline = performance.now() + RECOVERY_MS;
  while ((await server.value("SELECT pg_is_in_recovery()")) === "true") {
    if (performance.now() > deadline) throw new Error(`recovery takes too long:\n${server.log().slice(-2000)}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const recoveryMs = performance.now() - restoredMs;
  const rows = await server.sql("SELECT id FROM tide");
  const check = await runCli(["restore", "--check", server.dataDir, "--dsn", server.dsn]);
  return {
    ids: new Set(rows.map((row) => Number(row["id"]))),
    restoreMs: restoredMs - startMs,
    recoveryMs,
    checked: check.code === 0,
  };
}

/** Of all that was written, what must be there, and what is not. */
export interface Account {
  /** Noted commits that the archive vouched for: those at or before its tip. */
  readonly promised: number;
  readonly promisedMissing: number;
  /** Rows that were never sent. */
  readonly invented: number;
  /** Commits that had returned and were not there yet when the primary died. */
  readonly lost: number;
  /** How long before the primary died the oldest of those had returned; 0 when none is lost. */
  readonly lostMs: number;
}

export function settle(
  ids: ReadonlySet<number>,
  facts: { readonly commits: readonly Commit[]; readonly issued: number; readonly tip: Lsn; readonly diedMs: number },
): Account {
  const promised = facts.commits.filter(({ lsn }) => lsn <= facts.tip);
  const lost = facts.commits.filter(({ id }) => !ids.has(id));
  return {
    promised: promised.length,
    promisedMissing: promised.filter(({ id }) => !ids.has(id)).length,
    invented: [...ids].filter((id) => id < 1 || id > facts.issued).length,
    lost: lost.length,
    lostMs: facts.diedMs - (lost[0]?.atMs ?? facts.diedMs),
  };
}

/** Flags for a restore to just after this commit. */
export function upTo(commit: Commit): string[] {
  return ["--target-lsn", formatLsn(commit.lsn)];
}

async function seawall(args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await runCli([...args, "--json", "--log-level", "warn"], { timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`seawall ${args[0] ?? ""} ended with status ${code ?? "none"}:\n${stderr}`);
  return JSON.parse(stdout) as Record<string, unknown>;
}
