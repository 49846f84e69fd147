/**
 * Finds the files that a PostgreSQL needs to run: its programs, modules and shared files, the libraries and the loader, and
 * where links among them lead. A drill's namespaces show these wherever they are installed, and nothing beside them: a data
 * directory often lies next to the programs.
 *
 * Source: man ld.so(8), LD_TRACE_LOADED_OBJECTS; PostgreSQL docs, pg_config.
 */
import { execFile } from "node:child_process";
import { readdir, readlink, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { isAbort } from "../../errors.ts";
import { isInside } from "../target-dir.ts";
import { type DrillBinaries, findTool } from "./binaries.ts";

const run = promisify(execFile);
const PROGRAM_MS_MAX = 20_000;
/** An installation of 17 has 2,500 files, most of them time zones. */
const ENTRIES_MAX = 50_000;
/** The kernel limits one variable to 128 KiB. */
const PRELOAD_BYTES_MAX = 100_000;

export interface PlacesOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** The files and folders by the paths that programs use; none of them lies in another. Throws `aborted`. */
export async function findProgramPlaces(binaries: DrillBinaries, options: PlacesOptions): Promise<string[]> {
  const folders = await existing([binaries.directory, ...(await sharedFolders(binaries, options))]);
  const { modules, linked } = await lookThrough(folders);
  return outermost([...folders, ...linked, ...(await librariesOf(binaries, modules, options))]);
}

/** Removes paths that are there twice or lie in another one. */
export function outermost(paths: readonly string[]): string[] {
  const unique = [...new Set(paths)];
  return unique.filter((path) => !unique.some((other) => other !== path && isInside(path, other)));
}

/** The folders of modules and shared files. Without pg_config: where builds put them, beside the programs. */
async function sharedFolders(binaries: DrillBinaries, options: PlacesOptions): Promise<string[]> {
  const { directory } = binaries;
  const beside = ["lib", "lib64", "share"].map((name) => join(directory, "..", name));
  const pgConfig = await findTool(binaries, "pg_config");
  if (pgConfig !== undefined) {
    const said = await outputOf(pgConfig, ["--pkglibdir", "--sharedir"], options);
    const told = said.split("\n").filter((line) => line.startsWith("/"));
    if (told.length > 0) return [...told, ...beside];
  }
  // Debian: usr/lib/postgresql/17/bin and usr/share/postgresql/17.
  const version = dirname(directory);
  const share = join(version, "../../../share/postgresql", basename(version));
  return version.endsWith(join("lib", "postgresql", basename(version))) ? [...beside, share] : beside;
}

async function existing(folders: readonly string[]): Promise<string[]> {
  const there = await Promise.all(
    folders.map(async (path) => (await stat(path).catch(() => undefined))?.isDirectory()),
  );
  return [...new Set(folders.filter((_, index) => there[index] === true))];
}

/** The modules in these folders, and the targets of links there, links in those targets followed too. */
async function lookThrough(folders: readonly string[]): Promise<{ modules: string[]; linked: string[] }> {
  const modules: string[] = [];
  const linked: string[] = [];
  const ahead = [...folders];
  let entries = 0;
  for (let folder = ahead.shift(); folder !== undefined && entries < ENTRIES_MAX; folder = ahead.shift()) {
    // A target that is a file, or one that the account may not read.
    for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
      entries += 1;
      const path = join(folder, entry.name);
      if (entry.name.endsWith(".so")) modules.push(path);
      if (entry.isDirectory()) ahead.push(path);
      if (!entry.isSymbolicLink()) continue;
      const target = resolve(folder, await readlink(path).catch(() => entry.name));
      const known = [...folders, ...linked];
      // A link to a folder above shows what lies beside the installation, such as the data directory.
      if (known.some((one) => isInside(target, one) || isInside(one, target)) || dirname(target) === "/") continue;
      if ((await stat(target).catch(() => undefined)) === undefined) continue;
      linked.push(target);
      ahead.push(target);
    }
  }
  return { modules, linked };
}

/**
 * The loader and the libraries of the server and of its modules. The loader lists them and starts nothing. One that knows no
 * such list (musl) runs `--version` instead: then none is found.
 */
async function librariesOf(
  { postgres }: DrillBinaries,
  modules: readonly string[],
  { env, signal }: PlacesOptions,
): Promise<string[]> {
  let preload = "";
  for (const path of modules) {
    // The loader splits its list there.
    if (/[ :]/.test(path) || preload.length + path.length > PRELOAD_BYTES_MAX) continue;
    preload += `:${path}`;
  }
  const tracing = { ...env, LD_TRACE_LOADED_OBJECTS: "1", LD_PRELOAD: preload.slice(1) };
  const listed = await outputOf(postgres, ["--version"], { env: tracing, signal });
  return [...listed.matchAll(/^\s+(?:.* => )?(\/.+) \(0x[0-9a-f]+\)$/gm)].map((match) => resolve(match[1] ?? ""));
}

/** Returns what the program prints; nothing when it fails. */
async function outputOf(file: string, args: readonly string[], { env, signal }: PlacesOptions): Promise<string> {
  try {
    return (await run(file, [...args], { env, cwd: "/", signal, timeout: PROGRAM_MS_MAX })).stdout;
  } catch (error) {
    if (signal.aborted || isAbort(error)) throw error;
    return "";
  }
}
