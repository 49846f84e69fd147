/**
 * Reads the name of a file in a WAL archive that another tool has made. Pure.
 *
 * PostgreSQL's own names may carry an ending for their compression; pg_receivewal writes `.partial` behind that, and
 * pgBackRest the SHA-1 of the content before it.
 */
import { type TimelineId, timelineOf } from "../wal/lsn.ts";

export type SourceName =
  | {
      readonly kind: "segment" | "partial";
      /** PostgreSQL's 24 digits. */
      readonly wal: string;
      /** The content's SHA-1, where the name states it. */
      readonly sha1: string | undefined;
      readonly isBrotli: boolean;
    }
  | { readonly kind: "history"; readonly timeline: TimelineId; readonly isBrotli: boolean }
  /** `wal` is the file's name as PostgreSQL gave it. */
  | { readonly kind: "backup-history"; readonly wal: string; readonly isBrotli: boolean }
  | { readonly kind: "unsupported"; readonly problem: string };

const PACKED = String.raw`(\.gz|\.lz4|\.zst|\.zstd|\.bz2|\.xz|\.br)?`;
const SEGMENT = new RegExp(String.raw`^([0-9A-F]{24})(\.partial)?(?:-([0-9a-f]{40}))?${PACKED}(\.partial)?$`);
const BACKUP_HISTORY = new RegExp(String.raw`^([0-9A-F]{24}\.[0-9A-F]{8}\.backup)${PACKED}$`);
const HISTORY = new RegExp(String.raw`^([0-9A-F]{8})\.history${PACKED}$`);
const OTHER = /^(?:[0-9A-F]{24}|[0-9A-F]{8}\.history)[^/]*\.([A-Za-z0-9]+)$/;

/** Endings that say how a file was packed, and what to do with it first. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  lzo: "it is packed by lzop, as WAL-E does: unpack it first with lzop -dU",
  lzma: "it is packed by lzma: unpack it first with xz -d",
  snappy: "it is packed by snappy: unpack it first",
  gpg: "it is encrypted: decrypt it first with gpg -d",
  pgp: "it is encrypted: decrypt it first with gpg -d",
  age: "it is encrypted: decrypt it first with age -d",
  aes: "it is encrypted: decrypt it first",
  enc: "it is encrypted: decrypt it first",
};

/** Undefined for a file that is no part of a WAL archive. */
export function readSourceName(name: string): SourceName | undefined {
  const segment = SEGMENT.exec(name);
  if (segment !== null) {
    const [, wal = "", before, sha1, packed, after] = segment;
    const kind = before === undefined && after === undefined ? "segment" : "partial";
    return Number.parseInt(wal.slice(0, 8), 16) === 0 ? undefined : { kind, wal, sha1, isBrotli: packed === ".br" };
  }
  const [, wal, walPacked] = BACKUP_HISTORY.exec(name) ?? [];
  if (wal !== undefined) return { kind: "backup-history", wal, isBrotli: walPacked === ".br" };
  const [, timeline, packed] = HISTORY.exec(name) ?? [];
  if (timeline !== undefined) {
    const number = Number.parseInt(timeline, 16);
    return number === 0 ? undefined : { kind: "history", timeline: timelineOf(number), isBrotli: packed === ".br" };
  }
  const ending = OTHER.exec(name)?.[1] ?? "";
  const problem = Object.hasOwn(UNSUPPORTED, ending) ? UNSUPPORTED[ending] : undefined;
  return problem === undefined ? undefined : { kind: "unsupported", problem };
}
