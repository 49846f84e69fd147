/** The verifier on WAL written in memory, at every border. Every cut: verifier-cuts.test.ts. Real servers: oracle.test.ts. */
import { describe, expect, it } from "vitest";
import { addBytes, formatLsn, lsnOf } from "../../src/wal/lsn.ts";
import { randomFrom } from "../harness/random.ts";
import { awkwardWal, expectFoundByteByByte, PAGE_CORNERS, SEGMENT_CORNERS } from "./verifier-corners.ts";
import { filled, MIB, verifierFor, WalWriter } from "./wal-writer.ts";

describe("records are found wherever they lie", () => {
  it.each([...PAGE_CORNERS, ...SEGMENT_CORNERS])("%s", (_what, options, write) => {
    const writer = new WalWriter(options);
    write(writer);
    const { verifier, records } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(records).toEqual(writer.records);
    expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(writer.position));
    expect(verifier.position).toBe(writer.position);
    expect(verifier.headBytesUnverified).toBe(0);
  });

  it.each(PAGE_CORNERS)("%s, byte by byte: nothing is verified before it is complete", (...corner) => {
    expectFoundByteByByte(corner);
  });
});

describe("the input may be cut anywhere", () => {
  const writer = awkwardWal();
  const bytes = writer.bytes;

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
