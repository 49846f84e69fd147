/** The reference pages in docs/ are what their tables say today. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { referencePages } from "../../tools/reference.ts";
import { OPTION_ROWS } from "../../src/config/options.ts";
import { ERROR_KINDS } from "../../src/error-kinds.ts";
import { METRICS } from "../../src/metrics/table.ts";

describe.each(referencePages())("$path", ({ path, content }) => {
  it("is not stale (else: npm run docs)", () => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(content);
  });
});

it("every option, error code and metric is on its page", () => {
  const page = (path: string): string => referencePages().find((p) => p.path === path)?.content ?? "";
  for (const [, { name }] of OPTION_ROWS) expect(page("docs/configuration.md")).toContain(`### ${name}\n`);
  for (const code of Object.keys(ERROR_KINDS)) expect(page("docs/errors.md")).toContain(`### ${code}\n`);
  for (const { name } of Object.values(METRICS)) expect(page("docs/metrics.md")).toContain(`| \`${name}\` |`);
});
