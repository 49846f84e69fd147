/** The names in a journal's folder, and its document. */
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { changedOnDisk } from "../../src/receive/journal/damage.ts";
import { decodeJournal, encodeJournal } from "../../src/receive/journal/document.ts";
import {
  evidenceName,
  fileNameOf,
  halfMade,
  readLayout,
  type SegmentFile,
  spareName,
  strangers,
  surplusEvidence,
} from "../../src/receive/journal/layout.ts";
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

describe("what may go from a folder", () => {
  test("is what a crash left half made, and nothing that holds WAL", () => {
    const files = [
      ...[file("spare-0"), file("spare-1", MIB - 1), file("journal.json", 100), file("journal.json.tmp", 7)],
      ...[file("00000002.history.tmp", 0), file("evidence-0-300028.tmp"), file("evidence-0-300028")],
      ...[file("000000010000000000000003", 9), file("000000010000000000000004.partial", 9), file("notes.tmp")],
    ];
    expect(halfMade(files, MIB)).toEqual([
      "spare-1",
      "journal.json.tmp",
      "00000002.history.tmp",
      "evidence-0-300028.tmp",
    ]);
  });

  test("is evidence beyond eight files, that of the lowest LSNs first and never the newest", () => {
    const names = ["0/200", "1/0", "0/90", "0/1000", "0/300", "0/400", "0/500", "0/600", "0/700"].map((lsn) =>
      evidenceName(parseLsn(lsn)),
    );
    const files = [...names, "evidence-x", "journal.json"].map((name) => ({ name }));
    expect(surplusEvidence(files, "evidence-0-90")).toEqual(["evidence-0-200"]);
    expect(surplusEvidence(files, "evidence-1-0")).toEqual(["evidence-0-90"]);
    expect(surplusEvidence(files.slice(1), "evidence-1-0")).toEqual([]);
  });
});

describe("damage on the disk of a spool", () => {
  const on = (timeline: number, first: number, last: number, openOne = false): SegmentFile[] =>
    Array.from({ length: last - first + 1 }, (_, i) => ({
      timeline: timelineOf(timeline),
      segment: segment(first + i),
      isComplete: !openOne || first + i < last,
    }));
  const at = { where: "/spool/main", segmentSize: MIB, timeline: timelineOf(1) };
  const cause = new SeawallError("wal-corrupt", "the CRC is wrong");
  test.each([
    [
      "in one file, with others behind it",
      { segments: on(1, 3, 6, true), verifiedLsn: "0/450000", receivedLsn: "0/460000" },
      "000000010000000000000004 is damaged behind 0/450000, and 2 files of WAL from 000000010000000000000005 on wait behind it",
    ],
    [
      "in a record of two files",
      { segments: [...on(1, 3, 6), ...on(2, 6, 9)], verifiedLsn: "0/4F0000", receivedLsn: "0/500000" },
      "000000010000000000000004 or 000000010000000000000005 is damaged behind 0/4F0000, and 1 file of WAL from 000000010000000000000006 on waits behind it",
    ],
    [
      "in the open file",
      { segments: on(1, 3, 4, true), verifiedLsn: "0/450000", receivedLsn: "0/460000" },
      "000000010000000000000004.partial is damaged behind 0/450000, and no file waits behind it",
    ],
  ])("%s", (_, { segments, verifiedLsn, receivedLsn }, said) => {
    const lsns = { verifiedLsn: parseLsn(verifiedLsn), receivedLsn: parseLsn(receivedLsn) };
    const error = changedOnDisk({ ...at, segments, ...lsns }, cause);
    expect(error.code).toBe("wal-corrupt");
    expect(error.message).toBe(`WAL has changed on the disk of the spool /spool/main: the CRC is wrong. ${said}`);
    expect(error.hint).toContain("copy that file over the one in /spool/main");
    expect(error.hint).toContain("seawall import FOLDER stores the files behind the damage");
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
    carry: { timeline: timelineOf(2), carry: { at: "16/B3000000", magic: 0xd118, verifiedLsn: "16/B2FFFF00" } },
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

  test("with a verifier's state of no timeline, as the journal once wrote it, has none: it is found in the files", () => {
    const document = JSON.parse(Buffer.from(encodeJournal(whole)).toString()) as object;
    const bytes = Buffer.from(JSON.stringify({ ...document, carryTimeline: undefined }));
    expect(bytes.toString()).toContain('"carry"');
    expect(decodeJournal(bytes, "journal.json")).toEqual({ ...whole, carry: undefined });
  });

  test.each([
    [{ gaps: undefined }, "object-corrupt"],
    [{ confirmed: { timeline: 0, lsn: "0/1" } }, "object-corrupt"],
    [{ confirmed: { timeline: 1, lsn: "x" } }, "object-corrupt"],
    [{ store: 7 }, "object-corrupt"],
    [{ carry: { at: 1 } }, "object-corrupt"],
    [{ carry: "0/1" }, "object-corrupt"],
    [{ carryTimeline: 0 }, "object-corrupt"],
    [{ segmentSize: 3 }, "object-corrupt"],
    [{ version: 2 }, "archive-version"],
  ])("with %j is refused as %s", (change, code) => {
    const document = JSON.parse(Buffer.from(encodeJournal(whole)).toString()) as object;
    const bytes = Buffer.from(JSON.stringify({ ...document, ...change }));
    expect(() => decodeJournal(bytes, "journal.json")).toThrow(expect.objectContaining({ code }));
  });
});
