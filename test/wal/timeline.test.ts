/** Timeline histories: parsing, and who owns a position. */
import { describe, expect, it } from "vitest";
import { formatLsn, parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import {
  contains,
  nextTimelineOf,
  ownerBefore,
  ownerOf,
  parentOf,
  parseHistory,
  partingPoint,
  rootHistory,
  switchPointOf,
} from "../../src/wal/timeline.ts";

const tli = timelineOf;
const lines = (timeline: number, content: string | Uint8Array): string[] =>
  parseHistory(tli(timeline), content).entries.map((e) => `${e.timeline} ${formatLsn(e.switchLsn)} ${e.reason}`);

describe("history files are read as PostgreSQL reads them", () => {
  it.each([
    [
      "as PostgreSQL writes it",
      2,
      "1\t0/16B3740\tno recovery target specified\n",
      ["1 0/16B3740 no recovery target specified"],
    ],
    [
      "with the empty line that a second switch adds",
      3,
      "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-01-02 03:04:05+00\n",
      ["1 0/3000000 no recovery target specified", "2 0/5000000 before 2026-01-02 03:04:05+00"],
    ],
    ["with comments", 2, "# about\n  \t# and more\n1\t0/1\tx\n", ["1 0/1 x"]],
    [
      "with blanks instead of tabs",
      2,
      '1   16/B374D848   at restore point "a b"',
      ['1 16/B374D848 at restore point "a b"'],
    ],
    ["with blanks in front", 2, " \t1\t0/1\tx", ["1 0/1 x"]],
    ["with a blank after the slash", 2, "1 0/ 1F x", ["1 0/1F x"]],
    ["without a reason", 2, "1\t0/1", ["1 0/1 "]],
    ["with lower case digits and leading zeros", 2, "1\t000000ab/0000cdef\tx", ["1 AB/CDEF x"]],
    ["with carriage returns", 2, "1\t0/1\tx\r\n\r\n", ["1 0/1 x"]],
    ["with timelines left out", 9, "1\t0/1\ta\n4\t0/2\tb\n", ["1 0/1 a", "4 0/2 b"]],
    ["with switch points going backwards", 3, "1\t0/5000000\ta\n2\t0/4000000\tb\n", ["1 0/5000000 a", "2 0/4000000 b"]],
    ["with the largest timelines", 0xffffffff, "4294967294\t0/1\tx", ["4294967294 0/1 x"]],
    ["with the highest position", 2, "1\tFFFFFFFF/FFFFFFFF\tx", ["1 FFFFFFFF/FFFFFFFF x"]],
    ["with a reason of many words and blanks around it", 2, '1\t0/1\t at "x", later \r\n', ['1 0/1 at "x", later']],
    ["empty", 2, "", []],
  ])("%s", (_how, timeline, content, expected) => {
    expect(lines(timeline, content)).toEqual(expected);
    expect(lines(timeline, new TextEncoder().encode(content))).toEqual(expected);
  });

  it.each([
    ["no timeline", 2, "x\t0/1\tx", "line 1"],
    ["words before the timeline", 2, "was 1\t0/1\tx", "line 1"],
    ["a timeline of eleven digits", 2, "00000000001\t0/1\tx", "line 1"],
    ["a blank before the slash", 2, "1\t0 /1\tx", "line 1"],
    ["nothing behind the slash", 2, "1\t0/\tx", "line 1"],
    ["nothing between the timeline and the switch point", 2, "1/1\tx", "line 1"],
    ["a high word of nine digits", 2, "1\t123456789/1\tx", "line 1"],
    ["timeline 0", 2, "0\t0/1\tx", "line 1"],
    ["no switch point", 2, "# ok\n1\n", "line 2"],
    ["a switch point without a slash", 2, "1\t01\tx", "line 1"],
    ["a switch point that is no number", 2, "1\t0/XYZ\tx", "line 1"],
    ["a switch point of more than 64 bits", 2, "1\t0/123456789\tx", "line 1"],
    ["timelines that do not increase", 4, "2\t0/1\tx\n2\t0/2\tx", "increasing sequence"],
    ["timelines that decrease", 4, "2\t0/1\tx\n1\t0/2\tx", "increasing sequence"],
    ["a timeline above its child", 2, "3\t0/1\tx", "less than their child"],
    ["a timeline that is its own child", 2, "2\t0/1\tx", "less than their child"],
    ["a timeline of more than 32 bits", 2, "4294967296\t0/1\tx", "line 1"],
  ])("%s is refused", (_what, timeline, content, message) => {
    expect(() => parseHistory(tli(timeline), content)).toThrow(
      expect.objectContaining({ code: "timeline-history", message: expect.stringContaining(message) as string }),
    );
  });

  it("shows only the beginning of a line that goes on for ever", () => {
    const refused = (length: number): string => {
      try {
        return lines(2, "?".repeat(length)).join();
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(refused(100)).toMatch(/: "\?{100}"$/);
    expect(refused(101)).toMatch(/: "\?{100}…"$/);
    expect(refused(10_000)).toMatch(/: "\?{100}…"$/);
  });

  it("passes over the empty lines that PostgreSQL writes between entries", () => {
    const content = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tx\n";
    expect(parseHistory(tli(3), content).entries).toEqual([
      { timeline: 1, switchLsn: 0x3000000n, reason: "no recovery target specified" },
      { timeline: 2, switchLsn: 0x5000000n, reason: "x" },
    ]);
  });
});

describe("who owns a position", () => {
  const left = (timeline: number, lsn: string) => ({ timeline: tli(timeline), switchLsn: parseLsn(lsn), reason: "" });
  const third = { timeline: tli(5), entries: [left(1, "0/3000000"), left(4, "0/5000100")] };
  // Recovered along timeline 2 to a point before 2 left 1: PostgreSQL names 2 as the parent all the same.
  const backwards = { timeline: tli(3), entries: [left(1, "0/5000000"), left(2, "0/4000000")] };

  it.each([
    ["the first byte", third, "0/0", 1],
    ["the last byte before a switch point", third, "0/2FFFFFF", 1],
    ["the switch point itself", third, "0/3000000", 4],
    ["in the middle", third, "0/50000FF", 4],
    ["the second switch point", third, "0/5000100", 5],
    ["far beyond", third, "FF/0", 5],
    ["before both switch points going backwards", backwards, "0/3FFFFFF", 1],
    ["from the lower switch point on", backwards, "0/4000000", 3],
    ["between the two", backwards, "0/4800000", 3],
    ["at the upper switch point", backwards, "0/5000000", 3],
    ["without ancestors", { timeline: tli(7), entries: [] }, "0/0", 7],
  ])("%s", (_what, history, lsn, owner) => {
    expect(ownerOf(history, parseLsn(lsn))).toBe(owner);
  });

  it("the byte before a switch point is the older timeline's", () => {
    expect(["0/3000000", "0/3000001"].map((lsn) => ownerBefore(third, parseLsn(lsn)))).toEqual([1, 4]);
  });

  it.each([
    ["the owner of the last byte before the fork", third, { timeline: 4, lsn: parseLsn("0/5000100") }],
    ["one that ended before the last one that is named", backwards, { timeline: 1, lsn: parseLsn("0/4000000") }],
    ["none without ancestors", { timeline: tli(7), entries: [] }, undefined],
  ])("the parent: %s", (_what, history, parent) => {
    expect(parentOf(history)).toEqual(parent);
  });

  it.each([
    ["to the next", third, 1, "0/3000000", 4],
    ["over timelines that were left out", third, 4, "0/5000100", 5],
    ["none from the newest", third, 5, undefined, undefined],
    ["past a timeline that holds nothing", backwards, 1, "0/4000000", 3],
    ["from a timeline that holds nothing", backwards, 2, "0/4000000", 3],
  ])("the switch %s", (_what, history, timeline, point, next) => {
    expect(switchPointOf(history, tli(timeline))).toBe(point === undefined ? undefined : parseLsn(point));
    expect(nextTimelineOf(history, tli(timeline))).toBe(next);
  });

  it("is refused for a timeline that is not in the history", () => {
    for (const ask of [switchPointOf, nextTimelineOf]) {
      expect(() => ask(third, tli(2))).toThrow(expect.objectContaining({ code: "timeline-unrelated" }));
    }
  });

  it.each([
    ["an ancestor before its end", third, 1, "0/2000000", true],
    ["an ancestor up to its end", third, 1, "0/3000000", true],
    ["an ancestor beyond its end", third, 1, "0/3000008", false],
    ["the timeline itself", third, 5, "FF/0", true],
    ["a timeline of another branch", third, 3, "0/3000000", false],
    ["a later timeline", third, 6, "0/1", false],
    ["an ancestor that was left earlier than its own child left it", backwards, 1, "0/4000008", false],
    ["a parent that holds nothing", backwards, 2, "0/5000008", false],
  ])("%s: contained is decided by the end position", (_what, history, timeline, lsn, expected) => {
    expect(contains(history, tli(timeline), parseLsn(lsn))).toBe(expected);
  });
});

describe("two histories part", () => {
  const one = rootHistory(tli(1));
  const two = parseHistory(tli(2), "1\t0/3000000\tx\n");
  const three = parseHistory(tli(3), "1\t0/3000000\tx\n2\t0/5000000\ty\n");
  const sibling = parseHistory(tli(4), "1\t0/2000000\tx\n");
  const cousin = parseHistory(tli(5), "1\t0/3000000\tx\n2\t0/4000000\ty\n");
  const backwards = parseHistory(tli(6), "1\t0/5000000\tx\n2\t0/2800000\ty\n");

  it.each([
    ["nowhere, for the same timeline", two, two, undefined],
    ["where the child begins", one, two, "0/3000000"],
    ["where the first of two forks leaves the older one", one, three, "0/3000000"],
    ["where the grandchild leaves the child", two, three, "0/5000000"],
    ["at the earlier of two forks from one parent", two, sibling, "0/2000000"],
    ["on the parent that they share", three, cousin, "0/4000000"],
    ["where a switch point that goes backwards cuts the parent off", two, backwards, "0/2800000"],
    ["from the start on, without a history that joins them", one, rootHistory(tli(7)), "0/0"],
  ])("%s", (_, a, b, expected) => {
    const both = [partingPoint(a, b), partingPoint(b, a)];
    expect(both.map((lsn) => (lsn === undefined ? undefined : formatLsn(lsn)))).toEqual([expected, expected]);
  });
});
