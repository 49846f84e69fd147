/** Programs in a mount namespace of their own, where they may mount what they like. Takes root, or user namespaces. */
import { execFileSync, spawnSync } from "node:child_process";

export function canMount(): boolean {
  const [command = "", ...flags] = namespace();
  const probe = spawnSync(command, [...flags, "sh", "-c", "mount -t tmpfs -o size=4m tmpfs /mnt"]);
  return probe.status === 0;
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

function namespace(): string[] {
  return process.getuid?.() === 0 ? ["unshare", "-m"] : ["unshare", "-Urm"];
}
