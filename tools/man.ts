/**
 * Manual pages, made from the tables of commands and options: seawall(1), one page for each command, seawall.yaml(5).
 * `npm run man` writes them into dist/man. The markup is man(7) of groff.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CommandSpec } from "../src/cli/command-spec.ts";
import { HELP_GROUPS } from "../src/cli/command-spec.ts";
import { COMMANDS } from "../src/cli/commands.ts";
import { describeExits } from "../src/cli/help.ts";
import {
  COMMAND_NAMES,
  type CommandName,
  defaultText,
  envName,
  isNegatable,
  OPTION_ROWS,
  type OptionSpec,
} from "../src/config/options.ts";

const VERSION = "@version@";

/** Page texts by file name: `seawall-slot-create.1`. */
export function manPages(version: string): ReadonlyMap<string, string> {
  const pages: readonly (readonly [string, string])[] = [
    ["seawall.1", programPage()],
    ...COMMAND_NAMES.map((name) => [`${pageName(name)}.1`, commandPage(name, COMMANDS[name])] as const),
    ["seawall.yaml.5", filePage()],
  ];
  return new Map(pages.map(([name, content]) => [name, content.replace(VERSION, version)]));
}

function programPage(): string {
  const groups = HELP_GROUPS.flatMap((group) => [
    `.SS ${text(group)}`,
    ...COMMAND_NAMES.filter((name) => COMMANDS[name].group === group).flatMap((name) => [
      ".TP",
      `.BR ${pageName(name)} (1)`,
      text(COMMANDS[name].summary),
    ]),
  ]);
  return page("seawall", 1, [
    ...section("NAME", ["seawall \\- WAL receiver, backup and recovery for PostgreSQL"]),
    ...section("SYNOPSIS", [".B seawall", ".I command", "[\\fIoptions\\fR]"]),
    ...section("DESCRIPTION", [
      text(
        "Seawall receives the write-ahead log of a PostgreSQL server while it is being written, verifies every record, and stores it in object storage or a directory. It takes base backups and restores a cluster to any moment of the archive.",
      ),
    ]),
    ...section("COMMANDS", groups),
    ...section("EXIT STATUS", exitRows(describeExits())),
    ...section("ENVIRONMENT", [
      text("Every option is also an environment variable:"),
      text("--ship-interval is SEAWALL_SHIP_INTERVAL. PG* variables and the password file are those of libpq."),
    ]),
    ...section("SEE ALSO", [".BR seawall.yaml (5)"]),
  ]);
}

function commandPage(name: CommandName, spec: CommandSpec): string {
  const { args = [] } = spec;
  const options = OPTION_ROWS.flatMap(([, option]) => (option.commands.includes(name) ? optionRow(option) : []));
  return page(pageName(name), 1, [
    ...section("NAME", [`${text(pageName(name))} \\- ${text(spec.summary)}`]),
    ...section("SYNOPSIS", [
      `.B seawall ${text(name)}`,
      "[\\fIoptions\\fR]",
      ...args.map((arg) => `.I ${text(arg.name)}`),
    ]),
    ...section("DESCRIPTION", paragraphs(spec.description)),
    ...section(
      "ARGUMENTS",
      args.flatMap((arg) => [".TP", `.I ${text(arg.name)}`, text(arg.help)]),
    ),
    ...section("OPTIONS", options),
    ...section("EXIT STATUS", exitRows(spec.exits)),
    ...section(
      "EXAMPLES",
      spec.examples.flatMap(({ line, does }) => [
        ".PP",
        `${text(does)}:`,
        ".PP",
        ".nf",
        ".RS",
        text(line),
        ".RE",
        ".fi",
      ]),
    ),
    ...section("SEE ALSO", [".BR seawall (1),", ".BR seawall.yaml (5)"]),
  ]);
}

function filePage(): string {
  const rows = OPTION_ROWS.flatMap(([, option]) =>
    option.flagOnly === true || option.name === "config"
      ? []
      : [
          ".TP",
          `.BR ${text(option.name)}: " \\fI${text(option.placeholder === "" ? "true|false" : option.placeholder)}\\fR"`,
          `${text(capital(option.help))}.`,
          ...facts(option),
          ...(option.more === undefined ? [] : [".IP", ...text(withoutLinks(option.more)).split("\n")]),
        ],
  );
  return page("seawall.yaml", 5, [
    ...section("NAME", ["seawall.yaml \\- configuration file of seawall"]),
    ...section("DESCRIPTION", [
      text("A YAML file of options, named by --config or SEAWALL_CONFIG. There is no default path."),
      text("A flag has precedence over the environment, and the environment over the file."),
      ".PP",
      text("The key clusters: holds several clusters by name, each with options of its own."),
    ]),
    ...section("KEYS", rows),
    ...section("SEE ALSO", [".BR seawall (1)"]),
  ]);
}

function optionRow(option: OptionSpec<unknown>): readonly string[] {
  const flag = `\\fB${text(`--${isNegatable(option) ? "[no-]" : ""}${option.name}`)}\\fR`;
  const letter = option.short === undefined ? "" : `, \\fB\\-${option.short.flag}\\fR (${text(option.short.value)})`;
  const value = option.type === "boolean" ? "" : ` \\fI${text(option.placeholder)}\\fR`;
  return [".TP", `${flag}${value}${letter}`, `${text(capital(option.help))}.`, ...facts(option)];
}

function facts(option: OptionSpec<unknown>): readonly string[] {
  const byDefault = option.type === "boolean" ? undefined : defaultText(option);
  const range = option.type === "boolean" ? [] : [`Accepts: ${option.accepts}.`];
  const given = byDefault === undefined ? [] : [`Default: ${byDefault}.`];
  const variable = option.flagOnly === true ? [] : [`Environment: ${envName(option.name)}.`];
  return [...range, ...given, ...variable].map(text);
}

function exitRows(exits: readonly (readonly [number, string])[]): readonly string[] {
  return exits.flatMap(([exit, meaning]) => [".TP", `.B ${exit}`, text(meaning)]);
}

function page(name: string, volume: number, lines: readonly string[]): string {
  return [`.TH ${text(name.toUpperCase())} ${volume} "" "seawall ${VERSION}"`, ...lines, ""].join("\n");
}

function section(title: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : [`.SH ${title}`, ...lines];
}

function paragraphs(prose: string): readonly string[] {
  return prose.split("\n\n").flatMap((paragraph) => [".PP", text(paragraph)]);
}

function pageName(name: CommandName): string {
  return `seawall-${name.replace(" ", "-")}`;
}

/** Escapes what groff would read as markup; a line that starts with a dot or quote is text too. */
function text(words: string): string {
  return words
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll(/^([.'])/gm, "\\&$1")
    .replaceAll("`", "")
    .replaceAll(/[^\n\x20-\x7e]/gu, (sign) => `\\[u${hex(sign)}]`);
}

function hex(sign: string): string {
  return (sign.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
}

/** `[timelines.md](timelines.md)` is `timelines.md`. */
function withoutLinks(markdown: string): string {
  return markdown.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1");
}

function capital(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}`;
}

if (process.argv[1] !== undefined && import.meta.filename === process.argv[1]) {
  const root = join(import.meta.dirname, "..", "..");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
  const folder = join(root, "dist", "man");
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of manPages(version)) writeFileSync(join(folder, name), content);
  console.log(`wrote the manual pages into ${folder}`);
}
