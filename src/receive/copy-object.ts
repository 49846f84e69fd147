/**
 * Copies one object from a spool's archive to another: as it is stored, and checked on the way. A large one is never whole in
 * memory: it is read once to be checked, and once more to be sent. An archive that is encrypted gets it encrypted.
 */
import type { Archive } from "../archive/archive.ts";
import { putOnce } from "../archive/put-once.ts";
import { clearPart } from "../archive/wal/objects.ts";
import { digestOf } from "../codec/age/digest.ts";
import type { Envelope } from "../codec/envelope.ts";
import { LARGE_OBJECT_BYTES } from "../codec/pool.ts";
import { invariant, SeawallError } from "../errors.ts";
import { crc32cOf } from "../store/crc.ts";
import { bytesBetween, type Lsn, parseLsn } from "../wal/lsn.ts";

/**
 * Gives the object's envelope; undefined when `from` does not have it any more. Throws `object-corrupt`, `segment-conflict`
 * for other content under the key, and what either store throws.
 */
export async function copyObject(
  { from, to }: { readonly from: Archive; readonly to: Archive },
  { key, bytes }: { readonly key: string; readonly bytes: number },
  signal: AbortSignal,
): Promise<Envelope | undefined> {
  const limits = { key, rawBytesMax: from.identity.segmentSize };
  if (to.codec.recipients !== undefined) return encryptObject({ from, to }, limits, signal);
  if (bytes <= LARGE_OBJECT_BYTES) {
    const found = await from.store.get(key, { signal });
    if (found === undefined) return undefined;
    const envelope = await from.codec.check(found.body, limits);
    const { rawBytes, rawCrc32c } = envelope;
    invariant(rawCrc32c !== undefined, "an object of a spool is not encrypted");
    const encoded = { stored: found.body, storedCrc32c: crc32cOf(found.body), rawBytes, rawCrc32c };
    await putOnce(to, key, encoded, { signal });
    return envelope;
  }
  const ours = await from.store.getStream(key, { signal });
  if (ours === undefined) return undefined;
  const envelope = await from.codec.checkPieces(ours.body, limits);
  const source = await from.store.getStream(key, { signal });
  if (source === undefined) return undefined;
  if ((await to.store.putStream(key, source.body, { signal })) === "created") return envelope;
  const theirs = await to.store.getStream(key, { signal });
  if (theirs === undefined) {
    throw new SeawallError(
      "store-unavailable",
      `${to.store.description} said that ${key} exists, and then that it does not`,
    );
  }
  const there = await to.codec.checkPieces(theirs.body, limits);
  if (there.rawBytes === envelope.rawBytes && there.rawCrc32c === envelope.rawCrc32c) return envelope;
  throw new SeawallError("segment-conflict", `${key} is stored in ${to.store.description} with different content`);
}

/** Encrypts a plain object on its way. All of it is in memory: a segment, and its object. */
async function encryptObject(
  { from, to }: { readonly from: Archive; readonly to: Archive },
  limits: { readonly key: string; readonly rawBytesMax: number },
  signal: AbortSignal,
): Promise<Envelope | undefined> {
  const { key } = limits;
  const found = await from.store.get(key, { signal });
  if (found === undefined) return undefined;
  const { envelope, raw } = await from.codec.decode(found.body, limits);
  const { kind, start, end } = envelope.meta;
  // Behind the WAL of a partial there are zeros.
  const wal = kind === "partial" ? raw.subarray(0, bytesBetween(lsnIn(start), lsnIn(end))) : raw;
  const encoded = await to.codec.encode(raw, envelope.meta, clearPart(envelope.meta, digestOf(wal)));
  await putOnce(to, key, encoded, { signal });
  return envelope;
}

function lsnIn(fact: unknown): Lsn {
  return parseLsn(String(fact));
}
