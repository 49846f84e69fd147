/**
 * The envelope: what an object says about itself, at its own front, where every store and every copy keeps it.
 *
 * An object is one zstd *skippable frame* holding a CRC-32C and a small JSON document, then one zstd frame holding the content. The
 * `zstd` tool skips the first and gives the second, so `zstd -d` yields the plain file; an audit reads the first
 * kilobytes instead of the whole object. Format: RFC 8878, section 3.1.2 (Skippable Frames).
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";

/** One of the sixteen skippable magics; the low nibble is ours to choose. */
const SKIPPABLE_MAGIC = 0x184d2a53;
/** Magic, length of what follows, CRC-32C of the JSON: three little-endian 32-bit numbers. */
const HEADER_BYTES = 12;

/** Reading this much from the front of an object always covers its envelope. */
export const ENVELOPE_BYTES_MAX = 16_384;

/** Facts of the room that stores the object (archive); JSON values only. */
export type EnvelopeMeta = Readonly<Record<string, unknown>>;

export interface Envelope {
  /** Size of the decoded content in bytes. */
  readonly rawBytes: number;
  /** CRC-32C of the decoded content; undefined in the clear envelope of an encrypted object. */
  readonly rawCrc32c: number | undefined;
  readonly meta: EnvelopeMeta;
  /** Where the content's zstd frame starts in the stored object, or the payload of an encrypted one. */
  readonly contentOffset: number;
  /** Bytes from the frame's start to the object's end; undefined in objects of older versions of Seawall. */
  readonly contentBytes: number | undefined;
  /** Set for an encrypted object. */
  readonly encryption?: Encryption | undefined;
}

export interface Encryption {
  /** Recipients in short. */
  readonly to: readonly string[];
  /** The digest that the clear envelope states. */
  readonly digest: string | undefined;
  /** `meta` has all facts; otherwise those that stand in the clear. */
  readonly isOpen: boolean;
}

/** The content's length stands at the front of the JSON, always eight digits: it is known last. */
const CONTENT_BYTES_KEY = '{"content":"';
const CONTENT_BYTES_DIGITS = 8;

/** The skippable frame for these facts, to be completed by `sealEnvelope`. Throws `internal` when they do not fit. */
export function encodeEnvelope(rawBytes: number, rawCrc32c: number, meta: EnvelopeMeta): Uint8Array {
  const json = Buffer.from(
    JSON.stringify({
      content: "0".repeat(CONTENT_BYTES_DIGITS),
      seawall: 1,
      bytes: rawBytes,
      crc32c: rawCrc32c.toString(16).padStart(8, "0"),
      ...meta,
    }),
  );
  if (HEADER_BYTES + json.length > ENVELOPE_BYTES_MAX) {
    throw new SeawallError("internal", `envelope of ${json.length} bytes is too large`);
  }
  const frame = Buffer.allocUnsafe(HEADER_BYTES + json.length);
  frame.writeUInt32LE(SKIPPABLE_MAGIC, 0);
  frame.writeUInt32LE(4 + json.length, 4);
  json.copy(frame, HEADER_BYTES);
  return frame;
}

/** Writes the length of the content's zstd frame and the CRC-32C into an envelope, in place. */
export function sealEnvelope(envelope: Uint8Array, contentBytes: number): void {
  const frame = Buffer.from(envelope.buffer, envelope.byteOffset, envelope.byteLength);
  const digits = contentBytes.toString(16).padStart(CONTENT_BYTES_DIGITS, "0");
  frame.write(digits, HEADER_BYTES + CONTENT_BYTES_KEY.length, "latin1");
  frame.writeUInt32LE(crc32c(frame.subarray(HEADER_BYTES)), 8);
}

/**
 * Reads the envelope at the front of `stored` (the whole object or at least its first ENVELOPE_BYTES_MAX bytes).
 * Throws `object-corrupt` naming `key`, `archive-version` when a newer Seawall wrote it.
 */
export function decodeEnvelope(stored: Uint8Array, key: string): Envelope {
  const view = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  const corrupt = (why: string, cause?: unknown): SeawallError =>
    new SeawallError("object-corrupt", `${key}: ${why}`, { cause });
  if (view.length < HEADER_BYTES) throw corrupt(`only ${view.length} bytes long`);
  if (view.readUInt32LE(0) !== SKIPPABLE_MAGIC) throw corrupt("does not begin with a Seawall envelope");
  const length = view.readUInt32LE(4) - 4;
  if (length < 0 || HEADER_BYTES + length > ENVELOPE_BYTES_MAX) throw corrupt(`envelope claims ${length} bytes`);
  if (HEADER_BYTES + length > view.length) throw corrupt("ends inside its envelope");
  const json = view.subarray(HEADER_BYTES, HEADER_BYTES + length);
  if (crc32c(json) !== view.readUInt32LE(8)) throw corrupt("the CRC-32C of its envelope is wrong");
  let document: unknown;
  try {
    document = JSON.parse(json.toString("utf8"));
  } catch (cause) {
    throw corrupt("its envelope is not JSON", cause);
  }
  if (typeof document !== "object" || document === null) throw corrupt("its envelope is not an object");
  const { seawall, content, bytes, crc32c: checksum, ...meta } = document as Record<string, unknown>;
  if (seawall !== 1) throw new SeawallError("archive-version", `${key}: envelope version ${JSON.stringify(seawall)}`);
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) throw corrupt("envelope without a size");
  if (typeof checksum !== "string" || !/^[0-9a-f]{8}$/.test(checksum)) throw corrupt("envelope without a CRC-32C");
  return {
    rawBytes: bytes,
    rawCrc32c: Number.parseInt(checksum, 16),
    meta,
    contentOffset: HEADER_BYTES + length,
    contentBytes:
      typeof content === "string" && /^[0-9a-f]{8}$/.test(content) ? Number.parseInt(content, 16) : undefined,
  };
}
