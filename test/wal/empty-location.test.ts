/** A record that creates a tablespace, with its path emptied: valid to the verifier, wherever borders cut it. */
import { describe, expect, it } from "vitest";
import { emptyLocation } from "../../src/wal/empty-location.ts";
import { RM_TBLSPC_ID, XLOG_TBLSPC_CREATE } from "../../src/wal/format.ts";
import { bytesBetween } from "../../src/wal/lsn.ts";
import { concat, filled, mainData, type RecordToWrite, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

const CREATE = { rmid: RM_TBLSPC_ID, info: XLOG_TBLSPC_CREATE };
function creation(path: string, options: { origin?: number; topXid?: number } = {}): Uint8Array {
  return mainData(concat([Uint8Array.of(1, 64, 0, 0), Buffer.from(`${path}\0`)]), options);
}

describe("verifies, says the same of itself, and leaves its neighbours alone", () => {
  const lengths = [1, 30, 200, 1000];
  it.each([0, 8, 16, 24, 32, 40, 56, 200, 4000].flatMap((left) => lengths.map((length) => ({ left, length }))))(
    "%j",
    ({ left, length }) => {
      const writer = new WalWriter();
      if (left > 0) writer.fillPage(left);
      const path = `/${"p".repeat(length)}`;
      const { lsn } = writer.write({ ...CREATE, data: creation(path, length === 30 ? { origin: 3, topXid: 9 } : {}) });
      writer.write({ data: filled(9000) });
      const original = writer.bytes;
      const changed = Uint8Array.from(original);
      emptyLocation(changed, bytesBetween(writer.start, lsn));
      const { verifier, records } = verifierFor(writer);
      verifier.push(changed);
      expect(records).toEqual(writer.records);
      expect(verifier.openSummary().changes).toMatchObject([{ oid: 16_385, location: path }]);
      const differing = original.reduce((sum, byte, at) => sum + (byte === changed[at] ? 0 : 1), 0);
      expect(differing).toBeGreaterThan(1);
      expect(differing).toBeLessThanOrEqual(5);
      // Once more changes nothing.
      const again = Uint8Array.from(changed);
      emptyLocation(again, bytesBetween(writer.start, lsn));
      expect(again).toEqual(changed);
    },
  );

  it.each<[string, RecordToWrite, string]>([
    ["of another resource manager", { data: mainData(filled(30)) }, "no record that creates a tablespace"],
    ["without main data", { ...CREATE, data: new Uint8Array(0) }, "no record that creates a tablespace"],
    ["with an OID and no path", { ...CREATE, data: mainData(filled(4)) }, "a tablespace without a path"],
  ])("refuses a record %s, and leaves it as it was", (_, record, message) => {
    const writer = new WalWriter();
    writer.write({ data: filled(100) });
    const { lsn } = writer.write(record);
    writer.write({ data: filled(100) });
    const bytes = writer.bytes;
    expect(() => emptyLocation(bytes, bytesBetween(writer.start, lsn))).toThrow(message);
    expect(bytes).toEqual(writer.bytes);
  });

  it.each([0, 23, 1 << 21])("refuses a place where a length of %i stands", (length) => {
    const writer = new WalWriter();
    const { lsn } = writer.write({ ...CREATE, data: creation("/a") });
    const bytes = writer.bytes;
    const offset = bytesBetween(writer.start, lsn);
    new DataView(bytes.buffer).setUint32(offset, length, true);
    expect(() => emptyLocation(bytes, offset)).toThrow(`a record of ${length} bytes`);
  });

  it("changes a record that ends with its segment, and refuses one that goes on in the next", () => {
    const path = `/${"p".repeat(269)}`;
    for (const [left, isWhole] of [
      [304, true],
      [200, false],
    ] as const) {
      const writer = new WalWriter();
      toSegmentEnd(writer, left);
      const { lsn, length } = writer.write({ ...CREATE, data: creation(path) });
      expect(length).toBe(304);
      const segment = writer.bytes.slice(0, writer.segmentSize);
      expect(segment).toHaveLength(writer.segmentSize);
      const change = (): void => emptyLocation(segment, bytesBetween(writer.start, lsn));
      if (isWhole) change();
      else expect(change).toThrow("the record goes on in the next segment");
    }
  });

  it("refuses what is no such record", () => {
    const writer = new WalWriter();
    const { lsn } = writer.write({ data: filled(30) });
    expect(() => emptyLocation(writer.bytes, bytesBetween(writer.start, lsn))).toThrow("no record that creates");
  });
});
