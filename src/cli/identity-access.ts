/** Warns of identity files that other accounts can read, as ssh does for its keys. */
import { stat } from "node:fs/promises";
import type { Log } from "../log.ts";

/** Read permission of the file's group and of all others. */
const OTHERS_READ = 0o044;

/** `identity`: the option's value, a file a line. A file that cannot be looked at is left to the command, which reads it. */
export async function warnOfOpenIdentities(identity: string, log: Log): Promise<void> {
  for (const file of new Set(identity.split("\n").map((line) => line.trim()))) {
    const facts = file === "" ? undefined : await stat(file).catch(() => undefined);
    if (facts === undefined || !facts.isFile() || (facts.mode & OTHERS_READ) === 0) continue;
    const mode = (facts.mode & 0o777).toString(8).padStart(4, "0");
    log.warn("other accounts can read this identity, and open the archive with it: set its mode to 0600", {
      file,
      mode,
    });
  }
}
