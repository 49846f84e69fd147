/**
 * `--all`: runs a command for every cluster of the file, or of the store, and makes one result of the parts. A cluster that
 * fails does not stop the others, and the highest exit status counts.
 */
import { mapBounded } from "../archive/bounded.ts";
import type { Merged } from "../config/load.ts";
import { EXIT } from "../error-kinds.ts";
import { hasCode, SeawallError } from "../errors.ts";
import { type Command, type CommandContext, openPatientStore, printResult, requiredStore } from "./context.ts";
import { describeFailure, type FailureOptions, failureJson } from "./failure.ts";
import { counted } from "../plural.ts";
import { type Colour, painted } from "./views/painted.ts";

/** The result of a command for one cluster. */
export interface Report {
  readonly json: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly exit: number;
}

export interface OnClustersOptions {
  /** Most clusters at the same time. */
  readonly inFlight: number;
  /** The command needs only a store: without `clusters:` in the file, --all means the clusters of the store. */
  readonly ofStore?: boolean;
}

/** The columns by which the text of a cluster is indented below its name. */
const INDENT = 2;

/** Makes a command of a report on one cluster. */
export function onClusters(report: (one: CommandContext) => Promise<Report>, options: OnClustersOptions): Command {
  return async (context) => {
    if (!context.settings.all) {
      const { json, text, exit } = await report(context);
      await printResult(context, json, text);
      return exit;
    }
    const clusters = clustersOf(context) ?? (options.ofStore === true ? await clustersOfStore(context) : [context]);
    const { width } = context.io;
    const io = { ...context.io, width: width === undefined ? undefined : width - INDENT };
    const outcomes = await onEach(
      clusters.map((one) => ({ ...one, io })),
      options.inFlight,
      report,
    );
    const parts = outcomes.map((outcome) => partOf(outcome, context.io.colours));
    await printResult(context, { clusters: parts.map(({ json }) => json) }, allText(parts, context.io.colours));
    return Math.max(...parts.map(({ exit }) => exit));
  };
}

/** The clusters of the file; undefined where it has no `clusters:`. */
export function clustersOf(context: CommandContext): readonly CommandContext[] | undefined {
  return context.clusters?.map((merged) => contextOf(context, merged));
}

async function clustersOfStore(context: CommandContext): Promise<readonly CommandContext[]> {
  const { settings, origins, signals } = context;
  const { clustersIn } = await import("../archive/archive.ts");
  const store = await openPatientStore(context, requiredStore(context), { interactive: true });
  try {
    const names = await clustersIn(store, { signal: signals.stop });
    if (names.length === 0) {
      throw new SeawallError("archive-absent", `there is no cluster in ${store.description}`, {
        hint: "Check --store, or start seawall receive to create an archive.",
      });
    }
    return names.map((cluster) => contextOf(context, { settings: { ...settings, cluster }, origins }));
  } finally {
    await store.close();
  }
}

function contextOf(context: CommandContext, { settings, origins }: Merged): CommandContext {
  const log = { ...context.log, ...context.log.child("cluster", { cluster: settings.cluster }) };
  return { ...context, settings, origins, log };
}

export type Outcome<T> = { readonly one: CommandContext } & (
  { readonly kind: "done"; readonly result: T } | { readonly kind: "failed"; readonly error: unknown }
);

/** Works on each cluster, `inFlight` at a time. Throws only when the command is stopped. */
export async function onEach<T>(
  clusters: readonly CommandContext[],
  inFlight: number,
  work: (one: CommandContext) => Promise<T>,
): Promise<readonly Outcome<T>[]> {
  return mapBounded(clusters, inFlight, async (cluster): Promise<Outcome<T>> => {
    // Two progress lines cannot share one line of the terminal.
    const one = inFlight === 1 ? cluster : { ...cluster, io: { ...cluster.io, interactive: false } };
    const { stop } = one.signals;
    if (stop.aborted) throw new SeawallError("aborted", "the command was cancelled", { cause: stop.reason });
    try {
      return { one, kind: "done", result: await work(one) };
    } catch (error) {
      if (stop.aborted) throw error;
      return { one, kind: "failed", error };
    }
  });
}

interface Part {
  readonly cluster: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly word: Word;
  readonly exit: number;
}

type Word = "ok" | "not ok" | "failed";
const TONE: Readonly<Record<Word, Colour>> = { ok: "green", "not ok": "red", failed: "red" };
const FAILURE: Omit<FailureOptions, "json"> = { usageExit: EXIT.usage, unexpectedExit: EXIT.operational };

/** The exit status of one cluster's failure. */
export function exitOfFailure(error: unknown): number {
  return failureJson(error, FAILURE).exit;
}

function partOf(outcome: Outcome<Report>, colours: boolean): Part {
  const { cluster } = outcome.one.settings;
  if (outcome.kind === "done") {
    const { json, text, exit } = outcome.result;
    const word = exit === EXIT.done ? "ok" : "not ok";
    return { cluster, json: { cluster, exit, ...json }, text: heading(cluster, word, text, colours), word, exit };
  }
  const error = amongAll(outcome.error);
  const { text, exit } = describeFailure(error, { ...FAILURE, json: false });
  const json = { cluster, exit, error: failureJson(error, FAILURE) };
  return { cluster, json, text: heading(cluster, "failed", text.trimEnd(), colours), word: "failed", exit };
}

/** With --all a cluster is not chosen by --cluster, as the hint for one cluster advises. */
function amongAll(error: unknown): unknown {
  if (!(error instanceof SeawallError) || !hasCode(error, "archive-absent")) return error;
  return new SeawallError("archive-absent", error.message, {
    cause: error.cause,
    hint: "seawall receive creates the archive when it first connects. If it has one already, correct its name or store in the file.",
  });
}

function heading(cluster: string, word: Word, text: string, colours: boolean): string {
  const lines = text.split("\n").map((line) => (line === "" ? "" : " ".repeat(INDENT) + line));
  return [`${cluster}: ${painted(word, TONE[word], colours)}`, ...lines].join("\n");
}

/** Trouble first; otherwise the order of the file or the store. The last line counts. */
function allText(parts: readonly Part[], colours: boolean): string {
  const sorted = [...parts].sort((a, b) => b.exit - a.exit);
  const counts = (["failed", "not ok", "ok"] as const).flatMap((word) => {
    const count = parts.filter((part) => part.word === word).length;
    return count === 0 ? [] : [painted(`${count} ${word}`, TONE[word], colours)];
  });
  return [...sorted.map(({ text }) => text), `${counted(parts.length, "cluster")}: ${counts.join(", ")}`].join("\n\n");
}
