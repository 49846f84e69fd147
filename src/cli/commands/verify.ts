/** `seawall verify`: checks that everything is stored, unbroken and unchanged, and states the consequence of damage. */
import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { verifyArchive, type VerifyReport } from "../../archive/verify/verify.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { onClusters, type Report } from "../all-clusters.ts";
import type { CommandContext } from "../context.ts";
import { withArchive } from "../with-archive.ts";
import { counted } from "../../plural.ts";
import { type Look, wrapped } from "../views/layout.ts";
import { painted } from "../views/painted.ts";
import { shownTimesIn } from "../views/time.ts";

const JOBS_MAX = 8;

/** One archive after the other: a verification keeps the machine and the store busy by itself. */
export const run = onClusters(verified, { inFlight: 1, ofStore: true });

async function verified(context: CommandContext): Promise<Report> {
  const { settings, signals, io } = context;
  const startedMs = Date.now();
  return withArchive(context, { verb: "verifying", patient: true, asks: true }, async (archive, progress) => {
    const report = await verifyArchive(archive, {
      deep: settings.deep,
      full: settings.full,
      progress,
      signal: signals.stop,
      jobs: settings.jobs ?? Math.min(JOBS_MAX, availableParallelism()),
      now: () => new Date(),
      random: randomBytes(4).readUInt32LE(),
    });
    progress.end();
    const seconds = (Date.now() - startedMs) / 1000;
    const { ok, checked, problems, notes, deep } = report;
    const json = {
      ok,
      checked,
      problems,
      notes,
      cluster: settings.cluster,
      deep,
      full: settings.full,
      seconds,
      encryption: encryptionJson(report),
    };
    return { json, text: reportText(report, seconds, io), exit: ok ? EXIT.done : EXIT.no };
  });
}

function encryptionJson({ stretches, backups }: VerifyReport): Record<string, unknown> {
  const wal = stretches.map(({ timeline, fromLsn, toLsn, to }) => {
    return { timeline, fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn), to };
  });
  return { wal, backups };
}

function encryptionLines({ stretches, backups, checked }: VerifyReport): string[] {
  const whom = (to: readonly string[]): string => (to.length === 0 ? "plain" : to.join(", "));
  const timelines = [...new Set(stretches.map(({ timeline }) => timeline))];
  const wal = timelines.map((timeline) => {
    const parts = stretches
      .filter((one) => one.timeline === timeline)
      .map(({ fromLsn, toLsn, to }) => `${formatLsn(fromLsn)} to ${formatLsn(toLsn)}: ${whom(to)}`);
    const part = checked.unchangedSegments === 0 ? "" : ", of what this run looked at (--full looks at all)";
    return `encryption of WAL on timeline ${timeline}${part}: ${parts.join("; ")}`;
  });
  return [...wal, ...backups.map(({ id, to }) => `encryption of backup ${id}: ${whom(to)}`)];
}

function reportText(report: VerifyReport, seconds: number, { colours, width }: Look): string {
  const { ok, deep, checked, problems, notes } = report;
  const wal = [
    counted(checked.segments, "segment"),
    ...(checked.partials === 0 ? [] : [counted(checked.partials, "partial")]),
    ...(checked.tails === 0 ? [] : [counted(checked.tails, "tail")]),
  ].join(", ");
  const read = deep
    ? `: ${counted(checked.records, "record")} and ${counted(checked.files, "file")}, ${humanBytes(checked.readBytes)} read`
    : "";
  const unchanged =
    checked.unchangedSegments === 0 && checked.unchangedBackups === 0
      ? []
      : [
          `unchanged since an earlier run: ${counted(checked.unchangedSegments, "segment")}, ${counted(checked.unchangedBackups, "backup")}`,
        ];
  const isEmpty = notes.some(({ kind }) => kind === "empty-archive");
  const unread = notes.some(({ kind }) => kind === "encrypted") ? " as far as it was checked" : "";
  const good = isEmpty
    ? painted("the archive is empty", "yellow", colours)
    : painted("everything is there and unbroken", "green", colours) + (deep ? unread : "; --deep reads what is inside");
  const verdict = ok ? good : painted(counted(problems.length, "problem"), "red", colours);
  const told = [
    ...problems.map(({ kind, message }) => `${painted(kind, "red", colours)}  ${shownTimesIn(message)}`),
    ...notes.map(
      ({ kind, object, message }) => `${painted(kind, "yellow", colours)}  ${object}: ${shownTimesIn(message)}`,
    ),
  ];
  return [
    `verified ${wal}, ${counted(checked.backups, "backup")} in ${humanSeconds(seconds)}${read}`,
    ...unchanged,
    ...encryptionLines(report).flatMap((line) => wrapped(line, width, 2)),
    ...told.flatMap((line) => wrapped(line, width, 2)),
    verdict,
  ].join("\n");
}
