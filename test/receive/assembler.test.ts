/** A segment being filled: where its chunks may end, and how what was stored before is compared in its own memory. */
import { describe, expect, test } from "vitest";
import type { SegmentNumber, TimelineId } from "../../src/wal/lsn.ts";
import { addBytes } from "../../src/wal/lsn.ts";
import { digestOf } from "../../src/codec/age/digest.ts";
import type { SegmentBuffer } from "../../src/receive/segment-buffer.ts";
import { OpenSegment, type StoredPrefix } from "../../src/receive/assembler.ts";

const MIB = 1 << 20;
const SIZE = 16 * MIB;
const place = { timeline: 1 as TimelineId, segment: 1 as SegmentNumber, segmentSize: SIZE };

function openSegment(stored?: string): OpenSegment {
  const bytes = new Uint8Array(new SharedArrayBuffer(SIZE));
  if (stored === undefined) return new OpenSegment(place, { bytes, isUsed: true }, undefined);
  bytes.set(Buffer.from(stored));
  const prefix: StoredPrefix = { byteLength: stored.length, verifiedLsn: addBytes(open.startLsn, stored.length) };
  return new OpenSegment(place, { bytes, isUsed: true }, prefix);
}

const open = openSegment();

describe("a chunk", () => {
  /** Records that end at these offsets. */
  const withRecords = (ends: readonly number[]): OpenSegment => {
    const segment = openSegment();
    segment.append(new Uint8Array(SIZE));
    for (const end of ends) segment.verifiedTo(addBytes(segment.startLsn, end));
    return segment;
  };

  test.each([
    { name: "all that is verified, when it is short", ends: [100, 2 * MIB], start: 0, max: 4 * MIB, end: 2 * MIB },
    { name: "the last end within the limit", ends: [MIB, 3 * MIB, 6 * MIB], start: 0, max: 4 * MIB, end: 3 * MIB },
    { name: "the limit itself", ends: [MIB, 4 * MIB, 6 * MIB], start: 0, max: 4 * MIB, end: 4 * MIB },
    { name: "counted from where it starts", ends: [MIB, 3 * MIB, 6 * MIB], start: MIB, max: 2 * MIB, end: 3 * MIB },
    {
      name: "the end of a record longer than the limit",
      ends: [9 * MIB, 12 * MIB],
      start: 0,
      max: 4 * MIB,
      end: 9 * MIB,
    },
    { name: "the last end, when no other is known", ends: [MIB, 9 * MIB], start: MIB, max: 4 * MIB, end: 9 * MIB },
  ])("ends at $name", ({ ends, start, max, end }) => {
    expect(withRecords(ends).chunkEnd(start, max)).toBe(end);
  });

  test("ends at most a mebibyte before the limit, however short the records are", () => {
    const ends = Array.from({ length: 16_000 }, (_, i) => (i + 1) * 1000);
    expect(withRecords(ends).chunkEnd(0, 8 * MIB)).toBeGreaterThan(7 * MIB);
  });
});

describe("what the store held before", () => {
  test("is compared in any split, then the rest is filled in behind it", () => {
    for (let split = 1; split < 8; split++) {
      const segment = openSegment("abcd");
      expect(segment.storedPrefixBytes).toBe(4);
      const pieces = [segment.append(Buffer.from("abcdefgh".slice(0, split)))];
      expect(segment.takeComparedPrefix() !== undefined).toBe(split >= 4);
      pieces.push(segment.append(Buffer.from("abcdefgh".slice(split))));
      expect(pieces.map((piece) => Buffer.from(piece).toString()).join("")).toBe("abcdefgh");
      expect(segment.takeComparedPrefix() !== undefined).toBe(split < 4);
      expect(Buffer.from(segment.buffer.bytes.subarray(0, 9)).toString("latin1")).toBe("abcdefgh\0");
    }
  });

  test("that differs from the server's is refused with the place of the first difference", () => {
    const segment = openSegment("abcd");
    segment.append(Buffer.from("ab"));
    expect(() => segment.append(Buffer.from("cXef"))).toThrowError(
      expect.objectContaining({ code: "wal-diverged", message: expect.stringContaining("0/1000003") as string }),
    );
  });
});

describe("what the store held before, encrypted", () => {
  const locked = (): OpenSegment => {
    const bytes = new Uint8Array(new SharedArrayBuffer(SIZE));
    const pieces = [
      { start: 0, end: 2, digest: digestOf(Buffer.from("ab")) },
      { start: 2, end: 4, digest: digestOf(Buffer.from("abcd")) },
    ];
    const prefix = { byteLength: 4, verifiedLsn: addBytes(open.startLsn, 4), pieces };
    return new OpenSegment(place, { bytes, isUsed: true }, prefix);
  };

  test("is compared by its digests once all of it has come, in any split", () => {
    for (let split = 1; split < 8; split++) {
      const segment = locked();
      expect(segment.storedPrefixBytes).toBe(4);
      segment.append(Buffer.from("abcdefgh".slice(0, split)));
      expect(segment.takeComparedPrefix() !== undefined).toBe(split >= 4);
      segment.append(Buffer.from("abcdefgh".slice(split)));
      expect(segment.takeComparedPrefix() !== undefined).toBe(split < 4);
      expect(Buffer.from(segment.buffer.bytes.subarray(0, 9)).toString("latin1")).toBe("abcdefgh\0");
    }
  });

  test.each([
    ["aXcd", "0/1000002"],
    ["abcX", "0/1000004"],
  ])("and is %s at the server, is refused with the end of the first object that differs", (sent, lsn) => {
    expect(() => locked().append(Buffer.from(sent))).toThrowError(
      expect.objectContaining({ code: "wal-diverged", message: expect.stringContaining(lsn) as string }),
    );
  });

  test("has the digest of all bytes up to a chunk's end, also of a merged chunk that ends before the newest", () => {
    const segment = openSegment();
    const bytes = Buffer.alloc(30_000, "WAL of several blocks ");
    segment.append(bytes);
    for (const end of [9000, 9000, 20_000, 16_384, 30_000]) {
      expect(segment.digestTo(end)).toBe(digestOf(bytes.subarray(0, end)));
    }
  });
});

describe("a cluster that falls quiet", () => {
  const fresh = (): SegmentBuffer => ({ bytes: new Uint8Array(new SharedArrayBuffer(SIZE)), isUsed: false });

  test("leaves the open segment in memory of its own size, with the same bytes", () => {
    const segment = openSegment();
    const before = segment.buffer;
    const piece = segment.append(Buffer.from("abcd"));
    segment.moveTo(fresh);
    expect(segment.buffer).not.toBe(before);
    segment.append(Buffer.from("efgh"));
    expect(Buffer.from(segment.buffer.bytes.subarray(0, 9)).toString("latin1")).toBe("abcdefgh\0");
    expect(Buffer.from(piece).toString()).toBe("abcd");
    // A second time there is nothing to gain.
    const now = segment.buffer;
    segment.moveTo(fresh);
    expect(segment.buffer).toBe(now);
  });

  test("keeps the memory of a segment that is more than half full, or still compared with the store", () => {
    const full = openSegment();
    full.append(new Uint8Array(SIZE / 2 + 1));
    const compared = openSegment("abcd");
    compared.append(Buffer.from("ab"));
    for (const segment of [full, compared]) {
      const before = segment.buffer;
      segment.moveTo(fresh);
      expect(segment.buffer).toBe(before);
    }
  });
});
