/**
 * The programs of other tools, which tests of a switch run beside Seawall. Barman and WAL-E come from PyPI and are installed once
 * into the cache of the harness. WAL-G is the machine's own: no package registry has it.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { installPackages } from "./apt.ts";
import { cachedInstall } from "./cached-install.ts";
import { provideDebianPostgres } from "./postgres-debian.ts";
import { run } from "./run.ts";
import { askRunServices } from "./run-services.ts";

export type PythonTool = "barman" | "wal-e";

/** The folder of the programs, and the folders in which they find programs of PostgreSQL and others; or why there are none. */
export type ToolAccess = { readonly binDir: string; readonly path: string } | { readonly unavailable: string };

interface Recipe {
  /** Exact, so that a new release changes no test by itself. */
  readonly version: string;
  /** Further words for pip. */
  readonly pip: readonly string[];
  /** Debian's package by the program that the tool starts. */
  readonly programs: Readonly<Record<string, string>>;
}

const RECIPES: Readonly<Record<PythonTool, Recipe>> = {
  // Barman asks for psycopg2, which is compiled on the spot; psycopg2-binary is the same with its libraries. Hence no dependencies.
  barman: {
    version: "3.19.1",
    pip: ["--no-deps", "psycopg2-binary>=2.9", "python-dateutil>=2.8", "six"],
    programs: { rsync: "rsync" },
  },
  "wal-e": { version: "1.1.1", pip: [], programs: { lzop: "lzop", pv: "pv" } },
};

/** Accounts other than root may run Debian's interpreter; one in the home of root serves root alone. */
const DEBIAN_PYTHON = "/usr/bin/python3";
const INSTALL_MS = 10 * 60_000;

export function remedyFor(tool: PythonTool): string {
  const packages = ["python3-venv", ...Object.values(RECIPES[tool].programs)];
  return `apt-get install ${packages.join(" ")}; the tests install ${tool} with it`;
}

/** Finds the tool or installs it. Never throws for want of it: that is an answer. */
export async function providePythonTool(tool: PythonTool): Promise<ToolAccess> {
  const { version, pip, programs } = RECIPES[tool];
  try {
    const missing = Object.entries(programs).filter(([name]) => onPath(name) === undefined);
    if (missing.length > 0) {
      const packages = missing.map(([, name]) => name);
      await installPackages(packages, "tests of a switch", packages.join(", "));
    }
    const folder = await cachedInstall(`${tool}-${version}`, "tests of a switch", async (unfinished, place) => {
      const python = existsSync(DEBIAN_PYTHON) ? DEBIAN_PYTHON : "python3";
      await makeVenv(python, unfinished);
      const install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `${tool}==${version}`, ...pip];
      await run(join(unfinished, "bin", "python"), install, { timeoutMs: INSTALL_MS });
      nameInterpreter(join(unfinished, "bin"), unfinished, place);
      // Whatever the umask: the server's account runs the programs.
      await run("chmod", ["-R", "a+rX", unfinished]);
    });
    const postgres = await provideDebianPostgres(18);
    if ("unavailable" in postgres) return postgres;
    return { binDir: join(folder, "bin"), path: [join(folder, "bin"), postgres.binDir].join(delimiter) };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The run's answer under vitest. */
export async function findPythonTool(tool: PythonTool): Promise<ToolAccess> {
  return ((await askRunServices(tool)) ?? (await providePythonTool(tool))) as ToolAccess;
}

/** WAL-G is built from its repository, which the tests do not do: they use one that is installed. */
export function findWalG(): ToolAccess {
  const binDir = onPath("wal-g");
  if (binDir === undefined) return { unavailable: "no wal-g on the PATH, and no package registry has it" };
  return { binDir, path: binDir };
}

/** The folder of the PATH that has the program. */
function onPath(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(delimiter).find((folder) => existsSync(join(folder, name)));
}

async function makeVenv(python: string, folder: string): Promise<void> {
  const venv = async (): Promise<unknown> => run(python, ["-m", "venv", folder], { timeoutMs: INSTALL_MS });
  try {
    await venv();
  } catch {
    await installPackages(["python3-venv"], "tests of a switch", "python3-venv");
    await venv();
  }
}

/** The first line of each script names the interpreter of the folder in which it was installed. */
function nameInterpreter(binDir: string, installed: string, place: string): void {
  for (const name of readdirSync(binDir)) {
    const path = join(binDir, name);
    const text = readFileSync(path, "latin1");
    if (text.startsWith(`#!${installed}`)) writeFileSync(path, text.replace(installed, place), "latin1");
  }
}
