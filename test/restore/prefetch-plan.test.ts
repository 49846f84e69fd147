/** What is fetched ahead of recovery, and what is thrown away, as a table. */
import { describe, expect, test } from "vitest";
import { fetchesAtOnce, planPrefetch, positionAfter, segmentsWithin } from "../../src/restore/fetch/prefetch-plan.ts";
import { type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";

const MIB = 1 << 20;
const position = { timeline: timelineOf(2), segment: 10 as SegmentNumber };
const set = (...segments: number[]): Set<SegmentNumber> => new Set(segments as SegmentNumber[]);

describe("behind segment 10", () => {
  test.each<{ name: string; have: number[]; missing?: number; most?: number; fetch?: number; remove?: number[] }>([
    { name: "the next one", have: [], fetch: 11 },
    { name: "the first that is not there", have: [11, 13], fetch: 12 },
    { name: "the last that may wait", have: [11, 12, 13], fetch: 14 },
    { name: "nothing when all that may wait are there", have: [11, 12, 13, 14] },
    { name: "nothing when none may wait", have: [], most: 0 },
    { name: "nothing behind one that the archive does not have", have: [11], missing: 12 },
    { name: "what lies before one that it does not have", have: [11], missing: 13, fetch: 12 },
    { name: "up to the last, when a later one is missing", have: [11, 12, 13], missing: 15, fetch: 14 },
    { name: "no further, when a much later one is missing", have: [11, 12, 13, 14], missing: 99 },
    { name: "what recovery has passed goes", have: [9, 10, 11], fetch: 12, remove: [9, 10] },
    { name: "what lies too far ahead goes, the last that may wait does not", have: [14, 15], fetch: 11, remove: [15] },
  ])("$name", ({ have, missing, most = 4, fetch, remove = [] }) => {
    const state = { position, have: set(...have), missing: missing as SegmentNumber | undefined, segmentsMax: most };
    expect(planPrefetch(state)).toEqual({ fetch, remove });
  });
});

test.each<[string, number[], number]>([
  ["stays when nothing was taken", [], 10],
  ["moves to what was taken", [11], 11],
  ["moves to the last of several", [12, 13, 11], 13],
  ["does not go back", [8, 9], 10],
])("the position %s", (_, taken, segment) => {
  expect(positionAfter(position, taken as SegmentNumber[])).toEqual({ timeline: 2, segment });
});

test.each([
  [1024 * MIB, 16 * MIB, 64],
  [1008 * MIB, 16 * MIB, 63],
  [1007 * MIB, 16 * MIB, 62],
  [16 * MIB, 16 * MIB, 1],
  [16 * MIB - 1, 16 * MIB, 0],
  [1040 * MIB, 16 * MIB, 64],
])("in %i bytes with segments of %i at most %i may wait", (bytes, size, most) => {
  expect(segmentsWithin(bytes, size)).toBe(most);
});

test.each([
  [1 * MIB, 4],
  [16 * MIB, 4],
  [17 * MIB, 3],
  [32 * MIB, 2],
  [64 * MIB, 1],
  [1024 * MIB, 1],
])("of segments of %i bytes %i are fetched at once", (size, count) => {
  expect(fetchesAtOnce(size)).toBe(count);
});
