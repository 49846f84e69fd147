/**
 * Decides whether a server may write to this archive, and whether it must claim the line first. Pure; claim.ts asks
 * before anything is stored and before a slot is made. docs/timelines.md states the rule.
 */
import type { ClaimReason, LineClaim } from "../../archive/line/claims.ts";
import { SeawallError } from "../../errors.ts";
import { type Lsn, type TimelineId, formatLsn, maxLsn } from "../../wal/lsn.ts";
import { type TimelineHistory, switchPointOf } from "../../wal/timeline.ts";

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
  /** `--take-over`: the number of the claim from which the line is taken; 0 in an archive without claims. */
  readonly takeOver: number | undefined;
  /** False for a backup that brings its own WAL: it leaves an archive without claims as it is. */
  readonly claimsFirst: boolean;
}

export interface LineDecision {
  /** Undefined: go on without a new claim. */
  readonly claim: ClaimReason | undefined;
  /** The line has WAL past the point where the server left it: wait until it is sure that it does not grow. */
  readonly watch: boolean;
}

/** Throws `timeline-copy`, `timeline-behind`, `timeline-unrelated`, `usage` and the retryable `line-contested`. */
export function decideLine(facts: LineFacts): LineDecision {
  const { line, claims, server, claimsFirst } = facts;
  refuseFutureClaim(claims, facts.takeOver);
  const takesOver = { claim: "take-over", watch: false } as const;
  const isOrdered = facts.takeOver === newestClaim(claims);
  if (line === undefined || line === server.timeline) {
    if (claims.length === 0) return { claim: claimsFirst ? "first" : undefined, watch: false };
    // In recovery a copy writes no WAL of its own: it has the archive's.
    if (!isUnknownCopy(facts) || server.inRecovery) return { claim: undefined, watch: false };
    if (isOrdered) return takesOver;
    throw sameNumber(facts);
  }
  const left = leftLineAt(facts, line);
  if (left !== undefined) {
    if (isOrdered) return takesOver;
    refuseCopy(facts, line);
    refuseTakenBack(facts);
    // An archive that only archive_command fills stays without claims: its line follows the WAL that comes.
    const claim = claims.length === 0 && !claimsFirst ? undefined : "failover";
    return { claim, watch: facts.lineEnd !== undefined && facts.lineEnd > left };
  }
  if (wasStreamedOn(facts)) return { claim: "kept", watch: false };
  if (isOrdered) return takesOver;
  throw refused(facts, line);
}

function newestClaim(claims: readonly LineClaim[]): number {
  return claims.at(-1)?.number ?? 0;
}

/**
 * Throws `usage` for a claim that does not exist yet. Such a flag, left in a unit file, would take the line later, from a claim that
 * its operator never saw.
 */
export function refuseFutureClaim(claims: readonly LineClaim[], given: number | undefined): void {
  const newest = newestClaim(claims);
  if (given === undefined || given <= newest) return;
  throw new SeawallError("usage", `--take-over ${given}: the archive's newest claim is ${newest}`, {
    hint: `If this server replaces the original, ${takeOverHint(claims, undefined)}`,
  });
}

/**
 * A timeline number and its history do not identify a server: a standby and a copy that leave the same timeline at the same point
 * have equal history files.
 */
function sameNumber(facts: LineFacts): SeawallError {
  const { timeline } = facts.server;
  return new SeawallError(
    "timeline-copy",
    `the server is a restored copy, and its timeline ${timeline} has the number of the archive's line`,
    {
      hint: `Archive it under a new --cluster, or restore it again: it then takes another number. If it is the line's own server, ${hintOf(facts)}`,
    },
  );
}

/** Says how to order the take-over that this archive needs. A number that no longer fits is a flag left from an earlier one. */
export function takeOverHint(claims: readonly LineClaim[], given: number | undefined): string {
  const newest = newestClaim(claims);
  const order = `give --take-over ${newest} (docs/timelines.md).`;
  return given === undefined ? order : `${order} The given --take-over ${given} was for an earlier claim.`;
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
    { hint: `If this copy replaces the original, ${hintOf(facts)} Otherwise archive it under a new --cluster.` },
  );
}

function hintOf({ claims, takeOver }: Pick<LineFacts, "claims" | "takeOver">): string {
  return takeOverHint(claims, takeOver);
}

/** A server from which the line was taken does not claim it again by itself, however quiet the line is. */
function refuseTakenBack(facts: LineFacts): void {
  const { server, claims, lineHistory, line } = facts;
  const isOnLine = (timeline: TimelineId): boolean =>
    timeline === line || (lineHistory?.entries.some((entry) => entry.timeline === timeline) ?? false);
  const { history } = server;
  const own = [history.timeline, ...history.entries.map(({ timeline }) => timeline)].filter((at) => !isOnLine(at));
  const last = claims.findLast(
    ({ timeline, over }) => own.includes(timeline) || (over !== undefined && own.includes(over.timeline)),
  );
  if (last === undefined || (last.why !== "kept" && last.why !== "take-over")) return;
  if (last.over === undefined || !own.includes(last.over.timeline)) return;
  throw new SeawallError("line-contested", `${claimText(last)} took the line from timeline ${last.over.timeline}`, {
    hint: `The line's server was still written. If this server replaces it, stop that one and ${hintOf(facts)}`,
  });
}

/** `claim 3 of timeline 2, made for db2:5432 at 2026-03-02T10:15:00.000Z,` */
export function claimText({ number, timeline, server, claimedAt }: LineClaim): string {
  return `claim ${number} of timeline ${timeline}, made for ${server} at ${claimedAt},`;
}

function isUnknownCopy({ server: { restoredFrom }, claims }: LineFacts): boolean {
  return restoredFrom !== undefined && !claims.some((claim) => claim.restoredFrom === restoredFrom);
}

/**
 * The line was claimed over the server's timeline, and yet its WAL went on being streamed and acknowledged: the claim was a
 * mistake, for example a copy's. An ordered claim is no mistake.
 */
function wasStreamedOn({ claims, server, streamedEnd, lineHistory }: LineFacts): boolean {
  const claim = claimOver(claims, server.timeline);
  if (claim?.over === undefined || claim.why === "take-over" || streamedEnd === undefined) return false;
  const isAncestor = lineHistory?.entries.some((entry) => entry.timeline === server.timeline) ?? false;
  const switchLsn = isAncestor && lineHistory !== undefined ? switchPointOf(lineHistory, server.timeline) : undefined;
  return streamedEnd > claim.over.lsn && (switchLsn === undefined || streamedEnd > switchLsn);
}

/** The newest claim that took the line from this timeline. */
function claimOver(claims: readonly LineClaim[], timeline: TimelineId): LineClaim | undefined {
  return claims.findLast(({ over }) => over?.timeline === timeline);
}

function refused(facts: LineFacts, line: TimelineId): SeawallError {
  const { server, lineHistory, claims } = facts;
  const { timeline } = server;
  const by = claimOver(claims, timeline);
  const taken = by?.why === "take-over" ? `: ${claimText(by)} took the line over` : "";
  const hint = `To archive this server all the same, ${hintOf(facts)}`;
  const isAncestor = lineHistory?.entries.some((entry) => entry.timeline === timeline) ?? false;
  if (isAncestor) {
    return new SeawallError(
      "timeline-behind",
      `the server is on timeline ${timeline}, which the archive's line, timeline ${line}, has left${taken}`,
      { hint: `Connect to the current primary. ${hint}` },
    );
  }
  return new SeawallError(
    "timeline-unrelated",
    `the server's timeline ${timeline} does not descend from the archive's line, timeline ${line}${taken}`,
    { hint: `${hint} A new --cluster keeps the two apart.` },
  );
}

/** The meaning of newer claims for a receiver while it streams. */
export type ClaimVerdict =
  | { readonly kind: "ours" }
  /** Another timeline is the line: acknowledge nothing more, and decide anew. */
  | { readonly kind: "lost"; readonly claim: LineClaim }
  /** A claim that no operator ordered: WAL past `limit` shows that this server is still written, and takes the line back. */
  | { readonly kind: "contested"; readonly claim: LineClaim; readonly limit: Lsn };

/** `newer`: the claims since the receiver joined, oldest first. Pure. */
export function judgeClaims(newer: readonly LineClaim[], timeline: TimelineId): ClaimVerdict {
  const claim = newer.at(-1);
  if (claim === undefined || claim.timeline === timeline) return { kind: "ours" };
  const over = claimOver(newer, timeline);
  const isOrdered = newer.some(({ why }) => why === "take-over" || why === "kept");
  if (over?.over === undefined || isOrdered) return { kind: "lost", claim };
  const fork = over.parent?.timeline === timeline ? over.parent.lsn : (0n as Lsn);
  return { kind: "contested", claim, limit: maxLsn(over.over.lsn, fork) };
}

/** The line's WAL grew while it was watched. Retryable: the failover succeeds once the other server stops. */
export function contested(
  line: TimelineId,
  left: Lsn | undefined,
  end: Lsn,
  given: Pick<LineFacts, "claims" | "takeOver"> = { claims: [], takeOver: undefined },
): SeawallError {
  const past = left === undefined ? "" : `, past the switch at ${formatLsn(left)}`;
  return new SeawallError(
    "line-contested",
    `timeline ${line} is still being written: its stored WAL has reached ${formatLsn(end)}${past}`,
    {
      hint: `Stop the other server or its receiver: the next try then succeeds. To follow this server at once, ${hintOf(given)}`,
    },
  );
}
