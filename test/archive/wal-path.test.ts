/** The path of a recovery, as tables: which objects it reads, where it cannot pass, and where it is cut. Segments of 1 MiB. */
import { describe, expect, test } from "vitest";
import type { Gap } from "../../src/archive/documents.ts";
import {
  type Barrier,
  cutPath,
  firstBarrier,
  itemBefore,
  itemsBack,
  itemsFrom,
  stretchesOf,
  type WalItem,
  walPath,
  type WalPath,
} from "../../src/archive/wal/path.ts";
import type { WalInventory } from "../../src/archive/wal/inventory.ts";
import { type Lsn, type SegmentNumber, type TimelineId, timelineOf } from "../../src/wal/lsn.ts";

const SIZE = 1 << 20;
const at = (segment: number, offset = 0): Lsn => BigInt(segment * SIZE + offset) as Lsn;
const left = (timeline: number, switchLsn: Lsn) => ({ timeline: timeline as TimelineId, switchLsn, reason: "" });
const one = { timeline: 1 as TimelineId, entries: [] };
/** Timeline 2 left 1 in the middle of segment 4; 3 left 2 at the start of segment 7. */
const two = { timeline: 2 as TimelineId, entries: [left(1, at(4, 100))] };
const three = { timeline: 3 as TimelineId, entries: [left(1, at(4, 100)), left(2, at(7))] };

/** Timeline 2 left 1 at the end of segment 4. */
const border = { timeline: 2 as TimelineId, entries: [left(1, at(5))] };

type Stored = Pick<WalInventory, "runs" | "partials" | "tails" | "gaps">;

/** `1:2-5` is a run, `1:6+100` a tail of 100 bytes, `1:6p` a partial, `1:2.8-4.0` a gap from 8 bytes into segment 2 to 4. */
function stored(text: string): Stored {
  const found = { runs: [], partials: [], tails: [], gaps: [] } as { [K in keyof Stored]: Stored[K][number][] };
  const segment = (digits: string | undefined): SegmentNumber => Number(digits) as SegmentNumber;
  for (const word of text.split(" ").filter((part) => part !== "")) {
    const [, tli = "", rest = ""] = /^(\d+):(.*)$/.exec(word) ?? [];
    const timeline = timelineOf(Number(tli));
    const gap = /^(\d+)\.(\d+)-(\d+)\.(\d+)$/.exec(rest);
    const [first, last] = rest.split(/[-+p]/);
    if (gap !== null) {
      const [, from, fromOffset, to, toOffset] = gap.map(Number) as [number, number, number, number, number];
      found.gaps.push({
        timeline,
        fromLsn: at(from, fromOffset),
        toLsn: at(to, toOffset),
        detectedAt: "",
        reason: "lost",
      });
    } else if (rest.includes("+"))
      found.tails.push({ timeline, segment: segment(first), length: Number(last), storedBytes: 1 });
    else if (rest.includes("p")) found.partials.push({ timeline, segment: segment(first) });
    else found.runs.push({ timeline, first: segment(first), last: segment(last), storedBytes: 1 });
  }
  return found;
}

const pathOf = (text: string, history: WalPath["history"], from?: number): WalPath =>
  walPath(stored(text), { history, from: from as SegmentNumber | undefined, segmentSize: SIZE });
const place = (lsn: Lsn): string => `${lsn / BigInt(SIZE)}.${lsn % BigInt(SIZE)}`;
const barriersOf = ({ barriers }: { readonly barriers: readonly Barrier[] }): string =>
  barriers
    .map(({ fromLsn, toLsn, isRecorded }) => `${place(fromLsn)}-${place(toLsn)}${isRecorded ? " lost" : ""}`)
    .join(" ");
const piecesOf = ({ pieces }: WalPath): string =>
  pieces
    .map(
      ({ timeline, kind, first, last, length }) =>
        `${timeline}:${first}-${last}${kind === "segment" ? "" : ` ${kind} ${length}`}`,
    )
    .join(", ");

describe("recovery reads", () => {
  test.each<{ name: string; text: string; history?: WalPath["history"]; from?: number; pieces: string }>([
    { name: "nothing of an empty archive", text: "", pieces: "" },
    { name: "sealed segments and the tail behind them", text: "1:2-5 1:6+100", pieces: "1:2-5, 1:6-6 tail 100" },
    { name: "no WAL of another timeline", text: "1:2-5 2:4-6", pieces: "1:2-5" },
    {
      name: "a sealed segment rather than its chunks and its partial",
      text: "1:2-5 1:5+100 1:5p 1:2p",
      pieces: "1:2-5",
    },
    { name: "a partial where neither is stored", text: "1:2-5 1:6p", pieces: "1:2-5, 1:6-6 partial 1048576" },
    { name: "from the segment that is asked for", text: "1:2-5 1:8-9", from: 4, pieces: "1:4-5, 1:8-9" },
    { name: "from the last one of a run", text: "1:2-5", from: 5, pieces: "1:5-5" },
    { name: "nothing before what is asked for", text: "1:2-5 1:3+100 1:2p", from: 6, pieces: "" },
    { name: "in the order of segments", text: "1:8-9 1:2-3 1:5+100", pieces: "1:2-3, 1:5-5 tail 100, 1:8-9" },
    {
      name: "of the segment with a switch point the newer timeline's object",
      text: "1:2-4 2:4-6",
      history: two,
      pieces: "1:2-3, 2:4-6",
    },
    { name: "the older one's where the newer has none", text: "1:2-4 2:5-6", history: two, pieces: "1:2-4, 2:5-6" },
    {
      name: "nothing that the parent has behind the switch point",
      text: "1:2-9 2:5-6",
      history: two,
      pieces: "1:2-4, 2:5-6",
    },
    { name: "nothing that the child has before it", text: "1:2-2 2:2-6", history: two, pieces: "1:2-2, 2:4-6" },
    {
      name: "nothing of the segment behind a switch point at a border",
      text: "2:4-9 3:8-9",
      history: three,
      pieces: "2:4-6, 3:8-9",
    },
    {
      name: "never an older timeline behind a newer one",
      text: "1:2-4 1:4+9 2:4p",
      history: two,
      pieces: "1:2-3, 2:4-4 partial 1048576",
    },
    {
      name: "a newer timeline's object though the parent's tail reaches less far",
      text: "1:2-3 1:4+9 2:4-5",
      history: two,
      pieces: "1:2-3, 2:4-5",
    },
    {
      name: "no timeline that ends before what is asked for",
      text: "1:2-4 2:4-6 3:7-8",
      history: three,
      from: 7,
      pieces: "3:7-8",
    },
    {
      name: "no chunks and no partial that the parent has behind the switch point, where the newer timeline has nothing",
      text: "1:2-4 1:5+100 1:6p",
      history: two,
      pieces: "1:2-4",
    },
    { name: "no run that the parent has behind it", text: "1:2-3 1:5-6", history: two, pieces: "1:2-3" },
    { name: "a run that begins with the last segment before it", text: "1:4-5", history: two, pieces: "1:4-4" },
    {
      name: "the last segment of a timeline, when that is asked for",
      text: "1:2-4 2:5-6",
      history: two,
      from: 4,
      pieces: "1:4-4, 2:5-6",
    },
    {
      name: "nothing of a run that the parent wrote past the switch point, when a later segment is asked for",
      text: "1:2-9 2:5-9",
      history: two,
      from: 6,
      pieces: "2:6-9",
    },
  ])("$name", ({ text, history = one, from, pieces }) => {
    expect(piecesOf(pathOf(text, history, from))).toBe(pieces);
  });
});

describe("recovery cannot pass", () => {
  test.each<{ name: string; text: string; history?: WalPath["history"]; from?: number; barriers: string }>([
    { name: "nowhere, when all is there", text: "1:2-5 1:6+100", barriers: "" },
    { name: "nowhere, where two runs meet", text: "1:2-5 1:6-7", barriers: "" },
    { name: "a hole", text: "1:2-4 1:6-7", barriers: "5.0-6.0" },
    { name: "before the first segment, when an earlier one is asked for", text: "1:3-4", from: 2, barriers: "2.0-3.0" },
    { name: "behind a tail that is not the last", text: "1:2-4 1:5+100 1:6-7", barriers: "5.100-6.0" },
    { name: "a partial that is not the last", text: "1:2-4 1:5p 1:6-7", barriers: "5.0-6.0" },
    { name: "a gap that was recorded, once", text: "1:2-4 1:6-7 1:5.0-6.0", barriers: "5.0-6.0 lost" },
    { name: "a gap that begins behind a tail", text: "1:2-4 1:5+100 1:7-7 1:5.100-7.0", barriers: "5.100-7.0 lost" },
    { name: "what a recorded gap leaves missing", text: "1:2-4 1:7-7 1:5.0-6.0", barriers: "5.0-6.0 lost 5.0-7.0" },
    { name: "what is missing before a recorded gap", text: "1:2-4 1:7-7 1:5.8-7.0", barriers: "5.0-7.0 5.8-7.0 lost" },
    { name: "two gaps that touch", text: "1:2-4 1:7-7 1:5.0-6.0 1:6.0-7.0", barriers: "5.0-6.0 lost 6.0-7.0 lost" },
    {
      name: "two gaps that are listed the other way round",
      text: "1:2-4 1:7-7 1:6.0-7.0 1:5.0-6.0",
      barriers: "5.0-6.0 lost 6.0-7.0 lost",
    },
    { name: "nothing of another timeline's gap", text: "1:2-5 2:3.0-4.0", barriers: "" },
    { name: "a gap of its parent", text: "1:2-4 2:4-6 1:3.0-4.0", history: two, barriers: "3.0-4.0 lost" },
    {
      name: "no gap that its parent has from the switch point on",
      text: "1:2-4 2:4-6 1:4.100-6.0",
      history: two,
      barriers: "",
    },
    {
      name: "a gap that begins a byte before the switch point, where the newer timeline has no such segment",
      text: "1:2-4 2:6-6 1:4.99-6.0",
      history: two,
      barriers: "4.99-6.0 lost",
    },
    {
      name: "a gap of its parent only up to the segment that the newer timeline has whole",
      text: "1:2-2 2:4-6 1:3.0-5.0",
      history: two,
      barriers: "3.0-4.0 lost",
    },
    {
      name: "no gap of its parent inside a segment that the newer timeline has whole",
      text: "1:2-3 2:4-6 1:4.99-5.0",
      history: two,
      barriers: "",
    },
    {
      name: "a gap of its parent to its end, where the newer timeline begins behind it",
      text: "1:2-2 2:5-6 1:3.0-5.0",
      history: two,
      barriers: "3.0-5.0 lost",
    },
    {
      name: "a gap of its parent behind a partial with the end of the parent's timeline",
      text: "1:2-3 1:4p 2:6-6 2:4.100-6.0",
      history: two,
      barriers: "4.100-6.0 lost",
    },
    {
      name: "what is missing behind a partial with the end of its timeline, where the gap begins later",
      text: "1:2-3 1:4p 2:6-6 2:4.101-6.0",
      history: two,
      barriers: "4.0-6.0 4.101-6.0 lost",
    },
    {
      name: "a gap of its parent's end at a border, behind a partial that may be whole",
      text: "1:2-3 1:4p 2:7-7 2:5.0-7.0",
      history: border,
      barriers: "5.0-7.0 lost",
    },
    {
      name: "what is missing behind a partial before its timeline's last segment, where a gap begins in that one",
      text: "1:2-2 1:3p 2:6-6 2:4.100-6.0",
      history: two,
      barriers: "3.0-6.0 4.100-6.0 lost",
    },
    {
      name: "what is missing behind a partial of the newest timeline, where the gap begins later",
      text: "1:2-2 2:4p 2:6-6 2:4.101-6.0 1:3.0-4.0",
      history: two,
      barriers: "3.0-4.0 lost 4.0-6.0 4.101-6.0 lost",
    },
    {
      name: "what is missing behind a tail that ends before its timeline, where the gap begins at the timeline's end",
      text: "1:2-3 1:4+50 2:6-6 2:4.100-6.0",
      history: two,
      barriers: "4.50-6.0 4.100-6.0 lost",
    },
    {
      name: "three gaps in the order of their beginnings, however they are listed",
      text: "1:2-4 1:8-8 1:6.0-7.0 1:7.0-8.0 1:5.0-6.0",
      barriers: "5.0-6.0 lost 6.0-7.0 lost 7.0-8.0 lost",
    },
    {
      name: "what is missing behind a switch point, where the parent's gap begins there",
      text: "1:2-3 1:4+100 2:5-6 1:4.100-5.0",
      history: two,
      barriers: "4.100-5.0",
    },
    {
      name: "no gap of its parent that begins with a segment which the newer timeline has whole",
      text: "1:2-3 2:4-6 1:4.0-5.0",
      history: two,
      barriers: "",
    },
    {
      name: "a gap of its parent, where the newer timeline has nothing yet",
      text: "1:2-2 1:3.0-4.0",
      history: two,
      barriers: "3.0-4.0 lost",
    },
    { name: "nowhere, from one timeline to the next", text: "1:2-3 2:4-6 3:7-8", history: three, barriers: "" },
    { name: "a hole between two timelines", text: "1:2-3 2:5-6 3:7-8", history: three, barriers: "4.0-5.0" },
  ])("$name", ({ text, history = one, from, barriers }) => {
    expect(barriersOf(pathOf(text, history, from))).toBe(barriers);
  });

  test("and the missing segment is named", () => {
    const { barriers } = pathOf("1:2-4 1:6-7", one);
    expect(barriers.map(({ reason }) => reason)).toEqual(["000000010000000000000005 is missing from the archive"]);
    expect(pathOf("1:2-4 1:6-7 1:5.0-6.0", one).barriers[0]?.reason).toBe("recorded as lost: lost");
  });
});

describe("a break, where recovery ends with an error though the WAL is there", () => {
  const breakAt = (timeline: number, segment: number): Gap => ({
    ...{ timeline: timelineOf(timeline), fromLsn: at(segment, 8), toLsn: at(segment, 16), detectedAt: "" },
    reason: "wal_level=minimal",
  });
  const barriersWith = (history: WalPath["history"], text: string, ...breaks: Gap[]) =>
    walPath({ ...stored(text), breaks }, { history, from: undefined, segmentSize: SIZE }).barriers;

  test("is a barrier that is recorded and stored, in its place among the others", () => {
    const barriers = barriersWith(one, "1:2-4 1:6-7", breakAt(1, 7), breakAt(1, 3));
    expect(barriersOf({ barriers })).toBe("3.8-3.16 lost 5.0-6.0 7.8-7.16 lost");
    expect(barriers.map(({ isStored }) => isStored)).toEqual([true, undefined, true]);
    expect(barriers[0]).toEqual({
      ...{ timeline: 1, fromLsn: at(3, 8), toLsn: at(3, 16), reason: "wal_level=minimal" },
      ...{ isRecorded: true, isStored: true },
    });
  });

  test("of another timeline, or behind the switch point, is none", () => {
    expect(barriersWith(one, "1:2-7", breakAt(2, 3))).toEqual([]);
    expect(barriersWith(two, "1:2-4 2:4-7", breakAt(1, 5), breakAt(3, 5))).toEqual([]);
  });
});

describe("a timeline's segments", () => {
  const shown = (history: WalPath["history"]): string =>
    stretchesOf(history, SIZE)
      .map(({ timeline, first, last }) => `${timeline}:${first}-${last === Number.MAX_SAFE_INTEGER ? "" : last}`)
      .join(" ");

  test.each<[name: string, history: WalPath["history"], stretches: string]>([
    ["without ancestors are all", one, "1:0-"],
    ["and its parent's share the one with the switch point", two, "1:0-4 2:4-"],
    ["begin behind a border at which the parent ends", three, "1:0-4 2:4-6 3:7-"],
    ["that was left where it began are none", { ...three, entries: [left(1, at(5)), left(2, at(4))] }, "1:0-3 3:4-"],
    [
      "that was left in the segment where it began are none",
      { ...three, entries: [left(1, at(4, 9)), left(2, at(4, 9))] },
      "1:0-4 3:4-",
    ],
    ["of a parent that ends at the very beginning are none", { ...two, entries: [left(1, at(0))] }, "2:0-"],
  ])("%s", (_, history, stretches) => {
    expect(shown(history)).toBe(stretches);
  });
});

test.each<[lsn: Lsn, pieces: string, barriers: string]>([
  [at(5), "1:2-4", ""],
  [at(5, 1), "1:2-4", "5.0-6.0"],
  [at(6), "1:2-4", "5.0-6.0"],
  [at(6, 1), "1:2-4, 1:6-7", "5.0-6.0"],
])("a path that is cut at %s", (lsn, pieces, barriers) => {
  const cut = cutPath(pathOf("1:2-4 1:6-7", one), lsn);
  expect([piecesOf(cut), barriersOf(cut)]).toEqual([pieces, barriers]);
});

test.each<[from: Lsn, met: string | undefined]>([
  [at(2), "3.0-4.0"],
  [at(3, 9), "3.0-4.0"],
  [(at(4) - 1n) as Lsn, "3.0-4.0"],
  [at(4), "6.0-7.0"],
  [at(7), undefined],
])("the first barrier from %s", (from, met) => {
  const gap = (first: number): Gap & Barrier => ({
    ...{
      timeline: timelineOf(1),
      fromLsn: at(first),
      toLsn: at(first + 1),
      detectedAt: "",
      reason: "",
      isRecorded: false,
    },
  });
  const found = firstBarrier([gap(3), gap(6)], from);
  expect(found === undefined ? undefined : barriersOf({ barriers: [found] })).toBe(met);
});

test.each<[lsn: Lsn, items: string]>([
  [at(1), "segment 2 1048576, segment 3 1048576, segment 5 1048576, tail 6 100"],
  [at(3, 7), "segment 3 1048576, segment 5 1048576, tail 6 100"],
  [at(4), "segment 5 1048576, tail 6 100"],
  [at(6, 200), "tail 6 100"],
  [at(7), ""],
])("the items from %s on, over a hole", (lsn, items) => {
  const found = [...itemsFrom(pathOf("1:2-3 1:5-5 1:6+100", one), lsn)];
  expect(found.map(({ kind, segment, length }) => `${kind} ${segment} ${length}`).join(", ")).toBe(items);
});

describe("the last item", () => {
  // Computed in each test: a mutant that fails while the file is loaded would count as a survivor.
  const path = (): WalPath => pathOf("1:2-4 1:6-7 1:8+100", one);
  const shown = (item: WalItem | undefined): string | undefined => item && `${item.kind} ${item.segment}`;

  test.each<[limit: Lsn | undefined, item: string | undefined]>([
    [undefined, "tail 8"],
    [at(8, 1), "tail 8"],
    [at(8), "segment 7"],
    [at(6, 1), "segment 6"],
    [at(6), "segment 4"],
    [at(4, 1), "segment 4"],
    [at(4), "segment 3"],
    [at(2, 1), "segment 2"],
    [at(2), undefined],
  ])("before %s is %s", (limit, item) => {
    expect(shown(itemBefore(path(), limit))).toBe(item);
  });

  test("of an empty path is none", () => {
    expect(itemBefore(pathOf("", one), undefined)).toBeUndefined();
  });

  test.each<[from: number, items: string]>([
    [8, "tail 8, segment 7, segment 6"],
    [6, "segment 6"],
    [4, "segment 4, segment 3, segment 2"],
    [5, ""],
    [9, ""],
  ])("from %i backwards: %s", (from, items) => {
    const item: WalItem = { timeline: timelineOf(1), kind: "segment", segment: from as SegmentNumber };
    expect([...itemsBack(path(), item)].map(shown).join(", ")).toBe(items);
  });
});
