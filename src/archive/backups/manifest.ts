/**
 * PostgreSQL's `backup_manifest`, read as it streams by: however many files it lists, only one is held at a time. Its own
 * checksum is verified at the end, so what the handlers were given counts only after `end`.
 *
 * Source: PostgreSQL docs "Backup Manifest Format"; src/common/parse_manifest.c (verify_manifest_checksum).
 */
import { createHash } from "node:crypto";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm } from "../../codec/checksum.ts";
import { pathFromBytes, unsafePath } from "../../codec/tar.ts";
import { SeawallError } from "../../errors.ts";
import type { Lsn, TimelineId } from "../../wal/lsn.ts";
import { Fields, jsonObject, parseFields } from "../json-document.ts";

export interface ManifestFile {
  /** The path as in the data directory; odd names as `pathFromBytes` gives them. */
  readonly path: string;
  readonly size: number;
  /** Undefined when the backup was taken without checksums. */
  readonly algorithm: ChecksumAlgorithm | undefined;
  /** Lower-case hexadecimal digits, as `FileChecksum.hex` gives them; empty without an algorithm. */
  readonly checksum: string;
  /** `Last-Modified`, in milliseconds since 1970 UTC; undefined where it is missing. */
  readonly modifiedMs?: number | undefined;
}

/** WAL that the backup needs on one timeline. */
export interface ManifestWalRange {
  readonly timeline: TimelineId;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

export interface ManifestHandlers {
  onFile(file: ManifestFile): void;
}

export interface ManifestFacts {
  readonly version: 1 | 2;
  /** Version 2 (PostgreSQL 17 and later). */
  readonly systemIdentifier: bigint | undefined;
  readonly files: number;
  readonly algorithm: ChecksumAlgorithm | "NONE";
  readonly walRanges: readonly ManifestWalRange[];
}

/** A server writes one for each timeline that the backup touches. */
const WAL_RANGES_MAX = 1_000;
/** A line of the manifest, and all of it but its lists: far longer than any server writes. */
const LINE_BYTES_MAX = 64 << 10;
/** A path has at most 1,024 bytes on a server, and as JSON six times as many. */
const USUAL_LINE_BYTES_MAX = 8 << 10;
const NEWLINE = 0x0a;
const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [OPEN_OBJECT, CLOSE_OBJECT, OPEN_LIST, CLOSE_LIST] = [0x7b, 0x7d, 0x5b, 0x5d];

/** Throws `backup-corrupt` from any method; a reader that threw is over. */
export class ManifestReader {
  readonly #handlers: ManifestHandlers;
  readonly #name: string;
  readonly #hash = createHash("sha256");
  /** The end of the manifest, from the line before the last newline: the last line is not covered by its checksum. */
  #held: Buffer = Buffer.alloc(0);
  /** The document without what stands in its lists. */
  #frame = "";
  #element: Buffer[] = [];
  #elementBytes = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** The last string at the top level: before a list it is the list's name. */
  #lastString = "";
  #list = "";
  #files = 0;
  #algorithm: ChecksumAlgorithm | "NONE" | undefined;
  readonly #walRanges: ManifestWalRange[] = [];

  /** `name` is for messages. */
  constructor(name: string, handlers: ManifestHandlers) {
    this.#name = name;
    this.#handlers = handlers;
  }

  push(bytes: Uint8Array): void {
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#digest(chunk);
    let from = 0;
    let newline = -1;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at] ?? 0;
      const depth = this.#depth;
      if (depth === 2 && byte === OPEN_OBJECT && !this.#inString) {
        if (newline < at) newline = chunk.indexOf(NEWLINE, at);
        if (newline < 0) newline = chunk.length;
        const bytes = this.#takeLine(chunk, at, newline);
        if (bytes > 0) {
          at += bytes - 1;
          continue;
        }
      }
      this.#step(byte);
      if (depth === 1 || this.#depth === 1) this.#frameByte(byte, depth);
      else if (depth === 2 && this.#depth === 3) from = at;
      else if (depth === 3 && this.#depth === 2) {
        this.#keep(chunk.subarray(from, at + 1));
        this.#endElement();
      } else if (depth === 2) this.#betweenElements(byte);
    }
    if (this.#depth >= 3) this.#keep(chunk.subarray(from));
  }

  /** The manifest is complete: what it says of itself as a whole, its checksum verified. */
  end(): ManifestFacts {
    if (this.#depth !== 0 || this.#frame === "") throw this.#corrupt("is cut off");
    const fields = parseFields(this.#frame, this.#name, "backup-corrupt");
    const version = fields.number("PostgreSQL-Backup-Manifest-Version");
    if (version !== 1 && version !== 2) {
      throw new SeawallError("archive-version", `${this.#name} is a backup manifest of version ${version}`);
    }
    const written = fields.text("Manifest-Checksum", /^[0-9a-fA-F]{64}$/).toLowerCase();
    if (this.#held.at(-1) !== NEWLINE || this.#held.indexOf(NEWLINE) !== this.#held.length - 1) {
      throw this.#corrupt("does not end with its checksum's line");
    }
    const actual = this.#hash.digest("hex");
    if (actual !== written) throw this.#corrupt(`has the checksum ${actual} and says ${written}`);
    // As text: the number does not fit a double.
    const identifier = /"System-Identifier"\s*:\s*(\d{1,20})\b/.exec(this.#frame)?.[1];
    return {
      version,
      systemIdentifier: identifier === undefined ? undefined : BigInt(identifier),
      files: this.#files,
      algorithm: this.#algorithm ?? "NONE",
      walRanges: this.#walRanges,
    };
  }

  /** All lines but the last are hashed: the last two newlines seen so far bound what is held back. */
  #digest(chunk: Buffer): void {
    const held = Buffer.concat([this.#held, chunk]);
    const last = held.lastIndexOf(NEWLINE);
    const before = last <= 0 ? -1 : held.lastIndexOf(NEWLINE, last - 1);
    if (before >= 0) this.#hash.update(held.subarray(0, before + 1));
    this.#held = held.subarray(before + 1);
    if (this.#held.length > 2 * LINE_BYTES_MAX) throw this.#corrupt("has lines far too long");
  }

  /**
   * Takes an element of a list that is a whole line, as servers write them, in one piece. Returns its bytes; 0 when it is no such
   * line, and is followed byte by byte.
   */
  #takeLine(chunk: Buffer, from: number, newline: number): number {
    const end = chunk[newline - 1] === COMMA ? newline - 1 : newline;
    if (chunk[end - 1] !== CLOSE_OBJECT || end - from > USUAL_LINE_BYTES_MAX) return 0;
    const element = jsonObject(chunk.toString("utf8", from, end));
    if (element === undefined) return 0;
    this.#takeElement(new Fields(element, this.#name, "", "backup-corrupt"));
    return end - from;
  }

  /** Follows the structure: strings, and the depth of braces and brackets. */
  #step(byte: number): void {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) this.#inString = false;
      return;
    }
    if (byte === QUOTE) this.#inString = true;
    else if (byte === OPEN_OBJECT || byte === OPEN_LIST) this.#depth++;
    else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) this.#depth--;
    if (this.#depth < 0) throw this.#corrupt("is no JSON object");
  }

  /** A byte of the document itself, its outermost braces and its lists' brackets included. */
  #frameByte(byte: number, depthBefore: number): void {
    if (this.#frame.length >= LINE_BYTES_MAX) throw this.#corrupt("has too much beside its lists");
    this.#frame += String.fromCharCode(byte);
    if (depthBefore === 1 && this.#depth === 1)
      this.#lastString = /"([^"]*)"[^"]*$/.exec(this.#frame.slice(-200))?.[1] ?? "";
    if (this.#depth === 2) this.#list = this.#lastString;
  }

  #betweenElements(byte: number): void {
    if (byte !== COMMA && byte > 0x20) throw this.#corrupt(`has something else than objects in "${this.#list}"`);
  }

  #keep(bytes: Buffer): void {
    this.#elementBytes += bytes.length;
    if (this.#elementBytes > LINE_BYTES_MAX) throw this.#corrupt("has entries far too long");
    this.#element.push(Buffer.from(bytes));
  }

  #endElement(): void {
    const text = Buffer.concat(this.#element).toString("utf8");
    this.#element = [];
    this.#elementBytes = 0;
    this.#takeElement(parseFields(text, this.#name, "backup-corrupt"));
  }

  #takeElement(fields: Fields): void {
    if (this.#list === "WAL-Ranges") this.#addWalRange(fields);
    if (this.#list !== "Files") return;
    const file = this.#fileOf(fields);
    this.#files++;
    this.#handlers.onFile(file);
  }

  #fileOf(fields: Fields): ManifestFile {
    const encoded = fields.raw("Encoded-Path") !== undefined;
    const path = encoded
      ? pathFromBytes(Buffer.from(fields.text("Encoded-Path", /^([0-9a-fA-F]{2})+$/), "hex"))
      : fields.text("Path");
    const unsafe = unsafePath(path);
    if (unsafe !== undefined) throw this.#corrupt(`lists the path ${JSON.stringify(path)}, which ${unsafe}`);
    const size = fields.count("Size");
    const algorithm =
      fields.raw("Checksum-Algorithm") === undefined
        ? undefined
        : fields.oneOf("Checksum-Algorithm", CHECKSUM_ALGORITHMS);
    const checksum = algorithm === undefined ? "" : fields.text("Checksum", /^([0-9a-fA-F]{2})+$/).toLowerCase();
    this.#algorithm ??= algorithm ?? "NONE";
    return { path, size, algorithm, checksum, modifiedMs: modifiedMsOf(fields) };
  }

  #addWalRange(fields: Fields): void {
    if (this.#walRanges.length >= WAL_RANGES_MAX) throw this.#corrupt("lists too many ranges of WAL");
    const [startLsn, endLsn] = [fields.lsn("Start-LSN"), fields.lsn("End-LSN")];
    this.#walRanges.push({ timeline: fields.timeline("Timeline"), startLsn, endLsn });
  }

  #corrupt(why: string): SeawallError {
    return new SeawallError("backup-corrupt", `${this.#name} ${why}`);
  }
}

/** PostgreSQL writes `2026-10-03 14:05:00 GMT` (backup_manifest.c, AddFileToBackupManifest). */
function modifiedMsOf(fields: Fields): number | undefined {
  if (fields.raw("Last-Modified") === undefined) return undefined;
  const [, day = "", time = ""] = /^(\S+) (\S+) GMT$/.exec(fields.text("Last-Modified")) ?? [];
  const atMs = Date.parse(`${day}T${time}Z`);
  return Number.isNaN(atMs) ? undefined : atMs;
}
