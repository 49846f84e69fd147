/**
 * Reads the stored objects of an unsealed segment, its chunks and its partial: several at a time, bounded by bytes, in the order of
 * their starts. Without an identity an encrypted one gives its digest instead of its bytes.
 */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { bytesBetween, type Lsn, segmentStart } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { unlessLocked } from "../damage.ts";
import { type ChunkPlace, type SegmentPlace, segmentName } from "../keys.ts";
import { decodeWal, parseFacts, readWal, type StoredFacts } from "./objects.ts";

const READS_IN_FLIGHT = 16;
/** Content of the chunks that are read ahead of their place in the tail. */
const READ_AHEAD_BYTES_MAX = 32 << 20;

/** Bytes `start` to `end` of a segment. */
export interface Extent {
  readonly start: number;
  readonly end: number;
}

/** Stored bytes of a segment from offset `start` to `end`. */
export interface Piece extends Extent {
  /** Undefined for what is encrypted, without an identity for it. */
  readonly bytes: Buffer | undefined;
  /** The digest that an encrypted object states. */
  readonly digest?: string | undefined;
  readonly verifiedLsn: Lsn;
  readonly key: string;
}

export interface PieceOptions extends RequestOptions {
  /** Takes encrypted pieces as they are where there is no identity; otherwise they throw `identity-missing`. */
  readonly takesLocked?: boolean;
}

/**
 * Reads chunks and gives them to `take` in the order of their starts, several at a time but bounded by bytes. Resolves with
 * false when one has been retired since it was listed.
 */
export async function forEachPiece(
  archive: Archive,
  chunks: readonly ChunkPlace[],
  take: (piece: Piece) => void,
  options: PieceOptions,
): Promise<boolean> {
  for (const batch of batchesOf([...chunks].sort((a, b) => a.start - b.start))) {
    const read = await mapBounded(batch, READS_IN_FLIGHT, (chunk) => readChunk(archive, chunk, options));
    for (const piece of read) {
      if (piece === undefined) return false;
      take(piece);
    }
  }
  return true;
}

function* batchesOf(chunks: readonly ChunkPlace[]): Generator<ChunkPlace[]> {
  let batch: ChunkPlace[] = [];
  let bytes = 0;
  for (const chunk of chunks) {
    if (batch.length > 0 && bytes + chunk.end - chunk.start > READ_AHEAD_BYTES_MAX) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(chunk);
    bytes += chunk.end - chunk.start;
  }
  if (batch.length > 0) yield batch;
}

/** Undefined when the chunk has been retired since it was listed. */
async function readChunk(archive: Archive, chunk: ChunkPlace, options: PieceOptions): Promise<Piece | undefined> {
  const { takesLocked = false, ...request } = options;
  const piece = takesLocked
    ? await readPiece(archive, chunk.key, chunk, request)
    : await readOpenPiece(archive, chunk.key, chunk, request);
  if (piece === undefined) return undefined;
  const named = chunk.end - chunk.start;
  const bytes = piece.bytes?.byteLength ?? piece.facts.envelope.rawBytes;
  if (bytes !== named) {
    throw new SeawallError("object-corrupt", `${chunk.key} holds ${bytes} bytes of WAL, its name says ${named}`);
  }
  return { ...piece, start: chunk.start, end: chunk.end };
}

export type ReadPiece = Piece & { readonly facts: StoredFacts };

/** Reads a partial or a chunk. Throws `identity-missing`. */
async function readOpenPiece(
  archive: Archive,
  key: string,
  place: SegmentPlace,
  options: RequestOptions,
): Promise<ReadPiece | undefined> {
  const content = await readWal(archive, key, place, options);
  return content === undefined ? undefined : pieceOf(content, content.raw, key, place);
}

/** Reads a partial or a chunk; its digest where it is encrypted and the archive's codec has no identity for it. */
export async function readPiece(
  archive: Archive,
  key: string,
  place: SegmentPlace,
  options: RequestOptions,
): Promise<ReadPiece | undefined> {
  const { store, codec, identity } = archive;
  const found = await store.get(key, options);
  if (found === undefined) return undefined;
  const content = await unlessLocked(decodeWal(archive, found.body, { key, place }));
  if (content !== "locked") return pieceOf(content, content.raw, key, place);
  const envelope = await codec.check(found.body, { key, rawBytesMax: place.segmentSize });
  return pieceOf(parseFacts(identity, envelope, key, place), undefined, key, place);
}

function pieceOf(facts: StoredFacts, raw: Buffer | undefined, key: string, place: SegmentPlace): ReadPiece {
  const { startLsn, endLsn, verifiedLsn, envelope } = facts;
  const base = segmentStart(place.segment, place.segmentSize);
  const [start, end] = [bytesBetween(base, startLsn), bytesBetween(base, endLsn)];
  // Zeros follow the WAL of a partial.
  const bytes = raw?.subarray(0, end - start);
  return { start, end, bytes, digest: envelope.encryption?.digest, verifiedLsn, key, facts };
}

/** The error of chunks that are retired faster than they are read. */
export function vanished(place: SegmentPlace): SeawallError {
  return new SeawallError("store-unavailable", `chunks of ${segmentName(place)} vanished while they were read`);
}
