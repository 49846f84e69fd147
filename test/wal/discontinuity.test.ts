/** Where WAL does not simply go on: switched segments, records that a crash cut off, other timelines. */
import { describe, expect, it } from "vitest";
import { addBytes, formatLsn, parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { parseHistory } from "../../src/wal/timeline.ts";
import { carryWithoutContent } from "../../src/wal/carry-without-content.ts";
import type { RecordCarry } from "../../src/wal/record-carry.ts";
import { filled, MIB, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

describe("after a switch record", () => {
  const places: readonly [string, (w: WalWriter) => void][] = [
    ["early in a segment", (w) => w.write()],
    ["where the switch record ends exactly at a page end", (w) => w.fillPage(24)],
    ["where the switch record is cut by a page end after 8 bytes", (w) => w.fillPage(8)],
    ["where the switch record is cut by a page end after 16 bytes", (w) => w.fillPage(16)],
    ["where the switch record begins a page", (w) => w.fillPage(0)],
    ["on the last page", (w) => toSegmentEnd(w, 4000)],
    ["where the switch record ends exactly at the segment end", (w) => toSegmentEnd(w, 24)],
    ["where the switch record is cut by the segment end", (w) => toSegmentEnd(w, 16)],
  ];

  it.each(places)("%s, the segment's zeros are verified as they come", (_where, write) => {
    const writer = new WalWriter();
    write(writer);
    writer.switchSegment();
    const switchEnd = writer.records.at(-1)?.end ?? writer.start;
    const end = writer.position;
    expect(Number(end) % MIB).toBe(0);
    writer.write({ data: filled(30) });
    const { verifier, records } = verifierFor(writer);
    const bytes = writer.bytes;
    const upToSwitch = Number(switchEnd - writer.start);
    verifier.push(bytes.subarray(0, upToSwitch));
    expect(verifier.verifiedLsn).toBe(switchEnd);
    for (let at = upToSwitch; at < Number(end - writer.start);) {
      const next = Math.min(at + 5003, Number(end - writer.start));
      verifier.push(bytes.subarray(at, next));
      expect(verifier.verifiedLsn).toBe(addBytes(writer.start, next));
      at = next;
    }
    verifier.push(bytes.subarray(Number(end - writer.start)));
    expect(records).toEqual(writer.records);
    expect(verifier.verifiedLsn).toBe(writer.position);
    const [closed] = verifier.takeSummaries().slice(-1);
    expect(closed?.lastRecordEnd).toBe(end);
  });

  it("anything but zeros up to the segment end is refused, at its address", () => {
    const writer = new WalWriter();
    writer.write();
    writer.switchSegment();
    for (const at of [8192 - 1, 8192, 8192 + 30, 500_001, MIB - 1]) {
      const bytes = writer.bytes;
      bytes[at] = 1;
      const { verifier } = verifierFor(writer);
      const lsn = formatLsn(addBytes(writer.start, at));
      expect(() => verifier.push(bytes)).toThrow(`WAL does not verify at ${lsn}: the segment was switched`);
      expect(verifier.verifiedLsn <= addBytes(writer.start, at)).toBe(true);
    }
  });

  it("a switch at a segment start writes nothing, and nothing is expected", () => {
    const writer = new WalWriter();
    toSegmentEnd(writer, 0);
    writer.switchSegment();
    writer.write();
    const { verifier, records } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(records).toEqual(writer.records);
  });
});

describe("a record that a crash cut off", () => {
  it.each([
    ["on the page where it began", 1, 0],
    ["after some more pages", 5, 0],
    ["in the next segment", 1, 64],
    ["two segments on", 200, 64],
    ["with its header cut in two", 1, 16],
  ])("is given up where the server says so: %s", (_where, pages, left) => {
    const writer = new WalWriter();
    writer.write({ data: filled(300) });
    if (left > 0) toSegmentEnd(writer, left);
    const last = writer.records.at(-1);
    const broken = writer.abort({ data: filled(3 * MIB) }, pages);
    const crashed = writer.position;
    const named = writer.overwrite(broken);
    writer.write({ data: filled(40) });
    expect(named.prev).toBe(last?.lsn);
    const { verifier, records } = verifierFor(writer);
    const bytes = writer.bytes;
    verifier.push(bytes.subarray(0, Number(crashed - writer.start)));
    expect(verifier.verifiedLsn).toBe(last?.end);
    verifier.push(bytes.subarray(Number(crashed - writer.start)));
    expect(records).toEqual(writer.records);
    expect(verifier.verifiedLsn).toBe(writer.position);
  });

  it("is given up without its start too, when the stream began behind it", () => {
    const writer = new WalWriter();
    writer.write();
    const broken = writer.abort({ data: filled(3 * MIB) }, 200);
    writer.overwrite(broken);
    writer.write();
    const second = addBytes(writer.start, MIB);
    const { verifier, records } = verifierFor(writer, { startLsn: second });
    verifier.push(writer.bytes.subarray(MIB));
    expect(records).toEqual(writer.records.slice(1));
    expect(verifier.headBytesUnverified).toBeGreaterThan(500_000);
  });

  it.each([
    ["the segment where it began", 1],
    ["a segment within it", 2],
  ])(
    "is given up behind a carry without content of %s, and has to be the record that the carry names",
    (_of, border) => {
      const cut = (address: number): WalWriter => {
        const writer = new WalWriter();
        writer.write({ data: filled(300) });
        toSegmentEnd(writer, 64);
        writer.overwrite(addBytes(writer.abort({ data: filled(3 * MIB) }, 200), address));
        writer.write({ data: filled(40) });
        return writer;
      };
      const resumed = (writer: WalWriter) => {
        let carry: RecordCarry | undefined;
        for (let segment = 0; segment < border; segment++) {
          const before = verifierFor(writer, { startLsn: addBytes(writer.start, segment * MIB), carry });
          before.verifier.push(writer.bytes.subarray(segment * MIB, (segment + 1) * MIB));
          carry = carryWithoutContent(before.verifier.carry() as RecordCarry);
        }
        return verifierFor(writer, { startLsn: addBytes(writer.start, border * MIB), carry });
      };
      const writer = cut(0);
      const { verifier, records } = resumed(writer);
      verifier.push(writer.bytes.subarray(border * MIB));
      expect(records).toEqual(writer.records.slice(-2));
      expect(verifier.verifiedLsn).toBe(writer.position);
      const other = cut(8);
      expect(() => resumed(other).verifier.push(other.bytes.subarray(border * MIB))).toThrow(
        "but the broken one is at",
      );
    },
  );

  const refused: readonly [string, (w: WalWriter) => void, string][] = [
    [
      "another record is named",
      (w) => w.overwrite(addBytes(w.abort({ data: filled(9000) }), 8)),
      "but the broken one is at",
    ],
    [
      "none is named",
      (w) => (w.abort({ data: filled(9000) }), w.write({ rmid: 0, info: 0xd0 })),
      "does not say which record",
    ],
    [
      "the page's first record is another",
      (w) => (w.abort({ data: filled(9000) }), w.write({ data: filled(9) })),
      "does not say which",
    ],
    [
      "the page's first record is another, over the page's end",
      (w) => (w.abort({ data: filled(9000) }), w.write({ data: filled(9000) })),
      "does not say which",
    ],
    ["the page does not say so", (w) => w.overwrite(w.start), "but its page does not say so"],
  ];

  it.each(refused)("is not given up when %s", (_what, write, message) => {
    const writer = new WalWriter();
    const first = writer.write();
    write(writer);
    const { verifier } = verifierFor(writer);
    expect(() => verifier.push(writer.bytes)).toThrow(message);
    expect(verifier.verifiedLsn).toBe(first.end);
  });
});

describe("timelines", () => {
  const history = parseHistory(timelineOf(3), "1\t0/102000\ta\n\n2\t0/105010\tb\n");

  it("a page belongs to the owner of its first byte: at a switch point to the new timeline, around one to the old", () => {
    const writer = new WalWriter({ history });
    while (writer.position < parseLsn("0/10A000")) writer.write({ data: filled(1000) });
    const { verifier, records } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(records).toEqual(writer.records);
    const page = (at: number): number | undefined => writer.bytes[at * 8192 + 4];
    expect([0, 1, 2, 3].map(page)).toEqual([1, 2, 2, 3]);
  });

  it.each([
    ["the old timeline goes on", "1\t0/106000\ta\n\n2\t0/107000\tb\n", "0/102000"],
    ["the new timeline begins early", "1\t0/102000\ta\n\n2\t0/103010\tb\n", "0/104000"],
    ["the history knows nothing of it", "", "0/100000"],
  ])("are refused when %s", (_what, content, lsn) => {
    const writer = new WalWriter({ history });
    while (writer.position < parseLsn("0/10A000")) writer.write({ data: filled(1000) });
    const { verifier } = verifierFor(writer, { history: parseHistory(timelineOf(3), content) });
    const pages = { "0/102000": 2, "0/104000": 2, "0/100000": 1 }[lsn] ?? 0;
    expect(() => verifier.push(writer.bytes)).toThrow(
      `WAL does not verify at ${lsn}: page timeline is ${pages}, but the history gives this address to timeline`,
    );
  });
});
