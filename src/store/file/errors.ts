/** Translates errors of the operating system into the store's codes, with what to do about them. */
import type { ErrorCode } from "../../error-kinds.ts";
import { errnoOf, SeawallError } from "../../errors.ts";

/** Nothing is there under that path. */
export function isGone(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}

interface Meaning {
  readonly code: ErrorCode;
  readonly hint?: string;
}

const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: { code: "store-full" },
  EDQUOT: { code: "store-full", hint: "The disk quota is used up: raise it or free space." },
  EACCES: {
    code: "store-denied",
    hint: "Give the account that runs Seawall read, write and search permission there. After a run of another account: chown -R.",
  },
  EPERM: {
    code: "store-denied",
    hint: "The directory is immutable or belongs to another account: check lsattr and its owner.",
  },
  EROFS: { code: "store-denied", hint: "The file system is mounted read-only: look in the kernel log for the reason." },
  EXDEV: { code: "store-unsupported", hint: "The store must lie in one file system: nothing below it may be a mount." },
  EOPNOTSUPP: {
    code: "store-unsupported",
    hint: "The file system lacks hard links, which create an object only if absent.",
  },
  ENOSYS: {
    code: "store-unsupported",
    hint: "The file system lacks hard links, which create an object only if absent.",
  },
  ENOTDIR: { code: "store-unsupported", hint: "A file stands where the store needs a directory." },
  EISDIR: { code: "store-unsupported", hint: "A directory stands where the store needs a file." },
  ENAMETOOLONG: { code: "store-unsupported", hint: "Choose a shorter path for the store or a shorter --cluster." },
};

/** Errors of fsync(2) for a directory on CIFS and FUSE file systems that cannot do it. */
const CANNOT_SYNC: readonly string[] = ["EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTSUP"];
const NO_SYNC: Meaning = {
  code: "store-unsupported",
  hint:
    "The file system cannot make the names in a directory durable (fsync of a directory), as CIFS and some FUSE file systems: " +
    "a crash could take away what was acknowledged. Use a local file system, NFS, or S3.",
};

/**
 * `what` is a phrase such as `put wal/x`; `where` the store's description. An ENOENT that reaches this place was not
 * "no such object" but "no such store": callers handle the former themselves.
 */
export function fileError(error: unknown, what: string, where: string): SeawallError {
  if (error instanceof SeawallError) return error;
  const errno = errnoOf(error);
  const message = `${what}: ${errno ?? "failed"} in ${where}`;
  const details = errno === undefined ? {} : { errno };
  if (errno === "ENOENT") {
    return new SeawallError("store-missing", `${what}: there is no directory ${where}`, {
      cause: error,
      details,
      hint: "Create the directory first, or mount the file system it lies in: Seawall never creates the store's root.",
    });
  }
  const meaning = meaningOf(errno ?? "", error instanceof Error && "syscall" in error ? error.syscall : undefined);
  if (meaning === undefined) {
    // EIO, ESTALE, ETIMEDOUT, EMFILE and whatever else a disk or a network file system comes up with: may pass.
    return new SeawallError("store-unavailable", message, {
      cause: error,
      details,
      hint: "Look in the kernel log for faults of the disk or the network file system.",
    });
  }
  const { code, hint } = meaning;
  return new SeawallError(code, message, { cause: error, details, hint });
}

function meaningOf(errno: string, syscall: unknown): Meaning | undefined {
  // link(2): EPERM when the file system has no hard links, unlike every other call's EPERM.
  if (syscall === "link" && errno === "EPERM") return MEANINGS["EOPNOTSUPP"];
  if ((syscall === "fsync" || syscall === "fdatasync") && CANNOT_SYNC.includes(errno)) return NO_SYNC;
  return MEANINGS[errno];
}
