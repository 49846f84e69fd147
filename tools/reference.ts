/**
 * The blocks of the reference pages, and the schemas of docs/json/, that are made from tables in code. `npm run docs` writes
 * them; a test compares them, so that they are never stale.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { defaultText, envName, isNegatable, OPTION_ROWS, type OptionSpec } from "../src/config/options.ts";
import { ERROR_KINDS, type ErrorKind, EXIT } from "../src/error-kinds.ts";
import { METRICS, type MetricSpec } from "../src/metrics/table.ts";
import { commandBlocks } from "./command-blocks.ts";
import { type Blocks, withBlocks } from "./generated-blocks.ts";
import { notificationBlocks } from "./notification-blocks.ts";
import { jsonSchemas, schemaTable } from "./json/schemas.ts";
import { s3RightsBlocks } from "./s3-rights-blocks.ts";

/** The blocks of each page, by the page's path from the root of the project. */
export function referencePages(): Readonly<Record<string, Blocks>> {
  return {
    "docs/commands.md": commandBlocks(),
    "docs/configuration.md": {
      options: { source: "src/config/options.ts", content: joined(OPTION_ROWS.map(([, spec]) => optionSection(spec))) },
    },
    "docs/errors.md": {
      statuses: { source: "tools/reference.ts", content: exitTable() },
      codes: { source: "src/error-kinds.ts", content: errorSections() },
    },
    "docs/json.md": { schemas: { source: "tools/json/schemas.ts", content: schemaTable() } },
    "docs/metrics.md": { metrics: { source: "src/metrics/table.ts", content: metricsTable() } },
    "docs/notifications.md": notificationBlocks(),
    "docs/s3-rights.md": s3RightsBlocks(),
  };
}

/** The files of docs/json/, by path from the root of the project. */
export function schemaFiles(): ReadonlyMap<string, string> {
  return new Map(
    [...jsonSchemas()].map(([name, schema]) => [`docs/json/${name}`, `${JSON.stringify(schema, null, 2)}\n`]),
  );
}

const joined = (sections: readonly string[]): string => sections.join("\n").trimEnd();

function optionSection(spec: OptionSpec<unknown>): string {
  const flag = isNegatable(spec) ? `--[no-]${spec.name}` : `--${spec.name}`;
  const taken = spec.type === "boolean" ? "" : ` <${spec.placeholder}>`;
  const names = [`\`${flag}${taken}\``];
  if (spec.flagOnly !== true) names.push(`\`${envName(spec.name)}\``);
  if (spec.flagOnly !== true && spec.name !== "config") names.push(`\`${spec.name}:\` in the file`);
  const facts = [
    names.join(", "),
    `Type: ${spec.type}${spec.type === "boolean" ? "" : ` (${spec.accepts})`}`,
    `Default: ${quoted(defaultText(spec)) ?? "none"}${required(spec)}`,
    `Commands: ${spec.commands.map((name) => `\`${name}\``).join(", ")}`,
  ];
  if (spec.scope === "process" && spec.name !== "cluster")
    facts.push("With several clusters: one for all, at the top of the file");
  if (spec.scope === "own") facts.push("With several clusters: each has its own, so not by flag or variable for all");
  const more = spec.more === undefined ? "" : `\n${spec.more}\n`;
  const title = spec.sharesName === true ? `${spec.name} (${spec.commands.join(", ")})` : spec.name;
  return `### ${title}\n\n${sentence(spec.help)}\n\n${facts.map((fact) => `- ${fact}`).join("\n")}\n${more}`;
}

function required(spec: OptionSpec<unknown>): string {
  if (spec.requiredBy === undefined) return "";
  return `; required by ${spec.requiredBy.map((name) => `\`${name}\``).join(", ")}`;
}

function exitTable(): string {
  const exits: readonly (readonly [number, string])[] = [
    [EXIT.done, "Done."],
    [
      EXIT.no,
      "The answer is no: a check failed, there is nothing there. For `wal-fetch`: the archive ends before this file.",
    ],
    [EXIT.usage, "The command line, the environment or the configuration file is wrong; nothing was touched."],
    [EXIT.operational, "Something failed that has no status of its own below."],
    [EXIT.server, "The PostgreSQL server: not reachable, refuses us, or lacks something."],
    [EXIT.store, "The object store: not reachable, refuses us, or lacks something."],
    [EXIT.damage, "WAL or archive is damaged, foreign or diverged. Nothing doubtful was acknowledged."],
    [EXIT.interrupted, "Interrupted by SIGINT (143 after SIGTERM, except for `receive`, which ends with 0)."],
    [
      EXIT.abortRecovery,
      "`wal-fetch` only, for every failure: above 125, so that PostgreSQL stops recovery instead of promoting short of the tip.",
    ],
  ];
  const rows = exits.map(([exit, meaning]) => `| ${exit} | ${meaning} |`);
  return ["| exit | meaning |", "| ---: | --- |", ...rows].join("\n");
}

function errorSections(): string {
  const groups = new Map<number, string[]>();
  for (const [code, kind] of Object.entries<ErrorKind>(ERROR_KINDS)) {
    groups.set(kind.exit, [...(groups.get(kind.exit) ?? []), errorSection(code, kind)]);
  }
  const sections = [...groups]
    .sort(([a], [b]) => a - b)
    .map(([exit, codes]) => `## Exit status ${exit}\n\n${seeMore(exit)}${codes.join("\n")}`);
  return joined(sections);
}

/** The commands that show more about the errors of an exit status. */
const SEE_MORE: ReadonlyMap<number, string> = new Map([
  [EXIT.no, "`seawall list` shows what the archive has, and from when to when it can be recovered."],
  [EXIT.operational, "`seawall status` shows what runs and what is wrong; `--log-level debug` logs each step."],
  [EXIT.server, "`seawall check` with `--dsn` tries the server, and names each part that is missing with its remedy."],
  [EXIT.store, "`seawall check` with `--store` tries every request that Seawall needs, one by one."],
  [
    EXIT.damage,
    "`seawall verify` names what is damaged and which backups it affects; `seawall check` compares the server with the archive.",
  ],
]);

function seeMore(exit: number): string {
  const commands = SEE_MORE.get(exit);
  return commands === undefined ? "" : `To see more: ${commands}\n\n`;
}

function errorSection(code: string, kind: ErrorKind): string {
  return `### ${code}\n\n${kind.when}\n\n- What to do: ${kind.hint}\n- Retried: ${kind.retryable ? "yes" : "no"}\n`;
}

function metricsTable(): string {
  const rows = Object.values<MetricSpec>(METRICS).map((spec) => {
    const labels = spec.labels.map((label) => `\`${label}\``).join(", ");
    return `| \`${spec.name}\` | ${spec.type} | ${labels} | ${spec.help} |`;
  });
  return ["| name | type | labels | meaning |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function quoted(text: string | undefined): string | undefined {
  return text === undefined ? undefined : `\`${text}\``;
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  for (const [path, blocks] of Object.entries(referencePages())) {
    const page = new URL(`../../${path}`, import.meta.url);
    writeFileSync(page, withBlocks(readFileSync(page, "utf8"), blocks));
    console.log(`wrote the blocks of ${path}`);
  }
  for (const [path, content] of schemaFiles()) writeFileSync(new URL(`../../${path}`, import.meta.url), content);
  console.log("wrote docs/json/");
}
