/** The archive's JSON documents, written and read: versioned, each field of its type or an error that names it. */
import type { ErrorCode } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import { type Lsn, parseLsn } from "../wal/lsn.ts";

const VERSION = 1;

export function encodeDocument(fields: Readonly<Record<string, unknown>>): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: VERSION, ...fields }, undefined, 2)}\n`);
}

/** Throws `archive-version` for another version, `code` for what is no document. */
export function decodeDocument(bytes: Uint8Array, key: string, code: ErrorCode = "object-corrupt"): Fields {
  const fields = parseFields(Buffer.from(bytes).toString("utf8"), key, code);
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
    const shown = JSON.stringify(this.#values[name])?.slice(0, 200);
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
