/**
 * Programs in a mount namespace of their own, where they may mount what they like, or in a PID namespace of their own. Takes
 * root, or user namespaces.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "./build.ts";
import { runKeys } from "./encryption.ts";
import { plainEnvironment } from "./process.ts";

const MAIN = join(ROOT, "dist", "cli", "main.js");

export function canMount(): boolean {
  const [command = "", ...flags] = namespace();
  const probe = spawnSync(command, [...flags, "sh", "-c", "mount -t tmpfs -o size=4m tmpfs /mnt"]);
  return probe.status === 0;
}

/** Whether a process may have files and a network of its own. */
export function canIsolate(): boolean {
  const [command = "", ...flags] = namespace();
  return spawnSync(command, [...flags, "--net", "--ipc", "mount", "-t", "tmpfs", "none", "/sys"]).status === 0;
}

/** Runs a module with a file system of 4 MiB mounted on `root`, for that process alone; gives what it print()s, once. */
export function inOwnMount(root: string, program: string): unknown {
  const mount = `mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"`;
  return runProgram([...namespace(), "sh", "-c", mount, root, process.execPath], program);
}

export function runProgram(command: readonly string[], program: string): unknown {
  const [file = "", ...flags] = command;
  const source = `const print = (value) => process.stdout.write(JSON.stringify(value));\n${program}`;
  return JSON.parse(
    execFileSync(file, [...flags, "--input-type=module", "-e", source], { encoding: "utf8" }),
  ) as unknown;
}

/** Runs the built command line with the directory `source` mounted on `alias` too, for that process alone. */
export function cliWithBind(
  { source, alias }: { readonly source: string; readonly alias: string },
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Ended {
  const mount = 'mount --bind "$0" "$1" && shift && exec "$@"';
  return cliBehind([...namespace(), "sh", "-c", mount, source, alias], args, env);
}

/** Runs the built command line as the first process of a PID namespace of its own, as in a container. */
export function cliInOwnPids(args: readonly string[], env: Readonly<Record<string, string>> = {}): Ended {
  return cliBehind([...namespace(), "--pid", "--fork", "--mount-proc"], args, env);
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function cliBehind(
  [command = "", ...before]: readonly string[],
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Ended {
  const { status, stdout, stderr } = spawnSync(command, [...before, process.execPath, MAIN, ...args], {
    env: { ...plainEnvironment(), ...runKeys(), ...env },
    encoding: "utf8",
    timeout: 120_000,
  });
  return { code: status, stdout, stderr };
}

function namespace(): string[] {
  return process.getuid?.() === 0 ? ["unshare", "-m"] : ["unshare", "-Urm"];
}
