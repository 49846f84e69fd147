/**
 * Reads pgBackRest's own files, backup.info and backup.manifest, as they stream by: sections of lines `key=value`, the value as
 * JSON. The SHA-1 at the end covers all of it. Pure.
 *
 * Source: pgBackRest `src/info/info.c` (infoLoadCallback): the checksum is of one JSON object, with an object for each section.
 */
import { createHash } from "node:crypto";
import { SeawallError } from "../../errors.ts";

export interface IniEntry {
  readonly section: string;
  /** The bytes of the key. */
  readonly key: Buffer;
  readonly value: unknown;
  /** The value as it is written: some numbers do not fit a double. */
  readonly text: string;
}

/** A line of a file with a long path has some hundred bytes; the list of references grows with the number of backups. */
const LINE_BYTES_MAX = 1 << 20;
const NEWLINE = 0x0a;

/** Throws `backup-corrupt` from any method; a reader that threw is over. */
export class IniReader {
  readonly #name: string;
  readonly #take: (entry: IniEntry) => void;
  readonly #hash = createHash("sha1");
  #rest: Buffer = Buffer.alloc(0);
  #section = "";
  /** The section of the last line that the checksum covers. */
  #hashed: string | undefined;
  #checksum: string | undefined;

  /** `name` is for messages. */
  constructor(name: string, take: (entry: IniEntry) => void) {
    this.#name = name;
    this.#take = take;
  }

  push(bytes: Uint8Array): void {
    const chunk = Buffer.concat([this.#rest, bytes]);
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      this.#line(chunk.toString("latin1", from, end));
      from = end + 1;
    }
    this.#rest = Buffer.from(chunk.subarray(from));
    if (this.#rest.length > LINE_BYTES_MAX) throw this.#corrupt("has lines far too long");
  }

  /** The file is complete: compares its checksum. */
  end(): void {
    if (this.#rest.length > 0) this.#line(this.#rest.toString("latin1"));
    const actual = this.#hash.update(this.#hashed === undefined ? "{}" : "}}").digest("hex");
    if (this.#checksum === undefined) throw this.#corrupt("is cut off");
    if (this.#checksum !== actual) throw this.#corrupt(`has the SHA-1 ${actual} and says ${this.#checksum}`);
  }

  /** Lines are read as latin1, so that each byte is one character. */
  #line(line: string): void {
    if (line === "") return;
    if (line.startsWith("[") && line.endsWith("]")) {
      this.#section = line.slice(1, -1);
      return;
    }
    const { key, text, value } = this.#parted(line);
    if (this.#section === "backrest" && key === "backrest-checksum") {
      this.#checksum = String(value);
      return;
    }
    const opening = this.#hashed === undefined ? "{" : "},";
    const before = this.#hashed === this.#section ? "," : `${opening}${JSON.stringify(this.#section)}:{`;
    this.#hashed = this.#section;
    this.#hash.update(Buffer.from(`${before}${JSON.stringify(key)}:${text}`, "latin1"));
    this.#take({ section: this.#section, key: Buffer.from(key, "latin1"), value, text });
  }

  /** A key may hold equals signs: the value is what is JSON. */
  #parted(line: string): { readonly key: string; readonly text: string; readonly value: unknown } {
    for (let at = line.indexOf("="); at > 0; at = line.indexOf("=", at + 1)) {
      const text = line.slice(at + 1);
      try {
        const value: unknown = JSON.parse(Buffer.from(text, "latin1").toString("utf8"));
        return { key: line.slice(0, at), text, value };
      } catch {
        continue;
      }
    }
    throw this.#corrupt("has a line that is no key with a value");
  }

  #corrupt(why: string): SeawallError {
    return new SeawallError("backup-corrupt", `${this.#name} ${why}`);
  }
}
