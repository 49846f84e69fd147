/** Where a receiver resumes, as a table over what the store lists. */
import { describe, expect, test } from "vitest";
import type { Gap } from "../../src/archive/documents.ts";
import { resumeSegment, segmentsPastHoleMax } from "../../src/archive/tip.ts";
import { type Lsn, type SegmentNumber, type TimelineId, segmentStart } from "../../src/wal/lsn.ts";

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
