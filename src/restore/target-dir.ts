/**
 * Looks at the directories that a restore writes into, and decides whether it may. A restore refuses rather than
 * overwrite: a directory that is not empty needs --delta, and --delta needs an old data directory of the same cluster.
 */
import { lstat, readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { errnoOf, SeawallError } from "../errors.ts";
import { CONTROL_FILE } from "./layout.ts";
import { parseMarker, type RestoreMarker, UNFINISHED_FILE } from "./marker.ts";
import type { Owner } from "./part-writer.ts";
import { parseControlFile } from "../wal/pg-control.ts";
import { fateOf } from "./process-identity.ts";
import { textOf } from "./server-run.ts";

export interface TargetDir {
  /** Absolute, symlinks resolved. */
  readonly path: string;
  readonly isEmpty: boolean;
  /** The marker of an earlier restore that did not get to its end. */
  readonly marker: RestoreMarker | undefined;
}

/** Looks, and changes nothing. Throws `target-occupied`. */
export async function inspectTargetDir(given: string, systemIdentifier: bigint, delta: boolean): Promise<TargetDir> {
  const path = await realpathOrSelf(resolve(given));
  const entries = await entriesOf(path);
  if (entries.length === 0) return { path, isEmpty: true, marker: undefined };
  await refuseServer(path);
  const marker = await readMarker(path);
  const control = await readIfThere(join(path, CONTROL_FILE));
  refuseTopFolder(path, entries, `--target-dir ${join(path, "data")}`);
  if (marker === undefined && control === undefined) {
    throw occupied(`${path} is not empty and is no data directory of PostgreSQL`, "Choose an empty directory.");
  }
  const found = marker?.systemIdentifier ?? (control === undefined ? undefined : identityOf(control));
  if (found !== systemIdentifier) {
    throw occupied(
      `${path} holds another cluster (system identifier ${found ?? "unknown"}, the archive's is ${systemIdentifier})`,
      "Choose another --target-dir.",
    );
  }
  if (!delta) {
    const what =
      marker === undefined ? "a data directory of this cluster" : `an unfinished restore of ${marker.backup}`;
    throw occupied(
      `${path} is not empty: it holds ${what}`,
      "Choose an empty directory, or --delta to reuse what is in it; whatever the backup does not have is removed.",
    );
  }
  if (marker !== undefined) await refuseAnotherRestore(path, marker);
  return { path, isEmpty: false, marker };
}

/** Finds the future owner of the files: the one asked for, or the directory's; undefined when that is our own account. */
export async function ownerFor(path: string, asked: Owner | undefined): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  if (asked !== undefined) return asked;
  for (let place = path; ; place = dirname(place)) {
    const stats = await stat(place).catch(() => undefined);
    // The directory itself, or where it will be made; further up any account may own it.
    if (stats !== undefined) return stats.uid === 0 ? undefined : { uid: stats.uid, gid: stats.gid };
    if (place === dirname(place)) return undefined;
  }
}

/** `--owner`: a name or a number, with a group after a colon where it is another than the account's. Throws `usage`. */
export async function parseOwner(text: string): Promise<Owner> {
  const [user = "", group] = text.split(":");
  const account = await entryOf("/etc/passwd", ([name, , uid]) => name === user || uid === user);
  const uid = /^\d+$/.test(user) ? Number(user) : Number(account?.[2] ?? Number.NaN);
  let gid = group === undefined ? Number(account?.[3] ?? uid) : Number(group);
  if (group !== undefined && Number.isNaN(gid)) {
    gid = Number((await entryOf("/etc/group", ([name]) => name === group))?.[2] ?? Number.NaN);
  }
  if (!Number.isNaN(uid) && !Number.isNaN(gid)) return { uid, gid };
  throw new SeawallError("usage", `--owner: there is no account "${text}" here`, {
    hint: "Write postgres, postgres:postgres or 70:70.",
  });
}

/** The fields of a line of /etc/passwd or /etc/group. */
async function entryOf(file: string, fits: (fields: string[]) => boolean): Promise<string[] | undefined> {
  const lines = (await textOf(file)).split("\n");
  return lines.map((line) => line.split(":")).find(fits);
}

/**
 * Refuses a directory with a postmaster.pid, and does not ask whether its process is alive. The server may run in another
 * container or on another machine. There its process ID names no process of ours, or another one, or this one.
 */
export async function refuseServer(path: string): Promise<void> {
  const bytes = await readIfThere(join(path, "postmaster.pid"));
  if (bytes === undefined) return;
  const pid = Number.parseInt(bytes.toString("utf8"), 10);
  throw occupied(
    `${path} holds postmaster.pid: a server runs in it (process ${Number.isInteger(pid) ? Math.abs(pid) : "unknown"}), or crashed`,
    "Stop the server. If none runs there, on any machine or container that mounts the directory, remove postmaster.pid.",
  );
}

async function refuseAnotherRestore(path: string, { restorer }: RestoreMarker): Promise<void> {
  if (restorer === undefined) return;
  const fate = await fateOf(restorer);
  if (fate === "ended" || fate === "this process") return;
  if (fate === "running") {
    throw occupied(`another restore into ${path} is under way (process ${restorer.pid})`, "Wait for it, or stop it.");
  }
  throw occupied(
    `a restore into ${path} (process ${restorer.pid}) began in another container, on another machine or before a restart ` +
      "of this one, and may still run",
    "Look on every machine and container that mounts the directory. If none restores there, remove the line " +
      `"pid" from ${join(path, UNFINISHED_FILE)}, and run this again.`,
  );
}

/** `instead`: the option with a folder in it. */
export function refuseTopFolder(path: string, entries: readonly string[], instead: string): void {
  if (entries.length !== 1 || entries[0] !== "lost+found") return;
  throw occupied(
    `${path} holds lost+found: it is the top folder of a file system`,
    `Choose a folder in it: ${instead}`,
  );
}

export async function readMarker(path: string): Promise<RestoreMarker | undefined> {
  const bytes = await readIfThere(join(path, UNFINISHED_FILE));
  return bytes === undefined ? undefined : parseMarker(bytes);
}

function identityOf(control: Buffer): bigint | undefined {
  try {
    return parseControlFile(control).systemIdentifier;
  } catch {
    return undefined;
  }
}

export function isInside(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
}

/** Empty also when it is not there. Throws `target-occupied` when it is something else than a directory. */
export async function entriesOf(path: string): Promise<string[]> {
  try {
    if (!(await lstat(path)).isDirectory()) throw occupied(`${path} is not a directory`, "Choose another place.");
    return await readdir(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    if (error instanceof SeawallError) throw error;
    throw new SeawallError("target-unwritable", `cannot look into ${path}`, { cause: error });
  }
}

export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new SeawallError("target-unwritable", `cannot read ${path}`, { cause: error });
  }
}

/** Resolves the links on the way to an absolute path; for a path that is absent, those on the way to its last parent. */
export async function realpathOrSelf(path: string): Promise<string> {
  const missing: string[] = [];
  for (let place = path; ; place = dirname(place)) {
    const real = await realpath(place).catch(() => undefined);
    if (real !== undefined) return join(real, ...missing);
    if (place === dirname(place)) return path;
    missing.unshift(basename(place));
  }
}

export function occupied(message: string, hint: string): SeawallError {
  return new SeawallError("target-occupied", message, { hint });
}
