/**
 * Identifies the server that asks for WAL: its data directory, this start of it, and whether it is still recovering.
 * Read from its files, because a restore_command gets two names only.
 *
 * Source: PostgreSQL `pidfile.h` (postmaster.pid), `pg_control.h` (system_identifier comes first), `xlogarchive.c`.
 */
import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { endianness } from "node:os";
import { basename, dirname, join } from "node:path";
import { errnoOf, SeawallError } from "../errors.ts";
import { SYSTEM_IDENTIFIER_SIZE, systemIdentifierIn } from "../wal/system-identifier.ts";

export interface ServerRun {
  readonly dataDir: string;
  readonly walDir: string;
  readonly postmaster: number;
  /**
   * One start of one server: process ID and start time of the postmaster, and the boot of the machine where the system
   * tells. One line; `bin/seawall-wal-fetch` makes the same of the same files.
   */
  readonly id: string;
}

/**
 * The server whose startup process wants `target` (`<data directory>/pg_wal/RECOVERYXLOG`); undefined for any other process.
 */
export async function findServerRun(target: string): Promise<ServerRun | undefined> {
  const walDir = dirname(target);
  if (basename(walDir) !== "pg_wal" || !/^RECOVERY(XLOG|HISTORY)$/.test(basename(target))) return undefined;
  const dataDir = dirname(walDir);
  const lines = (await textOf(join(dataDir, "postmaster.pid"))).split("\n");
  const [pid = "", , start = ""] = lines;
  if (!/^\d+$/.test(pid) || !/^\d+$/.test(start)) return undefined;
  const [boot = ""] = (await textOf("/proc/sys/kernel/random/boot_id")).split("\n");
  return { dataDir, walDir, postmaster: Number(pid), id: `${pid} ${start} ${boot}` };
}

/** The same start of the same server, its postmaster alive. */
export async function isSameRun(run: ServerRun): Promise<boolean> {
  const now = await findServerRun(join(run.walDir, "RECOVERYXLOG"));
  return now?.id === run.id && isProcessAlive(run.postmaster);
}

/** False once recovery has ended: PostgreSQL then removes the files that asked for it (xlog.c, exitArchiveRecovery). */
export function isRecovering(run: ServerRun): boolean {
  return ["recovery.signal", "standby.signal"].some((name) => existsSync(join(run.dataDir, name)));
}

/**
 * The texts of postgresql.conf and postgresql.auto.conf in the data directory, as the server reads them; what they include,
 * or a configuration outside the data directory, is not seen.
 */
export async function configurationOf(run: ServerRun): Promise<readonly string[]> {
  const names = ["postgresql.conf", "postgresql.auto.conf"];
  return Promise.all(names.map((name) => textOf(join(run.dataDir, name))));
}

export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}

/** The system identifier of a server, from its pg_control. Throws `foreign-cluster` for a file that is too short. */
export async function systemIdentifierOf(run: ServerRun): Promise<bigint> {
  const file = await open(join(run.dataDir, "global", "pg_control"));
  try {
    const size = SYSTEM_IDENTIFIER_SIZE;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
    const found = systemIdentifierIn(buffer.subarray(0, bytesRead), endianness());
    if (found !== undefined) return found;
    throw new SeawallError("foreign-cluster", `pg_control of ${run.dataDir} has only ${bytesRead} bytes`);
  } finally {
    await file.close();
  }
}

/**
 * Refuses to give a server another cluster's WAL: it would take the first foreign page for the end of WAL and promote.
 * Throws `foreign-cluster`.
 */
export function refuseForeignArchive(systemIdentifier: bigint, archived: bigint): void {
  if (systemIdentifier === archived) return;
  throw new SeawallError(
    "foreign-cluster",
    `the archive belongs to system identifier ${archived}, the server's is ${systemIdentifier}`,
    { hint: "Check --store and --cluster in restore_command." },
  );
}

/** A small file's text; empty when it cannot be read. */
export async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return "";
  }
}
