/** Looks whether the directory of a spool is there, and names the option when it is not. `receive` and `check` ask. */
import { stat } from "node:fs/promises";
import { errnoOf, SeawallError } from "../errors.ts";
import { waitFor } from "../store/signal.ts";

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
