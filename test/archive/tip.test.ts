/** Where a receiver resumes, as a table over what the store lists. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import type { Gap } from "../../src/archive/documents.ts";
import { carryInto, resumeSegment, segmentsPastHoleMax } from "../../src/archive/wal/tip.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { formatLsn, type Lsn, type SegmentNumber, type TimelineId, segmentStart } from "../../src/wal/lsn.ts";

const SIZE = 1 << 20;
const numbers = (...list: number[]): SegmentNumber[] => list as SegmentNumber[];
const gap = (fromOffset: number, from: number, to: number): Gap => ({
  timeline: 1 as TimelineId,
  fromLsn: (segmentStart(from as SegmentNumber, SIZE) + BigInt(fromOffset)) as Lsn,
  toLsn: segmentStart(to as SegmentNumber, SIZE),
  detectedAt: "2026-01-01T00:00:00Z",
  reason: "test",
});

describe("the segment to resume in", () => {
  test.each<{
    name: string;
    sealed?: number[];
    tails?: number[];
    partials?: number[];
    gaps?: Gap[];
    resume: number | undefined;
  }>([
    { name: "nothing is stored", resume: undefined },
    { name: "only the first open segment's tail", tails: [7], resume: 7 },
    { name: "behind the last sealed one", sealed: [5, 6, 7], resume: 8 },
    { name: "the open one with a tail", sealed: [5, 6], tails: [7], resume: 7 },
    { name: "leftover chunks of a sealed one do not matter", sealed: [5, 6], tails: [5, 6], resume: 7 },
    { name: "a hole that parallel seals left", sealed: [5, 7, 8], tails: [6, 9], resume: 6 },
    { name: "a finished timeline", sealed: [5, 6], partials: [7], resume: 7 },
    { name: "behind a recorded gap", sealed: [5, 10, 11], gaps: [gap(0, 6, 10)], resume: 12 },
    {
      name: "behind a gap that began inside a segment with a tail",
      sealed: [5],
      tails: [6],
      gaps: [gap(100, 6, 9)],
      resume: 9,
    },
    { name: "behind the gap with which a timeline begins", gaps: [gap(100, 6, 9)], resume: 9 },
    { name: "behind the last of two gaps with no WAL between them", gaps: [gap(100, 6, 9), gap(0, 9, 12)], resume: 12 },
    { name: "the open segment behind a timeline's first gap", tails: [9], gaps: [gap(100, 6, 9)], resume: 9 },
    { name: "before a gap that begins later", sealed: [5, 10], gaps: [gap(0, 8, 10)], resume: 6 },
    {
      name: "behind the segment in which a gap ends, though no gap should end inside one",
      sealed: [5],
      gaps: [{ ...gap(0, 6, 9), toLsn: (segmentStart(9 as SegmentNumber, SIZE) + 100n) as Lsn }],
      resume: 10,
    },
    { name: "a hole after a gap", sealed: [5, 10, 12], gaps: [gap(0, 6, 10)], resume: 11 },
  ])("$name", ({ sealed = [], tails = [], partials = [], gaps = [], resume }) => {
    const listing = { sealed: numbers(...sealed), tails: numbers(...tails), partials: numbers(...partials) };
    expect(resumeSegment(listing, gaps, SIZE)).toBe(resume);
  });
});

test.each([
  { mib: 1, most: 64 },
  { mib: 16, most: 64 },
  { mib: 64, most: 63 },
  { mib: 1024, most: 3 },
])("past a hole lie at most $most segments of $mib MiB", ({ mib, most }) => {
  expect(segmentsPastHoleMax(mib << 20)).toBe(most);
});

describe("what the verifier must know to begin at a segment", () => {
  const start = (segment: number): Lsn => segmentStart(segment as SegmentNumber, SIZE);
  const one = { timeline: 1 as TimelineId, entries: [] };
  const two = {
    timeline: 2 as TimelineId,
    entries: [{ timeline: 1 as TimelineId, switchLsn: (start(2) + 0x8000n) as Lsn, reason: "" }],
  };

  /** A sealed segment whose carry names its timeline in `magic`. */
  async function seal(archive: Archive, timeline: number, segment: number): Promise<void> {
    const place = { timeline: timeline as TimelineId, segment: segment as SegmentNumber, segmentSize: SIZE };
    const [startLsn, endLsn] = [start(segment), start(segment + 1)];
    const carry = { at: formatLsn(endLsn), magic: timeline, verifiedLsn: formatLsn(endLsn) };
    const facts = { startLsn, endLsn, verifiedLsn: endLsn, carry };
    await putSegment(archive, place, new Uint8Array(SIZE), facts, { confirm: false });
  }

  test.each<{ name: string; sealed: [number, number][]; history: typeof two; segment: number; from?: number }>([
    { name: "nothing at the first segment of all WAL", sealed: [[1, 0]], history: one, segment: 0 },
    { name: "nothing when the segment before is not stored", sealed: [[1, 0]], history: one, segment: 2 },
    { name: "what the first segment says, at the second", sealed: [[1, 0]], history: one, segment: 1, from: 1 },
    { name: "what the segment before says", sealed: [[1, 4]], history: one, segment: 5, from: 1 },
    {
      name: "the parent's, where the segment before is the parent's",
      sealed: [
        [1, 1],
        [2, 1],
      ],
      history: two,
      segment: 2,
      from: 1,
    },
    {
      name: "its own, where the switch point lies in the segment before",
      sealed: [
        [1, 2],
        [2, 2],
      ],
      history: two,
      segment: 3,
      from: 2,
    },
  ])("$name", async ({ sealed, history, segment, from }) => {
    const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00Z" };
    const archive = { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
    for (const [timeline, number] of sealed) await seal(archive, timeline, number);
    const carry = await carryInto(archive, history, segment as SegmentNumber);
    expect(carry?.magic).toBe(from);
  });
});
