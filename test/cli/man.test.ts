/** The manual pages: each command and option has its place, and groff has no complaint. */
import { describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/commands.ts";
import { COMMAND_NAMES, OPTION_ROWS } from "../../src/config/options.ts";
import { manPages } from "../../tools/man.ts";
import { findPrograms } from "../harness/programs.ts";
import { run } from "../harness/run.ts";

const programs = await findPrograms();
const pages = manPages("1.2.3");

/** The page as a reader sees it, on one line. */
async function formatted(page: string): Promise<{ readonly words: string; readonly complaints: string }> {
  const { stdout, stderr } = await run("groff", ["-man", "-Tutf8", "-P-cbou", "-ww", "-rHY=0"], { input: page });
  return { words: stdout.replaceAll(/‐\n\s+/g, "").replaceAll(/\s+/g, " "), complaints: stderr };
}

it("there is one for the program, one for each command, one for the file", () => {
  const commands = COMMAND_NAMES.map((name) => `seawall-${name.replace(" ", "-")}.1`);
  expect([...pages.keys()].sort()).toEqual(["seawall.1", "seawall.yaml.5", ...commands].sort());
});

describe.skipIf("unavailable" in programs)("formatted", () => {
  it.each([...pages])("%s is without a complaint", async (_name, page) => {
    const { words, complaints } = await formatted(page);
    expect(complaints).toBe("");
    expect(words).toContain("seawall 1.2.3");
  });

  it.each(COMMAND_NAMES)("%s has its options, examples and exit statuses", async (name) => {
    const { words } = await formatted(pages.get(`seawall-${name.replace(" ", "-")}.1`) ?? "");
    for (const [, option] of OPTION_ROWS.filter(([, row]) => row.commands.includes(name)))
      expect(words).toMatch(new RegExp(`--(\\[no-\\])?${option.name}\\b`));
    for (const { line } of COMMANDS[name].examples) expect(words).toContain(line.replaceAll(/\s+/g, " "));
    for (const [exit, meaning] of COMMANDS[name].exits) expect(words).toContain(`${exit} ${meaning}`);
  });

  it("the page of the file has every key", async () => {
    const { words } = await formatted(pages.get("seawall.yaml.5") ?? "");
    for (const [, option] of OPTION_ROWS.filter(([, row]) => row.flagOnly !== true && row.name !== "config"))
      expect(words).toContain(` ${option.name}: `);
  });
});
