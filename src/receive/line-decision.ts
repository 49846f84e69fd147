/**
 * Whether a server may write to this archive, and whether it has to claim the line first. Pure; `line-claim.ts` asks before
 * anything is stored and before a slot is made. The rule is told in docs/timelines.md.
 */
import type { ClaimReason, LineClaim } from "../archive/line.ts";
import { SeawallError } from "../errors.ts";
import { type Lsn, type TimelineId, formatLsn } from "../wal/lsn.ts";
import { type TimelineHistory, switchPointOf } from "../wal/timeline.ts";

export interface LineFacts {
  /** The archive's line; undefined for an archive without WAL and claims. */
  readonly line: TimelineId | undefined;
  /** The line's own history. */
  readonly lineHistory: TimelineHistory | undefined;
  /** End of the WAL that is stored of the line's timeline itself; undefined when none is. */
  readonly lineEnd: Lsn | undefined;
  /** Oldest first. */
  readonly claims: readonly LineClaim[];
  readonly server: {
    readonly timeline: TimelineId;
    readonly history: TimelineHistory;
    /** The mark that `seawall restore` leaves in a restored server. */
    readonly restoredFrom: string | undefined;
    readonly inRecovery: boolean;
  };
  /** End of the WAL that a receiver has streamed of the server's timeline; undefined when none has. */
  readonly streamedEnd: Lsn | undefined;
  /** `--take-over`. */
  readonly takeOver: boolean;
  /** False for a backup that brings its own WAL: it leaves an archive without claims as it is. */
  readonly claimsFirst: boolean;
}

export interface LineDecision {
  /** Undefined: go on without a new claim. */
  readonly claim: ClaimReason | undefined;
  /** The line has WAL past the point where the server left it: first see that it does not grow. */
  readonly watch: boolean;
}

/** Throws `timeline-copy`, `timeline-behind`, `timeline-unrelated` and the retryable `line-contested`. */
export function decideLine(facts: LineFacts): LineDecision {
  const { line, claims, server, takeOver, claimsFirst } = facts;
  if (line === undefined || line === server.timeline) {
    if (claims.length === 0) return { claim: claimsFirst ? "first" : undefined, watch: false };
    // The line's own primary carries the mark of a restore that wal-push, or an older version, accepted: remember it.
    return { claim: isUnknownCopy(facts) && !server.inRecovery ? "kept" : undefined, watch: false };
  }
  const takesOver = { claim: "take-over", watch: false } as const;
  const left = leftLineAt(facts, line);
  if (left !== undefined) {
    if (takeOver) return takesOver;
    refuseCopy(facts, line);
    refuseTakenBack(facts, line);
    // An archive that only archive_command fills stays without claims: its line follows the WAL that comes.
    const claim = claims.length === 0 && !claimsFirst ? undefined : "failover";
    return { claim, watch: facts.lineEnd !== undefined && facts.lineEnd > left };
  }
  if (wasStreamedOn(facts)) return { claim: "kept", watch: false };
  if (takeOver) return takesOver;
  throw refused(facts, line);
}

/** Where the server's history leaves the line; undefined when the server does not descend from it. */
export function leftLineAt(
  { server, lineHistory }: Pick<LineFacts, "server" | "lineHistory">,
  line: TimelineId,
): Lsn | undefined {
  const { history } = server;
  if (!history.entries.some((entry) => entry.timeline === line)) return undefined;
  const end = switchPointOf(history, line);
  const begin = lineHistory?.entries.at(-1)?.switchLsn ?? 0n;
  // A recovery that stopped before the line began names the line without having any of its WAL.
  return end === undefined || end < begin ? undefined : end;
}

/** A copy that was restored from this archive is no failover, unless its restore has been accepted before. */
function refuseCopy(facts: LineFacts, line: TimelineId): void {
  const { timeline } = facts.server;
  if (!isUnknownCopy(facts)) return;
  throw new SeawallError(
    "timeline-copy",
    `the server is a restored copy on timeline ${timeline}; the archive's line is timeline ${line}`,
  );
}

/** A server whose claim was a mistake does not claim again by itself, however quiet the line is. */
function refuseTakenBack({ server, claims, lineHistory }: LineFacts, line: TimelineId): void {
  const isOnLine = (timeline: TimelineId): boolean =>
    timeline === line || (lineHistory?.entries.some((entry) => entry.timeline === timeline) ?? false);
  const { history } = server;
  const own = [history.timeline, ...history.entries.map(({ timeline }) => timeline)].filter((at) => !isOnLine(at));
  const last = claims.findLast(
    ({ timeline, over }) => own.includes(timeline) || (over !== undefined && own.includes(over.timeline)),
  );
  if (last?.why !== "kept" || last.over === undefined || !own.includes(last.over.timeline)) return;
  throw new SeawallError(
    "line-contested",
    `timeline ${last.timeline} took the archive's line back from timeline ${last.over.timeline}`,
    { hint: "Its server was still written. If this server replaces it, stop that one and give --take-over." },
  );
}

function isUnknownCopy({ server: { restoredFrom }, claims }: LineFacts): boolean {
  return restoredFrom !== undefined && !claims.some((claim) => claim.restoredFrom === restoredFrom);
}

/**
 * The line was claimed over the server's timeline, and yet its WAL went on being streamed and acknowledged: the claim was a
 * mistake, for example a copy's.
 */
function wasStreamedOn({ claims, server, streamedEnd, lineHistory }: LineFacts): boolean {
  const claim = claims.findLast(({ over }) => over?.timeline === server.timeline);
  if (claim?.over === undefined || streamedEnd === undefined) return false;
  const isAncestor = lineHistory?.entries.some((entry) => entry.timeline === server.timeline) ?? false;
  const switchLsn = isAncestor && lineHistory !== undefined ? switchPointOf(lineHistory, server.timeline) : undefined;
  return streamedEnd > claim.over.lsn && (switchLsn === undefined || streamedEnd > switchLsn);
}

function refused({ server, lineHistory }: LineFacts, line: TimelineId): SeawallError {
  const { timeline } = server;
  const isAncestor = lineHistory?.entries.some((entry) => entry.timeline === timeline) ?? false;
  if (isAncestor) {
    return new SeawallError(
      "timeline-behind",
      `the server is on timeline ${timeline}, which the archive's line, timeline ${line}, has left`,
    );
  }
  return new SeawallError(
    "timeline-unrelated",
    `the server's timeline ${timeline} does not descend from the archive's line, timeline ${line}`,
  );
}

/** The line's WAL grew while it was watched. Retryable: the failover succeeds once the other server stops. */
export function contested(line: TimelineId, left: Lsn | undefined, end: Lsn): SeawallError {
  const past = left === undefined ? "" : `, past the switch at ${formatLsn(left)}`;
  return new SeawallError(
    "line-contested",
    `timeline ${line} is still being written: its stored WAL has reached ${formatLsn(end)}${past}`,
  );
}
