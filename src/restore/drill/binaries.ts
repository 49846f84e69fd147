/** Finds the PostgreSQL that a drill starts: where packages put it, of the backup's major version. */
import { execFile } from "node:child_process";
import { access, constants, realpath } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { SeawallError } from "../../errors.ts";

const run = promisify(execFile);
const VERSION_MS_MAX = 10_000;

export interface DrillBinaries {
  readonly directory: string;
  readonly postgres: string;
}

/**
 * Looks in `asked` only, when it is given; otherwise along PATH, then where Debian's and PGDG's packages install, and prefers
 * an installation that has pg_amcheck.
 * Throws `usage` when there is no server of that major version.
 */
export async function findBinaries(
  major: number,
  asked: string | undefined,
  path: string | undefined,
): Promise<DrillBinaries> {
  const usual = [`/usr/lib/postgresql/${major}/bin`, `/usr/pgsql-${major}/bin`, `/usr/libexec/postgresql${major}`];
  const places = asked === undefined ? [...(path ?? "").split(delimiter), ...usual] : [asked];
  const others: string[] = [];
  const fitting: DrillBinaries[] = [];
  for (const place of places.filter((one) => one !== "")) {
    // Where a link leads the other programs are, too.
    const directory = dirname(await realpath(join(place, "postgres")).catch(() => join(place, "postgres")));
    const version = await versionOf(directory);
    if (version === undefined) continue;
    const postgres = join(directory, "postgres");
    if (Number.parseInt(version, 10) === major) fitting.push({ directory, postgres });
    else others.push(`${version} in ${directory}`);
  }
  const tools = await Promise.all(fitting.map((binaries) => findTool(binaries, "pg_amcheck")));
  // A whole installation before a bare server.
  const best = fitting.find((_, index) => tools[index] !== undefined) ?? fitting[0];
  if (best !== undefined) return best;
  const found = others.length === 0 ? "found none" : `found ${others.join(", ")}`;
  throw new SeawallError("usage", `a drill of this backup needs PostgreSQL ${major}; ${found}`, {
    hint: `Install PostgreSQL ${major} here, or name the directory of its programs with --pg-bin.`,
  });
}

/** A program in that directory; undefined when it is absent. */
export async function findTool(binaries: DrillBinaries, name: string): Promise<string | undefined> {
  const path = join(binaries.directory, name);
  try {
    await access(path, constants.X_OK);
    return path;
  } catch {
    return undefined;
  }
}

/** The version of the first PostgreSQL server program along PATH; undefined where there is none. */
export async function versionOnPath(path: string | undefined): Promise<string | undefined> {
  for (const place of (path ?? "").split(delimiter)) {
    const version = place === "" ? undefined : await versionOf(place);
    if (version !== undefined) return version;
  }
  return undefined;
}

/** `postgres (PostgreSQL) 17.2 (Debian 17.2-1)` */
async function versionOf(directory: string): Promise<string | undefined> {
  const program = join(directory, "postgres");
  try {
    // A look is cheaper than a child that finds nothing to run.
    await access(program, constants.X_OK);
    const { stdout } = await run(program, ["--version"], { timeout: VERSION_MS_MAX });
    return /PostgreSQL\) (\d+\S*)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}
