/**
 * The command line as the server runs it: restore_command and archive_command are executed by the server's account, which
 * may enter neither our checkout nor the folder of our Node.js. Then it is given a copy.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { restoreCommand } from "../../src/restore/restore-command.ts";
import { isOpenToAll, serverAccount } from "./account.ts";
import { ROOT } from "./build.ts";
import { runKeys } from "./encryption.ts";
import { RUN_DIR } from "./run-services.ts";
import { makeTempDir, removeTree, staleTempDirs, unfinishedName } from "./temp.ts";

export interface ServerCommandOptions {
  /** Variables the command needs; the server's own environment is nearly empty. */
  readonly env?: Readonly<Record<string, string>>;
  /** Give a copy even when the checkout is open to all. */
  readonly copy?: boolean;
}

/** The restore_command that a restore writes, with these options of wal-fetch. */
export function serverRestoreCommand(flags: readonly string[], options: ServerCommandOptions = {}): string {
  const { node, main } = reachableCli(options.copy ?? false);
  const script = join(dirname(main), "..", "..", "bin", "seawall-wal-fetch");
  const env = { ...runKeys(), ...options.env };
  const assignments = Object.entries(env).map(([name, value]) => `export ${name}=${quoted(value)};`);
  return [...assignments, restoreCommand({ flags, node, script })].join(" ");
}

/**
 * A command line for postgresql.conf that runs Seawall with these arguments (`%f` and `%p` among them), under any account:
 * `settings: { restore_command: serverCommand(["wal-fetch", "%f", "%p", "--store", url], { env: s3.env }) }`.
 */
export function serverCommand(args: readonly string[], options: ServerCommandOptions = {}): string {
  const { node, main } = reachableCli(options.copy ?? false);
  const assignments = Object.entries({ ...runKeys(), ...options.env }).map(([name, value]) => `${name}=${value}`);
  const words = [...(assignments.length === 0 ? [] : ["env", ...assignments]), node, main, ...args];
  return words.map(quoted).join(" ");
}

/** Where a program is started that runs as the server's account: Node.js, and the command line. */
export function serverCli(): { readonly node: string; readonly main: string } {
  return reachableCli(false);
}

let copied: { node: string; main: string } | undefined;

function reachableCli(forceCopy: boolean): { node: string; main: string } {
  const here = { node: process.execPath, main: join(ROOT, "dist", "cli", "main.js") };
  const packages = join(ROOT, "node_modules");
  const reachable = () => [here.node, join(ROOT, "package.json"), packages].every(isOpenToAll);
  if (!forceCopy && (serverAccount() === undefined || reachable())) return here;
  copied ??= copyCli();
  return copied;
}

/** Node.js, dist and the packages it needs at run time, where all accounts may go. One copy serves all workers of a run. */
function copyCli(): { node: string; main: string } {
  const folder = copyOfRun() ?? copyOfProcess();
  return { node: join(folder, "node"), main: join(folder, "dist", "cli", "main.js") };
}

/** Lies in the folder of the run, and goes with it. Undefined without a run. */
function copyOfRun(): string | undefined {
  const run = process.env[RUN_DIR];
  if (run === undefined) return undefined;
  const folder = join(run, "cli");
  if (existsSync(folder)) return folder;
  // Made aside and renamed: another worker may be here at the same time.
  const aside = unfinishedName(folder);
  mkdirSync(aside, { mode: 0o755 });
  copyInto(aside);
  try {
    renameSync(aside, folder);
  } catch (error) {
    removeTree(aside);
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

/** Removed when this process ends. */
function copyOfProcess(): string {
  for (const folder of staleTempDirs("cli")) removeTree(folder);
  const folder = makeTempDir("cli");
  process.once("exit", () => removeTree(folder));
  copyInto(folder);
  return folder;
}

function copyInto(folder: string): void {
  copyFileSync(process.execPath, join(folder, "node"));
  // Thousands of small files: a pipe of two tars copies them several times faster than we could.
  const pipe = 'to="$1"; shift; tar cf - "$@" | tar xf - -C "$to"';
  execFileSync("sh", ["-c", pipe, "sh", folder, "package.json", "bin", "dist", ...runtimePackages()], { cwd: ROOT });
  // Whatever the umask was when all this was installed.
  execFileSync("chmod", ["-R", "a+rX", folder]);
}

/** From the lock file: everything that is not for development only and is installed on this machine. */
function runtimePackages(): string[] {
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  return Object.entries(lock.packages)
    .filter(([path, { dev }]) => path !== "" && dev !== true && existsSync(join(ROOT, path)))
    .map(([path]) => path);
}

/** PostgreSQL replaces %f and %p before the shell sees them; a percent sign of our own is written twice. */
function quoted(word: string): string {
  const percents = /^%[fprw]$/.test(word) ? word : word.replaceAll("%", "%%");
  return `'${percents.replaceAll("'", `'\\''`)}'`;
}
