/**
 * Makes files in a directory whose owner may be another account. That account may put a link in place of any name at
 * any moment. Root must neither write through the link nor give its target away. So every file is a new one, and its
 * mode and owner are set through its handle.
 */
import { constants } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import type { Owner } from "./part-writer.ts";

/** Removes what stands there, makes the file anew, lets `fill` write it, and resolves when its content is durable. */
export async function writeNewFile(
  path: string,
  owner: Owner | undefined,
  fill: (file: FileHandle) => Promise<void>,
): Promise<void> {
  await rm(path, { force: true });
  // O_CREAT with O_EXCL fails on a link.
  const file = await open(path, "wx", 0o600);
  try {
    await fill(file);
    if (owner !== undefined) await file.chown(owner.uid, owner.gid);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Gives a file or directory that exists its mode and owner; rejects with ELOOP or ENOTDIR when a link stands there. */
export async function setModeAndOwner(
  path: string | Buffer,
  wanted: { readonly mode: number; readonly owner: Owner | undefined; readonly isDirectory: boolean },
): Promise<void> {
  const { mode, owner, isDirectory } = wanted;
  const kind = isDirectory ? constants.O_DIRECTORY : constants.O_NONBLOCK;
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | kind);
  try {
    const stats = await handle.stat();
    if ((stats.mode & 0o7777) !== mode) await handle.chmod(mode);
    if (owner !== undefined && (stats.uid !== owner.uid || stats.gid !== owner.gid)) {
      await handle.chown(owner.uid, owner.gid);
    }
  } finally {
    await handle.close();
  }
}

/** Makes a file's content durable, or a directory's names. */
export async function syncPath(path: string | Buffer): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
