/** The command line of the probe. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { ProbeOptions } from "./probe.ts";

/** The harness cannot do without them. */
const PROGRAMS = ["initdb", "postgres", "pg_ctl"];

/** Throws with one line for the reader. */
export function parseOptions(args: string[]): ProbeOptions {
  const { values } = parseArgs({ args, options: { bin: { type: "string" }, version: { type: "string" } } });
  const { bin, version } = values;
  if (bin === undefined) throw new Error("--bin is missing: it names the folder of the server's programs");
  if (version !== undefined && !/^[1-9]\d{1,2}$/.test(version)) {
    throw new Error(`--version ${version} is no major version, such as 19`);
  }
  for (const program of PROGRAMS) {
    try {
      accessSync(join(bin, program), constants.X_OK);
    } catch {
      throw new Error(`--bin ${bin} has no program ${program}`);
    }
  }
  return { binDir: bin, major: version === undefined ? undefined : Number(version) };
}
