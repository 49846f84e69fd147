/**
 * Joins the archive: before a receiver stores anything or makes a slot, it decides whether the server is on the
 * archive's line, and claims the line if the server has taken it over. decision.ts is the rule.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Archive } from "../../archive/archive.ts";
import { type LineClaim, putClaim } from "../../archive/line/claims.ts";
import { listTails } from "../../archive/wal/tail.ts";
import { type Line, findEnd, findLine, historyOf, listNewest } from "../../archive/wal/tip.ts";
import { peekWal, putHistory, readHistory } from "../../archive/wal/objects.ts";
import { SeawallError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { type Lsn, type TimelineId, formatLsn, maxLsn } from "../../wal/lsn.ts";
import { parentOf, type TimelineHistory } from "../../wal/timeline.ts";
import { contested, decideLine, leftLineAt, type LineDecision, type LineFacts } from "./decision.ts";

/** The server's timeline, how it came there, and the files that say so. */
export interface ServerHistory {
  readonly history: TimelineHistory;
  /** History files as the server has them, ancestors first; an ancestor's file may be missing. */
  readonly files: ReadonlyMap<TimelineId, Uint8Array>;
}

export interface JoinOptions {
  readonly server: ServerHistory & {
    readonly address: string;
    readonly restoredFrom: string | undefined;
    readonly inRecovery: boolean;
  };
  /** Number of the claim from which the line is to be taken. */
  readonly takeOver: number | undefined;
  readonly claimsFirst: boolean;
  /** End of the WAL in a spool, which will be stored later; undefined without one. */
  readonly spooled?: { readonly timeline: TimelineId; readonly lsn: Lsn } | undefined;
  readonly shipIntervalMs: number;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Other receivers may claim at the same time; each claim that comes first is a reason to decide anew. */
const RACES_MAX = 8;
/** How long a line is watched for growth: some ship intervals, within these bounds. */
const WATCH_MIN_MS = 3_000;
const WATCH_MAX_MS = 60_000;
const WATCH_INTERVALS = 3;
const LOOK_MS = 500;

/**
 * Resolves when the server may be archived: then its history files are stored and the line is claimed where that is needed.
 * Returns the number of the line's newest claim, 0 for an archive without claims. Throws `timeline-copy`, `timeline-behind`, `timeline-unrelated`, the
 * retryable `line-contested`, and what the store throws; nothing has been stored then.
 */
export async function joinLine(archive: Archive, options: JoinOptions): Promise<number> {
  const { server, signal } = options;
  await refuseOtherHistories(archive, server.files, signal);
  for (let race = 0; race < RACES_MAX; race++) {
    const line = await findLine(archive, { signal });
    const facts = await readFacts(archive, line, options);
    const decision = decideLine(facts);
    if (decision.watch && facts.line !== undefined) await watchLine(archive, facts, options);
    await storeHistories(archive, server.files, signal);
    if (decision.claim === undefined) return facts.claims.at(-1)?.number ?? 0;
    const claim = claimOf(facts, decision.claim, options);
    if ((await putClaim(archive, claim, { signal })) === "exists") continue;
    tell(claim, options.log);
    return claim.number;
  }
  throw new SeawallError("line-contested", `other receivers claim the archive's line all the time`);
}

/** Makes `receive`'s decision about this server without storing anything. Throws the refusal, as `joinLine` does. */
export async function previewLine(
  archive: Archive,
  options: Pick<JoinOptions, "server" | "signal">,
): Promise<LineDecision & { readonly line: TimelineId | undefined }> {
  const { server, signal } = options;
  await refuseOtherHistories(archive, server.files, signal);
  const line = await findLine(archive, { signal });
  const facts = await readFacts(archive, line, { server, takeOver: undefined, claimsFirst: true, signal });
  return { ...decideLine(facts), line: facts.line };
}

async function readFacts(
  archive: Archive,
  line: Line | undefined,
  options: Pick<JoinOptions, "server" | "takeOver" | "claimsFirst" | "signal">,
): Promise<LineFacts> {
  const { server, takeOver, claimsFirst, signal } = options;
  const { history, restoredFrom, inRecovery } = server;
  const { timeline } = history;
  const isElsewhere = line !== undefined && line.timeline !== timeline;
  const lineHistory = isElsewhere ? await historyOf(archive, line.timeline, { signal }) : undefined;
  const lineEnd = isElsewhere ? (await findEnd(archive, line.timeline, { signal }))?.lsn : undefined;
  const streamedEnd = isElsewhere ? await findStreamedEnd(archive, timeline, signal) : undefined;
  return {
    line: line?.timeline,
    lineHistory,
    lineEnd,
    claims: line?.claims ?? [],
    server: { timeline, history, restoredFrom, inRecovery },
    streamedEnd,
    takeOver,
    claimsFirst,
  };
}

/** Chunks come from receivers only, and their segments say how far WAL was durable; what `archive_command` stores does not. */
async function findStreamedEnd(archive: Archive, timeline: TimelineId, signal: AbortSignal): Promise<Lsn | undefined> {
  const { segmentSize } = archive.identity;
  const tails = await listTails(archive, { timeline }, { signal });
  if (tails.length > 0) return (await findEnd(archive, timeline, { signal }))?.lsn;
  const { sealed } = await listNewest(archive, timeline, [], { signal });
  const segment = sealed.at(-1);
  if (segment === undefined) return undefined;
  const facts = await peekWal(archive, "segment", { timeline, segment, segmentSize }, { signal });
  return facts?.contiguousLsn === undefined ? undefined : facts.verifiedLsn;
}

/**
 * Throws `line-contested` when the line's stored WAL grows: then another server still writes it. WAL of the receiver's own spool is
 * no sign of that, since the spool is uploaded meanwhile.
 */
async function watchLine(archive: Archive, facts: LineFacts, options: JoinOptions): Promise<void> {
  const { shipIntervalMs, log, signal } = options;
  const { line, lineEnd } = facts;
  if (line === undefined || lineEnd === undefined) return;
  const watchMs = Math.min(Math.max(shipIntervalMs * WATCH_INTERVALS, WATCH_MIN_MS), WATCH_MAX_MS);
  log.info("the archive has WAL past the point where this server left its timeline: watching whether it grows", {
    timeline: line,
    storedLsn: formatLsn(lineEnd),
    watchMs,
  });
  const knownEnd = endOfLine(facts, options);
  const until = performance.now() + watchMs;
  while (performance.now() < until) {
    await sleep(LOOK_MS, undefined, { signal });
    const end = await findEnd(archive, line, { signal });
    if (end !== undefined && end.lsn > knownEnd) throw contested(line, leftLineAt(facts, line), end.lsn, facts);
  }
}

/** End of the line's WAL, in the store and in the receiver's own spool. */
function endOfLine({ line, lineEnd }: LineFacts, { spooled }: JoinOptions): Lsn {
  const ownEnd = spooled?.timeline === line ? spooled?.lsn : undefined;
  return maxLsn(lineEnd ?? (0n as Lsn), ownEnd ?? (0n as Lsn));
}

function claimOf(facts: LineFacts, why: LineClaim["why"], options: JoinOptions): LineClaim {
  const { server, nowMs } = options;
  const { line, claims } = facts;
  const { timeline } = server.history;
  const over = line === undefined || line === timeline ? undefined : { timeline: line, lsn: endOfLine(facts, options) };
  return {
    number: (claims.at(-1)?.number ?? 0) + 1,
    timeline,
    parent: parentOf(server.history),
    why,
    over,
    server: server.address,
    restoredFrom: server.restoredFrom,
    claimedAt: new Date(nowMs()).toISOString(),
  };
}

function tell(claim: LineClaim, log: Log): void {
  const { timeline, why, over, server } = claim;
  const fields = { timeline, why, server, ...(over === undefined ? {} : { over: over.timeline }) };
  if (why === "first") log.info("the archive's line is this server's timeline", fields);
  else if (why === "failover") log.info("claimed the archive's line after a failover", fields);
  else log.warn("claimed the archive's line from another timeline", fields);
}

/** Throws `timeline-unrelated` when the archive holds another history under one of these numbers. */
async function refuseOtherHistories(
  archive: Archive,
  files: ReadonlyMap<TimelineId, Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  for (const [timeline, file] of files) {
    const stored = await readHistory(archive, timeline, { signal });
    if (stored !== undefined && Buffer.compare(stored, file) !== 0) throw otherHistory(timeline);
  }
}

/** Stores each history file that the archive lacks, before any WAL of its timeline. */
export async function storeHistories(
  archive: Archive,
  files: ReadonlyMap<TimelineId, Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  for (const [timeline, file] of files) {
    try {
      await putHistory(archive, timeline, file, { signal });
    } catch (cause) {
      if (!(cause instanceof SeawallError) || cause.code !== "segment-conflict") throw cause;
      throw otherHistory(timeline, cause);
    }
  }
}

function otherHistory(timeline: TimelineId, cause?: unknown): SeawallError {
  return new SeawallError("timeline-unrelated", `the archive holds another history of timeline ${timeline}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: "Two servers were promoted to the same timeline number: archive one of them under a new --cluster.",
  });
}
