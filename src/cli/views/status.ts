/** The status of one cluster, for people. Pure. */
import type { EncryptionProof } from "../../archive/records/last-events.ts";
import { humanBytes, versionText } from "../../daemon/status/human.ts";
import { type Finding, HEALTH_WORDS, type HealthWord } from "../../daemon/health/finding.ts";
import type { JobView } from "../../daemon/jobs/scheduler.ts";
import { olderOf, rpoMeaning, rpoText } from "../../daemon/health/loss.ts";
import { recoverableSince } from "../../daemon/status/contents.ts";
import type { StatusDocument } from "../../daemon/status/document.ts";
import { bytesBetween, parseLsn } from "../../wal/lsn.ts";
import { counted } from "../../plural.ts";
import { shownTime, shownTimesIn } from "./time.ts";
import { type Colour, painted } from "./painted.ts";
import { type Look, columns, wrapped } from "./layout.ts";

export function renderStatus(status: StatusDocument, look: Look): string {
  const { colours, width } = look;
  const rows: string[][] = [
    ["cluster", [status.cluster, identity(status)].filter(Boolean).join(", ")],
    ["health", painted(status.health.status, HEALTH_TONE[status.health.status], colours)],
    ["state", status.state + since(status) + again(status)],
    ["server", serverText(status)],
    ["store", status.store ?? "–"],
    ["", ""],
    ["written", status.serverLsn ?? "–", `by the server${asOf(status)}`],
    ["received", status.receivedLsn ?? "–", receivedText(status)],
    ["verified", status.verifiedLsn ?? "–", behind(status.receivedLsn, status.verifiedLsn)],
    ["stored", status.storedLsn ?? "–", behind(status.verifiedLsn ?? status.serverLsn, status.storedLsn)],
    ["", ""],
    ["lag", status.lagBytes === null ? "–" : humanBytes(status.lagBytes)],
    ["recovery point", recoveryPoint(status)],
    ["slot", slotText(status, colours)],
    ...spoolRow(status),
    ["gaps", gapsText(status, colours)],
    ...recoverableRow(status),
    ...(status.rivals ?? []).map(({ text, isActive }) => ["rival", painted(text, isActive ? "red" : "dim", colours)]),
    ...archiveRows(status, colours),
    ...counterRows(status),
    ...status.jobs.map((job) => [job.job, jobText(job, colours)]),
    ...notificationRows(status, colours),
    ...configurationRow(status, colours),
    ...status.errors
      .slice(0, 1)
      .map((error) => ["last error", `${shownTime(error.at)} ${error.message} [${error.code}]`]),
  ];
  const findings = status.health.findings.flatMap((finding) => findingLines(finding, look));
  return [...columns(rows, width), ...(findings.length === 0 ? [] : ["", ...findings])].join("\n");
}

export function findingLines({ severity, since, what, meaning, remedy }: Finding, { colours, width }: Look): string[] {
  const word = painted(severity, severity === "note" ? "dim" : HEALTH_TONE[severity], colours);
  const when = since === null ? "" : ` (since ${shownTime(since)})`;
  const lines = [`${word}  ${shownTimesIn(what)}${when}`, `  ${shownTimesIn(meaning)}`, `  → ${shownTimesIn(remedy)}`];
  return lines.flatMap((line) => wrapped(line, width, 4));
}

function identity(status: StatusDocument): string {
  const generation = status.archive?.generation;
  const parts = [
    generation === undefined ? "" : `generation ${generation}`,
    status.systemIdentifier === null ? "" : `system identifier ${status.systemIdentifier}`,
    status.timeline === null ? "" : `timeline ${status.timeline}`,
  ];
  return parts.filter(Boolean).join(", ");
}

export const HEALTH_TONE: Readonly<Record<HealthWord, Colour>> = { ok: "green", warning: "yellow", critical: "red" };

/** Trouble first; otherwise the given order. */
export function worstFirst<T extends Pick<StatusDocument, "health">>(statuses: readonly T[]): readonly T[] {
  const rank = ({ health }: T): number => HEALTH_WORDS.indexOf(health.status);
  return [...statuses].sort((a, b) => rank(b) - rank(a));
}

function since(status: StatusDocument): string {
  return status.state === "streaming" && status.streamingSince !== null
    ? ` since ${shownTime(status.streamingSince)}`
    : "";
}

function again({ restart }: StatusDocument): string {
  if (restart === null) return "";
  return `, started again at ${shownTime(restart.at)} (failed ${counted(restart.failures, "time")})`;
}

function configurationRow({ configuration }: StatusDocument, colours: boolean): string[][] {
  if (configuration === null || configuration.error === null) return [];
  const { at, message } = configuration.error;
  const text = `not reloaded at ${shownTime(at)}: ${message}`;
  return [["configuration", `${painted(text, "red", colours)}; that of ${shownTime(configuration.loadedAt)} goes on`]];
}

function serverText(status: StatusDocument): string {
  if (status.server === null) return "–";
  return status.serverVersion === null
    ? status.server
    : `${status.server}, PostgreSQL ${versionText(status.serverVersion)}`;
}

function behind(before: string | null, lsn: string | null): string {
  if (before === null || lsn === null) return "";
  const bytes = bytesBetween(parseLsn(lsn), parseLsn(before));
  return bytes <= 0 ? "up to date" : `${humanBytes(bytes)} behind`;
}

/** Empty while the server is heard: the position is that of now. */
function asOf({ state, source, lastMessageAt }: StatusDocument): string {
  if (state === "streaming" || source === "server-and-store") return "";
  return lastMessageAt === null ? ", when last seen" : `, as of ${shownTime(lastMessageAt)}`;
}

/** Without a connection the server may have written more than is known. */
function receivedText(status: StatusDocument): string {
  const text = behind(status.serverLsn, status.receivedLsn);
  const when = asOf(status);
  if (text === "" || when === "") return text;
  return `${text === "up to date" ? "all that the server had" : text}${when}`;
}

function recoveryPoint(status: StatusDocument): string {
  const text = rpoText(status);
  return text === undefined ? "–" : `${text} (${rpoMeaning(status)})`;
}

function slotText({ slot, slotBudget, slotHealth, slotError }: StatusDocument, colours: boolean): string {
  if (slotError !== null && slotHealth !== null) {
    return painted(
      `unknown since ${shownTime(slotHealth.since)}: ${slotError.message} [${slotError.code}]`,
      "red",
      colours,
    );
  }
  if (slot === null) return "–";
  if (!slot.exists) return painted(`${slot.name}: missing on the server`, "red", colours);
  const kept = slot.retainedBytes === null ? "" : `, ${humanBytes(slot.retainedBytes)} of WAL kept`;
  const room = slot.safeBytes === null ? "" : `, ${humanBytes(Math.max(0, slot.safeBytes))} until it is given up`;
  const budget =
    slotBudget === null ? "" : `, slot-budget ${humanBytes(slotBudget.limitBytes)} (${slotBudget.onBudget})`;
  const text = `${slot.name}: ${slot.walStatus ?? "keeps no WAL"}${kept}${room}${budget}`;
  return slot.walStatus === "lost" || slot.walStatus === "unreserved" ? painted(text, "red", colours) : text;
}

function spoolRow({ spoolBytes, spoolLimitBytes, uploadedLsn }: StatusDocument): string[][] {
  if (spoolBytes === null || spoolLimitBytes === null) return [];
  const uploaded = `the store has all before ${uploadedLsn ?? "–"}`;
  return [["spool", `${humanBytes(spoolBytes)} of ${humanBytes(spoolLimitBytes)}; ${uploaded}`]];
}

function gapsText({ gaps }: StatusDocument, colours: boolean): string {
  if (gaps.length === 0) return "none";
  const text = gaps
    .map(({ fromLsn, toLsn, timeline, reason, coveredBy }) => {
      const covered = coveredBy === null ? "" : `, covered by backup ${coveredBy.backup}`;
      return `${fromLsn} to ${toLsn} on timeline ${timeline} (${reason})${covered}`;
    })
    .join("; ");
  return painted(text, gaps.some(({ coveredBy }) => coveredBy === null) ? "red" : "dim", colours);
}

/** Only a receiver lists the archive. */
function recoverableRow(status: StatusDocument): string[][] {
  if ((status.contents ?? null) === null) return [];
  const since = recoverableSince(status);
  if (since !== null) return [["recoverable", `since ${shownTime(since)}`]];
  if (status.contents?.backups === 0) return [["recoverable", olderText(status)]];
  return [["recoverable", "not up to now: seawall list shows the windows"]];
}

function olderText(status: StatusDocument): string {
  const older = olderOf(status);
  if (older === null) return "nothing: there is no base backup";
  const { generation, from, to } = older;
  return `${generation} only, from ${shownTime(from)} to ${shownTime(to)}: no later base backup`;
}

function archiveRows({ archive }: StatusDocument, colours: boolean): string[][] {
  if (archive === null) return [];
  const { backup, verify, drill, encryption } = archive;
  const outcome = (ok: boolean, text: string): string => painted(text, ok ? "green" : "red", colours);
  const problems = counted(verify?.problems ?? 0, "problem");
  return [
    [
      "last backup",
      backup === null ? "none" : `${shownTime(backup.finishedAt)}, ${humanBytes(backup.bytes)}, ${backup.id}`,
    ],
    [
      "last verify",
      verify === null
        ? "none"
        : `${shownTime(verify.finishedAt)}${verify.deep ? ", deep" : ""}: ${outcome(verify.ok, verify.ok ? "ok" : problems)}`,
    ],
    [
      "last drill",
      drill === null ? "none" : `${shownTime(drill.finishedAt)}: ${outcome(drill.ok, drill.ok ? "ok" : "failed")}`,
    ],
    ...(encryption === undefined ? [] : [["encrypted", encryptionText(encryption, colours)]]),
  ];
}

function encryptionText({ to, provedAt }: EncryptionProof, colours: boolean): string {
  const proof =
    provedAt === null
      ? painted("no drill has opened it with an identity", "yellow", colours)
      : `a drill opened it with an identity ${shownTime(provedAt)}`;
  return `to ${to.join(", ")}; ${proof}`;
}

function counterRows({ counters }: StatusDocument): string[][] {
  if (counters === null) return [];
  const { receivedBytes, segmentsSealed, chunksStored, reconnects } = counters;
  return [
    [
      "since start",
      `${humanBytes(receivedBytes)} received, ${counted(segmentsSealed, "segment")} sealed, ${counted(chunksStored, "chunk")} stored, ${counted(reconnects, "reconnect")}`,
    ],
  ];
}

function notificationRows({ notifications }: StatusDocument, colours: boolean): string[][] {
  return (notifications?.channels ?? []).map(({ channel, delivered, failed, dropped, waiting, lastFailure }) => {
    const lost = painted(`${failed + dropped} lost`, failed + dropped > 0 ? "red" : "dim", colours);
    const failure = lastFailure === null ? "" : `; last failure ${shownTime(lastFailure.at)}: ${lastFailure.reason}`;
    return [channel, `${delivered} delivered, ${waiting} waiting, ${lost}${failure}`];
  });
}

function jobText(job: JobView, colours: boolean): string {
  const { schedule, timeZone, runningSince, waitingSince, nextAt, last } = job;
  const waiting =
    waitingSince === null
      ? `next ${nextAt === null ? "never" : shownTime(nextAt)}`
      : `waiting for other jobs since ${shownTime(waitingSince)}`;
  const when = runningSince === null ? waiting : `running since ${shownTime(runningSince)}`;
  const outcome = last === null ? "" : painted(last.ok ? "ok" : "failed", last.ok ? "green" : "red", colours);
  const before = last === null ? "not run yet" : `last ${shownTime(last.finishedAt)}: ${outcome}, ${last.message}`;
  return `${schedule} (${timeZone}); ${when}; ${before}`;
}
