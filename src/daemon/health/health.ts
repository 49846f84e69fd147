/**
 * The judgement of a cluster's health, made here and nowhere else: one word, and the findings behind it. Page, probes,
 * `seawall status`, metrics and notifications show it. Pure.
 */
import type { RecoveryPoint, StatusDocument, StatusFacts } from "../status/document.ts";
import { humanSeconds } from "../status/human.ts";
import { archiveFindings } from "./archive.ts";
import { archivingFindings } from "./archiving.ts";
import { type Finding, type Health, healthOf, secondsBetween } from "./finding.ts";
import { lossText, recoveryPointOf, rpoMeaning, rpoText } from "./loss.ts";
import { routineFindings } from "./routine.ts";

/** Limits that `seawall status --check` adds. Undefined: not asked. */
export interface AskedLimits {
  readonly maxRpoMs?: number | undefined;
  readonly maxBackupAgeMs?: number | undefined;
  readonly maxDrillAgeMs?: number | undefined;
}

export function judgeHealth(status: StatusFacts, limits: AskedLimits = {}): Health {
  return healthOf([
    ...archivingFindings(status),
    ...archiveFindings(status),
    ...routineFindings(status),
    ...askedFindings(status, limits),
  ]);
}

/** The status with its judgement. */
export function judged(facts: StatusFacts, limits: AskedLimits = {}): StatusDocument {
  return { ...facts, health: judgeHealth(facts, limits), recoveryPoint: recoveryPointOf(facts) };
}

const RECOVERY_POINT_REMEDY: Readonly<Record<NonNullable<RecoveryPoint["limitedBy"]>, string>> = {
  unstored: "Find out why WAL is not stored in time.",
  silence: "Find out why WAL is not stored in time.",
  gap: "Take a base backup: it begins behind the gap.",
  "no-backup": "Take a base backup: seawall backup.",
};

/** Reports each limit that is exceeded, and each that cannot be compared because its value is not known. */
function askedFindings(status: StatusFacts, { maxRpoMs, maxBackupAgeMs, maxDrillAgeMs }: AskedLimits): Finding[] {
  const { archive, at } = status;
  const { seconds: rpoSeconds, limitedBy } = recoveryPointOf(status);
  const found: Finding[] = [];
  const report = (finding: Pick<Finding, "kind" | "since" | "what" | "meaning" | "remedy">): void =>
    void found.push({ ...finding, severity: "critical", stopsArchiving: false });
  if (maxRpoMs !== undefined && (rpoSeconds === null || rpoSeconds * 1000 > maxRpoMs)) {
    const most = humanSeconds(maxRpoMs / 1000);
    const isNothing = rpoSeconds === null && limitedBy === "no-backup";
    const what = isNothing
      ? `nothing can be restored: ${rpoMeaning(status)}; a recovery point of at most ${most} is asked for`
      : `the ${rpoMeaning(status)} is ${rpoText(status) ?? "not known"}; at most ${most} are allowed`;
    const meaning =
      rpoSeconds === null && !isNothing
        ? "What a loss of the server would cost is not known."
        : `Losing the server now loses ${lossText(status)}.`;
    report({
      kind: "recovery-point",
      since: null,
      what,
      meaning,
      remedy: RECOVERY_POINT_REMEDY[limitedBy ?? "unstored"],
    });
  }
  if (maxBackupAgeMs !== undefined) {
    const finishedAt = archive?.backup?.finishedAt ?? null;
    const seconds = finishedAt === null ? null : secondsBetween(finishedAt, at);
    if (seconds === null || seconds * 1000 > maxBackupAgeMs) {
      const age = seconds === null ? (archive === null ? "not known" : "none was taken") : humanSeconds(seconds);
      const what = `the age of the last backup: ${age}; at most ${humanSeconds(maxBackupAgeMs / 1000)} are allowed`;
      const meaning = "A recovery begins at that backup and reads all WAL since.";
      report({ kind: "backup-old", since: finishedAt, what, meaning, remedy: "Take a base backup: seawall backup." });
    }
  }
  if (maxDrillAgeMs !== undefined) {
    const finishedAt = archive?.drill?.finishedAt ?? null;
    const seconds = finishedAt === null ? null : secondsBetween(finishedAt, at);
    if (seconds === null || seconds * 1000 > maxDrillAgeMs) {
      const age = seconds === null ? (archive === null ? "not known" : "none was run") : humanSeconds(seconds);
      const what = `the age of the last drill: ${age}; at most ${humanSeconds(maxDrillAgeMs / 1000)} are allowed`;
      const meaning = "It is not known whether a restore still succeeds.";
      report({ kind: "drill-old", since: finishedAt, what, meaning, remedy: "Run seawall drill." });
    }
  }
  return found;
}
