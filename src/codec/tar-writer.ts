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

const TYPE_LETTERS = { file: "0", symlink: "2", directory: "5" } as const;

/** The header block; content follows it, then `paddingOf(size)` zeros. Throws `internal` for names ustar cannot hold. */
export function encodeTarHeader(header: TarHeader): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const bytes = pathToBytes(header.type === "directory" ? `${header.path}/` : header.path);
  const { prefix, name } = splitName(bytes, header.path);
  prefix.copy(fieldOf(block, "prefix"));
  name.copy(fieldOf(block, "name"));
  if (header.type === "symlink") putText(block, "linkName", header.linkTarget ?? "");
  putNumber(block, "mode", header.mode & 0o7777);
  putNumber(block, "uid", header.uid);
  putNumber(block, "gid", header.gid);
  putNumber(block, "size", header.size);
  putNumber(block, "mtime", header.mtime);
  putNumber(block, "deviceMajor", 0);
  putNumber(block, "deviceMinor", 0);
  block.write(TYPE_LETTERS[header.type], FIELDS.type[0], "latin1");
  block.write("ustar\x0000", FIELDS.magic[0], "latin1");
  block.write("postgres", FIELDS.userName[0], "latin1");
  block.write("postgres", FIELDS.groupName[0], "latin1");
  block.write(`${headerChecksum(block).toString(8).padStart(6, "0")}\0 `, FIELDS.checksum[0], "latin1");
  return block;
}

/** Up to 100 bytes in one field; longer ones are cut at a slash, the front (155 at most) in the other. */
function splitName(bytes: Buffer, path: string): { readonly prefix: Buffer; readonly name: Buffer } {
  const [nameMax, prefixMax] = [FIELDS.name[1], FIELDS.prefix[1]];
  if (bytes.length <= nameMax) return { prefix: Buffer.alloc(0), name: bytes };
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
  const field = fieldOf(block, name);
  const digits = field.length - 1;
  if (value < 8 ** digits) {
    field.write(`${value.toString(8).padStart(digits, "0")}\0`, "latin1");
    return;
  }
  let rest = BigInt(value);
  for (let at = field.length - 1; at > 0; at--, rest >>= 8n) field[at] = Number(rest & 0xffn);
  field[0] = 0x80;
}
