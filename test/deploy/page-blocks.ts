/**
 * The fenced blocks of the pages, and the one rule for them: each block names its language. A block whose language holds commands has a
 * comment in front of it, which names the test that runs the block, or says why no test does:
 *
 *     <!-- run by test/deploy/move.test.ts: bucket -->
 *     <!-- not run: needs Kubernetes -->
 *
 * A test reads its blocks from the page, by `pageBlock` or `blocksRunBy`. pages.test.ts holds the rule.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { ROOT } from "../harness/build.ts";

/** Languages whose blocks a reader runs, or copies into a server that runs them. */
export const COMMANDS = ["sh", "sql", "ini"] as const;
/** Languages of outputs, pictures and files. */
export const OTHERS = ["text", "json", "yaml"] as const;

/** Why no test runs a block. */
export const REASONS = [
  "needs a cloud account",
  "needs Docker",
  "needs Kubernetes",
  "opens an editor",
  "publishes a release",
  "runs or builds the project itself",
  "a file of another program",
] as const;

export type Fate =
  | { readonly kind: "run"; readonly file: string; readonly name: string | undefined }
  | { readonly kind: "not run"; readonly reason: string };

export interface PageBlock {
  /** The page's path from the root of the project. */
  readonly page: string;
  /** Number of the line of the fence. */
  readonly line: number;
  readonly language: string;
  /** The lines within, without the indentation of the fence. */
  readonly text: string;
  /** Text of the comment in front of it; undefined without one. */
  readonly fate: Fate | undefined;
}

/** README.md, CONTRIBUTING.md and the pages of docs/. */
export function pagesWithBlocks(): string[] {
  const docs = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
  return ["README.md", "CONTRIBUTING.md", ...docs.map((name) => `docs/${name}`)];
}

export function blocksOf(page: string, text = readFileSync(join(ROOT, page), "utf8")): PageBlock[] {
  const found: PageBlock[] = [];
  let open: { readonly line: number; readonly indent: string; readonly language: string; lines: string[] } | undefined;
  let fate: Fate | undefined;
  for (const [index, line] of text.split("\n").entries()) {
    const fence = /^( *)```(.*)$/.exec(line);
    if (open !== undefined && fence === null) open.lines.push(line.slice(open.indent.length));
    else if (open !== undefined) {
      const { line: at, language, lines } = open;
      found.push({ page, line: at, language, text: `${lines.join("\n")}\n`, fate });
      open = undefined;
      fate = undefined;
    } else if (fence !== null) {
      open = { line: index + 1, indent: fence[1] ?? "", language: fence[2]?.trim() ?? "", lines: [] };
    } else if (line.trim() !== "" && !/^<!-- prettier-ignore/.test(line)) {
      fate = fateIn(line);
    }
  }
  return found;
}

function fateIn(line: string): Fate | undefined {
  const run = /^ *<!-- run by (\S+?)(?:: (.+))? -->$/.exec(line);
  if (run !== null) return { kind: "run", file: run[1] ?? "", name: run[2] };
  const reason = /^ *<!-- not run: (.+) -->$/.exec(line)?.[1];
  return reason === undefined ? undefined : { kind: "not run", reason };
}

/** The lines of a named block. Throws where the page has none of this name, and in a test that the page does not name. */
export function pageBlock(page: string, name: string): string {
  const found = blocksOf(page).filter(({ fate }) => fate?.kind === "run" && fate.name === name);
  const [block] = found;
  if (block === undefined || found.length > 1) throw new Error(`${page} has ${found.length} blocks named "${name}"`);
  const { testPath } = expect.getState();
  const { fate, text } = block;
  if (fate?.kind !== "run" || testPath !== join(ROOT, fate.file)) {
    throw new Error(`${page}:${block.line} says that another test runs the block, not ${testPath}`);
  }
  return text;
}

/** The blocks that name this test file, without a name of their own. */
export function blocksRunBy(file: string): PageBlock[] {
  return pagesWithBlocks()
    .flatMap((page) => blocksOf(page))
    .filter(({ fate }) => fate?.kind === "run" && fate.file === file && fate.name === undefined);
}
