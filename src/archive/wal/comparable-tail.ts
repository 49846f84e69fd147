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
  return new PieceComparison(pieces).advance(content);
}

/** Compares stored pieces with a segment's content while it arrives, so that no large digest is due at once. */
export class PieceComparison {
  readonly #plain: readonly (StoredPiece & { readonly bytes: Buffer })[];
  /** In the order of their ends. */
  readonly #digested: readonly (StoredPiece & { readonly digest: string })[];
  readonly #digest = new ContentDigest();
  #digestsDone = 0;
  /** Bytes of the content so far. */
  #seen = 0;

  constructor(pieces: readonly StoredPiece[]) {
    this.#plain = pieces.filter((piece) => "bytes" in piece);
    this.#digested = pieces.filter((piece) => "digest" in piece).sort((a, b) => a.end - b.end);
  }

  /** `content`: the segment from its start, as far as it came. Returns an offset up to which it differs, as soon as it does. */
  advance(content: Uint8Array): number | undefined {
    const differences = [this.#comparePlain(content), this.#compareDigests(content)];
    this.#seen = content.byteLength;
    const found = differences.filter((at) => at !== undefined);
    return found.length === 0 ? undefined : Math.min(...found);
  }

  #comparePlain(content: Uint8Array): number | undefined {
    for (const { start, end, bytes } of this.#plain) {
      const [from, to] = [Math.max(start, this.#seen), Math.min(end, content.byteLength)];
      if (from >= to) continue;
      const at = firstDifference(bytes.subarray(from - start, to - start), content.subarray(from, to));
      if (at >= 0) return from + at;
    }
    return undefined;
  }

  #compareDigests(content: Uint8Array): number | undefined {
    for (let next = this.#digested[this.#digestsDone]; next !== undefined; next = this.#digested[this.#digestsDone]) {
      const upTo = Math.min(next.end, content.byteLength);
      if (upTo > this.#digest.byteLength) this.#digest.push(content.subarray(this.#digest.byteLength, upTo));
      if (upTo < next.end) return undefined;
      if (this.#digest.hex() !== next.digest) return next.end;
      this.#digestsDone++;
    }
    return undefined;
  }
}
