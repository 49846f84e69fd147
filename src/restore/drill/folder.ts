/**
 * The scratch folder of a drill, removed at its end. The next drill finds the folder of a killed one, stops its server
 * and removes it.
 *
 * Root drills as another account. The folder itself stays root's, and the account owns only what its server writes: `data`,
 * `socket` and tablespaces. So that account cannot put a link where root writes next.
 */
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeawallError } from "../../errors.ts";
import { SOCKET_DIR_BYTES_MAX } from "./isolation.ts";
import { setModeAndOwner, writeNewFile } from "../new-file.ts";
import type { Owner } from "../part-writer.ts";
import { isProcessAlive } from "../server-run.ts";
import { readIfThere } from "../target-dir.ts";

const PREFIX = "seawall-drill-";
/** Holds the process ID of the drill whose folder it is. */
const OWNER_FILE = "drill.pid";
const SOCKETS = "socket";
/** Beside the backup's files: what recovery writes until its first restart point. */
const SPARE_BYTES = 1 << 30;
const STOP_MS_MAX = 10_000;

export interface DrillFolder {
  readonly path: string;
  readonly dataDir: string;
  /** For a Unix socket: its path must be short. */
  readonly socketDir: string;
  readonly logFile: string;
  readonly configDir: string;
  tablespace(oid: number): string;
  /** For tablespaces that recovery creates: wal-fetch makes their directories, as the server's account. */
  readonly createdTablespaces: string;
  /** Set when the folder of an earlier, killed drill could not be removed. */
  readonly unremovedBefore: SeawallError | undefined;
  /** Throws `target-unwritable`. */
  remove(): Promise<void>;
}

/** Throws `target-unwritable` when it cannot be made, or there is too little room for so many bytes. */
export async function makeDrillFolder(parent: string, bytes: number, owner: Owner | undefined): Promise<DrillFolder> {
  try {
    await mkdir(parent, { recursive: true });
    const unremovedBefore = await removeStale(parent, owner);
    const { bavail, bsize } = await statfs(parent);
    const [free, needed] = [bavail * bsize, bytes + SPARE_BYTES];
    if (free < needed) {
      throw new SeawallError(
        "target-unwritable",
        `a drill of this backup needs ${mebibytes(needed)} MiB in ${parent}, which has ${mebibytes(free)} MiB`,
        { hint: "Name a directory on a larger disk with --scratch-dir." },
      );
    }
    const path = await ownFolder(parent, owner);
    const fits = Buffer.byteLength(join(path, SOCKETS)) <= SOCKET_DIR_BYTES_MAX;
    const short = fits ? path : await ownFolder(tmpdir(), owner);
    const socketDir = join(short, SOCKETS);
    const createdTablespaces = join(path, "tablespaces");
    for (const own of [socketDir, createdTablespaces]) {
      await mkdir(own, { mode: 0o700 });
      await setModeAndOwner(own, { mode: 0o700, owner, isDirectory: true });
    }
    const configDir = join(path, "config");
    await mkdir(configDir, { mode: 0o755 });
    await setModeAndOwner(configDir, { mode: 0o755, owner: undefined, isDirectory: true });
    return {
      path,
      dataDir: join(path, "data"),
      socketDir,
      logFile: join(path, "server.log"),
      configDir,
      createdTablespaces,
      unremovedBefore,
      tablespace: (oid) => join(path, `tablespace-${oid}`),
      remove: async () => {
        for (const folder of new Set([path, short])) await removeAll(folder);
      },
    };
  } catch (cause) {
    if (cause instanceof SeawallError) throw cause;
    throw new SeawallError("target-unwritable", `cannot make a folder for the drill in ${parent}`, { cause });
  }
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

async function ownFolder(parent: string, owner: Owner | undefined): Promise<string> {
  const path = await mkdtemp(join(parent, PREFIX));
  // For another account: it may enter, by its group.
  const mode = owner === undefined ? 0o700 : 0o750;
  const own = owner === undefined ? undefined : { uid: process.getuid?.() ?? 0, gid: owner.gid };
  await setModeAndOwner(path, { mode, owner: own, isDirectory: true });
  await writeNewFile(join(path, OWNER_FILE), undefined, (file) => file.writeFile(String(process.pid)));
  return path;
}

/** The prefetcher of a server that has just ended may write once more before it looks: what is not empty yet is tried again. */
async function removeAll(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true, maxRetries: 15, retryDelay: 50 });
  } catch (cause) {
    throw new SeawallError("target-unwritable", `cannot remove the drill's folder ${folder}`, {
      cause,
      hint: "Remove it by hand: it holds a copy of the cluster's data. The next drill with this --scratch-dir tries again.",
    });
  }
}

/**
 * Removes folders whose drill is gone; returns why one of them is still there. Others may write to the parent: folders of
 * other accounts are left alone.
 */
async function removeStale(parent: string, owner: Owner | undefined): Promise<SeawallError | undefined> {
  let unremoved: SeawallError | undefined;
  const accounts = [process.getuid?.(), owner?.uid];
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(parent, name);
    // Another drill may just be removing its own.
    const stats = await lstat(path).catch(() => undefined);
    if (stats?.isDirectory() !== true || !accounts.includes(stats.uid)) continue;
    const pid = Number.parseInt((await readIfThere(join(path, OWNER_FILE)))?.toString("utf8") ?? "", 10);
    if (!(pid > 0) || isProcessAlive(pid)) continue;
    await stopServerIn(join(path, "data"));
    await removeAll(path).catch((error: unknown) => {
      if (!(error instanceof SeawallError)) throw error;
      unremoved = error;
    });
  }
  return unremoved;
}

/** Only a process that says it runs there: process IDs are used again. */
async function stopServerIn(dataDir: string): Promise<void> {
  const pid = Number.parseInt((await readIfThere(join(dataDir, "postmaster.pid")))?.toString("utf8") ?? "", 10);
  if (!(pid > 0) || !isProcessAlive(pid)) return;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  if (!command.split("\0").includes(dataDir)) return;
  process.kill(pid, "SIGQUIT");
  for (let waitedMs = 0; isProcessAlive(pid) && waitedMs < STOP_MS_MAX; waitedMs += 50) await sleep(50);
  if (isProcessAlive(pid)) process.kill(pid, "SIGKILL");
}
