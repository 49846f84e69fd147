/** Connects to a server that may be archived: the first of several hosts that the archive's line admits (claim.ts). */
import { openArchiveFor } from "../../archive/archive.ts";
import type { ClusterIdentity } from "../../archive/documents.ts";
import type { Codec } from "../../codec/codec.ts";
import type { ErrorCode } from "../../error-kinds.ts";
import { hasCode, type SeawallError } from "../../errors.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import type { NoticeLimit } from "../../replication/notice-limit.ts";
import { type JoinedSignal, joinSignals } from "../../signals.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { archiveTarget } from "../archive-target.ts";
import { type JoinOptions, joinLine } from "./claim.ts";
import type { JoinedLine } from "./watch.ts";
import type { ReceiverOptions } from "../options.ts";
import type { SegmentBufferPools } from "../segment-buffer.ts";
import { type ServerFacts, readServerFacts, readServerHistory } from "../server-facts.ts";
import type { WalTarget } from "../target.ts";

/** A server whose WAL belongs into the archive. */
export interface Joined extends AsyncDisposable {
  /** Drops the connection at a kill, and at a stop until the stream has begun. */
  readonly lifeline: JoinedSignal;
  readonly connection: ReplicationConnection;
  readonly server: ServerFacts;
  readonly history: TimelineHistory;
  readonly line: JoinedLine;
  readonly target: WalTarget;
}

/** A server that asks to be archived. */
export interface Applicant {
  readonly facts: ServerFacts;
  readonly identity: ClusterIdentity;
  readonly origin: JoinOptions["server"];
}

/** Lets a server in, and says where its WAL goes. Throws a refusal; nothing has been stored then. */
export type Admit = (
  applicant: Applicant,
  joining: Pick<Joining, "takeOver" | "signal">,
) => Promise<Pick<Joined, "line" | "target">>;

interface Joining {
  readonly admit: Admit;
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
  { admit, notices, signal }: Omit<Joining, "takeOver">,
): Promise<Joined> {
  const { takeOver } = options;
  const isOnly = options.settings.values.hosts.length === 1;
  if (takeOver === undefined || isOnly) return connectToFit(options, { admit, notices, takeOver, signal });
  // --take-over is for a server that would be refused: of several hosts, one on the line comes first.
  try {
    return await connectToFit(options, { admit, notices, takeOver: undefined, signal });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return connectToFit(options, { admit, notices, takeOver, signal });
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
  { admit, takeOver, signal }: Joining,
): Promise<Pick<Joined, "server" | "history" | "line" | "target">> {
  const { state } = options;
  const facts = await readServerFacts(connection, { allowsNewer: options.allowNewerServer });
  const { systemIdentifier, segmentSize, major, restoredFrom, inRecovery } = facts;
  const createdAt = new Date(state.nowMs()).toISOString();
  const identity = { systemIdentifier, segmentSize, pgMajor: major, createdAt };
  const own = await readServerHistory(connection, facts.timeline);
  const origin = { ...own, address: connection.server, restoredFrom, inRecovery };
  const admitted = await admit({ facts, identity, origin }, { takeOver, signal });
  return { server: facts, history: own.history, ...admitted };
}

/** Admits servers into the archive that the store holds. */
export function admitToArchive(
  options: ReceiverOptions,
  { codec, pools }: { readonly codec: Codec; readonly pools: SegmentBufferPools },
): Admit {
  return async ({ facts, identity, origin }, { takeOver, signal }) => {
    const archive = await openArchiveFor(options.store, options.cluster, identity, { codec, signal });
    const claim = await joinLine(archive, { ...joinOptionsOf(options), server: origin, takeOver, signal });
    const line = { openArchive: async () => archive, claim };
    const target = archiveTarget(options, { archive, server: facts, history: origin.history, pools });
    return { line, target };
  };
}

/** The part of `joinLine`'s options that does not depend on the server. */
export function joinOptionsOf(
  options: ReceiverOptions,
): Pick<JoinOptions, "claimsFirst" | "shipIntervalMs" | "nowMs" | "log"> {
  const { log, state, shipIntervalMs, claimsFirst = true } = options;
  return { claimsFirst, shipIntervalMs, nowMs: () => state.nowMs(), log };
}

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
