/** The command tables of docs/from-*.md name every command that the real tool has, and none that it has not. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "../harness/build.ts";
import { findPythonTool, findWalG, type ToolAccess } from "../harness/other-tools.ts";
import { providePgbackrest } from "../harness/pgbackrest.ts";
import { run } from "../harness/run.ts";

const pgbackrest = await providePgbackrest();
const barman = await findPythonTool("barman");
const walE = await findPythonTool("wal-e");
const walG = findWalG();

/** Every command, from the tool's own help; and further names under which it has them. */
interface RealCommands {
  readonly names: readonly string[];
  readonly aliases: readonly string[];
}

async function helpOf(access: ToolAccess, name: string, ...args: readonly string[]): Promise<string> {
  if ("unavailable" in access) throw new Error(access.unavailable);
  const env = { ...process.env, WALE_LOG_DESTINATION: "stderr", COLUMNS: "200" };
  return (await run(join(access.binDir, name), [...args, "--help"], { env })).stdout;
}

/** argparse lists a command with its aliases: `list-backups (list-backup)`. */
async function commandsOfBarman(): Promise<RealCommands> {
  const help = await helpOf(barman, "barman");
  const listed = [...help.matchAll(/^ {4}([a-z-]+)(?: \(([a-z, -]+)\))?(?: |$)/gm)];
  const programs = readdirSync("binDir" in barman ? barman.binDir : "").filter((name) => name.startsWith("barman-"));
  return {
    names: [...listed.map(([, name = ""]) => name), ...programs],
    aliases: listed.flatMap(([, , aliases = ""]) => aliases.split(", ")),
  };
}

async function commandsOfWalE(): Promise<RealCommands> {
  const choices = (help: string): string[] => /\{([a-z,-]+)\}/.exec(help)?.[1]?.split(",") ?? [];
  const names = choices(await helpOf(walE, "wal-e")).filter((name) => name !== "delete");
  const deletions = choices(await helpOf(walE, "wal-e", "delete"));
  return { names: [...names, ...deletions.map((name) => `delete ${name}`)], aliases: [] };
}

/** Cobra's list; commands with commands of their own are asked for those. */
async function commandsOfWalG(): Promise<RealCommands> {
  const listed = async (...of: readonly string[]): Promise<string[]> => {
    const list = /^Available Commands:\n([\s\S]*?)\n\n/m.exec(await helpOf(walG, "wal-g", ...of))?.[1] ?? "";
    return [...list.matchAll(/^\s*([a-z-]+)/gm)].map(([, name = ""]) => name);
  };
  const groups = ["delete", "pgbackrest", "st"];
  const own = (await listed()).filter((name) => !groups.includes(name));
  const inGroups = await Promise.all(groups.map(async (of) => (await listed(of)).map((name) => `${of} ${name}`)));
  // The first is hidden, and the second a program of its own.
  return { names: [...own, ...inGroups.flat()], aliases: ["wal-prefetch", "wal-g-exporter"] };
}

async function commandsOfPgbackrest(): Promise<RealCommands> {
  const { stdout } = await run("program" in pgbackrest ? pgbackrest.program : "", ["help"]);
  const list = /^Commands:\n([\s\S]*?)\n\n/m.exec(stdout)?.[1] ?? "";
  return { names: [...list.matchAll(/^ {4}([a-z-]+)/gm)].map(([, name = ""]) => name), aliases: [] };
}

/** The codes in the first column of the table below "## Commands". */
function commandsOnPage(page: string): string[] {
  const text = readFileSync(join(ROOT, "docs", page), "utf8");
  const section = /^## Commands\n([\s\S]*?)^## /m.exec(text)?.[1] ?? "";
  const cells = section.split("\n").flatMap((line) => /^\| ([^|]*) \|/.exec(line)?.[1] ?? []);
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code));
}

const TOOLS = [
  { page: "from-barman.md", isMissing: "unavailable" in barman, fewest: 45, commands: commandsOfBarman },
  { page: "from-wal-e.md", isMissing: "unavailable" in walE, fewest: 11, commands: commandsOfWalE },
  { page: "from-wal-g.md", isMissing: "unavailable" in walG, fewest: 30, commands: commandsOfWalG },
  { page: "from-pgbackrest.md", isMissing: "unavailable" in pgbackrest, fewest: 20, commands: commandsOfPgbackrest },
];

describe.each(TOOLS)("$page", ({ page, isMissing, fewest, commands }) => {
  test.skipIf(isMissing)("names the commands that the tool has", async () => {
    const { names, aliases } = await commands();
    expect(names.length).toBeGreaterThanOrEqual(fewest);
    const onPage = commandsOnPage(page);
    const isOf = (code: string, name: string): boolean => code === name || code.startsWith(`${name} `);
    expect(names.filter((name) => !onPage.some((code) => isOf(code, name)))).toEqual([]);
    // An option by itself belongs to the command before it.
    const known = [...names, ...aliases];
    const foreign = onPage.filter((code) => !code.startsWith("--") && !known.some((name) => isOf(code, name)));
    expect(foreign).toEqual([]);
  });
});
