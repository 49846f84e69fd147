/** The tree of timelines, from history files alone. */
import { expect, test } from "vitest";
import { timelineTree } from "../../src/archive/catalog/timeline-tree.ts";
import { formatLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { parseHistory, rootHistory } from "../../src/wal/timeline.ts";

const one = timelineOf(1);

test("children follow their parents; one that stopped before its target's fork hangs from whom it really continued", () => {
  const texts: Record<number, string> = {
    2: "1\t0/5000000\tno recovery target specified\n",
    3: "1\t0/5000000\tno recovery target specified\n2\t0/6000000\tbefore 2026-02-03 04:05:06+00\n",
    // Recovery along 2 stopped before 2 began.
    4: "1\t0/5000000\tno recovery target specified\n2\t0/4000000\tbefore transaction 700\n",
    5: "1\t0/3000000\tat restore point\n",
    // Its parent is gone from the archive.
    9: "7\t0/9000000\tno recovery target specified\n",
  };
  const timelines = [3, 9, 5, 2, 4].map(timelineOf);
  const histories = new Map([
    [one, rootHistory(one)],
    ...timelines.map((timeline) => [timeline, parseHistory(timeline, texts[timeline] ?? "")] as const),
  ]);
  const run = (timeline: number, first: number, last: number) => ({
    ...{ timeline: timelineOf(timeline), first: first as SegmentNumber, last: last as SegmentNumber, storedBytes: 10 },
  });
  const nodes = timelineTree({ histories, runs: [run(1, 1, 3), run(1, 5, 5), run(2, 5, 6)] });
  const shown = nodes.map(({ timeline, parent, forkLsn, depth, segments }) => [
    ...["-".repeat(depth) + String(timeline), parent ?? "", forkLsn === undefined ? "" : formatLsn(forkLsn), segments],
  ]);
  expect(shown).toEqual([
    ["1", "", "", 4],
    ["-2", 1, "0/5000000", 2],
    ["--3", 2, "0/6000000", 0],
    ["-4", 1, "0/4000000", 0],
    ["-5", 1, "0/3000000", 0],
    ["9", 7, "0/9000000", 0],
  ]);
  expect(nodes[0]?.storedBytes).toBe(20);
  expect(nodes[2]?.reason).toBe("before 2026-02-03 04:05:06+00");
});
