/**
 * The root of a directory store: which directory it is, and whether its path still leads there.
 *
 * After `umount -l`, a rename, a retargeted link or a mount over it, the path of a store leads to another directory, often an
 * empty and writable one. What is written there is hidden by the next mount, so it is not stored. Therefore every operation
 * begins and ends with a stat(2) of the path: it must give the device and the inode of the directory that was opened first. The
 * open handle keeps both numbers from being given to another directory, which ext4 does at once and an anonymous device after
 * an unmount.
 *
 * The numbers may change for the same store: NFS and a mount after an unmount give another device. A marker file in the root
 * tells: the directory that carries the marker of the first one, and the newest object stored by this process, is the store
 * come back. Any other directory is refused until the right one is back. The marker is remembered as long as the process
 * lives, because a store that is opened anew, after a failure, must not begin in the bare mount point.
 */
import {
  type BigIntStats,
  close,
  constants,
  fdatasync,
  fstat,
  fsync,
  link,
  open,
  read,
  stat,
  unlink,
  write,
} from "node:fs";
import { opendir, readFile, realpath } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { errnoOf, SeawallError } from "../../errors.ts";
import { isGone } from "./errors.ts";
import { infoOf } from "./list.ts";
import { unmountedAbove } from "./mount-table.ts";
import { giveFile, type Owner, ownerToKeep } from "./owner.ts";

/** Not a key part, so no key can reach it. */
const MARKER = "~store";
/** A marker is some 60 bytes; a longer file is compared by its beginning. */
const MARKER_BYTES_MAX = 1024;
/** PostgreSQL's own default for what holds WAL: pg_file_create_mode. */
const FILE_MODE = 0o600;

/** A stat(2) that takes longer may hang in a dead mount: it is no longer waited for. */
const LOOK_MS_MAX = 1_000;

const fs = {
  open: promisify(open),
  read: promisify(read),
  write: promisify(write),
  close: promisify(close),
  link: promisify(link),
  unlink: promisify(unlink),
  fsync: promisify(fsync),
  fdatasync: promisify(fdatasync),
  stat: promisify<string, { readonly bigint: true }, BigIntStats>(stat),
  fstat: promisify<number, { readonly bigint: true }, BigIntStats>(fstat),
};

/** The markers of the roots that this process has used, by path: as many as there are stores in its configuration. */
const markersSeen = new Map<string, string>();

/** The directory that an operation began in. */
export interface HeldRoot {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly fd: number;
  /** Undefined while the root has no marker that this process can read. */
  marker: string | undefined;
  /** It held nothing when it was opened: a new store, or a bare mount point. */
  readonly isBare: boolean;
  /** Owner of what is made below it; undefined when that is this process's account. */
  readonly owner: Owner | undefined;
}

interface Looks {
  /** The stat(2) that began last; it may have ended. */
  readonly last: { readonly begunMs: number; readonly done: Promise<BigIntStats> } | undefined;
  /** The one that begins when that has ended. */
  readonly waiting: Promise<BigIntStats> | undefined;
}

export class StoreRoot {
  readonly #path: string;
  readonly #onReturn: () => void;
  #held: Promise<HeldRoot> | undefined;
  #returning: Promise<HeldRoot> | undefined;
  #looks: Looks = { last: undefined, waiting: undefined };
  #newest: { readonly key: string; readonly bytes: number } | undefined;

  /** `onReturn` is called when the same store is found in another directory: what was known of the old one is void. */
  constructor(path: string, onReturn: () => void) {
    this.#path = path;
    this.#onReturn = onReturn;
  }

  /** Begins an operation. Rejects with `store-away`, `store-missing`, or the system's own error. */
  async enter(): Promise<HeldRoot> {
    if (this.#held === undefined) {
      const taking = this.#take();
      this.#held = taking;
      taking.catch(() => (this.#held = undefined));
      return taking;
    }
    const held = await this.#held;
    if (await this.#leadsTo(held)) return held;
    this.#returning ??= this.#returned(held).finally(() => (this.#returning = undefined));
    return this.#returning;
  }

  /** Ends an operation, or a step of it: rejects with `store-away` when the path does not lead to `held` any more. */
  async confirm(held: HeldRoot): Promise<void> {
    if (!(await this.#leadsTo(held))) throw this.#away("another directory took its place during the operation");
  }

  /** Makes the root recognisable. `temporary` is a path in the root's file system; idempotent. */
  async mark(held: HeldRoot, temporary: string): Promise<void> {
    if (held.marker !== undefined) return;
    const fd = await fs.open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, FILE_MODE);
    try {
      await fs.write(fd, `${JSON.stringify({ version: 1, id: randomUUID() })}\n`);
      await giveFile(fd, held.owner);
      await fs.fdatasync(fd);
      await fs.link(temporary, `${this.#path}/${MARKER}`).catch((error: unknown) => {
        // Another process was faster, and its marker counts; or the root belongs to another account and is left unmarked.
        if (!["EEXIST", "EACCES", "EPERM"].includes(errnoOf(error) ?? "")) throw error;
      });
      await fs.fsync(held.fd);
    } finally {
      await Promise.allSettled([fs.close(fd), fs.unlink(temporary)]);
    }
    const marker = await readMarker(this.#path);
    await this.confirm(held);
    this.#remember(held, marker);
  }

  /** An object is durable: the store that comes back must have it. */
  stored(key: string, bytes: number): void {
    this.#newest = { key, bytes };
  }

  /** An object has another size: its beginning was replaced. */
  resized(key: string, bytes: number): void {
    if (this.#newest?.key === key) this.#newest = { key, bytes };
  }

  deleted(key: string): void {
    if (this.#newest?.key === key) this.#newest = undefined;
  }

  async close(): Promise<void> {
    const held = await this.#held?.catch(() => undefined);
    this.#held = undefined;
    if (held !== undefined) await fs.close(held.fd);
  }

  async #leadsTo(held: HeldRoot): Promise<boolean> {
    try {
      const { dev, ino } = await this.#look();
      return dev === held.dev && ino === held.ino;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    }
  }

  /**
   * Where the path leads now, by a stat(2) that begins after this call. Operations that come while one is under way share the
   * next: a verification of many small objects spent a third of its time in these calls.
   */
  #look(): Promise<BigIntStats> {
    const { waiting, last } = this.#looks;
    const begin = (): Promise<BigIntStats> => {
      const done = fs.stat(this.#path, { bigint: true });
      this.#looks = { last: { begunMs: performance.now(), done }, waiting: undefined };
      return done;
    };
    if (last === undefined || performance.now() - last.begunMs > LOOK_MS_MAX) return begin();
    if (waiting !== undefined) return waiting;
    const next = last.done.then(begin, begin);
    this.#looks = { last, waiting: next };
    return next;
  }

  /** The first time: whichever directory is there, unless this process has seen the store with another marker. */
  async #take(): Promise<HeldRoot> {
    const seen = markersSeen.get(this.#path);
    let held: HeldRoot;
    try {
      held = await openRoot(this.#path);
    } catch (error) {
      if (seen !== undefined && errnoOf(error) === "ENOENT") throw this.#away("it is gone");
      throw error;
    }
    try {
      await refuseUnmounted(this.#path);
      if (seen !== undefined && held.marker !== seen) throw this.#away(differenceOf(held));
    } catch (error) {
      await fs.close(held.fd);
      throw error;
    }
    this.#remember(held, held.marker);
    return held;
  }

  /** The path leads elsewhere: to the same store come back, or to something else. */
  async #returned(old: HeldRoot): Promise<HeldRoot> {
    let next: HeldRoot;
    try {
      next = await openRoot(this.#path);
    } catch (error) {
      throw isGone(error) ? this.#away("it is gone") : error;
    }
    try {
      // Nothing is lost by leaving a bare root: whatever is mounted there since is the store.
      const isLeft = old.isBare && old.marker === undefined;
      if (!isLeft && (old.marker === undefined || next.marker !== old.marker)) throw this.#away(differenceOf(next));
      const newest = this.#newest;
      if (newest !== undefined && (await infoOf(this.#path, newest.key))?.bytes !== newest.bytes) {
        throw this.#away(`an older copy, which lacks ${newest.key}, took its place`);
      }
      await this.confirm(next);
    } catch (error) {
      await fs.close(next.fd);
      throw error;
    }
    this.#held = Promise.resolve(next);
    this.#remember(next, next.marker);
    this.#onReturn();
    await fs.close(old.fd);
    return next;
  }

  #remember(held: HeldRoot, marker: string | undefined): void {
    held.marker = marker;
    if (marker !== undefined) markersSeen.set(this.#path, marker);
  }

  #away(what: string): SeawallError {
    return new SeawallError("store-away", `the directory ${this.#path} is not the one that held the store: ${what}`);
  }
}

function differenceOf({ marker }: HeldRoot): string {
  return marker === undefined
    ? `a directory without the marker ${MARKER} took its place`
    : `a directory with another marker in ${MARKER} took its place`;
}

async function openRoot(path: string): Promise<HeldRoot> {
  const fd = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const { dev, ino, uid, gid } = await fs.fstat(fd, { bigint: true });
    const marker = await readMarker(path);
    const owner = ownerToKeep({ uid: Number(uid), gid: Number(gid) });
    return { dev, ino, fd, marker, isBare: marker === undefined && (await isBare(path)), owner };
  } catch (error) {
    await fs.close(fd);
    throw error;
  }
}

/** Empty but for what mkfs leaves in the root of a file system. */
async function isBare(root: string): Promise<boolean> {
  for await (const { name } of await opendir(root)) if (name !== "lost+found") return false;
  return true;
}

/** The marker's text; undefined when there is none, or none that this account may read. */
async function readMarker(root: string): Promise<string | undefined> {
  let fd: number;
  try {
    fd = await fs.open(`${root}/${MARKER}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (isGone(error) || errnoOf(error) === "EACCES" || errnoOf(error) === "ELOOP") return undefined;
    throw error;
  }
  try {
    if (!(await fs.fstat(fd, { bigint: true })).isFile()) return undefined;
    const { bytesRead, buffer } = await fs.read(fd, Buffer.alloc(MARKER_BYTES_MAX), 0, MARKER_BYTES_MAX, 0);
    const text = buffer.toString("latin1", 0, bytesRead).trim();
    return text === "" ? undefined : text;
  } finally {
    await fs.close(fd);
  }
}

/** A bare mount point is no store: fstab says where one should be mounted. Looked at once, when the root is first used. */
async function refuseUnmounted(path: string): Promise<void> {
  const [fstab, mountinfo] = await Promise.all(
    ["/etc/fstab", "/proc/self/mountinfo"].map((file) => readFile(file, "utf8").catch(() => undefined)),
  );
  if (fstab === undefined || mountinfo === undefined) return;
  const [point] = unmountedAbove(await realpath(path), { fstab, mountinfo });
  if (point === undefined) return;
  throw new SeawallError("store-missing", `nothing is mounted on ${point}, which holds the store's directory ${path}`, {
    hint: `/etc/fstab names ${point} as a mount point: mount it, or remove its line there.`,
  });
}
