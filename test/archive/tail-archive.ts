/** An archive in memory whose only WAL is the tail of one segment, for tests of how a tail is read. */
import { Codec } from "../../src/codec/codec.ts";
import type { Archive } from "../../src/archive/archive.ts";
import { putChunk, putPartial } from "../../src/archive/wal/objects.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { type SegmentNumber, type TimelineId, addBytes, segmentStart } from "../../src/wal/lsn.ts";

export const SIZE = 1 << 20;
/** Begins at 0/500000. */
export const place = { timeline: 1 as TimelineId, segment: 5 as SegmentNumber, segmentSize: SIZE };

export function newArchive(store: Store = new MemoryStore(), segmentSize = SIZE, codec = new Codec()): Archive {
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  return { store, cluster: "main", identity, codec };
}

/** Stores a chunk that ends where a record ends. */
export async function store(archive: Archive, start: number, bytes: string | Uint8Array, at = place): Promise<void> {
  const startLsn = addBytes(segmentStart(at.segment, at.segmentSize), start);
  const endLsn = addBytes(startLsn, bytes.length);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putChunk(archive, at, start, Buffer.from(bytes), facts, { confirm: true });
}

/** Stores a partial that ends where a record ends. */
export async function pushPartial(archive: Archive, content: string): Promise<void> {
  const raw = Buffer.alloc(SIZE);
  raw.write(content);
  const startLsn = segmentStart(place.segment, SIZE);
  const endLsn = addBytes(startLsn, content.length);
  await putPartial(archive, place, raw, { startLsn, endLsn, verifiedLsn: endLsn }, { confirm: true });
}
