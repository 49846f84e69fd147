/** Holes: what the objects behind one say of it, and which of a path's barriers end the archive. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { type Behind, callWitnesses, findOpenHole, judgeHole } from "../../src/archive/wal/holes.ts";
import type { Barrier, WalPiece } from "../../src/archive/wal/path.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, type SegmentNumber, type TimelineId, timelineOf } from "../../src/wal/lsn.ts";
import { putChunkWithDigest, putPartialWithDigest } from "./tail-archive.ts";

const SIZE = 1 << 20;
const at = (segment: number, offset = 0): Lsn => BigInt(segment * SIZE + offset) as Lsn;
const number = (segment: number): SegmentNumber => segment as SegmentNumber;
const one = timelineOf(1);
const two = timelineOf(2);
const options = {
  confirm: false,
};

function newArchive(): Archive {
  const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
  return { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
}

const place = (segment: number, timeline: TimelineId = one) => ({
  ...{ timeline, segment: number(segment), segmentSize: SIZE },
});

async function seal(archive: Archive, segment: number, contiguousLsn?: Lsn, timeline = one): Promise<void> {
  const facts = { startLsn: at(segment), endLsn: at(segment + 1), verifiedLsn: at(segment + 1), contiguousLsn };
  await putSegment(archive, place(segment, timeline), new Uint8Array(SIZE), facts, options);
}

async function chunk(
  archive: Archive,
  segment: number,
  start: number,
  end: number,
  contiguousLsn?: Lsn,
): Promise<void> {
  const facts = {
    startLsn: at(segment, start),
    endLsn: at(segment, end),
    verifiedLsn: at(segment, end),
    contiguousLsn,
  };
  await putChunkWithDigest(archive, place(segment), start, new Uint8Array(end - start), facts, options);
}

async function partial(archive: Archive, segment: number): Promise<void> {
  const facts = { startLsn: at(segment), endLsn: at(segment, 8), verifiedLsn: at(segment, 8) };
  await putPartialWithDigest(archive, place(segment), new Uint8Array(SIZE), facts, options);
}

describe("WAL missing from segment 3 on", () => {
  test.each<{ name: string; said: [endLsn: Lsn, contiguousLsn: Lsn | undefined][]; isFar?: boolean; is: Behind }>([
    { name: "nothing is stored", said: [], is: "nothing" },
    {
      name: "nothing is stored behind it",
      said: [
        [at(2), at(9)],
        [at(3), undefined],
      ],
      is: "nothing",
    },
    {
      name: "what is behind it was stored while it was missing",
      said: [
        [at(4), at(3)],
        [at(5), at(2)],
      ],
      is: "unacknowledged",
    },
    { name: "the first byte behind it counts", said: [[at(3, 1), at(3)]], is: "unacknowledged" },
    {
      name: "one object was made when a byte of it was durable",
      said: [
        [at(4), at(3)],
        [at(5), at(3, 1)],
      ],
      is: "acknowledged",
    },
    {
      name: "one object does not say",
      said: [
        [at(4), at(3)],
        [at(5), undefined],
      ],
      is: "acknowledged",
    },
    {
      name: "an object before it says more, which does not matter",
      said: [
        [at(3), at(9)],
        [at(4), at(3)],
      ],
      is: "unacknowledged",
    },
    { name: "the archive goes on far behind it", said: [], isFar: true, is: "acknowledged" },
  ])("$name: $is", ({ said, isFar = false, is }) => {
    const witnesses = said.map(([endLsn, contiguousLsn]) => ({ endLsn, contiguousLsn }));
    expect(judgeHole({ said: witnesses, isFar }, at(3))).toBe(is);
  });
});

describe("witnesses from segment 3 on", () => {
  const spot = { timeline: one, segment: number(3) };

  test("are sealed segments from it on, and the last chunk of each open one", async () => {
    const archive = newArchive();
    await seal(archive, 2, at(2));
    await seal(archive, 3, at(3));
    await seal(archive, 5, at(3, 7));
    await chunk(archive, 2, 0, 8, at(2, 1));
    await chunk(archive, 6, 0, 8, at(3, 8));
    await chunk(archive, 6, 8, 16, at(3, 9));
    expect(await callWitnesses(archive, spot)).toEqual({
      said: [
        { endLsn: at(4), contiguousLsn: at(3) },
        { endLsn: at(6), contiguousLsn: at(3, 7) },
        { endLsn: at(6, 16), contiguousLsn: at(3, 9) },
      ],
      isFar: false,
    });
  });

  test("are chunks of the very segment in which WAL is missing", async () => {
    const archive = newArchive();
    await chunk(archive, 3, 0, 8, at(3, 1));
    expect((await callWitnesses(archive, spot)).said).toEqual([{ endLsn: at(3, 8), contiguousLsn: at(3, 1) }]);
  });

  test("are both chunks that end last: two writers may have made them", async () => {
    const archive = newArchive();
    await chunk(archive, 4, 0, 16, at(3, 1));
    await chunk(archive, 4, 8, 16, at(3, 2));
    const { said } = await callWitnesses(archive, spot);
    expect(said).toEqual([
      { endLsn: at(4, 16), contiguousLsn: at(3, 1) },
      { endLsn: at(4, 16), contiguousLsn: at(3, 2) },
    ]);
  });

  test("a partial behind it says that all before was stored; its own partial says nothing", async () => {
    const archive = newArchive();
    await partial(archive, 3);
    expect(await callWitnesses(archive, spot)).toEqual({ said: [], isFar: false });
    await partial(archive, 4);
    expect(await callWitnesses(archive, spot)).toEqual({
      ...{ said: [{ endLsn: at(5), contiguousLsn: undefined }], isFar: false },
    });
  });

  test.each([
    [67, false],
    [68, true],
  ])("with segment %i sealed, the archive goes on far behind it: %s", async (segment, isFar) => {
    const archive = newArchive();
    await seal(archive, segment, at(3));
    expect((await callWitnesses(archive, spot)).isFar).toBe(isFar);
  });

  test("nothing at all is stored", async () => {
    expect(await callWitnesses(newArchive(), spot)).toEqual({ said: [], isFar: false });
  });
});

describe("the archive of a timeline ends at a hole", () => {
  const segments = (first: number, last: number, timeline = one): WalPiece => ({
    ...{ timeline, kind: "segment", first: number(first), last: number(last), length: SIZE },
  });
  const tail = (segment: number, length: number): WalPiece => ({
    ...{ timeline: one, kind: "tail", first: number(segment), last: number(segment), length },
  });
  const ended = (segment: number): WalPiece => ({ ...segments(segment, segment), kind: "partial" });
  const missing = (fromLsn: Lsn, toLsn: Lsn, isRecorded = false): Barrier => ({
    ...{ fromLsn, toLsn, reason: "missing", isRecorded },
  });
  const HOLE = missing(at(3), at(4));

  test.each<{
    name: string;
    stored: (archive: Archive) => Promise<void>;
    pieces: WalPiece[];
    barriers?: Barrier[];
    timeline?: TimelineId;
    end: Lsn | undefined;
  }>([
    {
      name: "behind which all was stored while it was missing",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await seal(archive, 5, at(2));
      },
      pieces: [segments(1, 2), segments(4, 5)],
      end: at(3),
    },
    {
      name: "but not where the last of several segments knew that it was durable",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await seal(archive, 5, at(3));
        await seal(archive, 6, at(4));
      },
      pieces: [segments(1, 2), segments(4, 6)],
      end: undefined,
    },
    {
      name: "but not at one that was recorded as lost",
      stored: async (archive) => seal(archive, 4, at(3)),
      pieces: [segments(1, 2), segments(4, 4)],
      barriers: [missing(at(3), at(4), true)],
      end: undefined,
    },
    {
      name: "but not at one so old that no receiver could run ahead so far",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await chunk(archive, 68, 0, 8, at(3));
      },
      pieces: [segments(1, 2), segments(4, 4), tail(68, 8)],
      end: undefined,
    },
    {
      name: "also the furthest that a receiver runs ahead",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await chunk(archive, 67, 0, 8, at(3));
      },
      pieces: [segments(1, 2), segments(4, 4), tail(67, 8)],
      end: at(3),
    },
    {
      name: "but not at one behind which another timeline goes on: its parent was stored whole",
      stored: async (archive) => seal(archive, 4, at(3), two),
      pieces: [segments(1, 2), segments(4, 4, two)],
      end: undefined,
    },
    {
      name: "but not at one of an ancestor",
      stored: async (archive) => seal(archive, 4, at(3)),
      pieces: [segments(1, 2), segments(4, 4)],
      timeline: two,
      end: undefined,
    },
    { name: "but not where nothing follows", stored: async () => undefined, pieces: [segments(1, 2)], end: undefined },
    {
      name: "of which the tail behind it says so",
      stored: async (archive) => chunk(archive, 4, 0, 8, at(3)),
      pieces: [segments(1, 2), tail(4, 8)],
      end: at(3),
    },
    {
      name: "whatever chunks say that came after the path was listed",
      stored: async (archive) => {
        await chunk(archive, 4, 0, 8, at(3));
        await chunk(archive, 4, 8, 16, at(4, 8));
      },
      pieces: [segments(1, 2), tail(4, 8)],
      end: at(3),
    },
    {
      name: "but not when the tail behind it is gone: it was sealed meanwhile",
      stored: async () => undefined,
      pieces: [segments(1, 2), tail(4, 8)],
      end: undefined,
    },
    {
      name: "but not when a partial lies behind it: a timeline ends after all of it was stored",
      stored: async (archive) => {
        await partial(archive, 4);
      },
      pieces: [segments(1, 2), ended(4)],
      end: undefined,
    },
    {
      name: "but not when a partial lies behind what was stored while it was missing",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await partial(archive, 5);
      },
      pieces: [segments(1, 2), segments(4, 4), ended(5)],
      end: undefined,
    },
    {
      name: "but not when a tail behind what was stored while it was missing is gone",
      stored: async (archive) => seal(archive, 4, at(3)),
      pieces: [segments(1, 2), segments(4, 4), tail(5, 8)],
      end: undefined,
    },
    {
      name: "but not when a segment behind it is gone",
      stored: async (archive) => seal(archive, 4, at(3)),
      pieces: [segments(1, 2), segments(4, 5)],
      end: undefined,
    },
    {
      name: "that begins inside a segment",
      stored: async (archive) => seal(archive, 4, at(3, 8)),
      pieces: [segments(1, 2), tail(3, 8), segments(4, 4)],
      barriers: [missing(at(3, 8), at(4))],
      end: at(3, 8),
    },
    {
      name: "the second, when the first is recorded",
      stored: async (archive) => {
        await seal(archive, 4, at(4));
        await seal(archive, 6, at(5));
      },
      pieces: [segments(1, 2), segments(4, 4), segments(6, 6)],
      barriers: [missing(at(3), at(4), true), missing(at(5), at(6))],
      end: at(5),
    },
    {
      name: "the first of two",
      stored: async (archive) => {
        await seal(archive, 4, at(3));
        await seal(archive, 6, at(3));
      },
      pieces: [segments(1, 2), segments(4, 4), segments(6, 6)],
      barriers: [HOLE, missing(at(5), at(6))],
      end: at(3),
    },
    {
      name: "but not when the objects do not say how far WAL was durable",
      stored: async (archive) => seal(archive, 4),
      pieces: [segments(1, 2), segments(4, 4)],
      end: undefined,
    },
    { name: "but not on a path without one", stored: async () => undefined, pieces: [], barriers: [], end: undefined },
  ])("$name", async ({ stored, pieces, barriers = [HOLE], timeline = one, end }) => {
    const archive = newArchive();
    await stored(archive);
    expect(await findOpenHole(archive, { history: { timeline, entries: [] }, pieces, barriers })).toBe(end);
  });
});
