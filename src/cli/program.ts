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
  type OptionSpec,
  type Settings,
} from "../config/options.ts";
import { nearest } from "../suggest.ts";
import { EXIT } from "../error-kinds.ts";
import { hasCode, messageOf, SeawallError } from "../errors.ts";
import { createLog, type Log, redactSecrets } from "../log.ts";
import { schemeOf } from "../store/schemes.ts";
import { COMMAND_GROUPS, COMMANDS } from "./commands.ts";
import type { CommandSpec } from "./command-spec.ts";
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
  // Most know what they want: the other commands' options need not be built then.
  const named = COMMAND_NAMES.filter((name) => name === args[0]);
  const program = buildProgram((found) => (parsed = found), named.length === 0 ? COMMAND_NAMES : named);
  const output = {
    writeOut: (text: string) => (help += text),
    writeErr: (text: string) => (help += text),
    getOutHelpWidth: () => HELP_WIDTH,
    getErrHelpWidth: () => HELP_WIDTH,
  };
  for (const command of allCommands(program)) command.exitOverride().configureOutput(output);
  try {
    program.parse([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === "commander.helpDisplayed" || error.code === "commander.version")
      return { help, exit: EXIT.done };
    if (error.code === "commander.help") return { help, exit: args[0] === "help" ? EXIT.done : EXIT.usage };
    throw usageError(error, args);
  }
  if (parsed === undefined) throw new SeawallError("internal", "no command was chosen");
  return parsed;
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
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", () => helpTail([], describeExits()))
    .showSuggestionAfterError(false);
  const groups = new Map<string, Commander>();
  for (const name of names) {
    const [first = name, second] = name.split(" ");
    let parent = program;
    if (second !== undefined) {
      const group = groups.get(first) ?? program.command(first).description(groupSummary(first));
      groups.set(first, group.helpOption("-h, --help", "print help").showSuggestionAfterError(false));
      parent = group;
    }
    addCommand(parent, second ?? first, name, chosen);
  }
  return program;
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

/** commander's complaint in our words, with the nearest thing that exists. */
function usageError(error: CommanderError, args: readonly string[]): SeawallError {
  const message = error.message.replace(/^error: /, "").replaceAll("'", '"');
  const command = COMMAND_NAMES.find((name) => name.split(" ").every((word, i) => args[i] === word));
  const seeHelp = command === undefined ? "Run seawall --help." : `Run seawall ${command} --help.`;
  const wrong = /"(.*)"/.exec(message)?.[1] ?? "";
  if (error.code === "commander.unknownOption") {
    if (command === undefined && args[0] === wrong) {
      return new SeawallError("usage", message, { hint: "Options follow the command: seawall receive --store …" });
    }
    const known = OPTION_ROWS.filter(([, spec]) => command === undefined || spec.commands.includes(command));
    const near = nearest(
      wrong,
      known.map(([, spec]) => `--${spec.name}`),
    );
    return new SeawallError("usage", message, { hint: near === undefined ? seeHelp : `Did you mean ${near}?` });
  }
  if (error.code === "commander.unknownCommand") {
    const words = COMMAND_NAMES.flatMap((name) => name.split(" "));
    const near = nearest(wrong, words);
    return new SeawallError("usage", message, { hint: near === undefined ? seeHelp : `Did you mean ${near}?` });
  }
  return new SeawallError("usage", message, { hint: seeHelp });
}
