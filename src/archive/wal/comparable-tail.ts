/**
 * An unsealed segment as a writer compares it with the server's bytes. A writer that encrypts has no identity as a rule, so what is
 * encrypted is compared by its digest (codec/age/digest.ts).
 */
import { ContentDigest } from "../../codec/age/digest.ts";
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { unlessLocked } from "../damage.ts";
import { partialKey, type SegmentPlace } from "../keys.ts";
import { firstDifference } from "../put-once.ts";
import { followChunks, listChunks, LISTINGS_MAX, readTail, type TailEnd } from "./tail.ts";
import { type Piece, readPiece, vanished } from "./tail-pieces.ts";

/** Stored WAL that server's bytes are compared with: the bytes themselves, or a digest where they are encrypted. */
export type StoredPiece =
  | { readonly start: number; readonly end: number; readonly bytes: Buffer }
  /** The digest covers all bytes of the segment up to `end`. */
  | { readonly start: number; readonly end: number; readonly digest: string };

/** A tail that is compared and not read. */
export interface ComparableTail extends TailEnd {
  /** In the order of their ends. */
  readonly pieces: readonly StoredPiece[];
}

/**
 * Reads an unsealed segment for a writer that may have no identity for it. Undefined when nothing starts it.
 * Throws `object-corrupt`, and `segment-conflict` when stored objects contradict each other.
 */
export async function readComparableTail(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<ComparableTail | undefined> {
  const tail = await unlessLocked(readTail(archive, place, options));
  if (tail === undefined) return undefined;
  if (tail !== "locked") {
    const { bytes, endLsn, verifiedLsn } = tail;
    return { endLsn, verifiedLsn, pieces: [{ start: 0, end: bytes.byteLength, bytes }] };
  }
  for (let listing = 0; listing < LISTINGS_MAX; listing++) {
    const chunks = await listChunks(archive, place, options);
    const partial = await readPiece(archive, partialKey(archive.cluster, place), place, options);
    const pieces: StoredPiece[] = partial === undefined ? [] : [comparable(partial)];
    const found = await followChunks(
      archive,
      place,
      { chunks, partial: partial?.facts },
      (piece) => pieces.push(comparable(piece)),
      options,
    );
    if (found === undefined) return undefined;
    if (found !== "vanished") return { ...found, pieces };
  }
  throw vanished(place);
}

/** The segment's partial, for a writer that may have no identity for it. */
export async function readComparablePartial(
  archive: Archive,
  place: SegmentPlace,
  options: RequestOptions = {},
): Promise<StoredPiece | undefined> {
  const partial = await readPiece(archive, partialKey(archive.cluster, place), place, options);
  return partial === undefined ? undefined : comparable(partial);
}

function comparable({ start, end, bytes, digest, key }: Piece): StoredPiece {
  if (bytes !== undefined) return { start, end, bytes };
  if (digest !== undefined) return { start, end, digest };
  throw new SeawallError("object-corrupt", `${key} is encrypted and states no digest`);
}

/** The offset up to which a segment's content is not what is stored; undefined when it is the same. Pure. */
export function differsFrom(pieces: readonly StoredPiece[], content: Uint8Array): number | undefined {
  const digest = new ContentDigest();
  for (const piece of [...pieces].sort((a, b) => a.end - b.end)) {
    const { start, end } = piece;
    if ("bytes" in piece) {
      const at = firstDifference(piece.bytes, content.subarray(start, end));
      if (at >= 0) return start + at;
    } else {
      if (end > digest.byteLength) digest.push(content.subarray(digest.byteLength, end));
      if (digest.hex() !== piece.digest) return end;
    }
  }
  return undefined;
}
