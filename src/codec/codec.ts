/**
 * The codec: how content becomes stored bytes, and back. Every archive holds one, and no file outside of this room takes
 * stored bytes apart. Content is stored in three forms:
 *
 *     object   envelope and one zstd frame, in memory: WAL                    encode · readEnvelope, decode, check
 *     frames   independent zstd frames, streamed: parts, the file index       writeFrames · startReading("frames")
 *     plain    as it is, streamed: the server's manifest                      writePlain · startReading("plain")
 *
 * Encryption belongs here, its keys in the constructor: writing needs recipients, decoding identities,
 * reading an envelope neither. A reader takes stored bytes from the first one on, or whole frames from any border on.
 *
 * Each file that is loaded slows a restore_command down. So files that only writers need are loaded at the first write.
 */
import { SeawallError } from "../errors.ts";
import { type Envelope, ENVELOPE_BYTES_MAX, type EnvelopeMeta, decodeEnvelope } from "./envelope.ts";
import type { FrameWriter } from "./frames.ts";
import { type CompressLevel, fixedLevel, LevelChoice } from "./level.ts";
import type { FrameSlots } from "./frame-slots.ts";
import {
  checkObject,
  checkPieces,
  type DecodedObject,
  decodeObject,
  type EncodedObject,
  encodeObject,
} from "./object.ts";
import type { PlainWriter } from "./plain-writer.ts";
import type { CodecPool } from "./pool.ts";
import { ZstdDecoder } from "./unzstd.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

export interface CodecOptions {
  /** Unused by a codec that only reads. */
  readonly level?: CompressLevel | undefined;
  /** For the level "auto": the machine's load for each processor. */
  readonly load?: (() => number) | undefined;
  /** Threads for large content. Without them all work is done on the calling thread. */
  readonly pool?: CodecPool | undefined;
  /** The pool ends with the codec. Otherwise other codecs may use it. */
  readonly ownsPool?: boolean | undefined;
}

/** Names an object for messages, and bounds what a damaged or hostile one can make us allocate. */
export interface DecodeOptions {
  readonly key: string;
  readonly rawBytesMax: number;
}

export interface StreamWriterOptions {
  /** Abort it when the reader of `body` gives up; otherwise the writer waits for ever. */
  readonly signal: AbortSignal;
}

/** Turns stored bytes into content, in whatever pieces they arrive. */
export interface ContentReader {
  /**
   * Calls `take` with pieces of content, each borrowed for its call; `stored` is borrowed until the promise settles. Throws
   * what is wrong with the bytes.
   */
  push(stored: Uint8Array, take: (content: Uint8Array) => void): Promise<void>;
  /** True when the content may end after the bytes pushed so far. */
  readonly isComplete: boolean;
}

export class Codec {
  readonly #level: CompressLevel;
  readonly #choice: LevelChoice;
  readonly #pool: CodecPool | undefined;
  readonly #ownsPool: boolean;

  /** Throws `zstd-missing`: at the start, not at the first object. */
  constructor({ level = 1, load, pool, ownsPool = false }: CodecOptions = {}) {
    zstdOfThread();
    this.#level = level;
    this.#choice = new LevelChoice(level, load);
    this.#pool = pool;
    this.#ownsPool = ownsPool;
  }

  /** Bytes at the front of an object that always cover its envelope. */
  get envelopeBytesMax(): number {
    return ENVELOPE_BYTES_MAX;
  }

  /** Makes an object. `raw` must not change until the promise settles; in shared memory it may be encoded by a thread. */
  async encode(raw: Uint8Array, meta: EnvelopeMeta): Promise<EncodedObject> {
    const pool = this.#pool;
    return this.#choice.during(raw.byteLength, async (level) =>
      pool === undefined ? encodeObject(raw, meta, level) : pool.encode(raw, meta, level),
    );
  }

  /**
   * Encodes the last `rawBytes` bytes of `memory` into its front; `memory` has `inPlaceBytes(rawBytes)` bytes. The content is
   * gone then. `memory` is free again when the object is no view of it, as when it is small. Needs threads.
   */
  async encodeInPlace(memory: SharedArrayBuffer, rawBytes: number, meta: EnvelopeMeta): Promise<EncodedObject> {
    if (this.#pool === undefined)
      throw new SeawallError("internal", "a codec without threads encodes nothing in place");
    const pool = this.#pool;
    return this.#choice.during(rawBytes, (level) => pool.encodeInPlace(memory, rawBytes, meta, level));
  }

  /** Reads what an object says of itself. Throws `object-corrupt`, `archive-version`. */
  readEnvelope(front: Uint8Array, key: string): Envelope {
    return decodeEnvelope(front, key);
  }

  /**
   * The content of a whole object, checked against its envelope; in `into` where that is large enough. Throws
   * `object-corrupt`.
   */
  async decode(
    stored: Uint8Array,
    { key, rawBytesMax, into }: DecodeOptions & { readonly into?: Uint8Array<ArrayBuffer> | undefined },
  ): Promise<DecodedObject> {
    return decodeObject(stored, key, rawBytesMax, into);
  }

  /** Checks as much as `decode`, in little memory. */
  async check(stored: Uint8Array, { key, rawBytesMax }: DecodeOptions): Promise<Envelope> {
    return checkObject(stored, key, rawBytesMax);
  }

  /** Checks an object that arrives in pieces of any size. */
  async checkPieces(pieces: AsyncIterable<Uint8Array>, { key, rawBytesMax }: DecodeOptions): Promise<Envelope> {
    return checkPieces(pieces, key, rawBytesMax);
  }

  /** Compresses a stream in parallel; needs threads. The slots are its memory, and may be shared with other streams. */
  async writeFrames({ slots, signal }: StreamWriterOptions & { readonly slots: FrameSlots }): Promise<FrameWriter> {
    const { FrameWriter } = await import("./frames.ts");
    if (this.#pool === undefined) throw new SeawallError("internal", "a codec without threads writes no frames");
    return new FrameWriter({ pool: this.#pool, level: fixedLevel(this.#level), slots, signal });
  }

  async writePlain({ signal }: StreamWriterOptions): Promise<PlainWriter> {
    const { PlainWriter } = await import("./plain-writer.ts");
    return new PlainWriter(signal);
  }

  startReading(form: "frames" | "plain"): ContentReader {
    return form === "frames" ? new ZstdDecoder() : { push: async (stored, take) => take(stored), isComplete: true };
  }

  /** Ends its own threads; a shared pool stays open. */
  async close(): Promise<void> {
    if (this.#ownsPool) await this.#pool?.close();
  }
}
