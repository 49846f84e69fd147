/** Tablespaces and settings in the WAL: records as PostgreSQL writes them, and cut at every border. */
import { describe, expect, it } from "vitest";
import { RM_TBLSPC_ID, RM_XLOG_ID, XLOG_PARAMETER_CHANGE, XLOG_TBLSPC_CREATE } from "../../src/wal/format.ts";
import { segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { concat, filled, mainData, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

/** The main data of xl_tblspc_create_rec. */
function creation(oid: number, path: string): Uint8Array {
  const bytes = Buffer.from(`\0\0\0\0${path}\0`);
  bytes.writeUInt32LE(oid, 0);
  return mainData(bytes);
}

const CREATE = { rmid: RM_TBLSPC_ID, info: XLOG_TBLSPC_CREATE };

describe("where a border cuts the record", () => {
  it.each([8, 16, 24, 32, 40, 200])("a page with %i bytes left: the whole path", (left) => {
    const writer = new WalWriter();
    const path = `/srv/${"p".repeat(1000)}`;
    writer.fillPage(left);
    const { lsn, end } = writer.write({ ...CREATE, data: creation(16_400, path) });
    const { verifier } = verifierFor(writer);
    for (const byte of writer.bytes) verifier.push(Uint8Array.of(byte));
    expect(verifier.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: path },
    ]);
  });

  it("a segment: it counts where it ends; resumed from a carry, a path that the carry lacks is unknown", () => {
    const writer = new WalWriter();
    writer.write({ data: filled(10) });
    toSegmentEnd(writer, 200);
    const path = `/srv/${"p".repeat(300)}`;
    const { lsn, end } = writer.write({ ...CREATE, data: creation(16_400, path) });
    const { verifier } = verifierFor(writer);
    const border = writer.segmentSize;
    verifier.push(writer.bytes.subarray(0, border));
    const carry = verifier.carry();
    verifier.push(writer.bytes.subarray(border));
    expect(verifier.takeSummaries()[0]?.changes).toEqual([]);
    expect(verifier.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: path },
    ]);
    const startLsn = segmentStart(segmentOf(end, border), border);
    const { verifier: resumed } = verifierFor(writer, { carry, startLsn });
    resumed.push(writer.bytes.subarray(border));
    expect(resumed.verifiedLsn).toBe(end);
    expect(resumed.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: undefined },
    ]);
    // Without the carry nobody can say what ended there.
    const { verifier: blind } = verifierFor(writer, { startLsn });
    blind.push(writer.bytes.subarray(border));
    expect(blind.openSummary().changes).toBeUndefined();
  });
});

describe("odd records", () => {
  const found = (record: { rmid: number; info: number; data: Uint8Array }): readonly WalChange[] | undefined => {
    const writer = new WalWriter();
    writer.write(record);
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    return verifier.openSummary().changes;
  };

  it("a tablespace inside the data directory has an empty location", () => {
    expect(found({ ...CREATE, data: creation(5, "") })).toMatchObject([{ oid: 5, location: "" }]);
  });

  it("an emptied path is still known", () => {
    expect(found({ ...CREATE, data: creation(5, "\0srv/a") })).toMatchObject([{ oid: 5, location: "/srv/a" }]);
  });

  it("a path that is not UTF-8, or has no end, is unknown", () => {
    const notText = mainData(concat([Uint8Array.of(5, 0, 0, 0, 0x2f, 0xe4, 0)]));
    const endless = mainData(concat([Uint8Array.of(5, 0, 0, 0, 0x2f, 0x61)]));
    for (const data of [notText, endless]) expect(found({ ...CREATE, data })).toMatchObject([{ location: undefined }]);
  });

  it("other operations and records that are too short are none", () => {
    expect(found({ rmid: RM_TBLSPC_ID, info: 0x20, data: mainData(filled(8)) })).toEqual([]);
    expect(found({ ...CREATE, data: mainData(filled(3)) })).toEqual([]);
    expect(found({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, data: mainData(filled(20)) })).toEqual([]);
  });

  it("more than fit are not listed in part", () => {
    const writer = new WalWriter();
    for (let i = 0; i < 65; i++) writer.write({ ...CREATE, data: creation(i + 1, "/a") });
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().changes).toBeUndefined();
  });
});
