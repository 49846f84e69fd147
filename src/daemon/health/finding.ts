/** A finding: one fact about a cluster that its operator must know, in sentences. Types and small helpers; pure. */

export const HEALTH_WORDS = ["ok", "warning", "critical"] as const;
export type HealthWord = (typeof HEALTH_WORDS)[number];

export const FINDING_KINDS = [
  "receiver-failed",
  "receiver-unreachable",
  "stores-elsewhere",
  "foreign-cluster",
  "generation-ended",
  "receiver-stuck",
  "receiver-stopping",
  "not-receiving",
  "server-stopping",
  "not-storing",
  "not-uploading",
  "recovery-point",
  "spool-filling",
  "server-newer",
  "gap",
  "rival",
  "slot-lost",
  "slot-endangered",
  "slot-unseen",
  "slot-over-budget",
  "slot-released",
  "no-backup",
  "backup-old",
  "damage",
  "drill-failed",
  "drill-old",
  "identity-unproved",
  "job-failed",
  "job-overdue",
  "job-long",
  "notifications",
  "configuration",
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

export interface Finding {
  readonly kind: FindingKind;
  /** `note`: it is in the past, and does not change the word. */
  readonly severity: "note" | "warning" | "critical";
  /** While it holds, new WAL does not reach the archive. */
  readonly stopsArchiving: boolean;
  /** ISO 8601; null when that is not known. */
  readonly since: string | null;
  /** The fact. */
  readonly what: string;
  /** The consequence for a recovery. */
  readonly meaning: string;
  /** The remedy. */
  readonly remedy: string;
}

/** The judgement of one cluster: a member of its status. */
export interface Health {
  readonly status: HealthWord;
  /** Critical ones first, notes last. */
  readonly findings: readonly Finding[];
}

const SEVERITIES = ["critical", "warning", "note"] as const;

/** Orders the findings and takes the word from the gravest. */
export function healthOf(found: readonly Finding[]): Health {
  const findings = SEVERITIES.flatMap((severity) => found.filter((one) => one.severity === severity));
  const gravest = findings[0]?.severity ?? "note";
  return { status: gravest === "note" ? "ok" : gravest, findings };
}

/** Seconds from an ISO time to another; 0 where a clock was set back. */
export function secondsBetween(from: string, to: string): number {
  return Math.max(0, Date.parse(to) - Date.parse(from)) / 1000;
}
