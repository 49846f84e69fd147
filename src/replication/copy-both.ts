/**
 * Frames the server's stream: bytes in any split, protocol messages out. CopyData, nearly all of the stream, is passed
 * on as views of the received chunk, in as many parts as it arrived in. Any other message is small and comes whole.
 * Pure. In the walk: socket ─► copy-both ─► wal-messages.ts ─► assembler.
 *
 * Source: PostgreSQL docs "Message Formats", "Streaming Replication Protocol".
 */
import { invariant, SeawallError } from "../errors.ts";

export type Frame =
  /** A piece of one CopyData body; `bytes` is borrowed from the chunk, may be empty, and ends with the message if `last`. */
  | { readonly kind: "copy"; readonly bytes: Uint8Array; readonly first: boolean; readonly last: boolean }
  /** Any other message, whole: type byte, length and body, as the server sent it. */
  | { readonly kind: "message"; readonly code: number; readonly packet: Buffer };

/** Walsenders send at most 128 KiB at once (walsender.c, MAX_SEND_SIZE); a longer claim is not this protocol. */
export const COPY_DATA_BYTES_MAX = 16 << 20;
/** Error texts, row descriptions, history files: far smaller than this in any server. */
export const MESSAGE_BYTES_MAX = 4 << 20;

const HEADER_BYTES = 5;
const COPY_DATA = 0x64;

/** The messages of a backend (docs: Message Formats), except those of function calls. Any other type byte is an error. */
const KNOWN = new Set(Array.from("123ACDEGHIKNRSTWZcdnst", (char) => char.charCodeAt(0)));

export class MessageFramer {
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Bytes of the current header, when it is cut by a chunk border. */
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  /** Inside a CopyData body: bytes still to come; -1 outside. */
  #copyLeft = -1;
  #copyFirst = false;
  /** Inside another message: the packet being gathered. */
  #packet: Buffer | undefined;
  #packetBytes = 0;
  readonly #messageBytesMax: number;

  /** `messageBytesMax`: the longest message other than CopyData; `MESSAGE_BYTES_MAX` by default. */
  constructor(messageBytesMax: number = MESSAGE_BYTES_MAX) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Takes the next chunk; the last one must be used up (`next` returned undefined). */
  feed(chunk: Uint8Array): void {
    invariant(this.#at === this.#chunk.length, "a chunk was fed before the last one was used up");
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** True between two messages. */
  get atMessageBorder(): boolean {
    return this.#headerBytes === 0 && this.#copyLeft === -1 && this.#packet === undefined;
  }

  /** Returns a copy of the unread bytes and counts them as read; only between two messages. */
  rest(): Uint8Array {
    invariant(this.atMessageBorder, "the rest of a chunk was taken inside a message");
    const rest = this.#chunk.slice(this.#at);
    this.#at = this.#chunk.length;
    return rest;
  }

  /** Returns the next frame of the chunk; undefined when it needs the next chunk. Views are valid until the next `feed`. Throws `server-protocol`. */
  next(): Frame | undefined {
    if (this.#copyLeft >= 0) return this.#copyPart();
    if (this.#packet !== undefined) return this.#packetPart(this.#packet);
    if (!this.#readHeader()) return undefined;
    const code = this.#header.readUInt8(0);
    const length = this.#header.readInt32BE(1);
    this.#headerBytes = 0;
    checkHeader(code, length, this.#messageBytesMax);
    if (code === COPY_DATA) {
      this.#copyLeft = length - 4;
      this.#copyFirst = true;
      return this.#copyPart();
    }
    this.#packet = Buffer.alloc(length + 1);
    this.#header.copy(this.#packet);
    this.#packetBytes = HEADER_BYTES;
    return this.#packetPart(this.#packet);
  }

  #readHeader(): boolean {
    const take = Math.min(HEADER_BYTES - this.#headerBytes, this.#chunk.length - this.#at);
    for (let index = 0; index < take; index++) {
      this.#header[this.#headerBytes + index] = this.#chunk[this.#at + index] ?? 0;
    }
    this.#at += take;
    this.#headerBytes += take;
    return this.#headerBytes === HEADER_BYTES;
  }

  #copyPart(): Frame | undefined {
    const take = Math.min(this.#copyLeft, this.#chunk.length - this.#at);
    if (take === 0 && this.#copyLeft > 0) return undefined;
    const bytes = this.#chunk.subarray(this.#at, this.#at + take);
    const first = this.#copyFirst;
    const last = take === this.#copyLeft;
    this.#at += take;
    this.#copyFirst = false;
    this.#copyLeft = last ? -1 : this.#copyLeft - take;
    return { kind: "copy", bytes, first, last };
  }

  #packetPart(packet: Buffer): Frame | undefined {
    const take = Math.min(packet.length - this.#packetBytes, this.#chunk.length - this.#at);
    packet.set(this.#chunk.subarray(this.#at, this.#at + take), this.#packetBytes);
    this.#at += take;
    this.#packetBytes += take;
    if (this.#packetBytes < packet.length) return undefined;
    this.#packet = undefined;
    return { kind: "message", code: packet.readUInt8(0), packet };
  }
}

function checkHeader(code: number, length: number, messageBytesMax: number): void {
  if (!KNOWN.has(code)) {
    const shown = code >= 0x20 && code < 0x7f ? `"${String.fromCharCode(code)}"` : `0x${code.toString(16)}`;
    throw new SeawallError("server-protocol", `unknown message type ${shown} from the server`);
  }
  const max = code === COPY_DATA ? COPY_DATA_BYTES_MAX : messageBytesMax;
  if (length < 4 || length > max) {
    throw new SeawallError(
      "server-protocol",
      `message "${String.fromCharCode(code)}" claims a length of ${length} bytes, beyond 4 to ${max}`,
    );
  }
}
