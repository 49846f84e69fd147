/** Looks at the directory of a spool: whether it is there, what it holds, how much room its disk has. `receive` and `check` ask. */
import { lstat, readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, SeawallError } from "../errors.ts";
import { waitFor } from "../store/signal.ts";
import type { DiskSpace } from "./spool-room.ts";

/** A disk that answers nothing for so long hangs. */
const ANSWER_MS_MAX = 10_000;

/** Changes nothing. Throws `store-missing`. Every other trouble with the directory is left to the spool's own store. */
export async function refuseMissingSpool(path: string, signals: readonly AbortSignal[]): Promise<void> {
  const trouble = await waitFor(troubleWith(path), {
    signals,
    timeoutMs: ANSWER_MS_MAX,
    late: () => hung(path),
  });
  if (trouble === undefined) return;
  throw new SeawallError("store-missing", `--spool-dir: ${path} ${trouble}`, {
    hint: "Create the directory on a disk that survives a restart of this machine, or mount that disk. Seawall never creates it.",
  });
}

async function troubleWith(path: string): Promise<string | undefined> {
  try {
    return (await stat(path)).isDirectory() ? undefined : "is not a directory";
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT") return "does not exist";
    return code === "ENOTDIR" ? "is not a directory" : undefined;
  }
}

function hung(path: string): SeawallError {
  return new SeawallError("store-unavailable", `--spool-dir: ${path} does not answer`, {
    hint: "Look in the kernel log for faults of the disk or the network file system.",
  });
}

/** Asks the file system of a directory. */
export async function diskSpaceOf(directory: string): Promise<DiskSpace> {
  const { bsize, blocks, bavail } = await statfs(directory);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
}

/** Size of all files below a directory. A file that vanishes meanwhile counts as nothing. */
export async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async ({ parentPath, name }) =>
      lstat(join(parentPath, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
