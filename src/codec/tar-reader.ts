/**
 * Reading tar, incrementally and suspiciously: bytes in any split, entries out. What could lead an extraction out of its
 * directory (`..`, absolute paths, hard links, devices, entries below a symlink) is refused before it is used.
 *
 * `TarScanner` is pulled; `TarReader` calls handlers, for those who need not wait in between. Pure.
 */
import { invariant } from "../errors.ts";
import {
  FIELDS,
  TAR_BLOCK_BYTES,
  type FieldName,
  type TarEntryType,
  type TarHeader,
  corruptTar,
  fieldOf,
  headerChecksum,
  paddingOf,
  pathFromBytes,
  unsafePath,
} from "./tar.ts";

export type TarEvent =
  | { readonly kind: "entry"; readonly header: TarHeader }
  /** A piece of the entry's content, borrowed from what was fed. */
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  /** All of the entry's content has been given; follows every entry, with content or without. */
  | { readonly kind: "entry-end" };

export interface TarHandlers {
  onEntry(header: TarHeader): void;
  onData(view: Uint8Array): void;
  onEntryEnd(): void;
}

const TYPES: Readonly<Record<string, TarEntryType>> = { "0": "file", "\0": "file", "2": "symlink", "5": "directory" };
const SPACE = 0x20;
/** Symlinks remembered, to refuse entries below them: a cluster has one for each tablespace. */
const SYMLINKS_MAX = 100_000;

/** Throws `backup-corrupt` from any method; a scanner that threw is over. */
export class TarScanner {
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;
  readonly #block = Buffer.alloc(TAR_BLOCK_BYTES);
  #blockBytes = 0;
  #state: "header" | "content" | "padding" | "trailer" = "header";
  /** Content still to come, then padding still to come. */
  #left = 0;
  #padding = 0;
  readonly #symlinks = new Set<string>();

  /** The next chunk; the last one must have been used up (`next` gave undefined). */
  feed(chunk: Uint8Array): void {
    invariant(this.#at === this.#chunk.length, "a chunk of tar was fed before the last one was used up");
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** The next event in what was fed; undefined: feed more. */
  next(): TarEvent | undefined {
    for (;;) {
      switch (this.#state) {
        case "header": {
          if (!this.#fillBlock()) return undefined;
          if (this.#block.every((byte) => byte === 0)) {
            this.#state = "trailer";
            break;
          }
          const header = this.#parseHeader(this.#block);
          this.#left = header.size;
          this.#padding = paddingOf(header.size);
          this.#state = "content";
          return { kind: "entry", header };
        }
        case "content": {
          if (this.#left === 0) {
            this.#state = "padding";
            return { kind: "entry-end" };
          }
          const bytes = this.#take(this.#left);
          if (bytes.length === 0) return undefined;
          this.#left -= bytes.length;
          return { kind: "data", bytes };
        }
        case "padding":
          this.#padding -= this.#take(this.#padding).length;
          if (this.#padding > 0) return undefined;
          this.#state = "header";
          break;
        case "trailer": {
          const bytes = this.#take(Number.POSITIVE_INFINITY);
          if (bytes.some((byte) => byte !== 0))
            throw corruptTar("something other than zeros follows the end of the tar");
          return undefined;
        }
      }
    }
  }

  /** Bytes of the entry's content that are still to come. */
  get contentLeft(): number {
    return this.#state === "content" ? this.#left : 0;
  }

  /** Passes over so many bytes of the entry's content, which are not fed. The last chunk must have been used up. */
  passOver(bytes: number): void {
    invariant(this.#at === this.#chunk.length, "content of tar was passed over before the last chunk was used up");
    invariant(bytes <= this.contentLeft, "more was passed over than the content of a tar entry");
    this.#left -= bytes;
  }

  /**
   * The tar is complete: it must not end inside an entry. The two blocks of zeros that POSIX asks for at the end may be
   * missing (PostgreSQL before 15 leaves them out).
   */
  end(): void {
    invariant(this.#at === this.#chunk.length, "a tar was ended before its last chunk was used up");
    const inside = this.#state === "content" || this.#state === "padding" || this.#blockBytes > 0;
    if (inside) throw corruptTar("the tar ends in the middle of an entry");
  }

  #take(bytesMax: number): Uint8Array {
    const length = Math.min(bytesMax, this.#chunk.length - this.#at);
    const bytes = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }

  #fillBlock(): boolean {
    const bytes = this.#take(TAR_BLOCK_BYTES - this.#blockBytes);
    this.#block.set(bytes, this.#blockBytes);
    this.#blockBytes += bytes.length;
    if (this.#blockBytes < TAR_BLOCK_BYTES) return false;
    this.#blockBytes = 0;
    return true;
  }

  #parseHeader(block: Buffer): TarHeader {
    if (numberIn(block, "checksum", "a header") !== headerChecksum(block)) {
      throw corruptTar("a tar header's checksum is wrong");
    }
    const [magicAt] = FIELDS.magic;
    if (block.toString("latin1", magicAt, magicAt + 5) !== "ustar") throw corruptTar("a header is not ustar");
    const letter = String.fromCharCode(block[FIELDS.type[0]] ?? 0);
    const path = pathIn(block);
    const shown = JSON.stringify(path);
    const type = TYPES[letter];
    if (type === undefined) throw corruptTar(`${shown} is an entry of type ${JSON.stringify(letter)}: refused`);
    const unsafe = unsafePath(path);
    if (unsafe !== undefined) throw corruptTar(`the path ${shown} ${unsafe}: refused`);
    this.#refuseBelowSymlink(path);
    const size = numberIn(block, "size", shown);
    const linkTarget = type === "symlink" ? pathFromBytes(textIn(block, "linkName")) : undefined;
    if (type !== "file" && size !== 0) throw corruptTar(`${shown} is a ${type} with ${size} bytes of content`);
    if (type === "symlink") {
      if (linkTarget === "") throw corruptTar(`${shown} is a symlink to nowhere`);
      if (this.#symlinks.size >= SYMLINKS_MAX) throw corruptTar(`more than ${SYMLINKS_MAX} symlinks`);
      this.#symlinks.add(path);
    }
    return {
      path,
      type,
      size,
      mode: numberIn(block, "mode", shown) & 0o7777,
      uid: numberIn(block, "uid", shown),
      gid: numberIn(block, "gid", shown),
      mtime: numberIn(block, "mtime", shown),
      ...(linkTarget === undefined ? {} : { linkTarget }),
    };
  }

  /** An entry below a symlink of the same tar would be written wherever that points. */
  #refuseBelowSymlink(path: string): void {
    if (this.#symlinks.size === 0) return;
    for (let end = path.length; end > 0; end = path.lastIndexOf("/", end - 1)) {
      if (!this.#symlinks.has(path.slice(0, end))) continue;
      throw corruptTar(`${JSON.stringify(path)} lies below or replaces a symlink: refused`);
    }
  }
}

/** The scanner with handlers. Data views are borrowed for the call. */
export class TarReader {
  readonly #scanner = new TarScanner();
  readonly #handlers: TarHandlers;

  constructor(handlers: TarHandlers) {
    this.#handlers = handlers;
  }

  push(bytes: Uint8Array): void {
    this.#scanner.feed(bytes);
    this.#scan();
  }

  /** Bytes of the entry's content that are still to come. */
  get contentLeft(): number {
    return this.#scanner.contentLeft;
  }

  /** Passes over so many bytes of the entry's content: no handler gets them. */
  passOver(bytes: number): void {
    this.#scanner.passOver(bytes);
    this.#scan();
  }

  end(): void {
    this.#scanner.end();
  }

  #scan(): void {
    for (let event = this.#scanner.next(); event !== undefined; event = this.#scanner.next()) {
      switch (event.kind) {
        case "entry":
          this.#handlers.onEntry(event.header);
          break;
        case "data":
          this.#handlers.onData(event.bytes);
          break;
        case "entry-end":
          this.#handlers.onEntryEnd();
          break;
      }
    }
  }
}

/** A field's bytes up to its first zero: a view. */
function textIn(block: Buffer, name: FieldName): Buffer {
  const [offset, length] = FIELDS[name];
  const end = block.indexOf(0, offset);
  return block.subarray(offset, end < 0 ? offset + length : Math.min(end, offset + length));
}

/** GNU's own headers ("ustar  ") have no prefix there. */
function pathIn(block: Buffer): string {
  const isPosix = block[FIELDS.magic[0] + 5] === 0;
  const hasPrefix = isPosix && block[FIELDS.prefix[0]] !== 0;
  const name = textIn(block, "name");
  const whole = hasPrefix ? Buffer.concat([textIn(block, "prefix"), Buffer.from("/"), name]) : name;
  const named = pathFromBytes(whole);
  // PostgreSQL names a few directories from the data directory on (basebackup.c: "./pg_wal/archive_status").
  const path = named.startsWith("./") && named.length > 2 ? named.slice(2) : named;
  // tar writes directories with a slash at the end.
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
}

/** Octal digits with spaces or zeros around them, or, with the first bit set, a number to base 256. */
function numberIn(block: Buffer, name: FieldName, of: string): number {
  const [offset, length] = FIELDS[name];
  let value = 0;
  let at = offset;
  for (; at < offset + length; at++) {
    const digit = (block[at] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (at > offset && at < offset + length && isEnd(block[at], at === offset + length - 1)) return value;
  return oddNumberIn(fieldOf(block, name), name, of);
}

/** True for a byte that ends the digits: a space at the end of the field (PostgreSQL: print_tar_number), or a zero. */
function isEnd(byte: number | undefined, isLast: boolean): boolean {
  return byte === 0 || (byte === SPACE && isLast);
}

function oddNumberIn(field: Buffer, name: FieldName, of: string): number {
  const wrong = (): Error => corruptTar(`the ${name} field of ${of} is no number`);
  if (((field[0] ?? 0) & 0x80) !== 0) {
    let value = BigInt((field[0] ?? 0) & 0x7f);
    for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw wrong();
    return Number(value);
  }
  const text = field
    .toString("latin1")
    .replace(/\0[^]*$/, "")
    .trim();
  if (!/^[0-7]*$/.test(text)) throw wrong();
  return text === "" ? 0 : Number.parseInt(text, 8);
}
