/** A chunk of more than 8 MiB takes the place of an encoded segment, so that both together stay within the receiver's memory. */
import { afterAll, expect, it } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { Codec } from "../../src/codec/codec.ts";
import { sharedOrOwn } from "../../src/codec/pool.ts";
import { silentLog } from "../../src/log.ts";
import { OpenSegment } from "../../src/receive/assembler.ts";
import { Ledger } from "../../src/receive/ledger.ts";
import { Retirement } from "../../src/receive/retirement.ts";
import { SegmentBufferPool } from "../../src/receive/segment-buffer.ts";
import { Shipper } from "../../src/receive/shipper.ts";
import type { PutOptions, PutResult } from "../../src/store/store.ts";
import { addBytes, type Lsn, lsnOf, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { SYSTEM_ID } from "../wal/wal-writer.ts";

const MIB = 1 << 20;
/** Segments of 32 MiB: by default two are received at once, and one is on its way to the store. */
const SEGMENT_SIZE = 32 * MIB;
const START = lsnOf(BigInt(SEGMENT_SIZE));

/** Holds each PUT until it is let go. */
class HeldStore extends MemoryStore {
  readonly held = new Map<string, () => void>();

  override async put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    await new Promise<void>((resolve) => this.held.set(key, resolve));
    this.held.delete(key);
    return super.put(key, body, options);
  }

  get kinds(): readonly (string | undefined)[] {
    return [...this.held.keys()].map((key) => key.split("/")[1]);
  }
}

const codec = new Codec({ level: 1, ...sharedOrOwn(undefined, { threads: 1 }) });
afterAll(async () => codec.close());

const never = new AbortController().signal;

function rig() {
  const store = new HeldStore();
  const identity = {
    systemIdentifier: SYSTEM_ID,
    segmentSize: SEGMENT_SIZE,
    pgMajor: 15,
    createdAt: "2026-01-01T00:00:00.000Z",
  };
  const archive: Archive = { store, cluster: "main", identity, codec };
  const pool = new SegmentBufferPool(SEGMENT_SIZE, { bufferBytesMax: 64 * MIB, bufferSegments: 4 });
  const shipper = new Shipper({
    archive,
    pool,
    ledger: new Ledger({ contiguous: START, stored: START }),
    retirement: new Retirement(store, silentLog),
    log: silentLog,
    nowMs: () => 0,
    signal: never,
    shipIntervalMs: 0,
    chunksInFlightMax: 2,
    confirmChunks: false,
    unanchored: false,
    floorLsn: START,
    observer: { stored: () => undefined, kept: () => undefined, sealed: () => undefined, chunk: () => undefined },
  });
  const open = async (startLsn: Lsn): Promise<OpenSegment> => {
    const place = { timeline: timelineOf(1), segment: segmentOf(startLsn, SEGMENT_SIZE), segmentSize: SEGMENT_SIZE };
    const segment = new OpenSegment(place, await pool.acquire(never), undefined);
    shipper.begin(segment);
    return segment;
  };
  /** The segment receives WAL, and all that it has is verified. */
  const receive = (segment: OpenSegment, bytes: number): void => {
    segment.append(new Uint8Array(bytes));
    segment.verifiedTo(addBytes(segment.startLsn, segment.received));
    if (!segment.full) return shipper.advance(segment);
    const verifiedLsn = addBytes(segment.startLsn, SEGMENT_SIZE);
    shipper.seal(segment, { verifiedLsn });
  };
  return { store, shipper, open, receive };
}

/** The pool has one thread: objects that were begun before this call are encoded, and their PUTs have come. */
async function encodedBefore(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  const own = await codec.encode(new Uint8Array(new SharedArrayBuffer(MIB)), { kind: "segment" });
  own.release?.();
}

it("a large chunk waits until the segment before it is stored, a small one does not", async () => {
  const { store, shipper, open, receive } = rig();
  receive(await open(START), SEGMENT_SIZE);
  await expect.poll(() => store.kinds).toEqual(["wal"]);
  const second = await open(addBytes(START, SEGMENT_SIZE));
  receive(second, MIB);
  await expect.poll(() => store.kinds).toEqual(["wal", "tail"]);
  for (const [key, letGo] of [...store.held]) if (key.includes("tail")) letGo();
  await expect.poll(() => store.kinds).toEqual(["wal"]);
  receive(second, 9 * MIB);
  shipper.hurry();
  await encodedBefore();
  expect(store.kinds).toEqual(["wal"]);
  for (const letGo of store.held.values()) letGo();
  await expect.poll(() => store.kinds).toEqual(["tail"]);
  for (const letGo of store.held.values()) letGo();
  await shipper.close();
});

it("a large chunk that waits is dropped when its own segment is complete", async () => {
  const { store, shipper, open, receive } = rig();
  receive(await open(START), SEGMENT_SIZE);
  await expect.poll(() => store.kinds).toEqual(["wal"]);
  const second = await open(addBytes(START, SEGMENT_SIZE));
  receive(second, 9 * MIB);
  shipper.hurry();
  await encodedBefore();
  receive(second, SEGMENT_SIZE - 9 * MIB);
  const seen: (string | undefined)[] = [];
  for (let i = 0; i < 2; i++) {
    await expect.poll(() => store.held.size).toBe(1);
    seen.push(...store.kinds);
    for (const letGo of store.held.values()) letGo();
    await expect.poll(() => store.held.size === 0 || i === 0).toBe(true);
  }
  expect(await shipper.drain(never)).toBe(true);
  expect(seen).toEqual(["wal", "wal"]);
  expect(store.held.size).toBe(0);
  await shipper.close();
});
