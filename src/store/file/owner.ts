/**
 * Gives what root makes in a store to the account that the store's directory belongs to. A check or a backup by root would
 * otherwise leave directories that the service cannot write afterwards.
 */
import { close, constants, fchown, fstat, open, type Stats } from "node:fs";
import { promisify } from "node:util";
import { errnoOf } from "../../errors.ts";

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** File systems without owners, and a root without this right: files belong to whom they belong. */
const CANNOT_GIVE: readonly string[] = ["EPERM", "EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTSUP"];
const ROOT = 0;

const fs = {
  open: promisify(open),
  close: promisify(close),
  fchown: promisify(fchown),
  fstat: promisify(fstat) as (fd: number) => Promise<Stats>,
};

/** The owner that new files get; undefined when they belong to this process's account. */
export function ownerToKeep({ uid, gid }: Owner): Owner | undefined {
  return process.geteuid?.() === ROOT && uid !== ROOT ? { uid, gid } : undefined;
}

export async function giveFile(fd: number, owner: Owner | undefined): Promise<void> {
  if (owner === undefined) return;
  try {
    await fs.fchown(fd, owner.uid, owner.gid);
  } catch (error) {
    if (!CANNOT_GIVE.includes(errnoOf(error) ?? "")) throw error;
  }
}

/**
 * Gives a directory that this process has just made. The owner of the store can put another one in its place meanwhile, so only
 * a directory of root without directories in it is given, and no link is followed.
 */
export async function giveFolder(path: string, owner: Owner | undefined): Promise<void> {
  if (owner === undefined) return;
  const fd = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const { uid, nlink } = await fs.fstat(fd);
    if (uid === ROOT && nlink <= 2) await giveFile(fd, owner);
  } finally {
    await fs.close(fd);
  }
}
