/** The rule for the fenced blocks of the pages (page-blocks.ts): each is run by a test that reads it there, or says why not. */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { loadSettings } from "../../src/config/load.ts";
import { ROOT } from "../harness/build.ts";
import { commandsOf } from "./commands-of-pages.ts";
import { blocksOf, COMMANDS, OTHERS, type PageBlock, pagesWithBlocks, REASONS } from "./page-blocks.ts";

const isOneOf = (words: readonly string[], word: string): boolean => words.includes(word);

/** Says what is wrong with a block; undefined for a block that keeps the rule. */
function faultOf({ page, language, text, fate }: PageBlock): string | undefined {
  const holdsCommands = isOneOf(COMMANDS, language);
  if (!holdsCommands && !isOneOf(OTHERS, language)) return `the language "${language}" is none of the rule`;
  if (holdsCommands && fate === undefined) return "nothing says which test runs it, or why none does";
  if (language === "text" && text.split("\n").some((line) => commandsOf(line).length > 0))
    return "a command in an output";
  if (fate?.kind === "not run") return isOneOf(REASONS, fate.reason) ? undefined : `"${fate.reason}" is no reason`;
  return fate === undefined ? undefined : unreadBy(fate, page);
}

/** Says why the named test does not read the block from the page. */
function unreadBy(
  { file, name }: { readonly file: string; readonly name: string | undefined },
  page: string,
): string | undefined {
  if (!existsSync(join(ROOT, file))) return `${file} is not there`;
  const source = sourceOf(file);
  const wanted = name === undefined ? [`blocksRunBy("${file}")`] : ["pageBlock(", `${basename(page)}"`, `"${name}"`];
  const missing = wanted.filter((part) => !source.includes(part));
  return missing.length === 0 ? undefined : `${file} does not read it: it lacks ${missing.join(", ")}`;
}

/** The text of a test and of the files beside it that it imports. */
function sourceOf(file: string): string {
  const own = readFileSync(join(ROOT, file), "utf8");
  const beside = [...own.matchAll(/from "\.\/([^"]+)"/g)].map(([, name = ""]) => join(ROOT, dirname(file), name));
  return [own, ...beside.map((path) => readFileSync(path, "utf8"))].join("\n");
}

function faultsOf(blocks: readonly PageBlock[]): string[] {
  const faults = blocks.flatMap((block) => {
    const fault = faultOf(block);
    return fault === undefined ? [] : [`${block.page}:${block.line}: ${fault}`];
  });
  const names = blocks.flatMap(({ fate }) => (fate?.kind === "run" && fate.name !== undefined ? [fate.name] : []));
  return [
    ...faults,
    ...names.filter((name, i) => names.indexOf(name) !== i).map((name) => `two blocks named "${name}"`),
  ];
}

describe("every block is run by a test, or says why not", () => {
  test.each(pagesWithBlocks())("%s", (page) => expect(faultsOf(blocksOf(page))).toEqual([]));

  const fence = (language: string, line: string): string => `\`\`\`${language}\n${line}\n\`\`\`\n`;
  const rows: readonly (readonly [string, string, string | undefined])[] = [
    ["without a language", fence("", "x"), 'the language "" is none of the rule'],
    ["of a shell, without a comment", fence("sh", "ls"), "nothing says which test runs it, or why none does"],
    [
      "behind a comment for another block",
      `<!-- not run: needs Docker -->\n\nx\n\n${fence("sh", "ls")}`,
      "nothing says which test runs it, or why none does",
    ],
    ["of SQL, without a comment", fence("sql", "SELECT 1"), "nothing says which test runs it, or why none does"],
    ["of an output with a command", fence("text", "$ seawall list"), "a command in an output"],
    ["with a reason of its own", `<!-- not run: no time -->\n${fence("sh", "ls")}`, '"no time" is no reason'],
    [
      "of a test that is gone",
      `<!-- run by test/gone.test.ts -->\n${fence("sh", "ls")}`,
      "test/gone.test.ts is not there",
    ],
    [
      "of a test that reads another one",
      `<!-- run by test/deploy/move.test.ts: other -->\n${fence("sh", "ls")}`,
      'test/deploy/move.test.ts does not read it: it lacks page.md", "other"',
    ],
    ["in a list, with its comment", `   <!-- not run: needs Docker -->\n\n   \`\`\`sh\n   ls\n   \`\`\`\n`, undefined],
  ];
  it.each(rows)("a block %s", (_, text, fault) => {
    expect(faultsOf(blocksOf("page.md", text)).map((line) => line.replace(/^page\.md:\d+: /, ""))).toEqual(
      fault === undefined ? [] : [fault],
    );
  });
});

describe("a file of Seawall is one that the program takes", () => {
  const files = pagesWithBlocks()
    .flatMap((page) => blocksOf(page))
    .filter(({ language, fate }) => language === "yaml" && fate === undefined);

  test.each(files.map((file) => [`${file.page}:${file.line}`, file.text] as const))("%s", async (_, text) => {
    const server = /^(?:clusters|dsn):/m.test(text) ? "" : "dsn: host=db\n";
    const store = /^(?:clusters|store):/m.test(text) ? "" : "store: file:///archive\n";
    const readFile = async (): Promise<string> => `${server}${store}${text}`;
    const loaded = await loadSettings({
      command: "receive",
      flags: new Map([["config", "/a.yaml"]]),
      env: {},
      readFile,
    });
    expect(loaded.settings).toBeDefined();
  });
});
