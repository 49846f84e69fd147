/**
 * Words what a loss of the primary now would cost, for page, `status`, findings, metrics and plug-in line. It counts from the newest
 * state that a restore reaches: WAL behind an open gap does not count, nor does WAL without a base backup. Pure.
 */
import type { OlderReach } from "../../archive/catalog/older.ts";
import type { RecoveryPoint, StatusFacts } from "../status/document.ts";
import { humanSeconds } from "../status/human.ts";
import { secondsBetween } from "./finding.ts";

export type LossFacts = Pick<StatusFacts, "rpoSeconds" | "rpoIsAtMost" | "gaps" | "archive" | "contents" | "at">;

/** Without a base backup everything else is of no use, and behind a gap the age of what is not stored is. */
export function recoveryPointOf(facts: LossFacts): RecoveryPoint {
  const { rpoSeconds, rpoIsAtMost, archive, at } = facts;
  if (archive?.backup === null) {
    const reaches = olderOf(facts)?.to ?? null;
    const seconds = reaches === null ? null : secondsBetween(reaches, at);
    return { seconds, limitedBy: "no-backup", reaches, isAtMost: false };
  }
  const gap = firstOpenGap(facts);
  if (gap !== undefined) {
    // The gap was found after the last commit before it: then the age is a lower bound.
    const seconds = secondsBetween(gap.lastCommitAt ?? gap.detectedAt, at);
    return { seconds, limitedBy: "gap", reaches: gap.lastCommitAt, isAtMost: gap.isUnread === true };
  }
  if (rpoSeconds === null) return { seconds: null, limitedBy: null, reaches: null, isAtMost: false };
  const isAtMost = rpoIsAtMost === true;
  return { seconds: rpoSeconds, limitedBy: isAtMost ? "silence" : "unstored", reaches: null, isAtMost };
}

/** The older generation that can be restored; a receiver of an older version answers without it. */
export function olderOf({ contents }: Pick<LossFacts, "contents">): OlderReach | null {
  return contents?.older ?? null;
}

/** The open gap that a restore meets first: no backup lies behind it, so none lies behind the later ones. */
function firstOpenGap({ gaps }: LossFacts): LossFacts["gaps"][number] | undefined {
  const timeOf = ({ lastCommitAt, detectedAt }: LossFacts["gaps"][number]): number =>
    Date.parse(lastCommitAt ?? detectedAt);
  return gaps.filter(({ coveredBy }) => coveredBy === null).sort((a, b) => timeOf(a) - timeOf(b))[0];
}

/** `412 ms`, `at most 21 s`, `none`; undefined where it is not known. */
export function rpoText(facts: LossFacts): string | undefined {
  const { seconds, limitedBy, reaches, isAtMost } = recoveryPointOf(facts);
  if (seconds === null) return limitedBy === "no-backup" ? "none" : undefined;
  const bound = isAtMost ? "at most " : limitedBy === "gap" && reaches === null ? "at least " : "";
  return `${bound}${humanSeconds(seconds)}`;
}

/** Says which time `rpoText` counts. */
export function rpoMeaning(facts: LossFacts): string {
  const { limitedBy, reaches, isAtMost } = recoveryPointOf(facts);
  switch (limitedBy) {
    case "gap":
      if (reaches === null) return "time since the gap was found";
      return `time since the last ${isAtMost ? "known " : ""}commit before the gap`;
    case "no-backup": {
      const older = olderOf(facts);
      return older === null ? "there is no base backup" : `time since the end of ${older.generation}`;
    }
    case "silence":
      return "time since the server's last word";
    case "unstored":
    case null:
      return "age of the oldest commit not stored";
  }
}

/** Completes "Losing the server now loses …". */
export function lossText(facts: LossFacts): string {
  const { seconds, limitedBy, reaches, isAtMost } = recoveryPointOf(facts);
  const bound = isAtMost ? "at most " : "";
  if (limitedBy === "no-backup") return reaches === null ? "everything" : `everything since ${reaches}`;
  if (limitedBy === "gap") return reaches === null ? "everything since the gap" : `${bound}everything since ${reaches}`;
  if (seconds === null) return "what was not stored; how much that is, is not known";
  if (seconds === 0) return "no commit";
  return `${bound}the commits of the last ${humanSeconds(seconds)}`;
}
