/** Gives conninfo.ts the real file system and process; tests give their own. */
import { readFileSync, statSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import type { ConninfoSources } from "./conninfo.ts";
import type { FileFacts } from "./passfile.ts";

/** Password and service files are small; anything larger is the wrong file. */
const FILE_BYTES_MAX = 4 << 20;

/** Facts and text of a file; undefined when it is missing, unreadable or unreasonably large, as libpq then goes on. */
export function readConninfoFile(path: string): FileFacts | undefined {
  try {
    const stat = statSync(path);
    if (!stat.isFile()) return { text: "", mode: stat.mode & 0o777, regular: false };
    if (stat.size > FILE_BYTES_MAX) return undefined;
    return { text: readFileSync(path, "utf8"), mode: stat.mode & 0o777, regular: true };
  } catch {
    return undefined;
  }
}

/** Everything parseConninfo wants to know of this process. */
export function processConninfoSources(
  dsn: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): ConninfoSources {
  return { dsn, env, files: readConninfoFile, osUser: currentUser(), homeDir: homedir() };
}

function currentUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    // A container's arbitrary uid has no name; then the user must be given.
    return undefined;
  }
}
