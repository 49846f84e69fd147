/** Writes and reads the archive's JSON documents: versioned, each field of its type, or an error that names it. */
import type { ErrorCode } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { type Lsn, type TimelineId, parseLsn, timelineOf } from "../wal/lsn.ts";

const VERSION = 1;

export function encodeDocument(fields: Readonly<Record<string, unknown>>): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: VERSION, ...fields }, undefined, 2)}\n`);
}

/** Far beyond the largest document that Seawall writes: the backup.json of a backup with ten thousand parts has 4 MiB. */
const DOCUMENT_BYTES_MAX = 64 << 20;
/** Documents are flat: objects in a list in an object. */
const DEPTH_MAX = 16;

/** Throws `archive-version` for another version, `code` for what is no document. */
export function decodeDocument(bytes: Uint8Array, key: string, code: ErrorCode = "object-corrupt"): Fields {
  if (bytes.byteLength > DOCUMENT_BYTES_MAX) {
    throw new SeawallError(code, `${key} has ${bytes.byteLength} bytes, more than a document may have`);
  }
  const text = Buffer.from(bytes).toString("utf8");
  if (depthOf(text) > DEPTH_MAX) throw new SeawallError(code, `${key} is nested deeper than a document may be`);
  const fields = parseFields(text, key, code);
  const version = fields.raw("version");
  if (version !== VERSION) {
    throw new SeawallError("archive-version", `${key} has version ${JSON.stringify(version)}`);
  }
  return fields;
}

/** One JSON object without a version: a line of a larger document. */
export function parseFields(text: string, where: string, code: ErrorCode = "object-corrupt"): Fields {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new SeawallError(code, `${where} is not JSON`, { cause });
  }
  return new Fields(document, where, "", code);
}

/** A JSON object with members of any kind, as another process left it; undefined for everything else. */
export function jsonObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const document: unknown = JSON.parse(text);
    return typeof document === "object" && document !== null ? (document as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function shownValue(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    // A line of a larger document may be nested as deep as it is long.
    return "nested too deep";
  }
}

/** How deep objects and lists lie in one another, no further than one past the limit; of text that may not be JSON. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  // A string in one piece, so that brackets inside do not count; or one bracket.
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === "[" || token === "{") depth++;
    else if (token === "]" || token === "}") depth--;
    if (depth > deepest) deepest = depth;
    if (deepest > DEPTH_MAX) break;
  }
  return deepest;
}

/** Typed access to the members of a JSON object; every method throws for a member of another type. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #where: string;
  readonly #path: string;
  readonly #code: ErrorCode;

  constructor(value: unknown, where: string, path: string, code: ErrorCode) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new SeawallError(code, `${where}${path === "" ? "" : `: ${path}`} is not a JSON object`);
    }
    this.#values = value as Record<string, unknown>;
    this.#where = where;
    this.#path = path === "" ? "" : `${path}.`;
    this.#code = code;
  }

  /** The error for a member that is not what it should be. */
  wrong(name: string): SeawallError {
    const shown = shownValue(this.#values[name])?.slice(0, 200);
    return new SeawallError(this.#code, `${this.#where}: ${this.#path}${name} is ${shown ?? "missing"}`);
  }

  raw(name: string): unknown {
    return this.#values[name];
  }

  text(name: string, pattern?: RegExp): string {
    const value = this.#values[name];
    if (typeof value !== "string" || pattern?.test(value) === false) throw this.wrong(name);
    return value;
  }

  number(name: string): number {
    const value = this.#values[name];
    if (typeof value !== "number") throw this.wrong(name);
    return value;
  }

  /** A whole number from 0. */
  count(name: string): number {
    const value = this.number(name);
    if (!Number.isSafeInteger(value) || value < 0) throw this.wrong(name);
    return value;
  }

  /** A timeline ID: 1 to 2^32-1. */
  timeline(name: string): TimelineId {
    const number = this.count(name);
    if (number < 1 || number > 0xffffffff) throw this.wrong(name);
    return timelineOf(number);
  }

  boolean(name: string): boolean {
    const value = this.#values[name];
    if (typeof value !== "boolean") throw this.wrong(name);
    return value;
  }

  oneOf<const T extends string>(name: string, choices: readonly T[]): T {
    const value = this.text(name);
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.wrong(name);
    return found;
  }

  lsn(name: string): Lsn {
    const text = this.text(name);
    try {
      return parseLsn(text);
    } catch {
      throw this.wrong(name);
    }
  }

  /** A moment as `Date.toISOString` writes it. */
  time(name: string): string {
    const text = this.text(name);
    const at = new Date(text);
    if (Number.isNaN(at.getTime()) || at.toISOString() !== text) throw this.wrong(name);
    return text;
  }

  object(name: string): Fields {
    return new Fields(this.#values[name], this.#where, `${this.#path}${name}`, this.#code);
  }

  list(name: string): Fields[] {
    const value = this.#values[name];
    if (!Array.isArray(value)) throw this.wrong(name);
    return value.map((item, at) => new Fields(item, this.#where, `${this.#path}${name}[${at}]`, this.#code));
  }
}
