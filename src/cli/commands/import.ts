/** `seawall import`: brings WAL that another tool has archived, or base backups that it has taken, into the archive. */
import { resolve } from "node:path";
import { Codec } from "../../codec/codec.ts";
import { CodecPool } from "../../codec/pool.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { hasCode } from "../../errors.ts";
import { kindOf } from "../../import/base/find.ts";
import { BucketSource } from "../../import/bucket.ts";
import { DirectorySource } from "../../import/directory.ts";
import type { Counts, Range } from "../../import/findings.ts";
import { type ImportReport, importWal } from "../../import/import-wal.ts";
import type { ImportSource } from "../../import/source.ts";
import { schemeName } from "../../store/schemes.ts";
import { segmentFileName } from "../../wal/names.ts";
import { type CommandContext, openPatientStore, printResult, requiredStore } from "../context.ts";
import { askPassphrase, identitiesOf, recipientsOf } from "../keys.ts";
import { Progress } from "../views/progress.ts";
import { counted } from "../../plural.ts";
import { painted } from "../views/painted.ts";

/** A report for people names so many refused files; --json has more. */
const REFUSALS_SHOWN = 20;

export async function run(context: CommandContext): Promise<number> {
  const { args, signals } = context;
  const [given = ""] = args;
  const { source, root } = await openSource(context, given);
  try {
    const kind = await kindOf(source, { signal: signals.stop });
    if (kind.kind === "wal") return await runWal(context, source);
    const { runBackups } = await import("./import-backups.ts");
    return await runBackups(context, { source, root, kind });
  } catch (error) {
    if (signals.exit() !== undefined && hasCode(error, "aborted")) sayStopped(context);
    throw error;
  } finally {
    await source.close();
  }
}

const STOPPED =
  "The import was stopped. WAL and backups that are complete stay in the archive, and an unfinished backup was removed. Run the same command again to go on.";

function sayStopped({ settings, io }: CommandContext): void {
  io.err(settings.json ? `${JSON.stringify({ event: "stopped", message: STOPPED })}\n` : `${STOPPED}\n`);
}

async function runWal(context: CommandContext, source: ImportSource): Promise<number> {
  const { settings, io, signals } = context;
  const startedMs = Date.now();
  const store = await openPatientStore(context, requiredStore(context));
  const pool = new CodecPool({ threads: settings.compressThreads });
  const recipients = await recipientsOf(settings);
  // Whether stored WAL continues imported WAL is seen in its content.
  const identities = await identitiesOf(settings, askPassphrase(context));
  const codec = new Codec({ level: settings.compressLevel, recipients, identities, pool, ownsPool: true });
  const progress = new Progress({
    io,
    json: settings.json,
    verb: settings.dryRun ? "reading" : "importing",
    unit: "files",
    nowMs: () => Date.now(),
  });
  try {
    const report = await importWal({
      source,
      store,
      codec,
      cluster: settings.cluster,
      isDry: settings.dryRun,
      skipsStored: settings.skipStored,
      systemIdentifier: settings.systemIdentifier === undefined ? undefined : BigInt(settings.systemIdentifier),
      signal: signals.stop,
      now: () => new Date(),
      onBegin: (files) => progress.begin(files),
      onFiles: (files, name) => {
        progress.advance(files);
        if (name !== "") progress.detail(name);
      },
    });
    progress.end();
    const seconds = (Date.now() - startedMs) / 1000;
    const shown = { report, source: source.description, seconds };
    await printResult(context, reportJson(context, shown), reportText(context, shown));
    return isGood(report) ? EXIT.done : EXIT.no;
  } finally {
    progress.end();
    await codec.close();
    await store.close();
  }
}

/** A store's URL names a bucket; a file URL, or anything else, a directory, whose absolute path is `root`. */
async function openSource(
  context: CommandContext,
  given: string,
): Promise<{ readonly source: ImportSource; readonly root: string | undefined }> {
  const scheme = schemeName(given);
  if (scheme !== undefined && scheme !== "file") {
    return { source: new BucketSource(await openPatientStore(context, given)), root: undefined };
  }
  const { pathOfFileUrl } = await import("../../store/file/url.ts");
  const root = scheme === undefined ? resolve(given) : pathOfFileUrl(given);
  return { source: new DirectorySource(root), root };
}

function isGood({ findings, unjoined, locked }: ImportReport): boolean {
  return findings.refusals === 0 && unjoined.length === 0 && locked.length === 0;
}

interface Shown {
  readonly report: ImportReport;
  readonly source: string;
  readonly seconds: number;
}

function reportJson({ settings }: CommandContext, { report, source, seconds }: Shown): Record<string, unknown> {
  const { findings, identity, unjoined, locked, closedGaps } = report;
  const range = (one: Range): Record<string, unknown> => namesOf(one, report);
  return {
    ok: isGood(report),
    dryRun: settings.dryRun,
    source,
    cluster: settings.cluster,
    systemIdentifier: identity.systemIdentifier.toString(),
    segmentSize: identity.segmentSize,
    stored: findings.stored,
    present: findings.present,
    walBytes: findings.walBytes,
    duplicates: findings.duplicates,
    passedOver: findings.passedOver,
    ranges: report.ranges.map(range),
    missing: report.missing.map(range),
    closedGaps,
    unjoined,
    locked,
    refusals: findings.refusals,
    refused: findings.refused,
    seconds,
  };
}

function reportText({ settings, io }: CommandContext, { report, source, seconds }: Shown): string {
  const { findings, unjoined } = report;
  const { colours } = io;
  const verb = settings.dryRun ? "would import" : "imported";
  const lines = [
    `${verb} ${countsText(findings.stored)} from ${printable(source)} (${humanBytes(findings.walBytes)} of WAL, ${humanSeconds(seconds)})`,
  ];
  const there = countsText(findings.present);
  if (there !== NOTHING) lines.push(`already in the archive: ${there}`);
  if (findings.duplicates > 0) lines.push(`the same once more: ${counted(findings.duplicates, "file")}`);
  if (findings.passedOver > 0) lines.push(`passed over, no WAL: ${counted(findings.passedOver, "file")}`);
  for (const range of report.ranges) lines.push(`timeline ${range.timeline}: ${rangeText(range, report)}`);
  for (const range of report.missing) {
    lines.push(painted(`missing on timeline ${range.timeline}: ${rangeText(range, report)}`, "yellow", colours));
  }
  if (report.closedGaps > 0) lines.push(`${counted(report.closedGaps, "recorded gap")} filled`);
  for (const name of unjoined) {
    lines.push(
      painted(`${name} does not continue the segment before it: the gap there stays recorded`, "red", colours),
    );
  }
  for (const name of report.locked) {
    const why = `${name} is encrypted, so whether it continues the segment before it is not known`;
    lines.push(painted(`${why}: the gap there stays recorded. Run the import again with --identity`, "red", colours));
  }
  for (const { kind, path, problem } of findings.refused.slice(0, REFUSALS_SHOWN)) {
    lines.push(`${painted(`refused, ${kind}`, "red", colours)}  ${printable(path)}: ${printable(problem)}`);
  }
  if (findings.refusals > 0) {
    const hidden = findings.refusals > REFUSALS_SHOWN ? `, ${REFUSALS_SHOWN} of them shown; --json shows more` : "";
    lines.push(painted(`${counted(findings.refusals, "file")} refused${hidden}`, "red", colours));
  }
  return lines.join("\n");
}

const NOTHING = "nothing";

function countsText({ segments, partials, histories, backupHistories }: Counts): string {
  const parts = [
    [segments, "segment"],
    [partials, "partial"],
    [histories, "timeline history file"],
    [backupHistories, "backup history file"],
  ] as const;
  const texts = parts.filter(([count]) => count > 0).map(([count, noun]) => counted(count, noun));
  return texts.length === 0 ? NOTHING : texts.join(", ");
}

function namesOf({ timeline, first, last }: Range, { identity }: ImportReport): Record<string, unknown> {
  const name = (segment: Range["first"]): string => segmentFileName(timeline, segment, identity.segmentSize);
  return { timeline, first: name(first), last: name(last), segments: last - first + 1 };
}

function rangeText(range: Range, report: ImportReport): string {
  const { first, last, segments } = namesOf(range, report);
  return first === last
    ? String(first)
    : `${String(first)} to ${String(last)} (${counted(Number(segments), "segment")})`;
}

/** Names in a source are what others have made them. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}
