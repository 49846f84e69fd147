/**
 * PostgreSQL of versions that npm does not carry yet, from Debian's packages, whole: the server and every tool. Nothing is
 * installed on the machine: apt resolves and downloads with a state of its own, the packages are unpacked into the cache,
 * and patchelf points the programs at the libraries beside them. Takes about half a minute once, and no root.
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { run } from "./run.ts";
import { cacheDir, makeTempDir, removeTree, touch, unfinishedName } from "./temp.ts";

/** Where Debian has a version: later suites win for the packages of PostgreSQL. */
const SUITES: Readonly<Record<number, readonly string[]>> = {
  // Servers of these come from npm, without tools.
  17: ["trixie"],
  18: ["sid"],
  19: ["sid", "experimental"],
};

/** Where the programs are; or why there are none. */
export type DebianPostgres = { readonly binDir: string } | { readonly unavailable: string };

/** Whether Debian's packages have the version. */
export function isInDebian(major: number): boolean {
  return major in SUITES;
}

/** Finds the version in the cache, or brings it there. Never throws for want of it: that is an answer. */
export async function provideDebianPostgres(major: number): Promise<DebianPostgres> {
  try {
    const target = join(cacheDir("postgres"), `${major}-${process.arch}`);
    if (!existsSync(target)) await bring(major, target);
    touch(target);
    return { binDir: binDirIn(target, major) };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The path below which the programs look for their own shared files: it ends as it did when they were built. */
function binDirIn(tree: string, major: number): string {
  return join(tree, "usr", "lib", "postgresql", String(major), "bin");
}

async function bring(major: number, target: string): Promise<void> {
  const suites = SUITES[major];
  const mirror = debianMirror();
  if (suites === undefined || mirror === undefined || !existsSync("/usr/bin/apt-get")) {
    throw new Error(`PostgreSQL ${major} is not on npm, and only Debian's packages have it`);
  }
  process.stderr.write(`PostgreSQL ${major}: unpacking Debian's packages (once)\n`);
  const work = makeTempDir("apt");
  try {
    const packages = await download({ major, suites, mirror, work });
    const root = join(work, "root");
    mkdirSync(root);
    for (const file of packages) await run("dpkg", ["-x", file, root]);
    const aside = unfinishedName(target);
    try {
      assemble({ major, root, aside, target });
      renameSync(aside, target);
    } catch (error) {
      removeTree(aside);
      // Another run may have been faster.
      if (!existsSync(target)) throw error;
    }
  } finally {
    removeTree(work);
  }
}

/** The mirror that the machine itself uses. */
function debianMirror(): string | undefined {
  const files = ["/etc/apt/sources.list"];
  const folder = "/etc/apt/sources.list.d";
  if (existsSync(folder)) files.push(...readdirSync(folder).map((name) => join(folder, name)));
  const texts = files.filter((path) => existsSync(path)).map((path) => readFileSync(path, "utf8"));
  const uris = texts.flatMap((text) => [...text.matchAll(/^\s*(?:URIs:|deb(?: \[[^\]]*\])?)\s+(https?:\S+)/gm)]);
  return uris.map((match) => match[1] ?? "").find((uri) => /\/debian\/?$/.test(uri));
}

/** The server, its tools and every library they need, resolved as if nothing were installed. Paths of the packages. */
async function download(options: {
  readonly major: number;
  readonly suites: readonly string[];
  readonly mirror: string;
  readonly work: string;
}): Promise<string[]> {
  const { major, suites, mirror, work } = options;
  for (const name of ["state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"]) {
    mkdirSync(join(work, name), { recursive: true });
  }
  writeFileSync(join(work, "status"), "");
  // A mirror may be a copy of an earlier day, whose lists have run out.
  const source = (suite: string): string => `deb [check-valid-until=no] ${mirror} ${suite} main\n`;
  writeFileSync(join(work, "sources.list"), suites.map(source).join(""));
  const pin = `Package: libpq5 postgresql-${major} postgresql-client-${major}\nPin: release a=${suites.at(-1) ?? ""}\n`;
  writeFileSync(join(work, "etc/preferences.d/postgresql"), `${pin}Pin-Priority: 990\n`);
  const settings = {
    Dir: work,
    "Dir::State": "state",
    "Dir::State::status": join(work, "status"),
    "Dir::Cache": "cache",
    "Dir::Etc": "etc",
    "Dir::Etc::sourcelist": join(work, "sources.list"),
    "Dir::Etc::sourceparts": "-",
    "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
    "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
    "Acquire::Languages": "none",
    // apt would download as an account that cannot enter our folder.
    "APT::Sandbox::User": process.getuid?.() === 0 ? "root" : "",
    "Debug::NoLocking": "true",
  };
  const config = join(work, "apt.conf");
  writeFileSync(
    config,
    Object.entries(settings)
      .map(([name, value]) => `${name} "${value}";\n`)
      .join(""),
  );
  const env = { ...process.env, APT_CONFIG: config, DEBIAN_FRONTEND: "noninteractive" };
  await run("apt-get", ["-q", "update"], { env, timeoutMs: 5 * 60_000 });
  const install = ["-q", "-y", "--no-install-recommends", "--download-only", "install"];
  await run("apt-get", [...install, `postgresql-${major}`, "patchelf"], { env, timeoutMs: 10 * 60_000 });
  const archives = join(work, "cache", "archives");
  // Scripts and their interpreters serve an installation only.
  const wanted = /^(lib|postgresql-|patchelf)/;
  return readdirSync(archives)
    .filter((name) => name.endsWith(".deb") && wanted.test(name) && !/^libperl|^liblocale/.test(name))
    .map((name) => join(archives, name));
}

/** What a server needs of the unpacked packages, as it will work from `target`. */
function assemble(options: {
  readonly major: number;
  readonly root: string;
  readonly aside: string;
  readonly target: string;
}): void {
  const { major, root, aside, target } = options;
  removeTree(aside);
  for (const part of ["lib", "share"]) {
    const tree = join("usr", part, "postgresql", String(major));
    cpSync(join(root, tree), join(aside, tree), { recursive: true, verbatimSymlinks: true });
  }
  const libraries = join(root, "usr", "lib", readdirSync(join(root, "usr", "lib")).find(isTriplet) ?? "");
  const loader = join(libraries, readdirSync(libraries).find((name) => /^ld-linux.*\.so\.\d$/.test(name)) ?? "");
  const bin = binDirIn(aside, major);
  const modules = join(bin, "..", "lib");
  const programs = readdirSync(bin)
    .map((name) => join(bin, name))
    .filter(isElf);
  const linked = [...programs, ...readdirSync(modules).map((name) => join(modules, name))].filter(isElf);
  mkdirSync(join(aside, "lib"));
  for (const library of new Set(linked.flatMap((path) => librariesOf(path, loader, libraries)))) {
    copyFileSync(library, join(aside, "lib", basename(library)));
  }
  copyFileSync(loader, join(aside, "lib", basename(loader)));
  const patch = ["--library-path", libraries, join(root, "usr", "bin", "patchelf"), "--force-rpath"];
  const place = ["--set-interpreter", join(target, "lib", basename(loader)), "--set-rpath", join(target, "lib")];
  for (const program of programs) execFileSync(loader, [...patch, ...place, program]);
  execFileSync("chmod", ["-R", "a+rX", aside]);
}

function isTriplet(name: string): boolean {
  return /^(x86_64|aarch64)-linux-gnu$/.test(name);
}

function isElf(path: string): boolean {
  return statSync(path).isFile() && readFileSync(path).subarray(1, 4).toString("latin1") === "ELF";
}

/** As the loader of the packages finds them; those that only this machine has are none of theirs. */
function librariesOf(path: string, loader: string, libraries: string): string[] {
  try {
    const listed = execFileSync(loader, ["--library-path", libraries, "--list", path], { stdio: "pipe" }).toString();
    return [...listed.matchAll(/=> (\S+) /g)]
      .map((match) => match[1] ?? "")
      .filter((found) => found.startsWith(libraries));
  } catch {
    // A module of an optional language, whose interpreter was left out.
    return [];
  }
}
