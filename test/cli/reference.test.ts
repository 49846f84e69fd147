/** The generated blocks of the reference pages are what their tables say today. */
import { readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { withBlocks } from "../../tools/generated-blocks.ts";
import { manPages } from "../../tools/man.ts";
import { referencePages } from "../../tools/reference.ts";
import { OPTION_ROWS } from "../../src/config/options.ts";
import { ERROR_KINDS } from "../../src/error-kinds.ts";
import { METRICS } from "../../src/metrics/table.ts";

const pageAt = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

describe.each(Object.entries(referencePages()))("%s", (path, blocks) => {
  it("is not stale (else: npm run docs)", () => {
    expect(withBlocks(pageAt(path), blocks)).toBe(pageAt(path));
  });
});

it("every option, error code and metric is on its page", () => {
  for (const [, { name }] of OPTION_ROWS) expect(pageAt("docs/configuration.md")).toContain(`### ${name}\n`);
  for (const code of Object.keys(ERROR_KINDS)) expect(pageAt("docs/errors.md")).toContain(`### ${code}\n`);
  for (const { name } of Object.values(METRICS)) expect(pageAt("docs/metrics.md")).toContain(`| \`${name}\` |`);
});

it("package.json names every manual page, for npm to install", () => {
  const { man } = JSON.parse(pageAt("package.json")) as { readonly man: readonly string[] };
  expect(man).toEqual([...manPages("0").keys()].map((name) => `dist/man/${name}`).sort());
});

describe("a page with generated blocks", () => {
  const begin = (name: string): string => `<!-- Made by "npm run docs" from a/table.ts: ${name} -->`;
  const rows = { source: "a/table.ts", content: "| a |" };
  const page = `# Page\n\nBefore.\n\n${begin("rows")}\nstale\n<!-- end of rows -->\n\nAfter.\n`;

  test("keeps its prose, and a second run changes nothing", () => {
    const made = withBlocks(page, { rows });
    expect(made).toContain("# Page\n\nBefore.\n\n<!-- Made");
    expect(made).toContain("\n\n| a |\n\n");
    expect(made).toContain("<!-- end of rows -->\n\nAfter.\n");
    expect(made).not.toContain("stale");
    expect(withBlocks(made, { rows })).toBe(made);
  });

  const other = { source: "b.ts", content: "b" };
  const cases: readonly (readonly [string, string, Parameters<typeof withBlocks>[1], RegExp])[] = [
    ["a block that the page lacks", page, { rows, other }, /block other is missing/],
    ["a block that no table makes", page, {}, /no block is called rows/],
    ["a block without an end", page.replace("<!-- end of rows -->", ""), { rows }, /block rows has no end/],
    ["a block that stands twice", page + page, { rows }, /block rows stands twice/],
    [
      "a block within a block",
      page.replace("stale", begin("other")),
      { rows, other },
      /block rows has no end before block other/,
    ],
  ];
  test.each(cases)("is refused with %s", (_case, text, blocks, message) => {
    expect(() => withBlocks(text, blocks)).toThrowError(message);
  });
});
