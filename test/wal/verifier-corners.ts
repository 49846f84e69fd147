/** WAL with records at every kind of border, for tests of the verifier. */
import { expect } from "vitest";
import { addBytes, parseLsn } from "../../src/wal/lsn.ts";
import { filled, MIB, toSegmentEnd, verifierFor, WalWriter, type WriterOptions } from "./wal-writer.ts";

/** What it is, where it begins, and what writes it. */
export type Corner = readonly [string, WriterOptions, (w: WalWriter) => void];

/** Within a segment: a few pages each. */
export const PAGE_CORNERS: readonly Corner[] = [
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
  ["built-in and custom resource managers", {}, (w) => [0, 21, 128, 255].forEach((rmid) => w.write({ rmid }))],
];

/** Across the ends of segments: a megabyte or more each. */
export const SEGMENT_CORNERS: readonly Corner[] = [
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
];

export function range(length: number): number[] {
  return [...Array(length).keys()];
}

/** Five pages with one of everything that fits. */
export function awkwardWal(): WalWriter {
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

/** Pushes single bytes around every record border, larger steps between them; nothing may be verified too early. */
export function expectFoundByteByByte([, options, write]: Corner): void {
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
}
