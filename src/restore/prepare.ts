/**
 * Prepares the directory for a backup's files: the marker first, then it removes everything that could be started or
 * does not belong, and makes every directory. It follows no link.
 */
import { lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BackupDocument, BackupFile } from "../archive/backups/document.ts";
import { pathFromBytes } from "../codec/tar.ts";
import { SeawallError } from "../errors.ts";
import { throwIfAborted } from "../store/signal.ts";
import type { BackupIndex } from "../archive/backups/index.ts";
import { compareFiles, type ExtractCrew } from "./extract.ts";
import { CONTROL_FILE, fsPath, Layout, type LayoutFacts, WAL_FOLDER } from "./layout.ts";
import { encodeMarker, UNFINISHED_FILE } from "./marker.ts";
import { setModeAndOwner, syncPath, writeNewFile } from "./new-file.ts";
import type { Owner } from "./part-writer.ts";
import { ownIdentity } from "./process-identity.ts";
import { readMarker, refuseServer, type TargetDir } from "./target-dir.ts";
import { linkWalDir } from "./wal-dir.ts";

export interface PrepareOptions {
  readonly target: TargetDir;
  readonly layout: LayoutFacts;
  readonly backup: BackupDocument;
  readonly index: BackupIndex;
  readonly owner: Owner | undefined;
  readonly crew: ExtractCrew;
  readonly now: Date;
  readonly signal: AbortSignal;
}

export interface Prepared {
  /** Files that are there already, with the right content. */
  readonly unchanged: ReadonlySet<string>;
  readonly removed: number;
}

/** Throws `target-occupied` before it changes anything; then `target-unwritable`, and leaves a directory that does not start. */
export async function prepareTarget(options: PrepareOptions): Promise<Prepared> {
  const { target, layout, backup, index, owner } = options;
  try {
    // A server may have started while the plan was made.
    await refuseServer(target.path);
    const mode = dataDirMode(index);
    await makeTopDirectory(target.path, mode, owner);
    await writeMarker(options);
    // From here on no server starts from this directory, until the new control file is in place.
    await rm(join(target.path, CONTROL_FILE), { force: true });
    for (const [, directory] of layout.tablespaces) await makeTopDirectory(directory, mode, owner);
    if (layout.walDir !== undefined) await makeTopDirectory(layout.walDir, mode, owner);
    await emptyCreated(options, mode);
    const removed = target.isEmpty ? 0 : await removeStrangers(options);
    await linkWalDir(layout);
    const placed = new Layout(layout);
    const directories = [...index.byPath.values()].filter(({ type }) => type === "directory");
    for (const { path, mode: wanted } of directories.sort((a, b) => (a.path < b.path ? -1 : 1))) {
      throwIfAborted(options.signal);
      await makeDirectory(placed.place(path), wanted & 0o777, owner);
    }
    const nothingCounts = target.isEmpty || target.marker?.isDistrusted === true;
    const unchanged = nothingCounts ? new Set<string>() : await findUnchanged(options);
    return { unchanged, removed };
  } catch (cause) {
    if (cause instanceof SeawallError || options.signal.aborted) throw cause;
    throw new SeawallError("target-unwritable", `cannot prepare ${target.path} for backup ${backup.id}`, { cause });
  }
}

/** PostgreSQL wants 0700, or 0750 where the cluster allows its group access (initdb --allow-group-access). */
function dataDirMode(index: BackupIndex): number {
  return ((index.byPath.get(CONTROL_FILE)?.mode ?? 0o600) & 0o040) === 0 ? 0o700 : 0o750;
}

async function writeMarker({ target, layout, backup, owner, now }: PrepareOptions): Promise<void> {
  const path = join(target.path, UNFINISHED_FILE);
  const marker = encodeMarker({
    systemIdentifier: backup.systemIdentifier,
    backup: backup.id,
    restorer: await ownIdentity(),
    startedAt: now.toISOString(),
    tablespaces: [...layout.tablespaces, ...layout.created].map(([, directory]) => directory),
    walDir: layout.walDir,
    isDistrusted: target.marker?.isDistrusted === true,
  });
  await writeNewFile(`${path}.new`, owner, (file) => file.writeFile(marker));
  await rename(`${path}.new`, path);
  await syncPath(target.path);
}

/**
 * Notes in the marker that the disk lost what was written to it. The kernel shows such files as whole until they leave its memory,
 * so the next run compares nothing and writes every file again.
 */
export async function distrustFiles(target: string, owner: Owner | undefined): Promise<void> {
  const path = join(target, UNFINISHED_FILE);
  const marker = await readMarker(target);
  if (marker === undefined) return;
  const noted = encodeMarker({ ...marker, isDistrusted: true });
  // The disk may refuse to flush this one too; it counts for as long as the kernel shows the others.
  await writeNewFile(`${path}.new`, owner, (file) => file.writeFile(noted)).catch(() => undefined);
  await rename(`${path}.new`, path);
}

/** Makes the folders on the way to it as `mkdir -p` does: the server's account must be able to enter them. */
async function makeTopDirectory(path: string, mode: number, owner: Owner | undefined): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await makeDirectory(path, mode, owner);
}

async function makeDirectory(place: string, mode: number, owner: Owner | undefined): Promise<void> {
  const path = fsPath(place);
  await mkdir(path, { recursive: true, mode });
  if (!(await lstat(path)).isDirectory()) throw new SeawallError("target-unwritable", `${place} is not a directory`);
  await setModeAndOwner(path, { mode, owner, isDirectory: true });
}

/**
 * Tablespaces that recovery creates: what an earlier recovery of this data directory left there is removed, because replay
 * would take it for its own. A directory that a tablespace of the backup has before keeps that one's files.
 */
async function emptyCreated({ layout, backup, owner }: PrepareOptions, mode: number): Promise<void> {
  const major = Number.parseInt(backup.pgVersion, 10);
  for (const [, directory] of layout.created) {
    await makeTopDirectory(directory, mode, owner);
    if (layout.tablespaces.some(([, other]) => other === directory)) continue;
    for (const name of await readdir(directory)) {
      if (new RegExp(`^PG_${major}_\\d+$`).test(name))
        await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

/** Removes what the backup does not have, and what is of another kind there: a link where a directory belongs. */
async function removeStrangers(options: PrepareOptions): Promise<number> {
  const { target, layout, index, signal } = options;
  let removed = 0;
  const clean = async (place: string, path: string): Promise<void> => {
    for (const entry of await readdir(fsPath(place), { withFileTypes: true, encoding: "buffer" })) {
      throwIfAborted(signal);
      const name = pathFromBytes(entry.name);
      const child = path === "" ? name : `${path}/${name}`;
      if (child === UNFINISHED_FILE) continue;
      const kind = entry.isDirectory()
        ? "directory"
        : entry.isSymbolicLink()
          ? "symlink"
          : entry.isFile()
            ? "file"
            : "";
      const known = index.byPath.get(child)?.type ?? (parents.has(child) ? "directory" : undefined);
      const wanted = child === WAL_FOLDER && layout.walDir !== undefined ? "symlink" : known;
      if (kind !== wanted) {
        await rm(fsPath(`${place}/${name}`), { recursive: true, force: true });
        removed++;
      } else if (kind === "directory") await clean(`${place}/${name}`, child);
    }
  };
  const parents = parentsOf(index);
  await clean(target.path, "");
  if (layout.walDir !== undefined) await clean(layout.walDir, WAL_FOLDER);
  for (const [oid, directory] of layout.tablespaces) {
    // Only the folders this cluster has in it: others may share the place (PG_<version> of another one).
    for (const name of topFolders(index, oid)) {
      const stats = await lstat(fsPath(`${directory}/${name}`)).catch(() => undefined);
      if (stats === undefined) continue;
      if (stats.isDirectory()) await clean(`${directory}/${name}`, `pg_tblspc/${oid}/${name}`);
      else await rm(fsPath(`${directory}/${name}`));
    }
  }
  return removed;
}

function parentsOf(index: BackupIndex): Set<string> {
  const parents = new Set<string>();
  for (const path of index.byPath.keys()) {
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
      const parent = path.slice(0, end);
      // Below a link there is nothing in the data directory itself.
      if (index.byPath.get(parent)?.type !== "symlink") parents.add(parent);
    }
  }
  return parents;
}

function topFolders(index: BackupIndex, oid: number): Set<string> {
  const prefix = `pg_tblspc/${oid}/`;
  const names = [...index.byPath.keys()].filter((path) => path.startsWith(prefix));
  return new Set(names.map((path) => path.slice(prefix.length).split("/")[0] ?? ""));
}

/** Compares every file with its checksum; those that are right get their mode and owner. */
async function findUnchanged({ layout, index, owner, crew, signal }: PrepareOptions): Promise<Set<string>> {
  const placed = new Layout(layout);
  const files = [...index.byPath.values()].filter((file) => isComparable(file));
  const same = await compareFiles(
    crew,
    files.map(({ path, size, checksum }) => ({ place: placed.place(path), size, checksum })),
  );
  const unchanged = new Set<string>();
  for (const [at, file] of files.entries()) {
    if (same[at] !== true) continue;
    throwIfAborted(signal);
    unchanged.add(file.path);
    await setModeAndOwner(fsPath(placed.place(file.path)), { mode: file.mode & 0o777, owner, isDirectory: false });
  }
  return unchanged;
}

function isComparable({ type, path, checksum }: BackupFile): boolean {
  return type === "file" && checksum !== undefined && path !== CONTROL_FILE;
}
