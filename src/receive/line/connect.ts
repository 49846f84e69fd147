/**
 * Connects to a server that may be archived: the first of several hosts that the archive's line admits. claim.ts
 * decides; with a spool, the store behind it.
 */
import { type Archive, openArchiveFor, openSpoolFor } from "../../archive/archive.ts";
import { findTip } from "../../archive/wal/tip.ts";
import type { Codec } from "../../codec/codec.ts";
import { EXIT, type ErrorCode } from "../../error-kinds.ts";
import { hasCode, SeawallError } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import type { NoticeLimit } from "../../replication/notice-limit.ts";
import { type JoinedSignal, deadline, joinSignals } from "../../signals.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { type JoinOptions, joinLine, storeHistories } from "./claim.ts";
import type { JoinedLine } from "./watch.ts";
import type { ReceiverOptions } from "../options.ts";
import { type ServerFacts, readServerFacts, readServerHistory } from "../server-facts.ts";
import { delaysUpload } from "../upload-failures.ts";
import { waitFor } from "../../store/signal.ts";

/** A server whose WAL belongs into the archive. */
export interface Joined extends AsyncDisposable {
  /** Drops the connection at a kill, and at a stop until the stream has begun. */
  readonly lifeline: JoinedSignal;
  readonly connection: ReplicationConnection;
  readonly server: ServerFacts;
  readonly archive: Archive;
  readonly history: TimelineHistory;
  readonly line: JoinedLine;
}

interface Joining {
  /** The codec that the opened archive gets. */
  readonly codec: Codec;
  /** Shared by all connections: a server may flood each of them. */
  readonly notices: NoticeLimit;
  readonly takeOver: number | undefined;
  readonly signal: AbortSignal;
}

/**
 * Connects to the first host that may be archived. A host that is refused for its timeline is passed over, and is asked
 * again at the next connection. Throws the refusal when each host is refused, and what connecting throws. Nothing has been
 * stored on the way to a refusal, and no slot made.
 */
export async function connectToLine(
  options: ReceiverOptions,
  { codec, notices, signal }: Pick<Joining, "codec" | "notices" | "signal">,
): Promise<Joined> {
  const { takeOver } = options;
  const isOnly = options.settings.values.hosts.length === 1;
  if (takeOver === undefined || isOnly) return connectToFit(options, { codec, notices, takeOver, signal });
  // --take-over is for a server that would be refused: of several hosts, one on the line comes first.
  try {
    return await connectToFit(options, { codec, notices, takeOver: undefined, signal });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return connectToFit(options, { codec, notices, takeOver, signal });
  }
}

async function connectToFit(options: ReceiverOptions, joining: Joining): Promise<Joined> {
  const { settings, log } = options;
  const refusals: SeawallError[] = [];
  let hosts = settings.values.hosts;
  for (;;) {
    const { connection, lifeline } = await connect({ ...options, settings: settings.with({ hosts }) }, joining.notices);
    const end = async (): Promise<void> => {
      await connection.close();
      lifeline[Symbol.dispose]();
    };
    try {
      const joined = await joinServer(connection, options, joining);
      return { connection, lifeline, ...joined, [Symbol.asyncDispose]: end };
    } catch (error) {
      await end();
      if (!isRefusal(error)) throw error;
      refusals.push(error);
      hosts = hosts.filter((host) => host !== connection.target);
      // One that may be let in later keeps the receiver trying.
      if (hosts.length === 0) throw refusals.find(({ retryable }) => retryable) ?? refusals[0] ?? error;
      log.warn("this server may not be archived; trying the next host", { server: connection.server, error });
    }
  }
}

/** Codes with which a server is refused because of its timeline. */
const REFUSALS: readonly ErrorCode[] = ["timeline-behind", "timeline-unrelated", "timeline-copy", "line-contested"];

export function isRefusal(error: unknown): error is SeawallError {
  return hasCode(error, ...REFUSALS);
}

async function joinServer(
  connection: ReplicationConnection,
  options: ReceiverOptions,
  joining: Joining,
): Promise<Pick<Joined, "server" | "archive" | "history" | "line">> {
  const { store, cluster, state } = options;
  const { codec, signal } = joining;
  const server = await readServerFacts(connection, { allowsNewer: options.allowNewerServer });
  const { systemIdentifier, segmentSize, major, restoredFrom, inRecovery } = server;
  const createdAt = new Date(state.nowMs()).toISOString();
  const identity = { systemIdentifier, segmentSize, pgMajor: major, createdAt };
  // A spool knows no generations: its folder was chosen before.
  const open = options.isSpool === true ? openSpoolFor : openArchiveFor;
  const archive = await open(store, cluster, identity, { codec, signal });
  const own = await readServerHistory(connection, server.timeline);
  const line = await join(archive, { ...own, address: connection.server, restoredFrom, inRecovery }, options, joining);
  return { server, archive, history: own.history, line };
}

/** Decides, in the archive that counts, whether this server may be archived, and stores its history files. */
async function join(
  archive: Archive,
  server: JoinOptions["server"],
  options: ReceiverOptions,
  { takeOver, signal }: Joining,
): Promise<JoinedLine> {
  const { log, state, shipIntervalMs, openBehind } = options;
  const claimsFirst = options.claimsFirst ?? true;
  const nowMs = (): number => state.nowMs();
  const joining = { server, takeOver, claimsFirst, shipIntervalMs, nowMs, log };
  if (openBehind === undefined) {
    return { openArchive: async () => archive, claim: await joinLine(archive, { ...joining, signal }) };
  }
  // A spool goes on by itself while its store takes nothing, but only on the timeline that it holds: a failover waits for
  // the store, where other receivers can be seen.
  const tip = await findTip(archive, { signal });
  const isOnTimeline = tip?.timeline === server.history.timeline;
  const openArchive: JoinedLine["openArchive"] = async (looking) => openBehind(archive, looking);
  let claim: number | undefined;
  using limit = isOnTimeline ? deadline(LINE_ANSWER_MS, signal) : joinSignals(signal);
  const patient = limit.signal;
  try {
    const claiming = openArchive(patient).then((behind) => joinLine(behind, { ...joining, signal: patient }));
    // A directory behind the spool may answer no call, and heed no signal.
    claim = await waitFor(claiming, { signals: [patient] });
  } catch (error) {
    const isRefusing = delaysUpload(error) && error.exit === EXIT.store;
    if (isRefusing && tip !== undefined && !isOnTimeline) throw failoverWaits(error, server.history.timeline);
    if (signal.aborted || !isOnTimeline || !(isRefusing || limit.isOverdue)) throw error;
    log.warn("the store does not say where the archive's line is: going on with the spool's timeline", { error });
  }
  await storeHistories(archive, server.files, signal);
  return { openArchive, claim };
}

/** Has the receiver try again: the spool holds acknowledged WAL, and the store will answer one day. */
function failoverWaits(cause: SeawallError, timeline: number): SeawallError {
  if (cause.retryable) return cause;
  const message = `the server moved to timeline ${timeline}, and the store does not say whether it may be archived: ${cause.message}`;
  return new SeawallError("store-unavailable", message, { cause, hint: cause.hint });
}

/** How long the store behind a spool may take to say where the line is; the server waits meanwhile. */
const LINE_ANSWER_MS = 5_000;

/**
 * Connects. A stop drops the connection until the stream has begun: a silent server would make it wait. From then on it
 * leaves the connection alone, so that the stream can end in order.
 */
async function connect(
  { settings, stop, kill }: ReceiverOptions,
  notices: NoticeLimit,
): Promise<{ readonly connection: ReplicationConnection; readonly lifeline: JoinedSignal }> {
  const lifeline = joinSignals(stop, kill);
  const onWarning = notices.say;
  try {
    const connection = await ReplicationConnection.connect(settings, { signal: lifeline.signal, onWarning });
    return { connection, lifeline };
  } catch (error) {
    lifeline[Symbol.dispose]();
    throw error;
  }
}
