/**
 * Remembers verifications in the store, so that unchanged objects are not read again: `verify/<when>.json`. The newest
 * document counts. It is a cache: an archive is complete without it.
 */
import { createHash } from "node:crypto";
import { isAbort, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type SegmentNumber, type TimelineId, timelineOf } from "../../wal/lsn.ts";
import { timelineText } from "../../wal/names.ts";
import type { Archive } from "../archive.ts";
import { afterStoring } from "../records/records.ts";
import { decodeDocument, encodeDocument } from "../json-document.ts";
import { verifyKey, verifyPrefix } from "../keys.ts";
import type { ListedWal } from "../wal/folders.ts";

/**
 * `clear`: of encrypted objects the clear part of the envelope alone was checked, for want of an identity. `envelope`: the
 * envelopes were checked. `content`: the whole objects were read.
 */
export type ProofLevel = "clear" | "envelope" | "content";

const LEVELS: readonly ProofLevel[] = ["clear", "envelope", "content"];

/** True when a proof of this level is one of the other as well. Pure. */
export function proves(level: ProofLevel, wanted: ProofLevel): boolean {
  return LEVELS.indexOf(level) >= LEVELS.indexOf(wanted);
}

/** Segments of one folder that were found good. */
export interface ProvenWal {
  readonly timeline: TimelineId;
  /** Eight hexadecimal digits. */
  readonly folder: string;
  readonly level: ProofLevel;
  readonly first: SegmentNumber;
  readonly last: SegmentNumber;
  /** Digest of their names, sizes and times as listed. */
  readonly digest: string;
}

export interface ProvenBackup {
  readonly id: string;
  readonly level: ProofLevel;
  readonly digest: string;
}

/** How a verification ended. */
export interface VerifyOutcome {
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly deep: boolean;
  readonly ok: boolean;
  readonly problems: number;
  /** Recorded gaps among the problems: a later backup makes them history. 0 in records of an earlier Seawall. */
  readonly gaps: number;
}

export interface VerifyRecord {
  /** ISO 8601, UTC. */
  readonly writtenAt: string;
  /** Outcome of the last run that came to its end; null when none did. */
  readonly last: VerifyOutcome | null;
  readonly wal: readonly ProvenWal[];
  readonly backups: readonly ProvenBackup[];
}

/** Digests segments as they are listed: their sizes, and when they were last written. */
export function digestOf(
  listed: Iterable<Pick<ListedWal, "bytes" | "modifiedAtMs"> & { readonly name: string }>,
): string {
  const hash = createHash("sha256");
  for (const { name, bytes, modifiedAtMs } of listed) hash.update(`${name} ${bytes} ${modifiedAtMs}\n`);
  return hash.digest("hex").slice(0, 32);
}

export function digestOfSegments(segments: readonly ListedWal[], first: number, last: number): string {
  const within = segments.filter(({ segment }) => segment >= first && segment <= last);
  return digestOf(within.map((listed) => ({ ...listed, name: String(listed.segment) })));
}

export interface FoundRecord {
  readonly record: VerifyRecord | undefined;
  /** The newest document cannot be read. */
  readonly damage: { readonly key: string; readonly error: SeawallError } | undefined;
}

/** The newest one. Throws what the store throws. */
export async function readVerifyRecord(archive: Archive, options: RequestOptions = {}): Promise<FoundRecord> {
  const key = (await listKeys(archive, options)).at(-1);
  const found = key === undefined ? undefined : await archive.store.get(key, options);
  if (key === undefined || found === undefined) return { record: undefined, damage: undefined };
  try {
    return { record: decodeRecord(found.body, key), damage: undefined };
  } catch (error) {
    if (!(error instanceof SeawallError) || isAbort(error)) throw error;
    return { record: undefined, damage: { key, error } };
  }
}

/** Stores a record and removes the older ones. `random`: 32 random bits, for a unique name. */
export async function putVerifyRecord(
  archive: Archive,
  record: VerifyRecord,
  random: number,
  options: RequestOptions = {},
): Promise<void> {
  const newest = (await listKeys(archive, options)).at(-1);
  // A clock that was set back must not make this record an old one.
  const atMs = Math.max(Date.parse(record.writtenAt), newest === undefined ? 0 : stampOf(newest) + 1);
  const stamp = new Date(atMs).toISOString().replace(/[-:.]/g, "");
  const key = verifyKey(archive.cluster, `${stamp}-${(random >>> 0).toString(16).padStart(8, "0")}`);
  await archive.store.put(key, encodeRecord(record), options);
  // The newest record counts.
  await afterStoring(async () => {
    const older = (await listKeys(archive, options)).filter((other) => other < key);
    await archive.store.delete(older, options);
  });
}

const NAME = /^[^/]+\/verify\/(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-[0-9a-f]{8}\.json$/;

function stampOf(key: string): number {
  const [, year, month, day, hour, minute, second, milli] = NAME.exec(key) ?? [];
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${milli}Z`);
}

/** Oldest first. */
async function listKeys(archive: Archive, options: RequestOptions): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of archive.store.list(verifyPrefix(archive.cluster), options)) {
    if (NAME.test(key)) keys.push(key);
  }
  return keys;
}

/** Writes one line for each proof: an archive of a million segments has thousands. */
function encodeRecord({ wal, backups, ...facts }: VerifyRecord): Uint8Array {
  const walLine = ({ timeline, folder, level, first, last, digest }: ProvenWal): string =>
    `${timelineText(timeline)} ${folder} ${level} ${first} ${last} ${digest}`;
  return encodeDocument({
    ...facts,
    wal: wal.filter(({ level }) => level !== "clear").map(walLine),
    // Versions that do not know this level refuse a text with it.
    clearWal: wal.filter(({ level }) => level === "clear").map(walLine),
    backups: backups.map(({ id, level, digest }) => `${id} ${level} ${digest}`),
  });
}

const WAL_LINE = /^(?!0{8})([0-9A-F]{8}) ([0-9A-F]{8}) (clear|envelope|content) (\d{1,15}) (\d{1,15}) ([0-9a-f]{32})$/;
const BACKUP_LINE = /^(\S{1,40}) (envelope|content) ([0-9a-f]{32})$/;

function decodeRecord(bytes: Uint8Array, key: string): VerifyRecord {
  const fields = decodeDocument(bytes, key);
  const lines = (name: string, pattern: RegExp, isOptional = false): RegExpExecArray[] => {
    const list = fields.raw(name) ?? (isOptional ? [] : undefined);
    if (!Array.isArray(list)) throw fields.wrong(name);
    return list.map((line: unknown) => {
      const match = typeof line === "string" ? pattern.exec(line) : null;
      if (match === null) throw fields.wrong(name);
      return match;
    });
  };
  const last = fields.raw("last") === null ? undefined : fields.object("last");
  return {
    writtenAt: fields.time("writtenAt"),
    last:
      last === undefined
        ? null
        : {
            startedAt: last.time("startedAt"),
            finishedAt: last.time("finishedAt"),
            deep: last.boolean("deep"),
            ok: last.boolean("ok"),
            problems: last.count("problems"),
            gaps: last.raw("gaps") === undefined ? 0 : last.count("gaps"),
          },
    wal: [...lines("wal", WAL_LINE), ...lines("clearWal", WAL_LINE, true)].map(
      ([, timeline = "", folder = "", level, first, last, digest = ""]) => ({
        timeline: timelineOf(Number.parseInt(timeline, 16)),
        folder,
        level: levelOf(level),
        digest,
        first: Number(first) as SegmentNumber,
        last: Number(last) as SegmentNumber,
      }),
    ),
    backups: lines("backups", BACKUP_LINE).map(([, id = "", level, digest = ""]) => ({
      id,
      level: levelOf(level),
      digest,
    })),
  };
}

function levelOf(text: string | undefined): ProofLevel {
  return LEVELS.find((level) => level === text) ?? "clear";
}
