/** The words that may follow each other on the command line: one list of commands with their options, made from the two tables. */
import { COMMAND_NAMES, type CommandName, isNegatable, OPTION_ROWS, type OptionSpec } from "../../config/options.ts";
import type { CommandSpec } from "../command-spec.ts";

export interface CompletedOption {
  /** With its dashes: `--store`, `-v`. */
  readonly flag: string;
  readonly help: string;
  readonly value: Value;
}

export interface CompletedCommand {
  /** One word, or two: `slot create`. */
  readonly name: string;
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  readonly argument: Value;
}

/** The next word after a flag or a command: nothing, some words to choose from, a path, or text of any kind. */
export type Value = readonly string[] | "none" | "path" | "any";

/** A word that may stand first, with its summary: the commands, the groups and `help`. */
export interface FirstWord {
  readonly word: string;
  readonly summary: string;
}

/** The tables of commands.ts. */
export interface CommandTables {
  readonly commands: Readonly<Record<CommandName, CommandSpec>>;
  readonly groups: Readonly<Record<string, string>>;
}

/** Everything a script is made of. */
export interface Words {
  readonly first: readonly FirstWord[];
  readonly commands: readonly CompletedCommand[];
  /** First words of commands that have two. */
  readonly groups: readonly string[];
}

export function wordsOf(tables: CommandTables): Words {
  const commands = COMMAND_NAMES.map((name) => completed(name, tables.commands[name]));
  const single = commands.filter(({ name }) => !name.includes(" "));
  const first = [
    ...single.map(({ name, summary }) => ({ word: name, summary })),
    ...Object.entries(tables.groups).map(([word, summary]) => ({ word, summary })),
    { word: "help", summary: "print help for a command" },
  ];
  return { first, commands, groups: Object.keys(tables.groups) };
}

function completed(name: CommandName, spec: CommandSpec): CompletedCommand {
  const options = OPTION_ROWS.flatMap(([, option]) => (option.commands.includes(name) ? flagsOf(option) : []));
  const help = { flag: "--help", help: "print help", value: "none" } as const;
  return { name, summary: spec.summary, options: [...options, help], argument: argumentOf(spec) };
}

function flagsOf(option: OptionSpec<unknown>): readonly CompletedOption[] {
  const { name, help, short } = option;
  if (option.type !== "boolean") {
    const letter = short === undefined ? [] : [{ flag: `-${short.flag}`, help: `--${name} ${short.value}` }];
    return [
      { flag: `--${name}`, help, value: valueOf(option) },
      ...letter.map((row) => ({ ...row, value: "none" as const })),
    ];
  }
  const on = { flag: `--${name}`, help, value: "none" } as const;
  return isNegatable(option) ? [on, { flag: `--no-${name}`, help: `do not ${help}`, value: "none" }] : [on];
}

function valueOf(option: OptionSpec<unknown>): Value {
  return option.choices ?? option.suggests ?? (option.type === "path" ? "path" : "any");
}

function argumentOf(spec: CommandSpec): Value {
  const [first] = spec.args ?? [];
  if (first === undefined) return "none";
  return first.choices ?? first.suggests ?? (first.name === "path" ? "path" : "any");
}

/** The second words of a group. */
export function membersOf(group: string, { commands }: Words): readonly FirstWord[] {
  return commands.flatMap(({ name, summary }) =>
    name.startsWith(`${group} `) ? [{ word: name.slice(group.length + 1), summary }] : [],
  );
}
