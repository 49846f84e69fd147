/** A record that creates a tablespace, with its path emptied: valid to the verifier, wherever borders cut it. */
import { describe, expect, it } from "vitest";
import { emptyLocation } from "../../src/wal/empty-location.ts";
import { RM_TBLSPC_ID, XLOG_TBLSPC_CREATE } from "../../src/wal/format.ts";
import { bytesBetween } from "../../src/wal/lsn.ts";
import { concat, filled, mainData, verifierFor, WalWriter } from "./wal-writer.ts";

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

  it("refuses what is no such record", () => {
    const writer = new WalWriter();
    const { lsn } = writer.write({ data: filled(30) });
    expect(() => emptyLocation(writer.bytes, bytesBetween(writer.start, lsn))).toThrow("no record that creates");
  });
});
