/**
 * The `restore_command` that a restore writes: `bin/seawall-wal-fetch`, which answers from prefetched segments without
 * starting Node.js and turns every failure into an exit status that stops recovery. `restore_command = 'seawall wal-fetch
 * %f %p'` works as well, only slower.
 *
 * Source: PostgreSQL docs, restore_command.
 */
import { isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";
import { SeawallError } from "../errors.ts";
import { packageFile } from "../program-files.ts";

export interface RestoreCommandOptions {
  /**
   * Options of `wal-fetch`, one word each: `["--store", "file:///backup", "--cluster", "main"]`. They show in the process
   * list and in the server's configuration: no secrets. The server runs them in its data directory: absolute paths only.
   */
  readonly flags: readonly string[];
  /** Node.js; the one that runs us by default, because the server's PATH may have none. */
  readonly node?: string;
  /** `bin/seawall-wal-fetch`; the one beside us by default. */
  readonly script?: string;
}

/**
 * The protocol between the script and the program: the script sets the variable to the process ID of the recovering
 * server's startup process; the program then says "not there" by a status that neither sh nor Node.js gives by itself.
 */
export const SHELL_VARIABLE = "SEAWALL_RESTORE_SHELL";
export const NOT_THERE_TO_SHELL = 99;

const SCRIPT = fileURLToPath(packageFile("bin/seawall-wal-fetch"));

/**
 * The value of restore_command: a line for `sh`, every word quoted, PostgreSQL's placeholders in it. Throws `usage` for a
 * relative --config and for what no shell word can hold.
 */
export function restoreCommand(options: RestoreCommandOptions): string {
  const { flags, node = process.execPath, script = SCRIPT } = options;
  const config = flags.indexOf("--config");
  const path = config < 0 ? undefined : flags[config + 1];
  if (path !== undefined && !isAbsolute(path)) {
    throw new SeawallError("usage", `--config ${path} is relative, but the server runs in its data directory`, {
      hint: "Give the absolute path.",
    });
  }
  // exec: a shell in between that cannot fork would end with 2, which PostgreSQL takes for the end of the archive.
  return ["exec", quoted(script), "--node", quoted(node), '"%f"', '"%p"', ...flags.map(quoted)].join(" ");
}

/** One word for sh, with percent signs doubled for PostgreSQL. */
function quoted(word: string): string {
  if (/[\0\n]/.test(word)) throw new SeawallError("usage", "a restore_command cannot hold line breaks");
  return shellWord(word).replaceAll("%", "%%");
}

/** One word for sh. Words that need no quotes read better without. */
export function shellWord(word: string): string {
  return /^[A-Za-z0-9_./:@=+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
