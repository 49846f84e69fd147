/** `seawall show ID`: prints one base backup, the WAL that it needs and the points that it leads to. */
import type { Archive } from "../../archive/archive.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { backupRecipients } from "../../archive/backups/encrypted-to.ts";
import { backupNamed } from "../../archive/backups/named.ts";
import { readBackup } from "../../archive/backups/list.ts";
import type { Catalog } from "../../archive/catalog/catalog.ts";
import { parseWalKey, segmentName, timelinePrefix } from "../../archive/keys.ts";
import type { Pin } from "../../archive/backups/pins.ts";
import { humanBytes, humanSeconds } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import type { RequestOptions } from "../../store/store.ts";
import { formatLsn, type SegmentNumber, segmentOf, segmentBefore } from "../../wal/lsn.ts";
import { backupJson, type CatalogView, reachesOf, secondsOf, walNeeded, withCatalog } from "../views/catalog.ts";
import { type CommandContext, printResult } from "../context.ts";
import { backupArgument } from "./pin.ts";
import { counted } from "../../plural.ts";
import { shownTime } from "../views/time.ts";
import { painted } from "../views/painted.ts";
import { type Look, columns } from "../views/layout.ts";

/** The WAL between a backup's start and its stop. */
interface NeededWal {
  readonly from: string;
  readonly to: string;
  readonly segments: number;
  readonly storedBytes: number;
  /** Segments of which nothing is stored. */
  readonly missing: readonly string[];
}

interface Shown extends CatalogView {
  readonly backup: BackupDocument;
  readonly wal: NeededWal;
  readonly pin: Pin | undefined;
  /** Recipients in short; undefined for a plain backup. */
  readonly to: readonly string[] | undefined;
}

export async function run(context: CommandContext): Promise<number> {
  const { args, signals, io } = context;
  const named = backupArgument(args[0]);
  return withCatalog(context, named, async (view) => {
    const { archive, catalog } = view;
    const options = { signal: signals.stop };
    const id = await backupNamed(archive, named, options);
    const backup = catalog.backups.find((known) => known.id === id) ?? (await readBackup(archive, id, options));
    const wal = await readNeeded(archive, catalog, backup, options);
    const pin = catalog.pins.find((known) => known.backup === id);
    const to = await backupRecipients(archive, id, options);
    const shown = { ...view, backup, wal, pin, to };
    await printResult(context, showJson(shown), showText(shown, io));
    return EXIT.done;
  });
}

async function readNeeded(
  { store, cluster }: Archive,
  { paths, inventory }: Catalog,
  backup: BackupDocument,
  options: RequestOptions,
): Promise<NeededWal> {
  const { timeline, segmentSize } = backup;
  const needed = walNeeded(backup);
  const first = segmentOf(backup.startLsn, segmentSize);
  const last = segmentBefore(backup.stopLsn, segmentSize);
  let storedBytes = 0;
  const startAfter = `${timelinePrefix(cluster, timeline)}${needed.from.slice(8, 16)}/`;
  for await (const { key, bytes } of store.list(timelinePrefix(cluster, timeline), { ...options, startAfter })) {
    const found = parseWalKey(key, segmentSize);
    if (found === undefined || found.kind === "history") continue;
    if (found.segment > last) break;
    if (found.kind === "segment" && found.segment >= first) storedBytes += bytes;
  }
  for (const tail of inventory.tails) {
    if (tail.timeline === timeline && tail.segment >= first && tail.segment <= last) storedBytes += tail.storedBytes;
  }
  const pieces = paths.find(({ history }) => history.timeline === timeline)?.pieces ?? [];
  const missing: string[] = [];
  for (let segment = first; segment <= last; segment = (segment + 1) as SegmentNumber) {
    if (pieces.some((piece) => piece.first <= segment && segment <= piece.last)) continue;
    missing.push(segmentName({ timeline, segment, segmentSize }));
  }
  return { ...needed, storedBytes, missing };
}

function showJson(shown: Shown): Record<string, unknown> {
  const { backup, wal, pin, to } = shown;
  const { fromStandby, dataChecksums, compression, tablespaces, parts, files, manifest } = backup;
  return {
    ...backupJson(shown, backup),
    wal,
    pin: pin ?? null,
    encryptedTo: to ?? null,
    fromStandby,
    dataChecksums,
    compression,
    tablespaces,
    parts: parts.map(({ name, tablespace, bytes, storedBytes, files: count }) => ({
      name,
      tablespace,
      bytes,
      storedBytes,
      files: count,
    })),
    files: parts.reduce((sum, part) => sum + part.files, 0),
    entries: files.entries,
    manifest: manifest === null ? null : { bytes: manifest.bytes, algorithm: manifest.algorithm },
  };
}

function showText(shown: Shown, { colours, width }: Look): string {
  const { archive, catalog, backup, wal, pin, to, now } = shown;
  const { fromStandby, origin, pgVersion, parts, tablespaces, manifest, dataChecksums, compression } = backup;
  const files = parts.reduce((sum, part) => sum + part.files, 0);
  const span = wal.segments === 1 ? wal.from : `${wal.from} to ${wal.to}`;
  const reaches = reachesOf(catalog, backup).map(({ timeline, toLsn, toTime, isUnread }) => [
    "reaches",
    `${formatLsn(toLsn)} on timeline ${timeline}` +
      (toTime === null ? "" : `, last commit ${shownTime(toTime)}${isUnread ? " or later" : ""}`),
  ]);
  const rows = [
    ["backup", `${backup.id}, ${backup.type}, labelled "${backup.label}"`],
    ...(archive.cluster.includes("@") ? [["generation", archive.cluster]] : []),
    ["taken", `${shownTime(backup.startedAt)} to ${shownTime(backup.finishedAt)}, ${humanSeconds(secondsOf(backup))}`],
    ...(origin === undefined
      ? []
      : [["imported", `${shownTime(origin.importedAt)} from ${origin.tool}, ${origin.name}`]]),
    ["from", `a ${fromStandby ? "standby" : "primary"}, PostgreSQL ${pgVersion}, timeline ${backup.timeline}`],
    ["size", `${humanBytes(backup.bytes)} in ${counted(files, "file")}`],
    [
      "stored",
      `${humanBytes(backup.storedBytes)} in ${counted(parts.length, "part")}, zstd level ${compression.level}`,
    ],
    ["encrypted", to === undefined ? "no" : `to ${to.join(", ")}`],
    ["checksums", `${manifest?.algorithm ?? "no manifest"}; data checksums ${dataChecksums ? "on" : "off"}`],
    ...tablespaces.map(({ oid, path, bytes }) => ["tablespace", `${oid} at ${path}, ${humanBytes(bytes)}`]),
    ["from LSN", `${formatLsn(backup.startLsn)}, consistent at ${formatLsn(backup.stopLsn)}`],
    ["needs WAL", `${span}: ${counted(wal.segments, "segment")}, ${humanBytes(wal.storedBytes)} stored`],
    ...(wal.missing.length === 0 ? [] : [["", painted(missingText(wal.missing), "red", colours)]]),
    ...(reaches.length === 0 ? [["reaches", painted("nothing: it cannot be restored", "red", colours)]] : reaches),
    ["pinned", pinText(pin, now)],
  ];
  return columns(rows, width).join("\n");
}

function missingText(missing: readonly string[]): string {
  const shown = missing.slice(0, 3).join(", ");
  return `not in the archive: ${shown}${missing.length > 3 ? ` and ${missing.length - 3} more` : ""}`;
}

function pinText(pin: Pin | undefined, now: Date): string {
  if (pin === undefined) return "no";
  const note = pin.note === "" ? "" : `: ${pin.note}`;
  if (pin.expiresAt === null) return `since ${shownTime(pin.pinnedAt)}${note}`;
  const isOver = Date.parse(pin.expiresAt) <= now.getTime();
  return `${isOver ? "no more, ran out" : "until"} ${shownTime(pin.expiresAt)}${note}`;
}
