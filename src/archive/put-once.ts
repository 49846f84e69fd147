/**
 * Promise 4 in one function: create an object if it is absent. Equal stored content is success; different content is an
 * error that names both. The decoded content is compared, because another zstd version may store the same bytes
 * differently.
 */
import type { EncodedObject } from "../codec/object.ts";
import type { Codec } from "../codec/codec.ts";
import { SeawallError } from "../errors.ts";
import { crc32cOf } from "../store/crc.ts";
import type { PutResult, RequestOptions, Store } from "../store/store.ts";
import type { Archive } from "./archive.ts";
import { unlessLocked } from "./damage.ts";

/** An object may vanish between "exists" and our read (retired by another process): so often we try again. */
const RACES_MAX = 3;

/**
 * Stores an encoded object; the content to compare is decoded from it, so that its source need not be kept.
 * Throws `segment-conflict`, or what the store throws; after an error the object may or may not be there.
 */
export async function putOnce(
  { store, codec }: Pick<Archive, "store" | "codec">,
  key: string,
  encoded: EncodedObject,
  options: RequestOptions = {},
): Promise<PutResult> {
  return createOrCompare(store, key, encoded.stored, { ...options, crc32c: encoded.storedCrc32c }, async (existing) =>
    differenceFrom(existing, key, encoded, codec),
  );
}

/**
 * Says how the content of a stored object differs from ours. A writer without an identity compares what it can: the digests that
 * encrypted objects state, or size and CRC-32C where only ours is encrypted.
 */
async function differenceFrom(
  existing: Uint8Array,
  key: string,
  encoded: EncodedObject,
  codec: Codec,
): Promise<string | undefined> {
  const limits = { key, rawBytesMax: Math.max(encoded.rawBytes, 1) * 2 };
  const theirs = await unlessLocked(codec.decode(existing, limits));
  if (theirs === "locked") {
    const { encryption, rawBytes } = await codec.check(existing, limits);
    if (codec.recipients === undefined) throw lockedFor(key, encryption?.to ?? []);
    const digest = (await codec.readEnvelope(encoded.stored, key)).encryption?.digest;
    const isSame = digest !== undefined && digest === encryption?.digest && rawBytes === encoded.rawBytes;
    return isSame ? undefined : "its digest is another one";
  }
  const { raw } = theirs;
  const ours = await unlessLocked(codec.decode(encoded.stored, { key, rawBytesMax: encoded.rawBytes }));
  if (ours !== "locked") return differenceOf(raw, ours.raw);
  const isSame = raw.byteLength === encoded.rawBytes && crc32cOf(raw) === encoded.rawCrc32c;
  return isSame ? undefined : "size or CRC-32C differ";
}

/** The error of a writer that does not encrypt, and meets an encrypted object that it cannot compare. */
function lockedFor(key: string, to: readonly string[]): SeawallError {
  return new SeawallError("identity-missing", `${key} is there already, encrypted to ${to.join(", ")}`, {
    hint: "Give this writer the same --encrypt-to as the one that stored it.",
  });
}

/** Stores a plain file once (history files, documents); compares byte for byte as stored. */
export async function putPlainOnce(
  store: Store,
  key: string,
  bytes: Uint8Array,
  options: RequestOptions = {},
): Promise<PutResult> {
  return createOrCompare(store, key, bytes, options, (existing) => differenceOf(existing, bytes));
}

/**
 * Creates the object, or compares what is stored under its key. `differenceFrom` says how the stored object differs, for the
 * message of `segment-conflict`; undefined when it counts as equal.
 */
export async function createOrCompare(
  store: Store,
  key: string,
  body: Uint8Array,
  options: RequestOptions & { readonly crc32c?: number | undefined },
  differenceFrom: (existing: Uint8Array) => string | undefined | Promise<string | undefined>,
): Promise<PutResult> {
  for (let race = 0; race < RACES_MAX; race++) {
    const result = await store.put(key, body, options);
    if (result === "created") return result;
    const existing = await store.get(key, { signal: options.signal });
    if (existing === undefined) continue;
    const difference = await differenceFrom(existing.body);
    if (difference === undefined) return "exists";
    throw new SeawallError(
      "segment-conflict",
      `${key} is stored in ${store.description} with different content: ${difference}`,
    );
  }
  throw new SeawallError(
    "store-unavailable",
    `${store.description} said ${RACES_MAX} times that ${key} exists, and then that it does not`,
  );
}

function differenceOf(theirs: Uint8Array, ours: Uint8Array): string | undefined {
  const at = firstDifference(theirs, ours);
  return at < 0 ? undefined : `the first difference is at byte ${at}`;
}

/** Offset of the first byte that differs (or where the shorter one ends), -1 when equal. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.byteLength === b.byteLength && Buffer.compare(a, b) === 0) return -1;
  const shared = Math.min(a.byteLength, b.byteLength);
  for (let at = 0; at < shared; at++) if (a[at] !== b[at]) return at;
  return shared;
}
