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

/**
 * Refuses to give a server another cluster's WAL: it would take the first foreign page for the end of WAL and promote.
 * Throws `foreign-cluster`.
 */
export async function refuseForeignArchive(run: ServerRun, archived: bigint): Promise<void> {
  const file = await open(join(run.dataDir, "global", "pg_control"));
  let systemIdentifier: bigint;
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0);
    if (bytesRead !== 8)
      throw new SeawallError("foreign-cluster", `pg_control of ${run.dataDir} has only ${bytesRead} bytes`);
    systemIdentifier = endianness() === "LE" ? buffer.readBigUInt64LE() : buffer.readBigUInt64BE();
  } finally {
    await file.close();
  }
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
