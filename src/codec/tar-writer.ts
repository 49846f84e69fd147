/**
 * Writing tar as PostgreSQL writes it: ustar headers, sizes beyond 8 GiB to base 256, directories with a trailing slash.
 * Every `tar` in use reads it. Pure.
 *
 * Source: PostgreSQL: src/port/tar.c, tarCreateHeader.
 */
import { SeawallError } from "../errors.ts";
import {
  FIELDS,
  TAR_BLOCK_BYTES,
  type FieldName,
  type TarHeader,
  fieldOf,
  headerChecksum,
  pathToBytes,
} from "./tar.ts";

/** The end of a tar: two blocks of zeros. */
export const TAR_END_BYTES = 2 * TAR_BLOCK_BYTES;

const TYPE_LETTERS = { file: 0x30, symlink: 0x32, directory: 0x35 } as const;
const TEMPLATE = makeTemplate();
const NO_PREFIX = Buffer.alloc(0);

/**
 * The header block; content follows it, then `paddingOf(size)` zeros. Written into `block`, of as many bytes, where that is given:
 * a new one for each of a million files is garbage. Throws `internal` for names ustar cannot hold.
 */
export function encodeTarHeader(header: TarHeader, block: Buffer = Buffer.allocUnsafe(TAR_BLOCK_BYTES)): Buffer {
  block.set(TEMPLATE);
  const bytes = pathToBytes(header.type === "directory" ? `${header.path}/` : header.path);
  const { prefix, name } = splitName(bytes, header.path);
  prefix.copy(block, FIELDS.prefix[0]);
  name.copy(block, FIELDS.name[0]);
  if (header.type === "symlink") putText(block, "linkName", header.linkTarget ?? "");
  putNumber(block, "mode", header.mode & 0o7777);
  putNumber(block, "uid", header.uid);
  putNumber(block, "gid", header.gid);
  putNumber(block, "size", header.size);
  putNumber(block, "mtime", header.mtime);
  block[FIELDS.type[0]] = TYPE_LETTERS[header.type];
  putOctal(block, FIELDS.checksum[0], 6, headerChecksum(block));
  return block;
}

/** Makes the block that every header starts from. */
function makeTemplate(): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  putNumber(block, "deviceMajor", 0);
  putNumber(block, "deviceMinor", 0);
  block.write("ustar\x0000", FIELDS.magic[0], "latin1");
  block.write("postgres", FIELDS.userName[0], "latin1");
  block.write("postgres", FIELDS.groupName[0], "latin1");
  block.write("\0 ", FIELDS.checksum[0] + 6, "latin1");
  return block;
}

/** Up to 100 bytes in one field; longer ones are cut at a slash, the front (155 at most) in the other. */
function splitName(bytes: Buffer, path: string): { readonly prefix: Buffer; readonly name: Buffer } {
  const [nameMax, prefixMax] = [FIELDS.name[1], FIELDS.prefix[1]];
  if (bytes.length <= nameMax) return { prefix: NO_PREFIX, name: bytes };
  // The slash at the end of a directory's name is no place to cut.
  for (let at = bytes.indexOf(0x2f); at >= 0 && at < bytes.length - 1; at = bytes.indexOf(0x2f, at + 1)) {
    if (at <= prefixMax && bytes.length - at - 1 <= nameMax) {
      return { prefix: bytes.subarray(0, at), name: bytes.subarray(at + 1) };
    }
  }
  throw new SeawallError("internal", `${JSON.stringify(path)} is too long for a tar header`);
}

function putText(block: Buffer, name: FieldName, text: string): void {
  const bytes = pathToBytes(text);
  const field = fieldOf(block, name);
  if (bytes.length > field.length) {
    throw new SeawallError("internal", `${JSON.stringify(text)} is too long for a tar header`);
  }
  bytes.copy(field);
}

/** Octal where it fits (one byte of the field ends it), base 256 with the first bit set where it does not. */
function putNumber(block: Buffer, name: FieldName, value: number): void {
  const [offset, length] = FIELDS[name];
  const digits = length - 1;
  if (putOctal(block, offset, digits, value) === 0) return;
  let rest = BigInt(value);
  for (let at = offset + digits; at > offset; at--, rest >>= 8n) block[at] = Number(rest & 0xffn);
  block[offset] = 0x80;
}

/** Returns what is left of the value above its lowest digits: 0 when it fits. */
function putOctal(block: Buffer, offset: number, digits: number, value: number): number {
  let rest = value;
  for (let at = offset + digits - 1; at >= offset; at--, rest = Math.floor(rest / 8)) block[at] = 0x30 + (rest % 8);
  return rest;
}
