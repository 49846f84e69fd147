/**
 * Leads from arguments to a command and its exit status: parses what the two tables describe with commander, loads the
 * settings and the command's own file, runs it, and prints its error.
 */
import { readFile } from "node:fs/promises";
import { Command as Commander, CommanderError, Option } from "commander";
import { type Loaded, loadSettings } from "../config/load.ts";
import {
  COMMAND_NAMES,
  type CommandName,
  defaultText,
  isNegatable,
  OPTION_ROWS,
  OPTIONS,
  type OptionSpec,
  type Settings,
} from "../config/options.ts";
import { nearest } from "../suggest.ts";
import { EXIT } from "../error-kinds.ts";
import { hasCode, messageOf, SeawallError } from "../errors.ts";
import { createLog, type Log, redactSecrets } from "../log.ts";
import { schemeOf } from "../store/schemes.ts";
import { COMMAND_GROUPS, COMMANDS } from "./commands.ts";
import { type CommandSpec, HELP_GROUPS } from "./command-spec.ts";
import { describeFailure } from "./failure.ts";
import { describeExits, helpTail } from "./help.ts";
import type { Io } from "./io.ts";
import { endWithin, GRACE_MS, RUN_AGAIN } from "./last-resort.ts";
import type { Signals } from "./signals.ts";
import { CHECK_UNKNOWN, unknownLine } from "./check-status.ts";
import { seawallVersion } from "./commands/version.ts";

export interface ProgramInput {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly io: Io;
  readonly signals: Signals;
  /** 2, but above 125 where PostgreSQL may be waiting for the answer. */
  readonly usageExit: number;
  /** Started by a daemon, for its routine. */
  readonly isJob?: boolean;
}

interface Parsed {
  readonly name: CommandName;
  readonly flags: ReadonlyMap<string, string | boolean>;
  readonly args: readonly string[];
}

/** Resolves with the exit status; throws only what is a bug in this file. */
export async function runProgram(input: ProgramInput): Promise<number> {
  const { args, io } = input;
  const json = args.includes("--json");
  const isCheck = args[0] === "status" && args.includes("--check");
  const usageExit = isCheck ? CHECK_UNKNOWN : input.usageExit;
  let parsed: Parsed | { readonly help: string; readonly exit: number };
  try {
    parsed = parse(args);
  } catch (error) {
    const { text, exit } = describeFailure(error, { json, usageExit, unexpectedExit: EXIT.operational });
    if (isCheck && args.includes("--nagios")) await io.out(`${unknownLine(redactSecrets(messageOf(error)))}\n`);
    io.err(text);
    return exit;
  }
  if ("help" in parsed) {
    if (parsed.exit === EXIT.done) await io.out(parsed.help);
    else io.err(parsed.help);
    return parsed.exit === EXIT.done ? EXIT.done : usageExit;
  }
  return runCommand(parsed, { ...input, usageExit }, json);
}

async function runCommand(parsed: Parsed, input: ProgramInput, json: boolean): Promise<number> {
  const { env, io, signals, usageExit } = input;
  const spec: CommandSpec = COMMANDS[parsed.name];
  const isCheck = parsed.name === "status" && parsed.flags.get("check") === true;
  // A monitoring check that cannot be carried out is unknown, whatever stood in its way.
  const unexpectedExit = isCheck ? CHECK_UNKNOWN : (spec.unexpectedExit ?? EXIT.operational);
  const always = isCheck || unexpectedExit > 125;
  const failure = { json, unexpectedExit, usageExit: always ? unexpectedExit : usageExit, always };
  let log = createLog({ level: "silent", format: "json" });
  try {
    const { name: command, flags } = parsed;
    const load = (): Promise<Loaded> =>
      loadSettings({ command, flags, env, readFile: (path) => readFile(path, "utf8") });
    const { settings, origins, clusters } = await load();
    log = createLog({ level: settings.logLevel, format: settings.logFormat, buffered: spec.daemon === true });
    if (spec.endAfterStop === undefined) {
      const stores = (clusters ?? [{ settings }]).map((one) => one.settings.store);
      const usesFiles = stores.some((url) => url !== undefined && schemeOf(url)?.usesFiles === true);
      endWithin({ stop: signals.stop, withinMs: GRACE_MS, log, usesFiles, hint: RUN_AGAIN });
    }
    // Recovery starts these two for each segment.
    const isForRecovery = parsed.name === "wal-fetch" || parsed.name === "wal-prefetch";
    const readsIdentity = OPTIONS.identity.commands.includes(parsed.name) && !isForRecovery;
    const identities = readsIdentity ? (clusters ?? [{ settings }]).flatMap((one) => one.settings.identity ?? []) : [];
    if (identities.length > 0) {
      const { warnOfOpenIdentities } = await import("./identity-access.ts");
      await warnOfOpenIdentities(identities.join("\n"), log);
    }
    const { run } = await spec.load();
    // Held until the process ends.
    await turnOf(parsed.name, input, { settings, log });
    const given = { args: parsed.args, argv: input.args, env, io, log, signals };
    const context = { settings, origins, clusters, load, ...given };
    if (settings.hook === undefined) return await run(context);
    const { runHooked } = await import("./hooked.ts");
    return await runHooked(parsed.name, run, context);
  } catch (error) {
    const interrupted = signals.exit();
    if (interrupted !== undefined && hasCode(error, "aborted")) return interrupted;
    log.flush();
    const { text, exit } = describeFailure(error, failure);
    if (isCheck && parsed.flags.get("nagios") === true)
      await io.out(`${unknownLine(redactSecrets(messageOf(error)))}\n`);
    io.err(text);
    return exit;
  } finally {
    log.flush();
  }
}

/** Jobs of the daemon do not overlap. A command that is run by hand does not wait for them. */
async function turnOf(
  name: CommandName,
  { isJob, signals }: ProgramInput,
  { settings, log }: { readonly settings: Settings; readonly log: Log },
): Promise<void> {
  if (isJob !== true) return;
  const { takeTurn } = await import("./job-turn.ts");
  const { store = "", cluster } = settings;
  await takeTurn({ job: name, store, cluster, log, signal: signals.stop });
}

const HELP_WIDTH = 100;

/** Throws `usage`. Help is a result, not an effect: the caller prints it. */
function parse(args: readonly string[]): Parsed | { readonly help: string; readonly exit: number } {
  let parsed: Parsed | undefined;
  let help = "";
  const words = commandWords(args);
  if (args[0] === "help" || asksForHelp(args)) refuseUnknown(words);
  const given = args[0] === "help" ? [...words, "--help"] : args;
  // Most know what they want: the other commands' options need not be built then.
  const named = COMMAND_NAMES.filter((name) => name === given[0]);
  const program = buildProgram((found) => (parsed = found), named.length === 0 ? COMMAND_NAMES : named);
  const output = {
    writeOut: (text: string) => (help += text),
    writeErr: (text: string) => (help += text),
    getOutHelpWidth: () => HELP_WIDTH,
    getErrHelpWidth: () => HELP_WIDTH,
  };
  for (const command of allCommands(program)) command.exitOverride().configureOutput(output);
  try {
    program.parse([...given], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed" || error.code === "commander.version")
      return { help, exit: EXIT.done };
    if (error.code === "commander.help") return { help, exit: EXIT.usage };
    throw usageError(error, args);
  }
  if (parsed === undefined) throw new SeawallError("internal", "no command was chosen");
  return parsed;
}

/** The words before the first option; those behind `help` when it comes first. */
function commandWords(args: readonly string[]): readonly string[] {
  const words = args[0] === "help" ? args.slice(1) : args;
  const end = words.findIndex((word) => word.startsWith("-"));
  return end === -1 ? words : words.slice(0, end);
}

function asksForHelp(args: readonly string[]): boolean {
  return args.some((arg) => arg === "--help" || arg === "-h");
}

/** commander answers `help nonsense` with the help of the program, as a success. */
function refuseUnknown(words: readonly string[]): void {
  const name = commandNamed(words);
  const isKnown = COMMAND_NAMES.some((known) => known === name || known.startsWith(`${name} `));
  if (name !== "" && !isKnown) throw unknownCommand(name);
}

/** The command's name at the start of `words`: two words where the first names a group. */
function commandNamed(words: readonly string[]): string {
  return words.slice(0, isGroup(words[0]) ? 2 : 1).join(" ");
}

function isGroup(word: string | undefined): boolean {
  return Object.keys(COMMAND_GROUPS).some((group) => group === word);
}

function unknownCommand(name: string): SeawallError {
  const near = nearest(name, name.includes(" ") ? COMMAND_NAMES : [...COMMAND_NAMES, ...Object.keys(COMMAND_GROUPS)]);
  const [group = ""] = name.split(" ");
  const seeHelp = isGroup(group) ? `Run seawall ${group} --help.` : "Run seawall --help.";
  const hint = near === undefined ? seeHelp : `Did you mean ${near}?`;
  return new SeawallError("usage", `unknown command "${name}"`, { hint });
}

function allCommands(command: Commander): Commander[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

export function buildProgram(
  chosen: (parsed: Parsed) => void,
  names: readonly CommandName[] = COMMAND_NAMES,
): Commander {
  const program = new Commander("seawall")
    .description("Streams PostgreSQL's write-ahead log into object storage while it is being written.")
    .version(`seawall ${seawallVersion()}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand(false)
    .addHelpText("after", () => helpTail([], describeExits()))
    .showSuggestionAfterError(false);
  const groups = new Map<string, Commander>();
  for (const name of inHelpOrder(names)) {
    const [first = name, second] = name.split(" ");
    let parent = program;
    if (second !== undefined) {
      const group = groups.get(first) ?? program.command(first).description(groupSummary(first));
      group.helpOption("-h, --help", "print help").helpCommand(false).showSuggestionAfterError(false);
      groups.set(first, group.helpGroup(`${COMMANDS[name].group}:`));
      parent = group;
    }
    addCommand(parent, second ?? first, name, chosen);
  }
  return program;
}

function inHelpOrder(names: readonly CommandName[]): readonly CommandName[] {
  return HELP_GROUPS.flatMap((group) => names.filter((name) => COMMANDS[name].group === group));
}

function groupSummary(word: string): string {
  const summary = Object.entries(COMMAND_GROUPS).find(([group]) => group === word)?.[1];
  if (summary === undefined) throw new SeawallError("internal", `the group ${word} has no summary`);
  return summary;
}

function addCommand(parent: Commander, word: string, name: CommandName, chosen: (parsed: Parsed) => void): void {
  const spec: CommandSpec = COMMANDS[name];
  const command = parent
    .command(word)
    .helpGroup(`${spec.group}:`)
    .summary(spec.summary)
    .description(spec.description)
    .helpOption("-h, --help", "print help")
    .showSuggestionAfterError(false)
    .addHelpText("after", () => helpTail(spec.examples, spec.exits));
  for (const arg of spec.args ?? []) command.argument(`<${arg.name}>`, arg.help);
  const flags = new Map<string, string | boolean>();
  for (const [, option] of OPTION_ROWS) if (option.commands.includes(name)) addOption(command, option, flags);
  command.action(() => chosen({ name, flags, args: command.args }));
}

/** Values are collected as they are written: types, defaults and precedence are the loader's. */
function addOption(command: Commander, spec: OptionSpec<unknown>, flags: Map<string, string | boolean>): void {
  const shownDefault = spec.type === "boolean" ? undefined : defaultText(spec);
  const help = shownDefault === undefined ? spec.help : `${spec.help} (default: ${shownDefault})`;
  if (spec.type !== "boolean") {
    command.addOption(new Option(`--${spec.name} <${spec.placeholder}>`, help));
    if (spec.short !== undefined) addShort(command, spec, flags);
    command.on(`option:${spec.name}`, (value: string) => {
      const before = spec.repeatable === true ? flags.get(spec.name) : undefined;
      flags.set(spec.name, before === undefined ? value : `${String(before)}\n${value}`);
    });
    return;
  }
  const onByDefault = spec.default === true;
  command.addOption(new Option(`--${spec.name}`, help).hideHelp(onByDefault));
  command.on(`option:${spec.name}`, () => flags.set(spec.name, true));
  if (!isNegatable(spec)) return;
  command.addOption(new Option(`--no-${spec.name}`, `do not ${help}`).hideHelp(!onByDefault));
  command.on(`option:no-${spec.name}`, () => flags.set(spec.name, false));
}

/** A flag without a value that stands for one value of the option. */
function addShort(command: Commander, spec: OptionSpec<unknown>, flags: Map<string, string | boolean>): void {
  const { flag = "", value = "" } = spec.short ?? {};
  command.addOption(new Option(`-${flag}`, `short for --${spec.name} ${value}`));
  command.on(`option:${flag}`, () => flags.set(spec.name, value));
}

/** commander's complaint in our words, with the nearest thing that exists. */
function usageError(error: CommanderError, args: readonly string[]): SeawallError {
  const message = error.message.replace(/^error: /, "").replaceAll("'", '"');
  const command = COMMAND_NAMES.find((name) => name.split(" ").every((word, i) => args[i] === word));
  const seeHelp = command === undefined ? "Run seawall --help." : `Run seawall ${command} --help.`;
  const wrong = /"(.*)"/.exec(message)?.[1] ?? "";
  if (error.code === "commander.unknownOption") {
    if (command === undefined && args[0] === wrong) {
      const version = wrong === "-v" ? " The version is seawall -V." : "";
      const hint = `Options follow the command: seawall receive ${version === "" ? "--store …" : "-v …"}.${version}`;
      return new SeawallError("usage", message, { hint });
    }
    const known = OPTION_ROWS.filter(([, spec]) => command === undefined || spec.commands.includes(command));
    const near = nearest(
      wrong,
      known.map(([, spec]) => `--${spec.name}`),
    );
    return new SeawallError("usage", message, { hint: near === undefined ? seeHelp : `Did you mean ${near}?` });
  }
  if (error.code === "commander.unknownCommand") return unknownCommand(commandNamed(commandWords(args)));
  return new SeawallError("usage", message, { hint: seeHelp });
}
