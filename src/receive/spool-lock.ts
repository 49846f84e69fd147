/**
 * Keeps two processes out of one spool: each would take files away that the other writes, and acknowledged WAL would be lost.
 *
 * The lock is flock(2) on a file in the spool directory. The kernel knows who holds it and frees it when that process ends,
 * however it ends: a crash leaves nothing behind, and a process that is only stopped keeps it. A file with a process ID could
 * say neither, since two containers on one volume may both run as process 1. The lock belongs to the file, so containers of one
 * machine see each other's; NFS 4 passes it on to other machines. A heartbeat is not needed, and no clock is compared.
 *
 * Node.js has no call for it. The program `flock` of util-linux or BusyBox locks a file that it inherits, and the lock stays with
 * our handle when it has ended. Source: flock(2), flock(1), nfs(5).
 */
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { text } from "node:stream/consumers";
import { errnoOf, SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { waitFor } from "../store/signal.ts";

/** A file system that answers nothing for so long hangs. */
const ANSWER_MS_MAX = 10_000;
/** A lock file that is removed at the moment of its opening is opened anew so often. */
const OPENINGS_MAX = 5;
const HOLDER_BYTES_MAX = 1024;

export interface SpoolLockOptions {
  /** The spool directory; it exists. */
  readonly directory: string;
  /** The folder within that is to be used alone. It need not exist. */
  readonly folder: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** The program that locks. */
  readonly program?: string;
}

/**
 * Locks a folder of a spool until the result is disposed of. Throws `spool-in-use`, `store-unavailable` and `aborted`. Where
 * nothing can lock, a warning says so and the spool is used without.
 */
export async function lockSpool(options: SpoolLockOptions): Promise<AsyncDisposable> {
  const path = `${options.directory}/~lock-${options.folder}`;
  let file: FileHandle | undefined;
  try {
    for (let opened = 0; file === undefined && opened < OPENINGS_MAX; opened++) file = await tryLock(path, options);
    if (file === undefined) throw new Error(`${path} is replaced again and again`);
  } catch (error) {
    if (error instanceof SeawallError) throw error;
    options.log.warn("the spool cannot be locked: make sure that no other process uses it", { path, error });
  }
  return { [Symbol.asyncDispose]: async () => file?.close() };
}

/** Undefined when the file at the path is another one by now: a lock on the old one keeps no process out. */
async function tryLock(path: string, options: SpoolLockOptions): Promise<FileHandle | undefined> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let isKept = false;
  try {
    const locking = flock(file, options.program ?? "flock");
    const late = (): SeawallError => hung(path);
    const answer = await waitFor(locking, { signals: [options.signal], timeoutMs: ANSWER_MS_MAX, late });
    if (answer === "taken") throw inUse(options, await holderOf(file));
    const [ours, there] = await Promise.all([file.stat({ bigint: true }), stat(path, { bigint: true })]);
    isKept = ours.dev === there.dev && ours.ino === there.ino;
    if (isKept) await nameHolder(file);
    return isKept ? file : undefined;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" && !isMissingProgram(error)) return undefined;
    throw error;
  } finally {
    if (!isKept) await file.close();
  }
}

const isMissingProgram = (error: unknown): boolean => error instanceof Error && "spawnargs" in error;

/** "taken": another open file has the lock. Rejects when the lock cannot be had at all. */
async function flock(file: FileHandle, program: string): Promise<"locked" | "taken"> {
  // `-x 3`: exclusively, the file that it has as descriptor 3.
  const child = spawn(program, ["-n", "-x", "3"], {
    stdio: ["ignore", "ignore", "pipe", file.fd],
    timeout: ANSWER_MS_MAX,
    killSignal: "SIGKILL",
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const [code, said] = await Promise.all([ended, child.stderr === null ? "" : text(child.stderr)]);
  if (code === 0) return "locked";
  // It says nothing of a lock that is taken, and something of everything else.
  if (code === 1 && said === "") return "taken";
  throw new Error(`${program} ended with ${code ?? "a signal"}: ${said.trim()}`);
}

/** For the message of a process that finds the lock taken; the lock does not depend on it. */
async function nameHolder(file: FileHandle): Promise<void> {
  const content = `process ${process.pid} on ${hostname()}, since ${new Date().toISOString()}\n`;
  await file
    .truncate(0)
    .then(async () => file.write(content, 0))
    .catch(() => undefined);
}

async function holderOf(file: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HOLDER_BYTES_MAX), 0, HOLDER_BYTES_MAX, 0);
  return buffer.toString("utf8", 0, bytesRead).trim() || "unknown";
}

function inUse({ directory, folder }: SpoolLockOptions, holder: string): SeawallError {
  return new SeawallError("spool-in-use", `--spool-dir: another process uses ${directory}/${folder}: ${holder}`, {
    hint: "Stop that receiver, or give this one a --spool-dir of its own. The process may run in another container that mounts the directory.",
  });
}

function hung(path: string): SeawallError {
  return new SeawallError("store-unavailable", `--spool-dir: the file system does not answer a lock of ${path}`, {
    hint: "Look in the kernel log for faults of the disk or the network file system.",
  });
}
