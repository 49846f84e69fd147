/**
 * The codec: how content becomes stored bytes, and back. Every archive holds one, and no file outside of this room takes
 * stored bytes apart. Content is stored in three forms:
 *
 *     object   envelope and one zstd frame, in memory: WAL                    encode · readEnvelope, decode, check
 *     frames   independent zstd frames, streamed: parts, the file index       writeFrames · startReading("frames")
 *     plain    as it is, streamed: the server's manifest                      writePlain · startReading("plain")
 *
 * With recipients every form becomes an age file (age/): content is encrypted as it would be stored. Decoding needs
 * identities then; reading the clear part of an envelope needs neither. Plain and encrypted objects are read side by side.
 *
 * Each file that is loaded slows a restore_command down. So files that only writers need are loaded at the first write.
 */
import { hasCode, SeawallError } from "../errors.ts";
import { CLEAR_FRONT_BYTES, type ClearFacts, decodeClear } from "./age/clear-envelope.ts";
import { HEADER_BYTES_MAX, isAge, parseHeader } from "./age/header.ts";
import type { Identities } from "./age/identities.ts";
import { checkWhole, FULL_FRONT_BYTES, MaybeSealedStream, openFront, openObject } from "./age/open.ts";
import type { Recipients } from "./age/recipients.ts";
import type { NewHeader } from "./age/rekey.ts";
import { CONTENT_DIGEST, type Sealing } from "./age/seal.ts";
import { type Stored, storedNow, StoredSum } from "./age/stored-sum.ts";
import { type Envelope, type EnvelopeMeta, decodeEnvelope } from "./envelope.ts";
import { decompressFrame, type FrameToDecode } from "./frame.ts";
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
import { SharedZstdDecoder, type TakeFrame, ZstdDecoder } from "./unzstd.ts";
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
  /** Everything that is written is encrypted to these. */
  readonly recipients?: Recipients | undefined;
  /** Opens what is encrypted. */
  readonly identities?: Identities | undefined;
}

/** The facts that an encrypted object states in the clear. */
export interface ClearPart {
  readonly meta: EnvelopeMeta;
  /** The digest to state, or `CONTENT_DIGEST` for that of the object's content. */
  readonly digest?: string | undefined;
}

/** Bytes at the front of an encrypted object that cover its header, however many recipients it has. */
export const HEADER_FRONT_BYTES = HEADER_BYTES_MAX;

/** An encrypted object then says its size and its recipients alone. */
const NOTHING_CLEAR: ClearPart = { meta: {} };

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
  /** Nothing follows: gives what was held back. Throws when the stored bytes were cut. */
  end(take: (content: Uint8Array) => void): Promise<void>;
  /** True when the content may end after the bytes so far; ask it after `end`. */
  readonly isComplete: boolean;
}

export class Codec {
  readonly #level: CompressLevel;
  readonly #choice: LevelChoice;
  readonly #pool: CodecPool | undefined;
  readonly #ownsPool: boolean;
  readonly #recipients: Recipients | undefined;
  readonly #identities: Identities | undefined;

  /** Throws `zstd-missing`: at the start, not at the first object. */
  constructor({ level = 1, load, pool, ownsPool = false, recipients, identities }: CodecOptions = {}) {
    zstdOfThread();
    this.#recipients = recipients;
    this.#identities = identities;
    this.#level = level;
    this.#choice = new LevelChoice(level, load);
    this.#pool = pool;
    this.#ownsPool = ownsPool;
  }

  /** Recipients of what is written, in short; undefined where it is not encrypted. */
  get recipients(): readonly string[] | undefined {
    return this.#recipients?.names;
  }

  /** The identities, for threads that read. */
  get identities(): Identities | undefined {
    return this.#identities;
  }

  /** Bytes at the front of an object that always cover its envelope, or all facts of it that need an identity. */
  envelopeBytesMax(part: EnvelopePart = "clear"): number {
    return part === "clear" || this.#identities === undefined ? CLEAR_FRONT_BYTES : FULL_FRONT_BYTES;
  }

  /**
   * Makes an object. `raw` must not change until the promise settles; in shared memory it may be encoded by a thread. `clear` is
   * what the object states in the clear when it is encrypted.
   */
  async encode(raw: Uint8Array, meta: EnvelopeMeta, clear = NOTHING_CLEAR): Promise<EncodedObject> {
    const sealing = await this.#seal(clear);
    const pool = this.#pool;
    return this.#choice.during(raw.byteLength, async (level) =>
      pool === undefined ? encodeObject(raw, meta, level, sealing) : pool.encode(raw, meta, level, sealing),
    );
  }

  /**
   * Encodes the last `rawBytes` bytes of `memory` into its front; `memory` has `inPlaceBytes(rawBytes)` bytes. The content is
   * gone then. `memory` is free again when the object is no view of it, as when it is small. Needs threads.
   */
  async encodeInPlace(
    memory: SharedArrayBuffer,
    rawBytes: number,
    meta: EnvelopeMeta,
    clear = NOTHING_CLEAR,
  ): Promise<EncodedObject> {
    if (this.#pool === undefined)
      throw new SeawallError("internal", "a codec without threads encodes nothing in place");
    const pool = this.#pool;
    const sealing = await this.#seal(clear);
    return this.#choice.during(rawBytes, (level) => pool.encodeInPlace(memory, rawBytes, meta, level, sealing));
  }

  /**
   * Reads what an object says of itself: all of it, or the part in the clear. `front` has `envelopeBytesMax(part)` bytes, or is the
   * object. Without an identity for it the full envelope of an encrypted object is the part in the clear. Throws
   * `object-corrupt`, `archive-version`.
   */
  async readEnvelope(front: Uint8Array, key: string, part: EnvelopePart = "clear"): Promise<Envelope> {
    if (!isAge(front)) return decodeEnvelope(front, key);
    const identities = this.#identities;
    if (part === "clear" || identities === undefined) {
      return clearEnvelope(decodeClear(front, key), key);
    }
    const opened = await openFront(front, { key, identities }).catch(lockedIsUndefined);
    if (opened === undefined) return clearEnvelope(decodeClear(front, key), key);
    return openEnvelope(decodeEnvelope(opened.plain, key), opened.clear, opened.headerBytes);
  }

  /**
   * The content of a whole object, checked against its envelope; in `into` where that is large enough. Throws
   * `object-corrupt`, `identity-missing`.
   */
  async decode(
    stored: Uint8Array,
    { key, rawBytesMax, into }: DecodeOptions & { readonly into?: Uint8Array<ArrayBuffer> | undefined },
  ): Promise<DecodedObject> {
    if (!isAge(stored)) return decodeObject(stored, key, rawBytesMax, into);
    return openObject(stored, { key, identities: this.#identities }, ({ clear, plain, headerBytes }) => {
      const { envelope, raw } = decodeObject(plain, key, rawBytesMax, into);
      return { envelope: openEnvelope(envelope, clear, headerBytes), raw };
    });
  }

  /**
   * Checks as much as `decode`, in little memory where the object is plain. Of an encrypted one that cannot be opened it checks the
   * length and the CRC-32C of what is stored.
   */
  async check(stored: Uint8Array, { key, rawBytesMax }: DecodeOptions): Promise<Envelope> {
    if (!isAge(stored)) return checkObject(stored, key, rawBytesMax);
    const opened = await this.decode(stored, { key, rawBytesMax }).catch(lockedIsUndefined);
    return opened?.envelope ?? clearEnvelope(checkWhole(stored, key).clear, key);
  }

  /** True for an encrypted object, where this codec has no identity at all. */
  isLocked(stored: Uint8Array): boolean {
    return this.#identities === undefined && isAge(stored);
  }

  /** True for the front of an encrypted object. */
  isEncrypted(front: Uint8Array): boolean {
    return isAge(front);
  }

  /** Compares stored bytes with size and CRC-32C that a document states. */
  startSum(): StoredSum {
    return new StoredSum();
  }

  /** Size and CRC-32C of an object that begins with `front`, from those that it was stored with. `front` has `HEADER_FRONT_BYTES` bytes. */
  storedNow(expected: Stored, front: Uint8Array): Stored {
    return storedNow(expected, front) ?? expected;
  }

  /** The recipients that an object states, in short; undefined for one that is not encrypted. Throws `object-corrupt`. */
  recipientsOf(front: Uint8Array, key: string): readonly string[] | undefined {
    return isAge(front) ? decodeClear(front, key).to : undefined;
  }

  /** True when `front` covers the object's header, and for an object that has none. */
  hasWholeHeader(front: Uint8Array): boolean {
    try {
      return !isAge(front) || parseHeader(front) !== undefined;
    } catch {
      // More of it would not help.
      return true;
    }
  }

  /**
   * Makes the header of an encrypted object anew for this codec's recipients; the payload stays. `front` has `HEADER_FRONT_BYTES` bytes,
   * or is the object. Throws `identity-missing`, `object-corrupt`.
   */
  async newHeader(
    found: { readonly front: Uint8Array; readonly objectBytes: number },
    key: string,
  ): Promise<NewHeader> {
    const { headerFor } = await import("./age/rekey.ts");
    const recipients = this.#recipients;
    if (recipients === undefined) throw new SeawallError("internal", "a new header without recipients");
    return headerFor(recipients, found, { key, identities: this.#identities });
  }

  /**
   * Opens the header that an object has now: what it says in the clear is true then. `front` as in `newHeader`. Throws
   * `identity-missing`, `object-corrupt`.
   */
  async checkHeader(found: { readonly front: Uint8Array; readonly objectBytes: number }, key: string): Promise<void> {
    const { openHeader } = await import("./age/rekey.ts");
    await openHeader(found, { key, identities: this.#identities });
  }

  /** Checks a new header as it is read back. Throws `store-lied`. */
  async checkNewHeader(
    found: { readonly front: Uint8Array; readonly objectBytes: number },
    made: NewHeader,
    key: string,
  ): Promise<void> {
    const { checkNewHeader } = await import("./age/rekey.ts");
    checkNewHeader(found.front, made, { key, objectBytes: found.objectBytes });
  }

  /** Checks an object that arrives in pieces of any size. */
  async checkPieces(pieces: AsyncIterable<Uint8Array>, { key, rawBytesMax }: DecodeOptions): Promise<Envelope> {
    const whole = await wholeIfSealed(pieces);
    return whole instanceof Uint8Array ? this.check(whole, { key, rawBytesMax }) : checkPieces(whole, key, rawBytesMax);
  }

  /** Compresses a stream in parallel; needs threads. The slots are its memory, and may be shared with other streams. */
  async writeFrames({ slots, signal }: StreamWriterOptions & { readonly slots: FrameSlots }): Promise<FrameWriter> {
    const { FrameWriter } = await import("./frames.ts");
    if (this.#pool === undefined) throw new SeawallError("internal", "a codec without threads writes no frames");
    const sealing = await this.#seal(NOTHING_CLEAR);
    return new FrameWriter({ pool: this.#pool, level: fixedLevel(this.#level), slots, signal, sealing });
  }

  async writePlain({ signal }: StreamWriterOptions): Promise<PlainWriter> {
    const { PlainWriter } = await import("./plain-writer.ts");
    return new PlainWriter(signal, await this.#seal(NOTHING_CLEAR));
  }

  /** Decompresses a frame that was handed on. The content is borrowed until the next call on this thread. Throws zstd's own error. */
  decodeFrame(frame: FrameToDecode): Uint8Array {
    return decompressFrame(frame);
  }

  /** `key` names the object in messages. In the form "frames", `handOn` may take whole frames, to decompress them elsewhere. */
  startReading(form: "frames" | "plain", key: string, handOn?: TakeFrame): ContentReader {
    const sealed = new MaybeSealedStream({ key, identities: this.#identities });
    if (form === "plain") return new StoredStream(sealed, undefined);
    return new StoredStream(sealed, handOn === undefined ? new ZstdDecoder() : new SharedZstdDecoder(handOn));
  }

  /** Ends its own threads; a shared pool stays open. */
  async close(): Promise<void> {
    if (this.#ownsPool) await this.#pool?.close();
  }

  /** Keys of its own for one object; undefined where nothing is encrypted. */
  async #seal({ meta, digest }: ClearPart): Promise<Sealing | undefined> {
    const recipients = this.#recipients;
    if (recipients === undefined) return undefined;
    return { keys: await recipients.take(), to: recipients.names, clear: meta, digest };
  }
}

/** The part of an envelope that is asked for. */
export type EnvelopePart = "clear" | "full";

/** The digest of an object's own content, which is known where it is encoded. */
export const OWN_DIGEST = CONTENT_DIGEST;

/** A stream as it is stored, encrypted or not. */
class StoredStream implements ContentReader {
  readonly #sealed: MaybeSealedStream;
  readonly #decoder: ZstdDecoder | SharedZstdDecoder | undefined;

  constructor(sealed: MaybeSealedStream, decoder: ZstdDecoder | SharedZstdDecoder | undefined) {
    this.#sealed = sealed;
    this.#decoder = decoder;
  }

  get isComplete(): boolean {
    return this.#decoder?.isComplete ?? true;
  }

  async push(stored: Uint8Array, take: (content: Uint8Array) => void): Promise<void> {
    await this.#decode(await this.#sealed.push(stored), take);
  }

  async end(take: (content: Uint8Array) => void): Promise<void> {
    await this.#decode(this.#sealed.end(), take);
  }

  async #decode(content: Uint8Array, take: (content: Uint8Array) => void): Promise<void> {
    if (content.byteLength === 0) return;
    if (this.#decoder === undefined) take(content);
    else await this.#decoder.push(content, take);
  }
}

/** For an object of which less can be said without an identity; rethrows every other error. */
function lockedIsUndefined(error: unknown): undefined {
  if (hasCode(error, "identity-missing")) return undefined;
  throw error;
}

/** The bytes of an encrypted object; an object that is not encrypted stays in pieces. */
async function wholeIfSealed(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  const rest = pieces[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) {
    held.push(Uint8Array.from(next.value));
    if (isAge(held[0] ?? next.value)) continue;
    return (async function* (): AsyncGenerator<Uint8Array> {
      yield* held;
      yield* { [Symbol.asyncIterator]: () => rest };
    })();
  }
  return Buffer.concat(held);
}

/** An encrypted object's envelope as a reader without a key sees it. Throws `object-corrupt`. */
function clearEnvelope({ rawBytes, headerBytes, content, meta, to, digest }: ClearFacts, key: string): Envelope {
  if (rawBytes === undefined || headerBytes === undefined) {
    throw new SeawallError("object-corrupt", `${key}: envelope without a size`);
  }
  const encryption = { to, digest, isOpen: false };
  return { rawBytes, rawCrc32c: undefined, meta, contentOffset: headerBytes, contentBytes: content, encryption };
}

/** The envelope from under the encryption; its offset and length become those in the stored object. */
function openEnvelope(envelope: Envelope, { content, to, digest }: ClearFacts, headerBytes: number): Envelope {
  const encryption = { to, digest, isOpen: true };
  return { ...envelope, contentOffset: headerBytes, contentBytes: content, encryption };
}
