/** How far WAL is stored without a hole: over sealed segments, tails, partials and gaps. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { gapKey } from "../../src/archive/keys.ts";
import { isInGap, storedFrom } from "../../src/archive/wal/reach.ts";
import type { WalFacts } from "../../src/archive/wal/objects.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import {
  addBytes,
  formatLsn,
  type Lsn,
  parseLsn,
  type SegmentNumber,
  segmentStart,
  timelineOf,
} from "../../src/wal/lsn.ts";
import { seal, SEGMENT_SIZE, smallArchive } from "../restore/recovering.ts";
import { putChunkWithDigest, putPartialWithDigest } from "./tail-archive.ts";

const options = { confirm: false };
const place = (segment: number, timeline: number) => ({
  timeline: timelineOf(timeline),
  segment: segment as SegmentNumber,
  segmentSize: SEGMENT_SIZE,
});
const at = (segment: number, offset = 0): Lsn => addBytes(segmentStart(segment as SegmentNumber, SEGMENT_SIZE), offset);
/** WAL from the segment's start up to `end` bytes in, its last record complete at `verified`. */
const facts = (segment: number, end: number, verified: number): WalFacts => ({
  startLsn: at(segment),
  endLsn: at(segment, end),
  verifiedLsn: at(segment, verified),
});

async function tail(archive: Archive, segment: number, end: number, verified: number, timeline = 1): Promise<void> {
  await putChunkWithDigest(
    archive,
    place(segment, timeline),
    0,
    Buffer.alloc(end),
    facts(segment, end, verified),
    options,
  );
}

async function partial(archive: Archive, segment: number, end: number, timeline = 1): Promise<void> {
  await putPartialWithDigest(
    archive,
    place(segment, timeline),
    Buffer.alloc(SEGMENT_SIZE),
    facts(segment, end, end),
    options,
  );
}

const cases: {
  title: string;
  stored: (archive: Archive) => Promise<void>;
  from: string;
  to: string;
  reached: string;
  timeline?: number;
}[] = [
  { title: "nothing", stored: async () => undefined, from: "0/200028", to: "0/400000", reached: "0/200028" },
  {
    title: "sealed segments up to the one that is missing",
    stored: async (archive) => {
      for (const segment of [2, 3, 5]) await seal(archive, segment);
    },
    from: "0/200028",
    to: "0/600000",
    reached: "0/400000",
  },
  {
    title: "to the end of the segment in which that lies, and no further",
    stored: async (archive) => {
      for (const segment of [2, 3, 4]) await seal(archive, segment);
    },
    from: "0/200028",
    to: "0/380000",
    reached: "0/400000",
  },
  {
    title: "what is already reached, when nothing is asked for",
    stored: async () => undefined,
    from: "0/200028",
    to: "0/200028",
    reached: "0/200028",
  },
  {
    title: "into the tail behind them, as far as its records are complete",
    stored: async (archive) => {
      await seal(archive, 2);
      await tail(archive, 3, 0x8000, 0x7000);
    },
    from: "0/200028",
    to: "0/400000",
    reached: "0/307000",
  },
  {
    title: "to the end of WAL in a partial, not to the end of its zeros",
    stored: async (archive) => {
      await seal(archive, 2);
      await partial(archive, 3, 0x9000);
    },
    from: "0/200028",
    to: "0/400000",
    reached: "0/309000",
  },
  {
    title: "never back, when the tail has not got as far as the point itself",
    stored: async (archive) => tail(archive, 2, 0x8000, 0x7000),
    from: "0/207800",
    to: "0/400000",
    reached: "0/207800",
  },
  {
    title: "nothing of another timeline",
    stored: async (archive) => {
      await seal(archive, 2);
      await seal(archive, 3, 2);
      await tail(archive, 3, 0x8000, 0x8000, 2);
    },
    from: "0/200028",
    to: "0/400000",
    reached: "0/300000",
  },
];
test.each(cases)("is reached: $title", async ({ stored, from, to, reached, timeline = 1 }) => {
  const store = new MemoryStore();
  const archive = await smallArchive(store);
  await stored(archive);
  const range = { from: parseLsn(from), to: parseLsn(to) };
  expect(formatLsn(await storedFrom(archive, timelineOf(timeline), range))).toBe(reached);
});

test("asking again from what was reached goes on over what has come meanwhile", async () => {
  const archive = await smallArchive(new MemoryStore());
  const range = { from: at(2, 0x28), to: at(5, 0x100) };
  const timeline = timelineOf(1);
  await tail(archive, 2, 0x8000, 0x7000);
  const first = await storedFrom(archive, timeline, range);
  expect(first).toBe(at(2, 0x7000));
  for (const segment of [2, 3, 4]) await seal(archive, segment);
  const second = await storedFrom(archive, timeline, { ...range, from: first });
  expect(second).toBe(at(5));
  await tail(archive, 5, 0x200, 0x200);
  expect(await storedFrom(archive, timeline, { ...range, from: second })).toBe(at(5, 0x200));
});

describe("WAL that is known to be lost", () => {
  // Segments 4 and 5, from the middle of the first.
  const gap = { from: "0/480000", to: "0/600000" };
  const rows: { title: string; from: string; to: string; timeline?: number; lost: boolean }[] = [
    { title: "is lost within the gap", from: "0/500000", to: "0/500100", lost: true },
    {
      title: "is lost when the gap begins before the end of what is wanted",
      from: "0/200000",
      to: "0/480001",
      lost: true,
    },
    { title: "is there up to where the gap begins", from: "0/200000", to: "0/480000", lost: false },
    { title: "is there from where the gap ends", from: "0/600000", to: "0/700000", lost: false },
    { title: "is lost up to there, though in the gap's last segment", from: "0/5FFFFF", to: "0/700000", lost: true },
    { title: "is there on another timeline", from: "0/500000", to: "0/500100", timeline: 2, lost: false },
  ];
  test.each(rows)("$title", async ({ from, to, timeline = 1, lost }) => {
    const store = new MemoryStore();
    const archive = await smallArchive(store);
    const document = {
      timeline: timelineOf(1),
      fromLsn: parseLsn(gap.from),
      toLsn: parseLsn(gap.to),
      detectedAt: "2026-01-01T00:00:00.000Z",
      reason: "slot lost",
    };
    await store.put(gapKey("main", document.timeline, document.fromLsn, document.toLsn), encodeGap(document));
    const range = { from: parseLsn(from), to: parseLsn(to) };
    expect(await isInGap(archive, timelineOf(timeline), range)).toBe(lost);
  });
});
