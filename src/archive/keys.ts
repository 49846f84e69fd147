/**
 * Makes and parses every key of the archive; no other file does. Layout: docs/archive-format.md.
 *
 * Keys are computable from names, so a restore needs no index, and sort in WAL order within a timeline.
 *
 * Other tools and people leave things in an archive. A key counts only when it parses here, from its first character to its
 * last; every listing passes over the rest. An object whose key parses and whose content does not is damage, and is named.
 */
import { SeawallError } from "../errors.ts";
import { type Lsn, type SegmentNumber, type TimelineId, timelineOf } from "../wal/lsn.ts";
import { hex8, historyFileName, parseWalFileName, segmentFileName, timelineText } from "../wal/names.ts";

const CLUSTER_NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/;
/** The highest number of a generation: two digits. */
export const GENERATIONS_MAX = 99;

/** The name of a cluster, without a generation. */
export function isClusterName(name: string): boolean {
  return CLUSTER_NAME.test(name);
}

/** A name as users give it: a cluster, or one generation of it (`main@2`). */
export interface GivenName {
  readonly cluster: string;
  /** Counts from 1; undefined for the cluster as a whole. */
  readonly generation: number | undefined;
}

/** Throws `usage`. */
export function parseGivenName(name: string): GivenName {
  const [cluster = "", number, ...rest] = name.split("@");
  const isNumbered = number === undefined || (/^[1-9]\d?$/.test(number) && rest.length === 0);
  if (isClusterName(cluster) && isNumbered) {
    return { cluster, generation: number === undefined ? undefined : Number(number) };
  }
  throw new SeawallError("usage", `malformed cluster name "${name}"`, {
    hint: `Use lower-case letters, digits, dots, dashes and underscores, beginning with a letter or digit. A generation follows as @1 to @${GENERATIONS_MAX}.`,
  });
}

/** The name under which people ask for one generation: the first one is `main@1`, though its folder is `main`. */
export function generationName(cluster: string, generation: number): string {
  return `${cluster}@${generation}`;
}

/** The folder of a generation: the first one has the cluster's name, as before there were generations. */
export function generationFolder(cluster: string, generation: number): string {
  return generation === 1 ? cluster : generationName(cluster, generation);
}

/** A folder is one key part: a cluster's, or that of a later generation. Throws `usage`. */
export function checkClusterFolder(folder: string): string {
  const { cluster, generation } = parseGivenName(folder);
  if (generation === 1) throw new SeawallError("internal", `the folder of ${folder} is ${cluster}`);
  return folder;
}

export function generationsPrefix(cluster: string): string {
  return `${cluster}/generations/`;
}

/** Declares generation 2 or a later one; in the folder of the first. */
export function generationKey(cluster: string, generation: number): string {
  return `${generationsPrefix(cluster)}${String(generation).padStart(8, "0")}.json`;
}

export function identityKey(cluster: string): string {
  return `${cluster}/cluster.json`;
}

/** In a spool only: says that the spool was uploaded, so that the store must have an archive. */
export function uploadedKey(cluster: string): string {
  return `${cluster}/uploaded.json`;
}

export function walPrefix(cluster: string): string {
  return `${cluster}/wal/`;
}

export function timelinePrefix(cluster: string, timeline: TimelineId): string {
  return `${cluster}/wal/${timelineText(timeline)}/`;
}

function segmentPlace(cluster: string, name: string): string {
  return `${cluster}/wal/${name.slice(0, 8)}/${name.slice(8, 16)}/${name}`;
}

export interface SegmentPlace {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly segmentSize: number;
}

export function segmentName(place: SegmentPlace): string {
  return segmentFileName(place.timeline, place.segment, place.segmentSize);
}

export function segmentKey(cluster: string, place: SegmentPlace): string {
  return `${segmentPlace(cluster, segmentName(place))}.zst`;
}

export function partialKey(cluster: string, place: SegmentPlace): string {
  return `${segmentPlace(cluster, segmentName(place))}.partial.zst`;
}

/** A backup history file that `archive_command` hands over: `<segment>.<offset>.backup`. */
export function backupHistoryKey(cluster: string, fileName: string): string {
  return segmentPlace(cluster, fileName);
}

export function historyKey(cluster: string, timeline: TimelineId): string {
  return `${cluster}/wal/${historyFileName(timeline)}`;
}

export function tailsPrefix(cluster: string): string {
  return `${cluster}/tail/`;
}

export function tailPrefix(cluster: string, place: SegmentPlace): string {
  return `${cluster}/tail/${segmentName(place)}/`;
}

/** A chunk: bytes `start` to `end` (offsets inside the segment, end exclusive, 8 hex digits each). */
export function chunkKey(cluster: string, place: SegmentPlace, start: number, end: number): string {
  return `${tailPrefix(cluster, place)}${hex8(start)}-${hex8(end)}.zst`;
}

export interface ChunkPlace extends SegmentPlace {
  readonly key: string;
  readonly start: number;
  readonly end: number;
}

const CHUNK = /^[^/]+\/tail\/([0-9A-F]{24})\/([0-9A-F]{8})-([0-9A-F]{8})\.zst$/;

/** Undefined for a key that is not a chunk of a segment of this size: not ours, left alone. */
export function parseChunkKey(key: string, segmentSize: number): ChunkPlace | undefined {
  const match = CHUNK.exec(key);
  if (match?.[1] === undefined || match[2] === undefined || match[3] === undefined) return undefined;
  const name = parseWalFileName(match[1], segmentSize);
  if (name?.kind !== "segment") return undefined;
  const start = Number.parseInt(match[2], 16);
  const end = Number.parseInt(match[3], 16);
  if (start >= end || end > segmentSize) return undefined;
  return { key, timeline: name.timeline, segment: name.segment, segmentSize, start, end };
}

export type WalKey =
  | { readonly kind: "segment" | "partial"; readonly timeline: TimelineId; readonly segment: SegmentNumber }
  | { readonly kind: "history"; readonly timeline: TimelineId };

/** Parses a key below `wal/`; undefined unless it is the very key where a restore looks for the file of that name. */
export function parseWalKey(key: string, segmentSize: number): WalKey | undefined {
  const cluster = key.slice(0, key.indexOf("/"));
  const file = key.slice(key.lastIndexOf("/") + 1);
  const name = parseWalFileName(file.endsWith(".zst") ? file.slice(0, -4) : file, segmentSize);
  switch (name?.kind) {
    case "segment":
    case "partial": {
      const { kind, timeline, segment } = name;
      return file.endsWith(".zst") && key === segmentPlace(cluster, file) ? { kind, timeline, segment } : undefined;
    }
    case "history":
      return key === historyKey(cluster, name.timeline) ? { kind: "history", timeline: name.timeline } : undefined;
    case "backup-history":
    case undefined:
      return undefined;
  }
}

/** The names of those folders directly below `prefix` that are a timeline or hold segments: eight digits each. */
export function walFolderNames(prefix: string, folders: readonly string[]): string[] {
  return folders.map((folder) => folder.slice(prefix.length, -1)).filter((name) => /^[0-9A-F]{8}$/.test(name));
}

/** The folders that are a timeline, ascending when `folders` is. */
export function timelineFolders(prefix: string, folders: readonly string[]): TimelineId[] {
  const numbers = walFolderNames(prefix, folders).map((name) => Number.parseInt(name, 16));
  return numbers.filter((timeline) => timeline > 0).map(timelineOf);
}

export function gapsPrefix(cluster: string): string {
  return `${cluster}/gaps/`;
}

export function linePrefix(cluster: string): string {
  return `${cluster}/line/`;
}

/** A claim of the line; `number` counts from 1. */
export function lineKey(cluster: string, number: number): string {
  return `${linePrefix(cluster)}${String(number).padStart(8, "0")}.json`;
}

/** The claim's number; undefined for a key that is no claim. */
export function parseLineKey(key: string): number | undefined {
  const digits = /\/line\/(\d{8})\.json$/.exec(key)?.[1];
  const number = Number(digits ?? 0);
  return number > 0 ? number : undefined;
}

export function encryptionPrefix(cluster: string): string {
  return `${cluster}/encryption/`;
}

/** Names who the archive is encrypted to; `number` counts from 1. */
export function encryptionKey(cluster: string, number: number): string {
  return `${encryptionPrefix(cluster)}${String(number).padStart(8, "0")}.json`;
}

/** The document's number; undefined for a key that is no such document. */
export function parseEncryptionKey(key: string): number | undefined {
  const digits = /\/encryption\/(\d{8})\.json$/.exec(key)?.[1];
  const number = Number(digits ?? 0);
  return number > 0 ? number : undefined;
}

const hex16 = (lsn: Lsn): string => lsn.toString(16).toUpperCase().padStart(16, "0");

export function gapKey(cluster: string, timeline: TimelineId, from: Lsn, to: Lsn): string {
  return `${gapsPrefix(cluster)}${timelineText(timeline)}-${hex16(from)}-${hex16(to)}.json`;
}

export interface GapKey {
  readonly key: string;
  readonly timeline: TimelineId;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
}

/** Undefined for a key that is not a gap's: not ours, left alone. */
export function parseGapKey(key: string): GapKey | undefined {
  return parseWalSpan("gaps", key);
}

/** Undefined for a key that is not a break's: not ours, left alone. */
export function parseBreakKey(key: string): GapKey | undefined {
  return parseWalSpan("breaks", key);
}

const WAL_SPAN = /^[^/]+\/(gaps|breaks)\/([0-9A-F]{8})-([0-9A-F]{16})-([0-9A-F]{16})\.json$/;

function parseWalSpan(folder: string, key: string): GapKey | undefined {
  const [, found, timeline = "", from = "", to = ""] = WAL_SPAN.exec(key) ?? [];
  if (found !== folder || timeline === "00000000" || from >= to) return undefined;
  const lsn = (digits: string): Lsn => BigInt(`0x${digits}`) as Lsn;
  return { key, timeline: timelineOf(Number.parseInt(timeline, 16)), fromLsn: lsn(from), toLsn: lsn(to) };
}

export function breaksPrefix(cluster: string): string {
  return `${cluster}/breaks/`;
}

export function breakKey(cluster: string, timeline: TimelineId, from: Lsn, to: Lsn): string {
  return `${breaksPrefix(cluster)}${timelineText(timeline)}-${hex16(from)}-${hex16(to)}.json`;
}

/** Names the evidence of WAL that did not verify: raw bytes of the segment as received. */
export function evidenceKey(cluster: string, place: SegmentPlace, atMs: number): string {
  return `${cluster}/evidence/${segmentName(place)}-${atMs}.zst`;
}

/** Names an object that `check` writes, reads and deletes; `id` makes it unique. */
export function probeKey(cluster: string, id: string): string {
  return `${checkClusterFolder(cluster)}/probe/${id}`;
}

export type ObjectKind = "segment" | "partial" | "history" | "chunk" | "backup" | "document";

/** Sorts a key into a kind, for metrics. */
export function objectKind(key: string): ObjectKind {
  const [, room] = key.split("/", 2);
  if (room === "tail") return "chunk";
  if (room === "backups") return key.endsWith(".json") ? "document" : "backup";
  if (room !== "wal") return "document";
  if (key.endsWith(".partial.zst")) return "partial";
  return key.endsWith(".history") ? "history" : "segment";
}

/** `<start, UTC>-<8 random hex digits>`: sorts by time, and two backups begun in the same second differ. */
const BACKUP_ID = /^\d{8}T\d{6}Z-[0-9a-f]{8}$/;

export function isBackupId(text: string): boolean {
  return BACKUP_ID.test(text);
}

/** The id of a backup that starts at `at`; `random` is a number of 32 random bits. */
export function backupIdOf(at: Date, random: number): string {
  const stamp = at
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replace(/[-:]/g, "");
  return `${stamp}-${(random >>> 0).toString(16).padStart(8, "0")}`;
}

/** Names the result of a verification; `name` sorts by time. */
export function verifyKey(cluster: string, name: string): string {
  return `${verifyPrefix(cluster)}${name}.json`;
}

export function verifyPrefix(cluster: string): string {
  return `${cluster}/verify/`;
}

export function backupsPrefix(cluster: string): string {
  return `${cluster}/backups/`;
}

export function backupPrefix(cluster: string, id: string): string {
  return `${backupsPrefix(cluster)}${id}/`;
}

/** Written last: a backup exists when this does. */
export function backupDocumentKey(cluster: string, id: string): string {
  return `${backupPrefix(cluster, id)}backup.json`;
}

/** The server's manifest, as it came. */
export function backupManifestKey(cluster: string, id: string): string {
  return `${backupPrefix(cluster, id)}${BACKUP_MANIFEST}`;
}

/** One JSON line for each file, directory and symlink. */
export function backupFilesKey(cluster: string, id: string): string {
  return `${backupPrefix(cluster, id)}${BACKUP_FILES}`;
}

export const BACKUP_MANIFEST = "backup_manifest";
export const BACKUP_FILES = "files.jsonl.zst";

/** `name` as in the document's `parts`: `00001.tar.zst`. */
export function backupPartKey(cluster: string, id: string, name: string): string {
  return `${backupPrefix(cluster, id)}parts/${name}`;
}

/** Parts are numbered from 1. */
export function backupPartName(number: number): string {
  return `${String(number).padStart(5, "0")}.tar.zst`;
}

export function pinsPrefix(cluster: string): string {
  return `${cluster}/pins/`;
}

/** `generation` counts from 1: the highest one of a backup is its pin. */
export function pinKey(cluster: string, backup: string, generation: number): string {
  return `${pinsPrefix(cluster)}${backup}.${generation}.json`;
}

export interface PinKey {
  readonly key: string;
  readonly backup: string;
  readonly generation: number;
}

/** Undefined for a key that is not a pin's: not ours, left alone. */
export function parsePinKey(key: string): PinKey | undefined {
  const match = /^[^/]+\/pins\/([^/]+)\.([1-9]\d{0,8})\.json$/.exec(key);
  const [, backup = "", generation] = match ?? [];
  return isBackupId(backup) ? { key, backup, generation: Number(generation) } : undefined;
}

export function expiringPrefix(cluster: string): string {
  return `${cluster}/expiring/`;
}

/** Says that a backup is being removed; there from before its document goes until nothing of it is left. */
export function expiringKey(cluster: string, backup: string): string {
  return `${expiringPrefix(cluster)}${backup}.json`;
}

/** The backup's id; undefined for a key that is no such mark. */
export function parseExpiringKey(key: string): string | undefined {
  const [, backup = ""] = /^[^/]+\/expiring\/([^/]+)\.json$/.exec(key) ?? [];
  return isBackupId(backup) ? backup : undefined;
}

/** Whether a key below a backup's folder is one that a backup writes, its document aside. */
export function isBackupObject(cluster: string, id: string, key: string): boolean {
  const name = key.slice(backupPrefix(cluster, id).length);
  return name === BACKUP_FILES || name === BACKUP_MANIFEST || /^parts\/\d{5,9}\.tar\.zst$/.test(name);
}

export function drillsPrefix(cluster: string): string {
  return `${cluster}/drills/`;
}

/** `id` is made like a backup's. */
export function drillKey(cluster: string, id: string): string {
  return `${drillsPrefix(cluster)}${id}.json`;
}

/** `job`: backup, expire, verify or drill. */
export function runsPrefix(cluster: string, job: string): string {
  return `${cluster}/runs/${job}/`;
}

/** `id` is made like a backup's. */
export function runKey(cluster: string, job: string, id: string): string {
  return `${runsPrefix(cluster, job)}${id}.json`;
}

export function noticesPrefix(cluster: string): string {
  return `${cluster}/notices/`;
}

/** Names a notice that the daemon has sent. */
export function noticeKey(cluster: string, id: string): string {
  return `${noticesPrefix(cluster)}${id}.json`;
}
