/**
 * Copies one object from an archive to another that has the same codec: as it is stored, and checked on the way. A large
 * one is never whole in memory: it is read once to be checked, and once more to be sent.
 */
import type { Archive } from "../archive/archive.ts";
import { putOnce } from "../archive/put-once.ts";
import type { Envelope } from "../codec/envelope.ts";
import { LARGE_OBJECT_BYTES } from "../codec/pool.ts";
import { SeawallError } from "../errors.ts";
import { crc32cOf } from "../store/crc.ts";

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
  if (bytes <= LARGE_OBJECT_BYTES) {
    const found = await from.store.get(key, { signal });
    if (found === undefined) return undefined;
    const envelope = await from.codec.check(found.body, limits);
    const { rawBytes, rawCrc32c } = envelope;
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
