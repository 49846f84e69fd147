/** `seawall verify`: checks that everything is stored, unbroken and unchanged, and states the consequence of damage. */
import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { openArchive } from "../../archive/archive.ts";
import { verifyArchive, type VerifyReport } from "../../archive/verify/verify.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { type CommandContext, openPatientStore, printResult, requiredStore } from "../context.ts";
import { Progress } from "../views/progress.ts";
import { painted } from "../views/table.ts";

const JOBS_MAX = 8;

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, io } = context;
  const store = await openPatientStore(context, requiredStore(context));
  const progress = new Progress({ io, json: settings.json, verb: "verifying", nowMs: () => Date.now() });
  const startedMs = Date.now();
  try {
    const archive = await openArchive(store, settings.cluster, { signal: signals.stop });
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
    const json = { ok, checked, problems, notes, cluster: settings.cluster, deep, full: settings.full, seconds };
    await printResult(context, json, reportText(report, seconds, io.colours));
    return ok ? EXIT.done : EXIT.no;
  } finally {
    progress.end();
    await store.close();
  }
}

function reportText({ ok, deep, checked, problems, notes }: VerifyReport, seconds: number, colours: boolean): string {
  const wal = [
    count(checked.segments, "segment"),
    ...(checked.partials === 0 ? [] : [count(checked.partials, "partial")]),
    ...(checked.tails === 0 ? [] : [count(checked.tails, "tail")]),
  ].join(", ");
  const read = deep
    ? `: ${count(checked.records, "record")} and ${count(checked.files, "file")}, ${humanBytes(checked.readBytes)} read`
    : "";
  const unchanged =
    checked.unchangedSegments === 0 && checked.unchangedBackups === 0
      ? []
      : [
          `unchanged since an earlier run: ${count(checked.unchangedSegments, "segment")}, ${count(checked.unchangedBackups, "backup")}`,
        ];
  const verdict = ok
    ? painted("everything is there and unbroken", "green", colours) + (deep ? "" : "; --deep reads what is inside")
    : painted(count(problems.length, "problem"), "red", colours);
  return [
    `verified ${wal}, ${count(checked.backups, "backup")} in ${humanSeconds(seconds)}${read}`,
    ...unchanged,
    ...problems.map(({ kind, message }) => `${painted(kind, "red", colours)}  ${message}`),
    ...notes.map(({ kind, object, message }) => `${painted(kind, "yellow", colours)}  ${object}: ${message}`),
    verdict,
  ].join("\n");
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
