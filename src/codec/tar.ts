/**
 * The parts that the tar reader and the tar writer share: the ustar header's layout, PostgreSQL's conventions in it, and
 * which entries are ever accepted.
 *
 * Source: POSIX.1-2017 pax, "ustar Interchange Format"; PostgreSQL: src/port/tar.c (tarCreateHeader, print_tar_number).
 */
import { SeawallError } from "../errors.ts";

/** Headers and contents are padded to this. */
export const TAR_BLOCK_BYTES = 512;

export type TarEntryType = "file" | "directory" | "symlink";

export interface TarHeader {
  /** Relative, `/`-separated, without `.`, `..`, empty parts or a trailing slash. See `pathFromBytes` for odd names. */
  readonly path: string;
  readonly type: TarEntryType;
  /** Bytes of content; 0 for directories and symlinks. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since 1970 UTC. */
  readonly mtime: number;
  /** The target of a symlink as stored: absolute for tablespaces. */
  readonly linkTarget?: string | undefined;
}

/** Offset and length of each field of the header block. */
export const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  type: [156, 1],
  linkName: [157, 100],
  magic: [257, 6],
  version: [263, 2],
  userName: [265, 32],
  groupName: [297, 32],
  deviceMajor: [329, 8],
  deviceMinor: [337, 8],
  prefix: [345, 155],
} as const satisfies Record<string, readonly [offset: number, length: number]>;

export type FieldName = keyof typeof FIELDS;

/** The field's bytes: a view. */
export function fieldOf(block: Buffer, name: FieldName): Buffer {
  const [offset, length] = FIELDS[name];
  return block.subarray(offset, offset + length);
}

const SUM_WORDS = new Uint32Array(TAR_BLOCK_BYTES / 4);
const SUM_BYTES = new Uint8Array(SUM_WORDS.buffer);

/** The sum of the header's bytes, its own checksum field counted as spaces. More may follow the header. */
export function headerChecksum(block: Uint8Array): number {
  const [offset, length] = FIELDS.checksum;
  SUM_BYTES.set(block.length === TAR_BLOCK_BYTES ? block : block.subarray(0, TAR_BLOCK_BYTES));
  SUM_BYTES.fill(0x20, offset, offset + length);
  // Two sums of 16 bits in one number, each of 256 bytes: they cannot overflow (256 × 255 < 65,536).
  let sums = 0;
  for (const word of SUM_WORDS) sums += (word & 0x00ff00ff) + ((word >>> 8) & 0x00ff00ff);
  return (sums & 0xffff) + (sums >>> 16);
}

/** Zeros between the end of a content of `size` bytes and the next header. */
export function paddingOf(size: number): number {
  const over = size % TAR_BLOCK_BYTES;
  return over === 0 ? 0 : TAR_BLOCK_BYTES - over;
}

/**
 * File names are bytes. Valid UTF-8 becomes the text it is; in anything else each byte that is not part of valid UTF-8
 * becomes a lone surrogate U+DC80 to U+DCFF (as in Python's PEP 383), which `pathToBytes` turns back. JSON carries it.
 */
export function pathFromBytes(bytes: Uint8Array): string {
  const view = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = view.toString("utf8");
  if (!text.includes("\uFFFD") || Buffer.from(text, "utf8").equals(view)) return text;
  let result = "";
  for (let at = 0; at < view.length;) {
    const length = utf8LengthAt(view, at);
    result += length === 0 ? String.fromCharCode(0xdc00 + (view[at] ?? 0)) : view.toString("utf8", at, at + length);
    at += Math.max(length, 1);
  }
  return result;
}

/** The bytes that `pathFromBytes` was given. */
export function pathToBytes(path: string): Buffer {
  if (!/\p{Surrogate}/u.test(path)) return Buffer.from(path, "utf8");
  const pieces: Buffer[] = [];
  for (const char of path) {
    const code = char.codePointAt(0) ?? 0;
    pieces.push(code >= 0xdc80 && code <= 0xdcff ? Buffer.from([code - 0xdc00]) : Buffer.from(char, "utf8"));
  }
  return Buffer.concat(pieces);
}

/** Bytes of the valid UTF-8 character at `at`; 0 when there is none. */
function utf8LengthAt(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  const length = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length < 2) return length;
  const piece = bytes.subarray(at, at + length);
  return Buffer.from(piece.toString("utf8"), "utf8").equals(piece) ? length : 0;
}

/** A zero byte, or a part that is empty, `.` or `..`. */
const SUSPECT_PATH = /\0|(?:^|\/)\.{0,2}(?:\/|$)/;

/** Why an extraction may not follow this path; undefined: it may. */
export function unsafePath(path: string): string | undefined {
  if (!SUSPECT_PATH.test(path)) return undefined;
  if (path === "") return "is empty";
  if (path.startsWith("/")) return "is absolute";
  if (path.includes("\0")) return "contains a zero byte";
  for (const part of path.split("/")) {
    if (part === "..") return 'contains ".."';
    if (part === "" || part === ".") return `contains ${part === "" ? "an empty part" : '"."'}`;
  }
  return undefined;
}

export function corruptTar(what: string): SeawallError {
  return new SeawallError("backup-corrupt", what);
}
