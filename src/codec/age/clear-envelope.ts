/**
 * The clear envelope: what an encrypted object says of itself to readers without a key. It is the first stanza of the age
 * header, `-> seawall 1`, whose body is a CRC-32C and a JSON document. The header's MAC covers it.
 *
 * Facts that would give content away stand in the full envelope, under encryption (docs/archive-format.md).
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../../errors.ts";
import type { EnvelopeMeta } from "../envelope.ts";
import { encodeStanza, firstStanza, isAge, type Stanza } from "./header.ts";

const KIND = "seawall";
const VERSION = "1";
const CRC_BYTES = 4;
/** Bytes of the JSON: with them the stanza ends within `CLEAR_FRONT_BYTES`. */
const JSON_BYTES_MAX = 16_384;
/** Bytes at the front of an encrypted object that always cover its clear envelope. */
export const CLEAR_FRONT_BYTES = 24 << 10;

/** Facts that the codec adds to those of the archive. */
export interface ClearFacts {
  /** Recipients in short. */
  readonly to: readonly string[];
  /** Bytes of the header, this stanza included. Absent in a stream, as all that follow but the digest. */
  readonly headerBytes?: number;
  /** Bytes of the payload: nonce and pieces. */
  readonly content?: number;
  readonly payloadCrc32c?: number;
  /** CRC-32C of the recipients' stanzas: damage in them looks like an object for other recipients. */
  readonly keysCrc32c?: number;
  readonly rawBytes?: number;
  /** The header that the object was first stored with, where it was replaced (rekey.ts) and a document states size and CRC-32C. */
  readonly first?: { readonly bytes: number; readonly crc32c: number };
  /** The digest of content that the archive chooses (digest.ts). */
  readonly digest?: string;
  readonly meta: EnvelopeMeta;
}

const DIGITS = 8;

/** The stanza as text. Its length does not depend on the numbers of eight digits, where they are given. */
export function encodeClear(facts: ClearFacts): Uint8Array {
  const { to, headerBytes, content, payloadCrc32c, keysCrc32c, first, rawBytes, digest, meta } = facts;
  const json = Buffer.from(
    JSON.stringify({
      ...(headerBytes === undefined ? {} : { header: hex8(headerBytes) }),
      ...(content === undefined ? {} : { content: hex8(content) }),
      ...(payloadCrc32c === undefined ? {} : { payload: hex8(payloadCrc32c) }),
      ...(keysCrc32c === undefined ? {} : { keys: hex8(keysCrc32c) }),
      ...(first === undefined ? {} : { first: [hex8(first.bytes), hex8(first.crc32c)] }),
      seawall: 1,
      ...(rawBytes === undefined ? {} : { bytes: rawBytes }),
      to,
      ...(digest === undefined ? {} : { digest }),
      ...meta,
    }),
  );
  if (json.length > JSON_BYTES_MAX) {
    throw new SeawallError("internal", `a clear envelope of ${json.length} bytes is too large`);
  }
  const body = Buffer.allocUnsafe(CRC_BYTES + json.length);
  body.writeUInt32LE(crc32c(json), 0);
  json.copy(body, CRC_BYTES);
  return encodeStanza({ args: [KIND, VERSION], body });
}

/**
 * Reads the clear envelope at the front of an encrypted object: of the whole object, or of its first `CLEAR_FRONT_BYTES`. Throws
 * `object-corrupt` naming `key`, and `archive-version`.
 */
export function decodeClear(front: Uint8Array, key: string): ClearFacts {
  const corrupt = (why: string, cause?: unknown): SeawallError =>
    new SeawallError("object-corrupt", `${key}: ${why}`, { cause });
  if (!isAge(front)) throw corrupt("does not begin as an age file");
  let stanza: Stanza | undefined;
  try {
    stanza = firstStanza(front);
  } catch (cause) {
    throw corrupt(cause instanceof Error ? cause.message : String(cause), cause);
  }
  if (stanza === undefined) throw corrupt("ends inside its envelope");
  const [kind, version] = stanza.args;
  if (kind !== KIND) throw corrupt("is an age file without a Seawall envelope");
  if (version !== VERSION) throw new SeawallError("archive-version", `${key}: clear envelope version ${version}`);
  const body = Buffer.from(stanza.body);
  if (body.length < CRC_BYTES || crc32c(body.subarray(CRC_BYTES)) !== body.readUInt32LE(0)) {
    throw corrupt("the CRC-32C of its envelope is wrong");
  }
  return parseClear(body.subarray(CRC_BYTES).toString("utf8"), key, corrupt);
}

function parseClear(text: string, key: string, corrupt: (why: string, cause?: unknown) => SeawallError): ClearFacts {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw corrupt("its envelope is not JSON", cause);
  }
  if (typeof document !== "object" || document === null) throw corrupt("its envelope is not an object");
  const { seawall, header, content, payload, keys, first, bytes, to, digest, ...meta } = document as Record<
    string,
    unknown
  >;
  if (seawall !== 1) throw new SeawallError("archive-version", `${key}: envelope version ${JSON.stringify(seawall)}`);
  if (!Array.isArray(to) || !to.every((name) => typeof name === "string")) throw corrupt("envelope without recipients");
  if (bytes !== undefined && !(typeof bytes === "number" && Number.isSafeInteger(bytes) && bytes >= 0)) {
    throw corrupt("envelope without a size");
  }
  return {
    to,
    meta,
    ...(header === undefined ? {} : { headerBytes: fromHex8(header, corrupt) }),
    ...(content === undefined ? {} : { content: fromHex8(content, corrupt) }),
    ...(payload === undefined ? {} : { payloadCrc32c: fromHex8(payload, corrupt) }),
    ...(keys === undefined ? {} : { keysCrc32c: fromHex8(keys, corrupt) }),
    ...(first === undefined ? {} : { first: firstHeader(first, corrupt) }),
    ...(bytes === undefined ? {} : { rawBytes: bytes }),
    ...(typeof digest === "string" ? { digest } : {}),
  };
}

function firstHeader(value: unknown, corrupt: (why: string) => SeawallError): NonNullable<ClearFacts["first"]> {
  const [bytes, crc] = Array.isArray(value) ? (value as readonly unknown[]) : [];
  return { bytes: fromHex8(bytes, corrupt), crc32c: fromHex8(crc, corrupt) };
}

function hex8(value: number): string {
  return value.toString(16).padStart(DIGITS, "0");
}

function fromHex8(value: unknown, corrupt: (why: string) => SeawallError): number {
  if (typeof value === "string" && /^[0-9a-f]{8}$/.test(value)) return Number.parseInt(value, 16);
  throw corrupt("envelope with a number that is none");
}
