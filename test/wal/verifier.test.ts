/** The verifier on WAL written in memory: every border, every cut. Real servers: oracle.test.ts. */
import { describe, expect, it } from "vitest";
import { addBytes, formatLsn, lsnOf, parseLsn } from "../../src/wal/lsn.ts";
import { randomFrom } from "../harness/random.ts";
import { filled, MIB, toSegmentEnd, verifierFor, WalWriter, type WriterOptions } from "./wal-writer.ts";

describe("records are found wherever they lie", () => {
  const corners: readonly [string, WriterOptions, (w: WalWriter) => void][] = [
    ["one record", {}, (w) => w.write({ data: filled(10) })],
    ["a record without data", {}, (w) => w.write()],
    ["records of every length from 24 to 100", {}, (w) => range(77).forEach((n) => w.write({ data: filled(n) }))],
    [
      "records around the length where native code takes over",
      {},
      (w) => range(40).forEach((n) => w.write({ data: filled(470 + n) })),
    ],
    ["a record that ends exactly at a page end", {}, (w) => (w.fillPage(), w.write())],
    [
      "a record that ends at a page end with its padding",
      {},
      (w) => (w.fillPage(40), w.write({ data: filled(13) }), w.write()),
    ],
    ["a header cut after 8 bytes", {}, (w) => (w.fillPage(8), w.write({ data: filled(50) }), w.write())],
    ["a header cut after 16 bytes", {}, (w) => (w.fillPage(16), w.write({ data: filled(50) }), w.write())],
    ["a header without data cut after 8 bytes", {}, (w) => (w.fillPage(8), w.write(), w.write())],
    [
      "a header at a page end, its data on the next",
      {},
      (w) => (w.fillPage(24), w.write({ data: filled(5) }), w.write()),
    ],
    ["a record over many pages", {}, (w) => (w.write({ data: filled(100_000) }), w.write())],
    [
      "a record that ends exactly at a page end after many",
      {},
      (w) => (w.fillPage(), w.write({ data: filled(8168 * 3 - 24) }), w.write()),
    ],
    ["a record that ends exactly at a segment end", {}, (w) => (toSegmentEnd(w, 0), w.write())],
    ["a record across a segment end", {}, (w) => (toSegmentEnd(w, 64), w.write({ data: filled(200) }), w.write())],
    ["a header across a segment end", {}, (w) => (toSegmentEnd(w, 16), w.write({ data: filled(200) }), w.write())],
    ["a record longer than three segments", {}, (w) => (w.write({ data: filled(3.5 * MIB) }), w.write())],
    [
      "the border of 4 GiB",
      { start: parseLsn("5/FFF00000") },
      (w) => (toSegmentEnd(w, 64), w.write({ data: filled(200) }), w.write()),
    ],
    [
      "a record across the border of 4 GiB that is its segment's first",
      { start: parseLsn("0/FFF00000") },
      (w) => (w.write({ data: filled(2 * MIB) }), w.write()),
    ],
    [
      "the highest positions",
      { start: parseLsn("FFFFFFFE/FFE00000") },
      (w) => (w.write({ data: filled(2 * MIB) }), w.write()),
    ],
    ["built-in and custom resource managers", {}, (w) => [0, 21, 128, 255].forEach((rmid) => w.write({ rmid }))],
  ];

  it.each(corners)("%s", (_what, options, write) => {
    const writer = new WalWriter(options);
    write(writer);
    const { verifier, records } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(records).toEqual(writer.records);
    expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(writer.position));
    expect(verifier.position).toBe(writer.position);
    expect(verifier.headBytesUnverified).toBe(0);
  });

  it.each(corners)("%s, byte by byte: nothing is verified before it is complete", (_what, options, write) => {
    const writer = new WalWriter(options);
    write(writer);
    const { verifier, records } = verifierFor(writer);
    const bytes = writer.bytes;
    // Single bytes around every record border, larger steps between them.
    const ends = new Set(writer.records.map((record) => Number(record.end - writer.start)));
    for (let at = 0; at < bytes.length;) {
      const near = range(60).some((n) => ends.has(at + n - 30));
      const step = near ? 1 : Math.min(29, bytes.length - at);
      verifier.push(bytes.subarray(at, at + step));
      at += step;
      const last = writer.records.findLast((record) => record.end <= addBytes(writer.start, at));
      if (near) expect(verifier.verifiedLsn).toBe(last?.end ?? writer.start);
    }
    expect(records).toEqual(writer.records);
  });
});

describe("the input may be cut anywhere", () => {
  const writer = awkwardWal();
  const bytes = writer.bytes;

  it("in two, at every byte", () => {
    const wrong: string[] = [];
    for (let cut = 0; cut <= bytes.length; cut++) {
      const { verifier } = verifierFor(writer, { onRecord: undefined });
      verifier.push(bytes.subarray(0, cut));
      if (verifier.verifiedLsn > addBytes(writer.start, cut)) wrong.push(`too early when cut at ${cut}`);
      verifier.push(bytes.subarray(cut));
      const { recordCount, lastRecordEnd } = verifier.openSummary();
      if (lastRecordEnd !== writer.position || recordCount !== writer.records.length) wrong.push(`cut at ${cut}`);
    }
    expect(wrong).toEqual([]);
  });

  it("into single bytes", () => {
    const { verifier, records } = verifierFor(writer);
    for (let at = 0; at < bytes.length; at++) verifier.push(bytes.subarray(at, at + 1));
    expect(records).toEqual(writer.records);
    expect(verifier.verifiedLsn).toBe(writer.position);
  });

  it.each([1, 2, 3, 4])("at random, from buffers of any alignment (seed %i)", (seed) => {
    const random = randomFrom(seed);
    const { verifier, records } = verifierFor(writer);
    for (let at = 0; at < bytes.length;) {
      const take = Math.min(bytes.length - at, random.between(0, random.pick([4, 40, 400, 4000, 40_000])));
      const shifted = new Uint8Array(take + 16);
      const by = random.between(0, 16);
      shifted.set(bytes.subarray(at, at + take), by);
      verifier.push(shifted.subarray(by, by + take));
      at += take;
    }
    expect(records).toEqual(writer.records);
  });
});

it.each([1, 2, 3, 4, 5, 6, 7, 8])("random WAL in random pieces is found as it was written (seed %i)", (seed) => {
  const random = randomFrom(seed);
  const writer = new WalWriter({ start: lsnOf(BigInt(random.between(1, 8192)) * BigInt(MIB)) });
  const until = addBytes(writer.start, 2.5 * MIB);
  while (writer.position < until) {
    const what = random.next();
    if (what < 0.002) writer.switchSegment();
    else if (what < 0.004) writer.overwrite(writer.abort({ data: filled(60_000) }, random.between(1, 7)));
    else if (what < 0.01) writer.write({ data: random.bytes(random.between(8000, 60_000)) });
    else if (what < 0.3 && writer.roomOnPage > 100) writer.fillPage(random.between(0, 9) * 8);
    else
      writer.write({
        rmid: random.between(2, 21),
        info: random.between(0, 255),
        data: random.bytes(random.between(0, 700)),
      });
  }
  const { verifier, records } = verifierFor(writer);
  const bytes = writer.bytes;
  for (let at = 0; at < bytes.length;) {
    const take = Math.min(bytes.length - at, random.between(1, random.pick([10, 1000, 100_000])));
    verifier.push(bytes.subarray(at, at + take));
    at += take;
  }
  expect(records).toEqual(writer.records);
  expect(verifier.verifiedLsn).toBe(writer.position);
});

function range(length: number): number[] {
  return [...Array(length).keys()];
}

/** Five pages with one of everything that fits. */
function awkwardWal(): WalWriter {
  const writer = new WalWriter();
  for (let n = 0; n < 30; n++) writer.write({ data: filled(n * 7) });
  writer.fillPage(8);
  writer.write({ data: filled(600) });
  writer.fillPage(16);
  writer.write({ data: filled(9000) });
  writer.fillPage(0);
  writer.overwrite(writer.abort({ data: filled(9000) }));
  writer.write({ data: filled(77) });
  return writer;
}
