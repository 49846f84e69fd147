/** A start in the middle of a record, with and without what was carried over the segment border. */
import { describe, expect, it } from "vitest";
import { addBytes } from "../../src/wal/lsn.ts";
import { carryWithoutContent } from "../../src/wal/carry-without-content.ts";
import { filled, MIB, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

describe("a start in the middle of a record", () => {
  const writer = new WalWriter();
  writer.write({ data: filled(100) });
  toSegmentEnd(writer, 64);
  const crossing = writer.write({ data: filled(30_001) });
  const after = writer.write({ data: filled(50) });
  const tail = writer.bytes.subarray(MIB);
  const border = addBytes(writer.start, MIB);

  it("without a carry, skips the head, says so, and verifies from there on", () => {
    const { verifier, records } = verifierFor(writer, { startLsn: border });
    verifier.push(tail.subarray(0, 20_000));
    expect(verifier.verifiedLsn).toBe(border);
    expect(verifier.headBytesUnverified).toBeGreaterThan(19_000);
    verifier.push(tail.subarray(20_000));
    expect(records).toEqual([after]);
    expect(verifier.verifiedLsn).toBe(writer.position);
    expect(verifier.headBytesUnverified).toBe(24 + 30_001 - 64);
  });

  it("with the head ending exactly where the bytes end, is verified up to there", () => {
    const { verifier } = verifierFor(writer, { startLsn: border });
    verifier.push(tail.subarray(0, Number(crossing.end - border)));
    expect(verifier.verifiedLsn).toBe(crossing.end);
  });

  it("with a carry, verifies the record as if nothing had come between", () => {
    const first = verifierFor(writer);
    first.verifier.push(writer.bytes.subarray(0, MIB));
    const carry = first.verifier.carry();
    expect(JSON.stringify(carry).length).toBeLessThan(400);
    const { verifier, records } = verifierFor(writer, {
      startLsn: border,
      carry: JSON.parse(JSON.stringify(carry)) as typeof carry,
      majorVersion: undefined,
    });
    expect(verifier.verifiedLsn).toBe(first.verifier.verifiedLsn);
    verifier.push(tail);
    expect(records).toEqual([crossing, after]);
    expect(verifier.headBytesUnverified).toBe(0);
    const bad = tail.slice();
    bad[100] = 0;
    const again = verifierFor(writer, { startLsn: border, carry });
    expect(() => again.verifier.push(bad)).toThrow("CRC-32C");
  });

  it("with a carry without content, skips the record's rest and checks the links behind it", () => {
    const first = verifierFor(writer);
    first.verifier.push(writer.bytes.subarray(0, MIB));
    const full = first.verifier.carry();
    if (full?.record === undefined) throw new Error("no record crosses the border");
    const carry = carryWithoutContent(full);
    expect(carry.record).toBeUndefined();
    expect(JSON.stringify(carry)).not.toContain(full.record.prefix.slice(0, 20));
    const { verifier, records } = verifierFor(writer, { startLsn: border, carry });
    verifier.push(tail);
    expect(records).toEqual([after]);
    expect(verifier.verifiedLsn).toBe(writer.position);
    const moved = { ...carry, prev: "0/28" };
    const again = verifierFor(writer, { startLsn: border, carry: moved });
    expect(() => again.verifier.push(tail)).toThrow("xl_prev");
    expect(carryWithoutContent(carry)).toEqual(carry);
  });

  it.each([0, 8, 16, 24, 32, 200])("with a carry, %i bytes before the border", (left) => {
    const whole = new WalWriter();
    toSegmentEnd(whole, left);
    whole.write({ data: filled(2.5 * MIB) });
    whole.write();
    const found: unknown[] = [];
    let carry;
    for (let segment = 0; segment * MIB < whole.bytes.length; segment++) {
      const { verifier, records } = verifierFor(whole, { startLsn: addBytes(whole.start, segment * MIB), carry });
      const bytes = whole.bytes.subarray(segment * MIB, (segment + 1) * MIB);
      verifier.push(bytes);
      found.push(...records);
      if (bytes.length < MIB) break;
      carry = JSON.parse(JSON.stringify(verifier.carry())) as ReturnType<typeof verifier.carry>;
    }
    expect(found).toEqual(whole.records);
  });

  it("without a carry, hands on what is left of a head that is longer than the segment", () => {
    const whole = new WalWriter();
    whole.write({ data: filled(2.5 * MIB) });
    const last = whole.write();
    const second = verifierFor(whole, { startLsn: addBytes(whole.start, MIB) });
    second.verifier.push(whole.bytes.subarray(MIB, 2 * MIB));
    const carry = second.verifier.carry();
    expect(carry?.headLeft).toBeGreaterThan(MIB / 2 - 100);
    const third = verifierFor(whole, { startLsn: addBytes(whole.start, 2 * MIB), carry });
    third.verifier.push(whole.bytes.subarray(2 * MIB));
    expect(third.records).toEqual([last]);
  });

  it("has nothing to carry before the first byte, and refuses a carry of another place or of nonsense", () => {
    expect(verifierFor(writer).verifier.carry()).toBeUndefined();
    const first = verifierFor(writer);
    first.verifier.push(writer.bytes.subarray(0, MIB));
    const carry = first.verifier.carry();
    if (carry?.record === undefined) throw new Error("a record crosses this border");
    expect(() => verifierFor(writer, { startLsn: writer.start, carry })).toThrow("used at");
    for (const record of [
      { ...carry.record, got: 7 },
      { ...carry.record, prefix: "" },
      { ...carry.record, got: 2 ** 31 },
    ]) {
      expect(() => verifierFor(writer, { startLsn: border, carry: { ...carry, record } })).toThrow(
        "contradicts itself",
      );
    }
    first.verifier.push(tail.subarray(0, 100));
    expect(() => first.verifier.carry()).toThrow(expect.objectContaining({ code: "internal" }));
  });
});
