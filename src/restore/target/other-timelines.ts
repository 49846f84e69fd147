/**
 * Sentences about timelines that a restore does not follow: how far each one reaches, and how to choose it. The same LSN or
 * time can lie on several timelines, and only the operator knows which one is meant. Pure; read-other-timelines.ts reads them.
 */
import { formatLsn, type Lsn, type TimelineId } from "../../wal/lsn.ts";
import { formatPgTime, type PgTime } from "../../wal/record-facts.ts";
import { describePoint, optionsIn, type RecoveryTarget, type TargetPoint } from "./target.ts";

/** A timeline with archived WAL that differs from the WAL of the timeline that is followed. */
export interface OtherTimeline {
  readonly timeline: TimelineId;
  /** The WAL of both timelines is the same up to here. */
  readonly partLsn: Lsn;
  /** End of the last record past `partLsn` that can be replayed. */
  readonly endLsn: Lsn;
  /** Times of the first and the last commit past `partLsn`; undefined when none was found. */
  readonly commits: { readonly first: PgTime; readonly last: PgTime } | undefined;
  /** A backup leads to this timeline. */
  readonly hasBackup: boolean;
}

/** A timeline of which the archive holds WAL that cannot be read. */
export interface UnreadableTimeline {
  readonly timeline: TimelineId;
  readonly damage: string;
}

export type TimelineBeside = OtherTimeline | UnreadableTimeline;

/** The timeline that a restore follows. */
interface Followed {
  readonly timeline: TimelineId;
  /** Where the target lies on it, if it does. */
  readonly landing: Lsn | undefined;
  /** The name of the archive's generation; undefined where the cluster has one alone. */
  readonly generation: string | undefined;
}

/** Sentences for a refusal. */
export function afterRefusal(target: RecoveryTarget, followed: Followed, others: readonly TimelineBeside[]): string[] {
  const { landing } = followed;
  return others.flatMap((other) => {
    if ("damage" in other) return [`Timeline ${other.timeline} cannot be read: ${other.damage}.`];
    // Before that point both timelines have the same WAL, so the other one does not help.
    if (landing !== undefined && landing < other.partLsn) return [];
    return [`${reachOf(other, followed.timeline)} ${adviceFor(target.point, other, followed.generation)}`];
  });
}

/** Sentences for a plan whose target also lies on another timeline, or after commits of one. */
export function besidePlan(
  target: RecoveryTarget,
  followed: Followed & { readonly landing: Lsn },
  others: readonly TimelineBeside[],
): string[] {
  const { point } = target;
  return others.flatMap((other) => {
    if ("damage" in other || followed.landing < other.partLsn) return [];
    const hasPoint =
      (point.kind === "time" && other.commits !== undefined && other.commits.first <= point.time) ||
      (point.kind === "lsn" && point.lsn > other.partLsn && point.lsn <= other.endLsn);
    if (!hasPoint) return [];
    const left =
      point.kind === "time" ? `has commits up to ${formatPgTime(point.time)}` : `has ${describePoint(point)}`;
    return [
      `Timeline ${other.timeline} also ${left}, and this restore follows timeline ${followed.timeline}. ` +
        `${reachOf(other, followed.timeline)} ${choice(other, followed.generation)}`,
    ];
  });
}

function reachOf({ timeline, partLsn, endLsn, commits }: OtherTimeline, followed: TimelineId): string {
  const times = commits === undefined ? "without a known commit" : `with ${commitsText(commits)}`;
  return (
    `Timeline ${timeline} differs from timeline ${followed} from ${formatLsn(partLsn)} on ` +
    `and reaches ${formatLsn(endLsn)}, ${times}.`
  );
}

function commitsText({ first, last }: NonNullable<OtherTimeline["commits"]>): string {
  return first === last
    ? `a commit at ${formatPgTime(first)}`
    : `commits from ${formatPgTime(first)} to ${formatPgTime(last)}`;
}

function adviceFor(point: TargetPoint, other: OtherTimeline, generation: string | undefined): string {
  switch (point.kind) {
    case "time":
      if (other.commits === undefined) return lookThere(other, generation);
      return other.commits.last >= point.time ? choice(other, generation) : NOT_THERE;
    case "lsn":
      return other.endLsn >= point.lsn ? choice(other, generation) : NOT_THERE;
    case "xid":
    case "name":
      return lookThere(other, generation);
    case "latest":
    case "immediate":
      return choice(other, generation);
  }
}

const NOT_THERE = "The target lies beyond it, too.";
const NO_BACKUP = "No backup leads there.";

function lookThere({ timeline, hasBackup }: OtherTimeline, generation: string | undefined): string {
  return hasBackup ? `To look there: ${optionsIn(generation, `--target-timeline ${timeline}`)}.` : NO_BACKUP;
}

function choice({ timeline, hasBackup }: OtherTimeline, generation: string | undefined): string {
  return hasBackup ? `To restore along it: ${optionsIn(generation, `--target-timeline ${timeline}`)}.` : NO_BACKUP;
}
