/** `seawall status`: prints where every byte is, from the running receiver, or from the server and the store. */
import { realpath } from "node:fs/promises";
import { EXIT } from "../../error-kinds.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { envName, OPTIONS } from "../../config/options.ts";
import { judged } from "../../daemon/health/health.ts";
import { askReceiver, type StatusAnswer } from "../../daemon/status/client.ts";
import type { NoReceiver, StatusDocument, StatusOverview } from "../../daemon/status/document.ts";
import { type ArchiveLook, withLook } from "../../daemon/status/looked.ts";
import { healthLimits } from "../../daemon/status/receiver-document.ts";
import { deadline } from "../../signals.ts";
import { waitFor } from "../../store/signal.ts";
import { clustersOf, exitOfFailure, onEach } from "../all-clusters.ts";
import { type CommandContext, connectionSettings, openPatientStore, printResult } from "../context.ts";
import { renderOverview } from "../views/status-overview.ts";
import { renderStatus } from "../views/status.ts";
import { checkExit, checkJson, checkText, nagiosText } from "../views/status-check.ts";
import { seawallVersion } from "./version.ts";

const ASK_TIMEOUT_MS = 2_000;
const LOOK_TIMEOUT_MS = 30_000;
/** A receiver has answered: monitoring plug-ins are given up after 10 s, and what others did with the archive is an addition. */
const LOOK_BESIDE_RECEIVER_MS = 3_000;
/** Clusters that are looked at at the same time. */
const LOOKS_MAX = 8;

export async function run(context: CommandContext): Promise<number> {
  const { settings } = context;
  if (!settings.statusCheck) {
    const { note, shown, exit, failure } = await gather(context);
    if (failure !== undefined) throw failure.error;
    const text = "clusters" in shown ? renderOverview(shown, context.io) : renderStatus(shown, context.io);
    await printResult(context, shown, `${note}${text}`);
    return exit;
  }
  return check(context);
}

/** The judgement alone, with the limits that were asked for. A receiver that does not answer is an answer: critical. */
async function check(context: CommandContext): Promise<number> {
  const { settings, io, signals } = context;
  let statuses: readonly StatusDocument[];
  try {
    const { shown, failure } = await gather(context);
    if (failure !== undefined && (signals.stop.aborted || !isMissing(failure.error))) throw failure.error;
    statuses = "clusters" in shown ? shown.clusters : [shown];
  } catch (error) {
    if (signals.stop.aborted || !isMissing(error)) throw error;
    const named = clustersOf(context) ?? [context];
    statuses = await Promise.all(named.map(async (one) => (await notLookedAt(one, error)).status));
  }
  const asked = statuses.map((status) => judged(status, settings));
  if (settings.nagios) await io.out(`${nagiosText(asked, settings)}\n`);
  else await printResult(context, checkJson(asked), checkText(asked, io));
  return checkExit(asked);
}

/** True when receiver, server or store gave no answer; a wrong option or a bug is something else. */
function isMissing(error: unknown): boolean {
  return error instanceof SeawallError && !["usage", "internal", "aborted"].includes(error.code);
}

interface Gathered {
  readonly shown: StatusDocument | StatusOverview;
  /** Stands above what is shown; empty where a receiver answered. */
  readonly note: string;
  /** With --all, the highest of the clusters whose status is not known. */
  readonly exit: number;
  /** All that was asked has failed: the first error. */
  readonly failure?: { readonly error: unknown } | undefined;
}

async function gather(context: CommandContext): Promise<Gathered> {
  const { settings, clusters } = context;
  const { listen } = settings;
  const answer: StatusAnswer =
    listen.kind === "off"
      ? { kind: "no-answer", reason: "--listen is off" }
      : await askReceiver(listen, ASK_TIMEOUT_MS);
  const isServedUnnamed = answer.kind === "answered-for-several" && !isNamed(context);
  const isSeveral = settings.all || (clusters !== undefined && clusters.length > 1) || isServedUnnamed;
  if (!isSeveral) return gatherOne(context, answer);
  return gatherAll(context, clustersOf(context) ?? (isServedUnnamed ? [] : [context]), answer);
}

/** True when the cluster is given, if only by a file that has one. */
function isNamed({ origins }: CommandContext): boolean {
  return origins.get("cluster") !== "default";
}

async function gatherOne(context: CommandContext, answer: StatusAnswer): Promise<Gathered> {
  const { settings } = context;
  const found = await answerFor(context, answer);
  if (!isMissingReceiver(found)) {
    const shown = judged(withLook(found, await lookAtArchive(context, found)));
    return { shown, note: "", exit: EXIT.done };
  }
  const isGuess = settings.statusCheck && isNamedByHand(context);
  if (isGuess && settings.store === undefined && answer.kind !== "no-answer") {
    throw unknownName(context, found.message, "Check the name, or give --store to look for its archive.");
  }
  const { status, failures, wanted } = await lookWithoutReceiver(context, found);
  const absent = failures.find((error) => hasCode(error, "archive-absent"));
  if (isGuess && absent instanceof SeawallError) throw unknownName(context, absent.message, absent.hint);
  const failure = failures.length === wanted ? { error: togetherOf(failures, found) } : undefined;
  const who = found.kind === "silent" ? "No receiver" : "No receiver of this archive";
  const note = `${who} answers (${found.message}): this is what server and store say themselves.\n\n`;
  return { shown: status, note, exit: EXIT.done, failure };
}

/** One error that names the receiver, the server and the store, where each of them has failed. */
function togetherOf(failures: readonly unknown[], { message }: NoReceiver): unknown {
  const known = failures.filter((error) => error instanceof SeawallError);
  // Server and store are asked at the same time: the order of their errors is not chance.
  const sorted = known.sort((a, b) => a.exit - b.exit);
  const last = sorted.at(-1);
  if (last === undefined || sorted.length < 2 || sorted.length < failures.length) return failures[0];
  const told = [`no receiver answers: ${message}`, ...sorted.map((error) => error.message)].join("; ");
  const hint = sorted.flatMap((error) => error.hint ?? []).join(" ");
  return new SeawallError(last.code, told, { cause: last, hint });
}

/** True when a person wrote the name into the command or the environment: it may be mistyped. A file's name is the receiver's too. */
function isNamedByHand({ origins, clusters }: CommandContext): boolean {
  return clusters === undefined && ["--cluster", envName(OPTIONS.cluster.name)].includes(origins.get("cluster") ?? "");
}

/** For --check a name that neither the receiver nor the store knows is a slip, and no cluster in trouble. */
function unknownName({ settings, origins }: CommandContext, reason: string, hint: string): SeawallError {
  const place = origins.get("cluster") ?? "--cluster";
  return new SeawallError("usage", `${place}: no cluster "${settings.cluster}" is known: ${reason}`, { hint });
}

function isMissingReceiver(found: StatusDocument | NoReceiver): found is NoReceiver {
  return "kind" in found;
}

/** Picks the receiver's answer for this cluster in this store, or the reason why there is none. */
async function answerFor(context: CommandContext, answer: StatusAnswer): Promise<StatusDocument | NoReceiver> {
  const { settings } = context;
  const found = clusterIn(answer, settings.cluster, isNamed(context));
  if (isMissingReceiver(found) || found.store === null || settings.store === undefined) return found;
  const store = await openPatientStore(context, settings.store, { interactive: true });
  const { description } = store;
  await store.close();
  const isSame = description === found.store || (await isSameDirectory(description, found.store));
  if (isSame) return found;
  return { kind: "other-store", message: `the receiver there stores into ${found.store}, and not into ${description}` };
}

/** Compares descriptions of stores: a directory may be reached by a symbolic link. */
async function isSameDirectory(a: string, b: string): Promise<boolean> {
  const prefix = "file://";
  if (!a.startsWith(prefix) || !b.startsWith(prefix)) return false;
  try {
    const [first, second] = await Promise.all([a, b].map((text) => realpath(text.slice(prefix.length))));
    return first === second;
  } catch {
    return false;
  }
}

function clusterIn(answer: StatusAnswer, cluster: string, isAsked: boolean): StatusDocument | NoReceiver {
  switch (answer.kind) {
    case "no-answer":
      return { kind: "silent", message: answer.reason };
    case "answered":
      if (!isAsked || answer.status.cluster === cluster) return answer.status;
      return { kind: "other-cluster", message: `the receiver there serves cluster "${answer.status.cluster}"` };
    case "answered-for-several": {
      const { clusters } = answer.overview;
      const names = clusters.map((status) => status.cluster);
      const message = `the receiver there serves ${names.join(", ")}`;
      return clusters.find((status) => status.cluster === cluster) ?? { kind: "other-cluster", message };
    }
  }
}

/** Looks at the clusters of the file and at those that the receiver serves beside them. A failure hides no other cluster. */
async function gatherAll(
  context: CommandContext,
  clusters: readonly CommandContext[],
  answer: StatusAnswer,
): Promise<Gathered> {
  const served = answer.kind === "answered-for-several" ? answer.overview : undefined;
  const others = served?.clusters.filter((one) => !clusters.some(({ settings }) => settings.cluster === one.cluster));
  const looks = await onEach(clusters, LOOKS_MAX, async (one): Promise<Looked> => {
    const found = await answerFor(one, answer);
    if (isMissingReceiver(found)) return lookWithoutReceiver(one, found);
    const status = judged(withLook(found, await lookAtArchive(one, found)));
    return { status, failures: [], wanted: 1 };
  });
  const own = await Promise.all(
    looks.map(async (look) => (look.kind === "done" ? look.result : notLookedAt(look.one, look.error))),
  );
  const failed = own.filter(({ failures, wanted }) => failures.length === wanted);
  const isAllFailed = !context.settings.all && failed.length > 0 && failed.length === own.length;
  const failure = isAllFailed ? { error: failed[0]?.failures[0] } : undefined;
  const overview: StatusOverview = {
    clusters: [...own.map(({ status }) => status), ...(others ?? [])],
    configuration: served?.configuration ?? null,
    version: served?.version ?? seawallVersion(),
    at: new Date().toISOString(),
  };
  const why = answer.kind === "no-answer" ? answer.reason : "it serves another cluster";
  const isAnswered = served !== undefined || own.some(({ status }) => status.source === "receiver");
  const note = isAnswered ? "" : `No receiver answers (${why}): this is what servers and stores say themselves.\n\n`;
  const exits = failed.flatMap(({ failures }) => failures.map(exitOfFailure));
  return { shown: overview, note, exit: context.settings.all ? Math.max(EXIT.done, ...exits) : EXIT.done, failure };
}

/** Looks for what others did with the archive: the receiver sees it later. Undefined without the store, and without its answer. */
async function lookAtArchive(
  context: CommandContext,
  { cluster, gaps }: StatusDocument,
): Promise<ArchiveLook | undefined> {
  const { settings, signals, log } = context;
  if (settings.store === undefined) return undefined;
  const { openArchive } = await import("../../archive/archive.ts");
  const { readLastEvents } = await import("../../archive/records/last-events.ts");
  const { GapMemory, lookAtGaps } = await import("../../daemon/status/gap-look.ts");
  const store = await openPatientStore(context, settings.store, { interactive: true });
  // Not `using`: beside it TypeScript 5.9 leaves a dynamic import's extension as it is.
  const limit = deadline(LOOK_BESIDE_RECEIVER_MS, signals.stop);
  const { signal } = limit;
  const hasOpenGap = gaps.some(({ coveredBy }) => coveredBy === null);
  const look = async (): Promise<ArchiveLook> => {
    const archive = await openArchive(store, cluster, { signal });
    const last = await readLastEvents(archive, new Date(), { signal });
    const options = { signal, mayReadWal: false };
    return { last, gaps: hasOpenGap ? await lookAtGaps(archive, new GapMemory(), options) : undefined };
  };
  try {
    // A directory may answer no call, and heed no signal.
    return await waitFor(look(), { signals: [signal] });
  } catch (error) {
    if (!limit.isOverdue) log.warn("cannot look at the archive", { cluster, error });
    else log.warn("the store does not answer: the archive is shown as the receiver saw it last", { cluster });
    return undefined;
  } finally {
    limit[Symbol.dispose]();
    await store.close();
  }
}

/** A name that cannot even be looked at has its line all the same. */
async function notLookedAt(
  { settings, signals }: CommandContext,
  error: unknown,
  noReceiver?: NoReceiver,
): Promise<Looked> {
  const { lookFromOutside } = await import("../../daemon/status/outside-view.ts");
  const { status } = await lookFromOutside({
    cluster: settings.cluster,
    slot: undefined,
    connection: undefined,
    store: undefined,
    // With a reason the finding already says that no receiver answers.
    troubles: noReceiver === undefined ? [error] : [],
    noReceiver,
    limits: healthLimits(settings, null),
    version: seawallVersion(),
    nowMs: () => Date.now(),
    signal: signals.stop,
  });
  return { status, failures: [error], wanted: 1 };
}

interface Looked {
  readonly status: StatusDocument;
  readonly failures: readonly unknown[];
  /** How many of server and store were asked. */
  readonly wanted: number;
}

async function lookWithoutReceiver(context: CommandContext, noReceiver: NoReceiver): Promise<Looked> {
  const { settings, origins, env, signals } = context;
  // Connect only when asked to: libpq's defaults alone would lead to some local server.
  const wantsServer = settings.dsn !== undefined || ["PGHOST", "PGHOSTADDR", "PGSERVICE"].some((name) => env[name]);
  if (!wantsServer && settings.store === undefined) {
    const configured = origins.get("listen") !== "default";
    const error = new SeawallError("receiver-unreachable", `no receiver answers: ${noReceiver.message}`, {
      hint: configured
        ? "Start it, or give --dsn and --store to look at the server and the archive without it."
        : "Give its --listen address, or --dsn and --store to look at the server and the archive without it.",
    });
    return notLookedAt(context, error, noReceiver);
  }
  const { lookFromOutside } = await import("../../daemon/status/outside-view.ts");
  const connection = wantsServer ? await connectionSettings(context) : undefined;
  const store =
    settings.store === undefined ? undefined : await openPatientStore(context, settings.store, { interactive: true });
  const limit = deadline(LOOK_TIMEOUT_MS, signals.stop);
  try {
    const { status, failures } = await lookFromOutside({
      cluster: settings.cluster,
      slot: settings.noSlot ? undefined : settings.slot,
      connection,
      store,
      noReceiver,
      limits: healthLimits(settings, null),
      version: seawallVersion(),
      nowMs: () => Date.now(),
      signal: limit.signal,
    });
    return { status, failures, wanted: (connection === undefined ? 0 : 1) + (store === undefined ? 0 : 1) };
  } finally {
    limit[Symbol.dispose]();
    await store?.close();
  }
}
