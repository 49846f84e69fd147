/** bench/RESULTS.md: one section for each bench, replaced when that bench runs again; written by the runner only. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describeMachine } from "./machine.ts";

/** What a bench has to tell. Paragraphs and tables are Markdown. */
export interface Section {
  /** Key of the section, and the argument of `npm run bench`. */
  readonly name: string;
  readonly title: string;
  /** Written before measuring: what was expected and why. */
  readonly estimate: string;
  readonly body: string;
}

export interface RunFacts {
  readonly versions: readonly string[];
  readonly startedAt: Date;
  /** The system's load average when the bench began and when it ended: others may have used the machine. */
  readonly load: readonly [number, number];
  /** How this run differed from a plain one on an idle machine (`--note=…`); empty: not at all. */
  readonly note: string;
}

const HEADER = `# Results

Written by \`npm run bench [-- name…]\`; do not edit. Each number is a median with its smallest and largest value over the
runs of one bench; yardsticks are measured in the same run, alternating with what they are compared to. Ratios are what
counts: absolute numbers belong to the machine.
`;

/** A Markdown table; numbers are already text. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, i) => (i === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

/** Puts `section` in its place in the file, in the order of `names`; other sections stay. */
export function writeSection(path: string, names: readonly string[], section: Section, facts: RunFacts): void {
  const sections = readSections(path);
  sections.set(section.name, format(section, facts));
  const known = names.flatMap((name) => sections.get(name) ?? []);
  writeFileSync(path, [HEADER, ...known].join("\n"));
}

function format(section: Section, facts: RunFacts): string {
  const [before, after] = facts.load.map((value) => value.toFixed(1));
  return [
    `<!-- section: ${section.name} -->\n`,
    `## ${section.title}\n`,
    `${describeMachine()}. ${facts.versions.join(", ")}. ${facts.startedAt.toISOString().slice(0, 16)}Z; load average ` +
      `${before ?? "?"} before, ${after ?? "?"} after.${facts.note === "" ? "" : ` ${facts.note}`}\n`,
    `**Estimate.** ${section.estimate}\n`,
    `${section.body.trim()}\n`,
  ].join("\n");
}

function readSections(path: string): Map<string, string> {
  const sections = new Map<string, string>();
  if (!existsSync(path)) return sections;
  for (const part of readFileSync(path, "utf8").split(/^(?=<!-- section: )/m)) {
    const name = /^<!-- section: (\S+) -->/.exec(part)?.[1];
    if (name !== undefined) sections.set(name, `${part.trimEnd()}\n`);
  }
  return sections;
}
