/** The names in a journal's folder, and its document. */
import { describe, expect, test } from "vitest";
import { decodeJournal, encodeJournal } from "../../src/receive/journal/document.ts";
import { fileNameOf, readLayout, spareName, strangers } from "../../src/receive/journal/layout.ts";
import { parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";

const MIB = 1 << 20;
const file = (name: string, bytes = MIB) => ({ name, bytes });
const segment = (number: number) => number as SegmentNumber;

describe("the layout of a folder", () => {
  test("sorts segments by timeline, then number; a complete file hides an open one of the same segment", () => {
    const names = [
      "000000020000000000000003.partial",
      "000000010000000000000003",
      "000000010000000000000003.partial",
      "000000010000000000000002",
      "000000010000000100000001",
      "00000003.history",
      "00000002.history",
    ];
    expect(
      readLayout(
        names.map((name) => file(name)),
        MIB,
      ),
    ).toEqual({
      segments: [
        { timeline: 1, segment: 2, isComplete: true },
        { timeline: 1, segment: 3, isComplete: true },
        { timeline: 1, segment: 4097, isComplete: true },
        { timeline: 2, segment: 3, isComplete: false },
      ],
      histories: [2, 3],
      spares: [],
    });
  });

  test("takes a file that is to be used again only at its full size, and leaves all other files alone", () => {
    const files = [file("spare-1"), file("spare-0"), file("spare-2", MIB - 1), file("spare-x"), file("a-spare-3")];
    const { segments, spares } = readLayout([...files, file("evidence-0-1"), file("journal.json", 100)], MIB);
    expect(segments).toEqual([]);
    expect(spares).toEqual(["spare-0", "spare-1"]);
    expect(spareName(1)).toBe("spare-1");
  });

  test.each([
    [true, "000000010000000000000007"],
    [false, "000000010000000000000007.partial"],
  ])("names a segment, complete: %s", (isComplete, name) => {
    expect(fileNameOf({ timeline: timelineOf(1), segment: segment(7), isComplete }, MIB)).toBe(name);
  });

  test.each([
    [["000000010000000000000007"], ["000000010000000000000007"]],
    [["000000010000000000000007.partial", "x"], ["000000010000000000000007.partial"]],
    [["000000010000000000000007.gz"], ["000000010000000000000007.gz"]],
    [["000000010000000000000007", "journal.json"], []],
    [["cluster.json", "wal"], []],
    [[], []],
  ])("of %j, these are another program's: %j", (names, expected) => {
    expect(strangers(names.map((name) => ({ name })))).toEqual(expected);
  });
});

describe("the document", () => {
  const identity = {
    systemIdentifier: 7_000_000_000_000_000_001n,
    segmentSize: 16 * MIB,
    pgMajor: 18,
    createdAt: "2026-01-01T00:00:00.000Z",
  };
  const whole = {
    identity,
    store: "file:///store",
    confirmed: { timeline: timelineOf(2), lsn: parseLsn("16/B374D848") },
    carry: { at: "16/B3000000", magic: 0xd118, verifiedLsn: "16/B2FFFF00" },
    gaps: [
      {
        timeline: timelineOf(1),
        fromLsn: parseLsn("0/300028"),
        toLsn: parseLsn("0/5000000"),
        detectedAt: "2026-01-01T00:00:00.000Z",
        reason: "removed",
      },
    ],
  };

  test("reads as it was written, with all that it can hold and with nothing", () => {
    expect(decodeJournal(encodeJournal(whole), "journal.json")).toEqual(whole);
    const bare = { identity, store: undefined, confirmed: undefined, carry: undefined, gaps: [] };
    expect(decodeJournal(encodeJournal(bare), "journal.json")).toEqual(bare);
    expect(JSON.parse(Buffer.from(encodeJournal(bare)).toString())).toEqual({
      version: 1,
      systemIdentifier: "7000000000000000001",
      segmentSize: 16 * MIB,
      pgMajor: 18,
      createdAt: "2026-01-01T00:00:00.000Z",
      gaps: [],
    });
  });

  test.each([
    [{ gaps: undefined }, "object-corrupt"],
    [{ confirmed: { timeline: 0, lsn: "0/1" } }, "object-corrupt"],
    [{ confirmed: { timeline: 1, lsn: "x" } }, "object-corrupt"],
    [{ store: 7 }, "object-corrupt"],
    [{ carry: { at: 1 } }, "object-corrupt"],
    [{ carry: "0/1" }, "object-corrupt"],
    [{ segmentSize: 3 }, "object-corrupt"],
    [{ version: 2 }, "archive-version"],
  ])("with %j is refused as %s", (change, code) => {
    const document = JSON.parse(Buffer.from(encodeJournal(whole)).toString()) as object;
    const bytes = Buffer.from(JSON.stringify({ ...document, ...change }));
    expect(() => decodeJournal(bytes, "journal.json")).toThrow(expect.objectContaining({ code }));
  });
});
