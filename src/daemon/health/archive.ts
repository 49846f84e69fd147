/** Findings about what the archive holds and what the slot keeps for it. Pure. */
import { commitText, unreachableText } from "../../archive/catalog/cover.ts";
import type { OlderReach } from "../../archive/catalog/older.ts";
import type { JobView, LastRun } from "../jobs/scheduler.ts";
import type { GapDocument, StatusFacts } from "../status/document.ts";
import { humanBytes, humanSeconds, versionText } from "../status/human.ts";
import { parseLsn } from "../../wal/lsn.ts";
import { type Finding, secondsBetween } from "./finding.ts";
import { counted } from "../../plural.ts";
import { lossText, olderOf } from "./loss.ts";

/** A slot is looked at every 15 seconds; what one look shows may be over at the next. */
const SLOT_SETTLED_SECONDS = 20;
const SLOT_UNSEEN_SECONDS = 60;
/** A new archive has so much time for its first drill. */
const UNPROVED_SECONDS = 7 * 86_400;

export function archiveFindings(status: StatusFacts): Finding[] {
  return [
    ...versionFindings(status),
    ...gapFindings(status),
    ...rivalFindings(status),
    ...slotFindings(status),
    ...budgetFindings(status),
    ...backupFindings(status),
    ...verifyFindings(status),
    ...drillFindings(status),
    ...proofFindings(status),
  ];
}

/** Critical: the archive grows, and nothing that this Seawall can do restores from it. */
function versionFindings({ isServerNewer, serverVersion }: StatusFacts): Finding[] {
  if (isServerNewer !== true || serverVersion === null) return [];
  return [
    {
      kind: "server-newer",
      severity: "critical",
      stopsArchiving: false,
      since: null,
      what: `PostgreSQL ${versionText(serverVersion)} is newer than this Seawall knows`,
      meaning:
        "Its WAL can be archived without reading the records. This Seawall takes no backup of it and restores nothing.",
      remedy: "Upgrade Seawall, then take a base backup (docs/versions.md).",
    },
  ];
}

function gapFindings(status: StatusFacts): Finding[] {
  const { gaps, jobs } = status;
  const open = gaps.filter(({ coveredBy }) => coveredBy === null);
  const covered = gaps.filter(({ coveredBy }) => coveredBy !== null);
  const backup = jobs.find(({ job }) => job === "backup");
  return [...openGaps(open, backup, status), ...covered.map((gap) => coveredGap(gap))];
}

function openGaps(open: readonly GapDocument[], backup: JobView | undefined, status: StatusFacts): Finding[] {
  const newest = [...open].sort((a, b) => Date.parse(b.detectedAt) - Date.parse(a.detectedAt))[0];
  if (newest === undefined) return [];
  const { fromLsn, toLsn, timeline, reason } = newest;
  const count = counted(open.length, "gap");
  const where = `${open.length === 1 ? "" : "the newest "}from ${fromLsn} to ${toLsn} on timeline ${timeline}`;
  return [
    {
      kind: "gap",
      severity: "critical",
      stopsArchiving: false,
      since: newest.detectedAt,
      what: `WAL is missing: ${count}, ${where} (${reason})`,
      meaning: `No restore passes the gap: nothing after ${fromLsn} can be recovered until a newer base backup is complete. Losing the server now loses ${lossText(status)}.`,
      remedy: gapRemedy(newest, backup),
    },
  ];
}

function gapRemedy({ detectedAt }: GapDocument, backup: JobView | undefined): string {
  const runningSince = backup?.runningSince ?? null;
  if (runningSince !== null && Date.parse(runningSince) >= Date.parse(detectedAt)) {
    return `Wait for the base backup that has been running since ${runningSince}.`;
  }
  return "Take a base backup now: seawall backup --checkpoint fast. With on-gap: backup the daemon takes it.";
}

function coveredGap({ fromLsn, toLsn, timeline, detectedAt, lastCommitAt, isUnread, coveredBy }: GapDocument): Finding {
  const from = lastCommitAt === null ? fromLsn : commitText({ time: lastCommitAt, isUnread });
  const since = coveredBy?.finishedAt ?? "";
  return {
    kind: "gap",
    severity: "note",
    stopsArchiving: false,
    since: detectedAt,
    what: `WAL from ${fromLsn} to ${toLsn} on timeline ${timeline} was lost; a newer backup covers the gap`,
    meaning: unreachableText(from, since),
    remedy: `Nothing: backup ${coveredBy?.backup ?? ""} begins behind the gap.`,
  };
}

function rivalFindings({ rivals }: StatusFacts): Finding[] {
  return (rivals ?? [])
    .filter(({ isActive }) => isActive)
    .map(({ text }) => ({
      kind: "rival",
      severity: "critical",
      stopsArchiving: false,
      since: null,
      what: `another server writes into this archive: ${text}`,
      meaning: "A restore follows the archive's line only. The other server's WAL is not on it.",
      remedy: "Stop its receiver or its archive_command, or give it a --cluster of its own.",
    }));
}

function slotFindings(status: StatusFacts): Finding[] {
  const { slot, slotHealth, slotError, at, streamingSince, state, refusal } = status;
  // A server whose WAL does not belong into the archive needs no slot.
  if (slotHealth === null || slotHealth.state === "ok" || refusal !== null) return [];
  const { state: health } = slotHealth;
  const seconds = secondsBetween(slotHealth.since, at);
  // Seen once, without a receiver: nothing tells since when.
  const since = state === "unreachable" ? null : slotHealth.since;
  const common = { since, stopsArchiving: false } as const;
  if (health === "unseen") {
    if (state !== "streaming" || seconds < SLOT_UNSEEN_SECONDS) return [];
    const why = slotError === null ? "" : `: ${slotError.message}`;
    const what = `the server cannot be asked about the replication slot for ${humanSeconds(seconds)}${why}`;
    const meaning = "WAL is being archived. How much WAL the server keeps for Seawall is not known.";
    const general = "Allow the role an ordinary connection to the server, beside replication (pg_hba.conf).";
    const remedy = slotError === null || slotError.hint === "" ? general : slotError.hint;
    return [{ ...common, kind: "slot-unseen", severity: "warning", what, meaning, remedy }];
  }
  // The receiver makes the slot at its first connection.
  if (slot === null || (streamingSince === null && state !== "unreachable")) return [];
  const { name, exists, walStatus, safeBytes } = slot;
  if (health === "lost") {
    const isLost = exists && walStatus === "lost";
    const how = !exists ? "is missing on the server" : isLost ? "was given up by the server" : "keeps no WAL";
    const severity = seconds < SLOT_SETTLED_SECONDS && state !== "unreachable" ? "warning" : "critical";
    const what = `the replication slot "${name}" ${how}`;
    const meaning =
      "The server may remove WAL that is not archived. That would be a gap, which needs a new base backup.";
    const remedy = "seawall receive makes the slot anew when it connects. Review max_slot_wal_keep_size.";
    return [{ ...common, kind: "slot-lost", severity, what, meaning, remedy }];
  }
  const left = safeBytes === null ? "" : `, ${humanBytes(Math.max(0, safeBytes))} are left`;
  const what = `the server is about to give up the replication slot "${name}": it is ${walStatus ?? "unknown"}${left}`;
  const meaning = "If it does, WAL that is not archived is lost, and a gap needs a new base backup.";
  const remedy = "Bring the receiver and its store back, or raise max_slot_wal_keep_size.";
  return [{ ...common, kind: "slot-endangered", severity: "warning", what, meaning, remedy }];
}

/**
 * The gravity of a finding about the archive follows what a loss of the primary now would lose. Without a base backup that is
 * everything (after an upgrade, everything since the older generation ended). That is more than behind a gap, so it is critical too.
 */
function backupFindings(status: StatusFacts): Finding[] {
  const { archive, jobs } = status;
  if (archive === null || archive.backup !== null) return [];
  // Only a generation that follows another one has its name here.
  const { generation } = archive;
  const older = olderOf(status);
  const runningSince = jobs.find(({ job }) => job === "backup")?.runningSince ?? null;
  return [
    {
      kind: "no-backup",
      severity: "critical",
      stopsArchiving: false,
      since: null,
      what: `there is no base backup ${generation === undefined ? "in the archive" : `of ${generation}`}`,
      meaning: `${restorableText(generation, older)} Losing the server now loses ${lossText(status)}.`,
      remedy:
        runningSince === null
          ? "Take a base backup: seawall backup, or set backup-schedule."
          : `Wait for the base backup that has been running since ${runningSince}.`,
    },
  ];
}

function restorableText(generation: string | undefined, older: OlderReach | null): string {
  if (generation === undefined) return "Nothing can be restored from this archive yet.";
  if (older !== null) return `Only ${older.generation} can be restored, from ${older.from} to ${older.to}.`;
  return `Nothing of ${generation} can be restored yet. seawall list shows what can be restored of the older generations.`;
}

/**
 * The last verification, by hand or by schedule. Its record says most; a run that began later and left no record counts by its
 * exit status. Gaps are a finding of their own, which ends when a backup covers them.
 */
function verifyFindings({ archive, jobs }: StatusFacts): Finding[] {
  const verify = archive?.verify ?? null;
  const run = laterRun(jobs, "verify", verify?.finishedAt);
  const damages = verify === null ? 0 : verify.problems - verify.gaps;
  const hasDamage = run === undefined ? damages > 0 : hasAnsweredNo(run);
  if (!hasDamage) return [];
  const count = counted(damages, "problem");
  return [
    {
      kind: "damage",
      severity: "critical",
      stopsArchiving: false,
      since: run?.finishedAt ?? verify?.finishedAt ?? null,
      what:
        run === undefined
          ? `the last verify found ${count} in the archive`
          : `the scheduled verify failed: ${run.message}`,
      meaning: "Some restores fail, or do not reach as far as they should.",
      remedy: "Run seawall verify: it names what is damaged and which backups need it. Take a base backup.",
    },
  ];
}

/** The scheduled run that began after the archive's own record was finished. */
function laterRun(jobs: readonly JobView[], name: JobView["job"], recordedAt: string | undefined): LastRun | undefined {
  const run = jobs.find(({ job }) => job === name)?.last ?? undefined;
  const isLater = run !== undefined && (recordedAt === undefined || Date.parse(run.startedAt) > Date.parse(recordedAt));
  return isLater ? run : undefined;
}

/** The command did its work, and its answer is no. */
function hasAnsweredNo({ ok, exit }: LastRun): boolean {
  return !ok && exit === 1;
}

function drillFindings({ archive, jobs }: StatusFacts): Finding[] {
  const drill = archive?.drill ?? null;
  const run = laterRun(jobs, "drill", drill?.finishedAt);
  const hasFailed = run === undefined ? drill?.ok === false : hasAnsweredNo(run);
  if (!hasFailed) return [];
  return [
    {
      kind: "drill-failed",
      severity: "critical",
      stopsArchiving: false,
      since: run?.finishedAt ?? drill?.finishedAt ?? null,
      what: run === undefined ? "the last drill failed" : `the scheduled drill failed: ${run.message}`,
      meaning: "A trial restore of this archive did not succeed: a real one may fail in the same way.",
      remedy: "Read the drill's checks in its result, repair what they name, and run seawall drill again.",
    },
  ];
}

/** An encrypted archive of which no drill has shown that an identity opens it. A drill needs a backup, and time. */
function proofFindings({ archive, at }: StatusFacts): Finding[] {
  const encryption = archive?.encryption;
  if (encryption === undefined || encryption.provedAt !== null) return [];
  const { since } = encryption;
  return [
    {
      kind: "identity-unproved",
      severity: secondsBetween(since, at) < UNPROVED_SECONDS ? "note" : "warning",
      stopsArchiving: false,
      since,
      // Its recipients may be others than those of new WAL (`seawall rekey`), so none are named.
      what: "no drill has shown that an identity opens the newest backup",
      meaning: "If the identities are lost or others, nothing of the archive can be restored.",
      remedy:
        "Run seawall drill --identity FILE on a machine that has the identity. seawall show latest says to whom the backup is encrypted.",
    },
  ];
}

/** WAL that the slot keeps over `slot-budget`, and WAL that was let go and is not archived yet. */
function budgetFindings({ slot, slotBudget, storedLsn }: StatusFacts): Finding[] {
  if (slotBudget === null) return [];
  const { limitBytes, onBudget, overSince, isGraceOver, refusal, released } = slotBudget;
  const limit = humanBytes(limitBytes);
  const common = { stopsArchiving: false } as const;
  const found: Finding[] = [];
  if (overSince !== null) {
    const keptBytes = slot?.retainedBytes ?? null;
    const kept = keptBytes === null ? "more" : humanBytes(keptBytes);
    const trend = isGraceOver ? ", and it does not become less" : "";
    const held = refusal === null ? "" : `; it is not let go: ${refusal}`;
    const releases = onBudget === "release" && refusal === null;
    found.push({
      ...common,
      kind: "slot-over-budget",
      severity: isGraceOver ? "critical" : "warning",
      since: overSince,
      what: `the server keeps ${kept} of WAL for Seawall, over slot-budget ${limit}${trend}${held}`,
      meaning: releases
        ? "If it does not become less for slot-budget-grace, Seawall lets this WAL go, and a gap needs a new base backup."
        : "The WAL stays on the server until it is archived. If the disk of pg_wal fills up, the server stops.",
      remedy: "Bring the store back, or find out why the receiver does not catch up.",
    });
  }
  // Until it is archived all the same, or streaming has gone on behind the gap.
  if (released === null || (storedLsn !== null && parseLsn(storedLsn) >= parseLsn(released.toLsn))) return found;
  const { at, fromLsn, toLsn, retainedBytes } = released;
  found.push({
    ...common,
    kind: "slot-released",
    severity: "critical",
    since: at,
    what: `the server was let go: it kept ${humanBytes(retainedBytes)} of WAL for Seawall, over slot-budget ${limit}`,
    meaning: `The server no longer keeps WAL from ${fromLsn} to ${toLsn}. WAL that it removes before it is archived is a gap, which needs a new base backup.`,
    remedy: "Bring the store back. With on-gap: backup the daemon then takes the backup by itself.",
  });
  return found;
}
