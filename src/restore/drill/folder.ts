/**
 * The scratch folder of a drill, removed at its end. The next drill finds the folder of a killed one, stops its server
 * and removes it.
 *
 * Containers may share a scratch directory, and a process ID of one names no process of another. So a running drill also
 * adds a line to its owner file every 30 seconds. A folder whose drill cannot be looked up counts as left behind once that
 * file has not changed for ten minutes, by the clock of the file system.
 *
 * Root drills as another account. The folder itself stays root's, and the account owns only what its server writes: `data`,
 * `socket` and tablespaces. So that account cannot put a link where root writes next.
 */
import { constants } from "node:fs";
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rm, stat, statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { jsonObject } from "../../archive/json-document.ts";
import { SeawallError } from "../../errors.ts";
import { SOCKET_DIR_BYTES_MAX } from "./isolation.ts";
import { setModeAndOwner, writeNewFile } from "../new-file.ts";
import type { Owner } from "../part-writer.ts";
import { fateOf, ownIdentity, parseIdentity } from "../process-identity.ts";
import { isProcessAlive } from "../server-run.ts";
import { readIfThere } from "../target-dir.ts";

const PREFIX = "seawall-drill-";
/** Identifies the drill whose folder it is, as JSON. A folder without it is left alone: `--keep` removes it. */
const OWNER_FILE = "drill.json";
const SIGN_OF_LIFE_MS = 30_000;
const SILENT_MS_MAX = 10 * 60_000;
const SOCKETS = "socket";
const DATA = "data";
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
  /** Lets no later drill remove it. Throws `target-unwritable`. */
  keep(): Promise<void>;
  /** Throws `target-unwritable`. */
  remove(): Promise<void>;
}

/** Throws `target-unwritable` when it cannot be made, or there is too little room for so many bytes. */
export async function makeDrillFolder(parent: string, bytes: number, owner: Owner | undefined): Promise<DrillFolder> {
  const made: OwnFolder[] = [];
  try {
    await mkdir(parent, { recursive: true });
    const main = await ownFolder(parent, owner, made);
    const fits = Buffer.byteLength(join(main.path, SOCKETS)) <= SOCKET_DIR_BYTES_MAX;
    const short = fits ? main : await ownFolder(tmpdir(), owner, made);
    const unremovedBefore = await removeStale(made, owner);
    await refuseWithoutRoom(parent, bytes);
    return await furnish(main.path, { short: short.path, owner, made, unremovedBefore });
  } catch (cause) {
    for (const { path, life } of made) {
      clearInterval(life);
      // The error that is thrown matters more.
      await removeAll(path).catch(() => undefined);
    }
    if (cause instanceof SeawallError) throw cause;
    throw new SeawallError("target-unwritable", `cannot make a folder for the drill in ${parent}`, { cause });
  }
}

async function refuseWithoutRoom(parent: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(parent);
  const [free, needed] = [bavail * bsize, bytes + SPARE_BYTES];
  if (free >= needed) return;
  throw new SeawallError(
    "target-unwritable",
    `a drill of this backup needs ${mebibytes(needed)} MiB in ${parent}, which has ${mebibytes(free)} MiB`,
    { hint: "Name a directory on a larger disk with --scratch-dir." },
  );
}

async function furnish(
  path: string,
  {
    short,
    owner,
    made,
    unremovedBefore,
  }: {
    readonly short: string;
    readonly owner: Owner | undefined;
    readonly made: readonly OwnFolder[];
    readonly unremovedBefore: SeawallError | undefined;
  },
): Promise<DrillFolder> {
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
    dataDir: join(path, DATA),
    socketDir,
    logFile: join(path, "server.log"),
    configDir,
    createdTablespaces,
    unremovedBefore,
    tablespace: (oid) => join(path, `tablespace-${oid}`),
    keep: async () => {
      for (const { path: own, life } of made) {
        clearInterval(life);
        await rm(join(own, OWNER_FILE), { force: true });
      }
    },
    remove: async () => {
      for (const { path: own, life } of made) {
        clearInterval(life);
        await removeAll(own);
      }
    },
  };
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}

interface OwnFolder {
  readonly path: string;
  /** Adds the signs of life. */
  readonly life: NodeJS.Timeout;
}

async function ownFolder(parent: string, owner: Owner | undefined, made: OwnFolder[]): Promise<OwnFolder> {
  const path = await mkdtemp(join(parent, PREFIX));
  const ownerFile = join(path, OWNER_FILE);
  // A drill that cannot write here any more fails by itself. The file is not made anew: it may just have been removed.
  const breathe = async (): Promise<void> => {
    const file = await open(ownerFile, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW);
    await file.write("\n").finally(() => file.close());
  };
  const life = setInterval(() => void breathe().catch(() => undefined), SIGN_OF_LIFE_MS).unref();
  made.push({ path, life });
  // For another account: it may enter, by its group.
  const mode = owner === undefined ? 0o700 : 0o750;
  const own = owner === undefined ? undefined : { uid: process.getuid?.() ?? 0, gid: owner.gid };
  await setModeAndOwner(path, { mode, owner: own, isDirectory: true });
  const identity = JSON.stringify(await ownIdentity());
  await writeNewFile(ownerFile, undefined, (file) => file.writeFile(`${identity}\n`));
  return { path, life };
}

/**
 * The prefetcher of a server that has just ended may write once more before it looks: what is not empty yet is tried
 * again. The owner file goes last: it tells the next drill that the rest may be removed.
 */
async function removeAll(folder: string): Promise<void> {
  const remove = (path: string): Promise<void> =>
    rm(path, { recursive: true, force: true, maxRetries: 15, retryDelay: 50 });
  try {
    const names = await readdir(folder).catch(() => []); // rm says why it fails.
    for (const name of names) if (name !== OWNER_FILE) await remove(join(folder, name));
    await remove(folder);
  } catch (cause) {
    throw new SeawallError("target-unwritable", `cannot remove the drill's folder ${folder}`, {
      cause,
      hint: "Remove it by hand: it holds a copy of the cluster's data. The next drill with this --scratch-dir tries again.",
    });
  }
}

/**
 * Removes folders beside ours whose drill is gone; returns why one of them is still there. Others may write to the
 * parent: folders of other accounts are left alone.
 */
async function removeStale(made: readonly OwnFolder[], owner: Owner | undefined): Promise<SeawallError | undefined> {
  let unremoved: SeawallError | undefined;
  const accounts = [process.getuid?.(), owner?.uid];
  for (const own of made) {
    // Just written: its time is the file system's clock.
    const { mtimeMs: nowMs } = await stat(join(own.path, OWNER_FILE));
    const parent = dirname(own.path);
    for (const name of await readdir(parent)) {
      const path = join(parent, name);
      if (!name.startsWith(PREFIX) || made.some((mine) => mine.path === path)) continue;
      // Another drill may just be removing its own.
      const stats = await lstat(path).catch(() => undefined);
      if (stats?.isDirectory() !== true || !accounts.includes(stats.uid)) continue;
      if (!(await isLeftBehind(join(path, OWNER_FILE), nowMs))) continue;
      await stopServerIn(join(path, DATA));
      await removeAll(path).catch((error: unknown) => {
        if (!(error instanceof SeawallError)) throw error;
        unremoved = error;
      });
    }
  }
  return unremoved;
}

async function isLeftBehind(ownerFile: string, nowMs: number): Promise<boolean> {
  const stats = await lstat(ownerFile).catch(() => undefined);
  const identity = parseIdentity(jsonObject((await readIfThere(ownerFile))?.toString("utf8") ?? "") ?? {});
  if (stats === undefined || identity === undefined) return false;
  switch (await fateOf(identity)) {
    case "ended":
      return true;
    case "unknown":
      return nowMs - stats.mtimeMs > SILENT_MS_MAX;
    case "running":
    case "this process":
      return false;
  }
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
