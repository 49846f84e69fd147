/**
 * Folders of the harness below the system's temporary folder: a cache that outlives runs, and scratch folders that name the
 * process which owns them, so that what a killed run left behind is found and removed by the next one.
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { isOpenToAll, serverAccount } from "./account.ts";

/** The harness's folder for this user. It is ours alone to write; other accounts may walk through it. */
export function harnessDir(): string {
  const uid = process.getuid?.() ?? 0;
  const candidates = [tmpdir(), "/tmp", "/var/tmp"];
  const open = (folder: string) => serverAccount() === undefined || isOpenToAll(folder);
  const parent = candidates.find((folder) => existsSync(folder) && open(folder));
  if (parent === undefined)
    throw new Error(`no temporary folder that the server's account can enter: ${candidates.join(", ")}`);
  const folder = join(parent, `seawall-test-${uid}`);
  if (!existsSync(folder)) mkdirSync(folder, { recursive: true });
  const stat = lstatSync(folder);
  if (!stat.isDirectory() || (process.getuid !== undefined && stat.uid !== uid)) {
    throw new Error(`${folder} exists and is not ours`);
  }
  // Whatever the umask: the server's account walks through it.
  chmodSync(folder, 0o755);
  return folder;
}

/** A cache folder that outlives runs, such as `native` or `template`. */
export function cacheDir(kind: string): string {
  const folder = join(harnessDir(), "cache", kind);
  mkdirSync(folder, { recursive: true });
  chmodSync(dirname(folder), 0o755);
  chmodSync(folder, 0o755);
  return folder;
}

/** A new scratch folder owned by this process. The caller removes it; if it cannot, `removeStale` of a later run does. */
export function makeTempDir(kind: string): string {
  const folder = join(harnessDir(), `${kind}-${randomBytes(4).toString("hex")}`);
  mkdirSync(folder, { mode: 0o755 });
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, OWNER), `${process.pid} ${startTimeOf(process.pid) ?? ""}\n`);
  return folder;
}

/** Scratch folders of `kind`, or of any, whose owner is gone: killed before it could clean up. */
export function staleTempDirs(kind?: string): string[] {
  const base = harnessDir();
  return readdirSync(base)
    .filter(
      (name) =>
        (kind === undefined ? /^[a-z0-9]+-[0-9a-f]{8}$/.test(name) : name.startsWith(`${kind}-`)) &&
        !ownerIsAlive(join(base, name)),
    )
    .map((name) => join(base, name));
}

/** Removes cached files that were not used for two weeks, and unfinished copies. */
export function dropOldCaches(now = Date.now()): void {
  for (const kind of ["native", "postgres", "template", "servers"]) {
    for (const name of readdirSync(cacheDir(kind))) {
      const folder = join(cacheDir(kind), name);
      const unfinishedOf = /\.pid(\d+)$/.exec(name)?.[1];
      const age = now - lstatSync(folder).mtimeMs;
      if (unfinishedOf === undefined ? age > 14 * 86_400_000 : !isAlive(Number(unfinishedOf))) removeTree(folder);
    }
  }
}

/** The name under which something for the cache is made, before it is renamed to what others look for. */
export function unfinishedName(path: string): string {
  return `${path}.pid${process.pid}`;
}

/** Marks a cached folder as used now. */
export function touch(folder: string): void {
  const now = new Date();
  utimesSync(folder, now, now);
}

export function removeTree(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}

const OWNER = ".owner";

function ownerIsAlive(folder: string): boolean {
  let text: string;
  try {
    text = readFileSync(join(folder, OWNER), "utf8");
  } catch {
    // Just being made (mkdir comes before the owner file) or being removed: leave it unless it is old.
    try {
      return Date.now() - lstatSync(folder).mtimeMs < 60_000;
    } catch {
      return true;
    }
  }
  const [pid = "", startTime = ""] = text.trim().split(" ");
  return isAlive(Number(pid)) && (startTime === "" || startTimeOf(Number(pid)) === startTime);
}

/** A zombie, whose parent has not asked for its status yet (a container's init may never), is not alive. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^[ZX]/.test(statOf(pid) ?? "");
  } catch (error) {
    // EPERM means it exists and is not ours.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** When the process was started, in the kernel's ticks, so that a reused pid is not taken for its predecessor. */
function startTimeOf(pid: number): string | undefined {
  // Field 22 of proc(5), the 20th after the command name.
  return statOf(pid)?.split(" ")[19];
}

/** /proc/PID/stat from the state on: what stands before it is the pid and the command's name in parentheses. */
function statOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2);
  } catch {
    return undefined;
  }
}
