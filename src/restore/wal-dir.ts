/**
 * `--waldir`: a directory of its own for pg_wal, to which the data directory gets a link, as initdb and pg_basebackup make it.
 * Looks at it before the restore begins, and makes the link.
 */
import { rm, symlink } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";
import { SeawallError } from "../errors.ts";
import { type LayoutFacts, WAL_FOLDER } from "./layout.ts";
import { linkedDir, otherServerUsing } from "./other-servers.ts";
import { shellWord } from "./restore-command.ts";
import type { TablespacePlaces } from "./tablespace-places.ts";
import { entriesOf, isInside, occupied, realpathOrSelf, refuseTopFolder, type TargetDir } from "./target-dir.ts";

/**
 * Returns the directory for WAL, links resolved; undefined when pg_wal is to be a directory. Throws `usage`, `target-occupied`.
 * Changes nothing.
 */
export async function inspectWalDir(target: TargetDir, given: string | undefined): Promise<string | undefined> {
  const linked = target.isEmpty ? undefined : await linkedDir(target.path, WAL_FOLDER);
  const link = join(target.path, WAL_FOLDER);
  if (given === undefined) {
    if (linked === undefined) return undefined;
    throw occupied(
      `${link} is a link to ${linked}, and without --waldir a restore would put a directory in its place`,
      `To keep the link, give --waldir ${shellWord(linked)}. For a directory, remove the link.`,
    );
  }
  const walDir = await placeOf(given, target.path);
  if (linked !== undefined && linked !== walDir) {
    throw occupied(
      `${link} is a link to ${linked}, and --waldir names ${walDir}`,
      `Give --waldir ${shellWord(linked)}, or remove the link.`,
    );
  }
  const entries = await entriesOf(walDir);
  // The directory is in use by this data directory, or by the unfinished restore that found it empty.
  const isOurs = !target.isEmpty && (linked === walDir || target.marker?.walDir === walDir);
  if (entries.length === 0) return walDir;
  if (isOurs) {
    await refuseOtherServer(walDir, target.path);
    return walDir;
  }
  refuseTopFolder(walDir, entries, `--waldir ${shellWord(join(walDir, WAL_FOLDER))}`);
  throw occupied(`the directory for WAL, ${walDir}, is not empty`, "Choose an empty directory for --waldir.");
}

/** A copied data directory still has the link of its original, so the WAL behind it may be that of a running server. */
async function refuseOtherServer(walDir: string, targetDir: string): Promise<void> {
  const other = await otherServerUsing(walDir, targetDir);
  if (other === undefined) return;
  throw occupied(
    `${walDir} holds the WAL of another data directory, ${other.dataDir}, in which process ${other.pid} runs`,
    `Remove the link ${join(targetDir, WAL_FOLDER)}, and give --waldir an empty directory.`,
  );
}

async function placeOf(given: string, targetDir: string): Promise<string> {
  if (!isAbsolute(given)) {
    throw new SeawallError("usage", `--waldir: "${given}" is not an absolute path`, {
      hint: "Write the path from the root on, such as /wal/main.",
    });
  }
  const walDir = await realpathOrSelf(resolve(given));
  if (!isInside(walDir, targetDir) && !isInside(targetDir, walDir)) return walDir;
  throw new SeawallError("usage", `--waldir: ${walDir} and the target directory ${targetDir} lie in one another`, {
    hint: "Choose a directory for WAL outside of the target directory.",
  });
}

/** Throws `usage` for a directory for WAL that shares its place with a tablespace. */
export function refuseSharedWalDir(walDir: string | undefined, { restored, created }: TablespacePlaces): void {
  if (walDir === undefined) return;
  for (const [oid, directory] of [...restored, ...created]) {
    if (!isInside(walDir, directory) && !isInside(directory, walDir)) continue;
    throw new SeawallError("usage", `--waldir: ${walDir} and ${directory}, of tablespace ${oid}, lie in one another`, {
      hint: "Give each of them a directory of its own.",
    });
  }
}

/**
 * Puts the link in the place of whatever else stands there. A link that leads to the directory already stays as it is. The link
 * belongs to root when root restores (finish.ts, linkTablespaces).
 */
export async function linkWalDir({ targetDir, walDir }: LayoutFacts): Promise<void> {
  if (walDir === undefined || (await linkedDir(targetDir, WAL_FOLDER)) === walDir) return;
  const link = join(targetDir, WAL_FOLDER);
  await rm(link, { recursive: true, force: true });
  await symlink(walDir, link);
}
