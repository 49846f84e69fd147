/**
 * Checks the shape of each message that pg-protocol parses: every field whole, no bytes behind the last. pg-protocol
 * reads past the end of a cut message, and loops for ever on an error or notice without its final zero byte. Pure.
 *
 * Source: PostgreSQL docs "Message Formats".
 */
import { SeawallError } from "../errors.ts";

/** Type byte, and length. */
const HEADER_BYTES = 5;

/** Authentication requests (docs: AuthenticationOk and the messages behind it). */
const AUTH_MD5 = 5;
const AUTH_GSS_CONTINUE = 8;
const AUTH_SASL = 10;
const AUTH_SASL_CONTINUE = 11;
const AUTH_SASL_FINAL = 12;

type Check = (reader: ShapeReader) => void;

const nothing: Check = () => undefined;
const text: Check = (reader) => reader.text();
const fields: Check = (reader) => {
  while (reader.byte() !== 0) reader.text();
};
const copyResponse: Check = (reader) => {
  reader.skip(1);
  for (let left = reader.count(); left > 0; left--) reader.skip(2);
};

const SHAPES: Readonly<Record<string, Check>> = {
  1: nothing,
  2: nothing,
  3: nothing,
  I: nothing,
  c: nothing,
  n: nothing,
  s: nothing,
  C: text,
  E: fields,
  N: fields,
  G: copyResponse,
  H: copyResponse,
  W: copyResponse,
  Z: (reader) => reader.skip(1),
  K: (reader) => reader.skip(8),
  S: (reader) => {
    reader.text();
    reader.text();
  },
  A: (reader) => {
    reader.skip(4);
    reader.text();
    reader.text();
  },
  R: authentication,
  T: (reader) => {
    for (let left = reader.count(); left > 0; left--) {
      reader.text();
      reader.skip(18);
    }
  },
  D: (reader) => {
    for (let left = reader.count(); left > 0; left--) reader.skip(Math.max(0, reader.length()));
  },
  t: (reader) => {
    for (let left = reader.count(); left > 0; left--) reader.skip(4);
  },
};

/** `packet`: type byte, length and body. Throws `server-protocol` for a message that is not what its type says. */
export function checkShape(packet: Buffer): void {
  const type = String.fromCharCode(packet[0] ?? 0);
  const check = SHAPES[type];
  const reader = new ShapeReader(packet, type);
  if (check === undefined) throw reader.broken("is of an unknown type");
  check(reader);
  reader.end();
}

function authentication(reader: ShapeReader): void {
  const method = reader.length();
  switch (method) {
    case AUTH_MD5:
      reader.skip(4);
      return;
    case AUTH_SASL:
      // Names, and an empty one behind the last.
      while (!reader.emptyText()) reader.text();
      return;
    case AUTH_GSS_CONTINUE:
    case AUTH_SASL_CONTINUE:
    case AUTH_SASL_FINAL:
      reader.rest();
      return;
    default:
    // Nothing behind the number; pg-protocol refuses those it does not know.
  }
}

/** Reads the body of one message; every step beyond its end is an error. */
class ShapeReader {
  readonly #packet: Buffer;
  readonly #type: string;
  #at = HEADER_BYTES;

  constructor(packet: Buffer, type: string) {
    this.#packet = packet;
    this.#type = type;
  }

  broken(what: string): SeawallError {
    const shown = /^[\x21-\x7e]$/.test(this.#type) ? `"${this.#type}"` : `0x${(this.#packet[0] ?? 0).toString(16)}`;
    return new SeawallError(
      "server-protocol",
      `message ${shown} of ${this.#packet.length} bytes from the server ${what}`,
    );
  }

  skip(bytes: number): void {
    if (this.#at + bytes > this.#packet.length) throw this.broken("is shorter than it claims");
    this.#at += bytes;
  }

  byte(): number {
    this.skip(1);
    return this.#packet[this.#at - 1] ?? 0;
  }

  /** A number of items, 16 bits. */
  count(): number {
    this.skip(2);
    return this.#packet.readUInt16BE(this.#at - 2);
  }

  /** A signed number of 32 bits. */
  length(): number {
    this.skip(4);
    return this.#packet.readInt32BE(this.#at - 4);
  }

  /** A text up to its zero byte. */
  text(): void {
    const end = this.#packet.indexOf(0, this.#at);
    if (end < 0) throw this.broken("has a text without an end");
    this.#at = end + 1;
  }

  /** True, and past it, when an empty text is next. */
  emptyText(): boolean {
    if (this.#at >= this.#packet.length) throw this.broken("is shorter than it claims");
    if (this.#packet[this.#at] !== 0) return false;
    this.#at++;
    return true;
  }

  rest(): void {
    this.#at = this.#packet.length;
  }

  end(): void {
    if (this.#at !== this.#packet.length) throw this.broken("has more in it than its type says");
  }
}
