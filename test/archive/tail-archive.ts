/** An archive in memory whose only WAL is the tail of one segment, for tests of how a tail is read. */
import type { Archive } from "../../src/archive/archive.ts";
import { putChunk, putPartial } from "../../src/archive/wal/objects.ts";
import { digestOf } from "../../src/codec/age/digest.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { type SegmentNumber, type TimelineId, addBytes, segmentStart } from "../../src/wal/lsn.ts";

export const SIZE = 1 << 20;
/** Begins at 0/500000. */
export const place = { timeline: 1 as TimelineId, segment: 5 as SegmentNumber, segmentSize: SIZE };

export function newArchive(store: Store = new MemoryStore(), segmentSize = SIZE, codec = runCodec): Archive {
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  return { store, cluster: "main", identity, codec };
}

/** Stores a chunk that ends where a record ends. */
export async function store(archive: Archive, start: number, bytes: string | Uint8Array, at = place): Promise<void> {
  const startLsn = addBytes(segmentStart(at.segment, at.segmentSize), start);
  const endLsn = addBytes(startLsn, bytes.length);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putChunkWithDigest(archive, at, start, Buffer.from(bytes), facts, { confirm: true });
}

/** Stores a partial that ends where a record ends. */
export async function pushPartial(archive: Archive, content: string): Promise<void> {
  const raw = Buffer.alloc(SIZE);
  raw.write(content);
  const startLsn = segmentStart(place.segment, SIZE);
  const endLsn = addBytes(startLsn, content.length);
  await putPartialWithDigest(archive, place, raw, { startLsn, endLsn, verifiedLsn: endLsn }, { confirm: true });
}

/** Stores a chunk with the digest that an encrypted one states. Bytes of the segment before `start` count as zeros. */
export async function putChunkWithDigest(...given: Parameters<typeof putChunk>): ReturnType<typeof putChunk> {
  const [archive, at, start, raw, facts, options] = given;
  const digest = digestOf(Buffer.concat([Buffer.alloc(start), raw]));
  return putChunk(archive, at, start, raw, { ...facts, digest }, options);
}

/** Stores a partial with the digest that an encrypted one states. */
export async function putPartialWithDigest(...given: Parameters<typeof putPartial>): ReturnType<typeof putPartial> {
  const [archive, at, raw, facts, options] = given;
  const digest = digestOf(raw.subarray(0, Number(facts.endLsn - facts.startLsn)));
  return putPartial(archive, at, raw, { ...facts, digest }, options);
}
