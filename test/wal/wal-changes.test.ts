/** Tablespaces and settings in the WAL: records as PostgreSQL writes them, and cut at every border. */
import { describe, expect, it } from "vitest";
import {
  RM_TBLSPC_ID,
  RM_XLOG_ID,
  XLOG_PARAMETER_CHANGE,
  XLOG_TBLSPC_CREATE,
  XLOG_TBLSPC_DROP,
} from "../../src/wal/format.ts";
import { lsnOf, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { createsTablespace, isChange, type WalChange } from "../../src/wal/wal-changes.ts";
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
    // Without the carry the end of that record is unknown.
    const { verifier: blind } = verifierFor(writer, { startLsn });
    blind.push(writer.bytes.subarray(border));
    expect(blind.openSummary().changes).toBeUndefined();
  });
});

describe("records", () => {
  const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer);
  const oidOf = (oid: number): Uint8Array => words(oid);
  /** One record, and what is found of it. */
  function written(record: { rmid: number; info: number; data: Uint8Array }) {
    const writer = new WalWriter();
    const { lsn, end } = writer.write(record);
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    return { changes: verifier.openSummary().changes, lsn, end };
  }
  const found = (record: Parameters<typeof written>[0]): readonly WalChange[] | undefined => written(record).changes;

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

  it("a dropped tablespace is known by its OID", () => {
    const { changes, lsn, end } = written({
      rmid: RM_TBLSPC_ID,
      info: XLOG_TBLSPC_DROP,
      data: mainData(oidOf(16_400)),
    });
    expect(changes).toEqual([{ kind: "tablespace-dropped", lsn, end, oid: 16_400 }]);
    // Four bytes are enough, and an info byte's low bits say nothing of the operation.
    const more = written({ rmid: RM_TBLSPC_ID, info: XLOG_TBLSPC_DROP | 0x0f, data: mainData(oidOf(7)) });
    expect(more.changes).toMatchObject([{ kind: "tablespace-dropped", oid: 7 }]);
  });

  it.each([
    [0, "minimal"],
    [1, "replica"],
    [2, "logical"],
  ])("settings with wal_level %i (%s) are read, each from its place", (level, walLevel) => {
    const data = mainData(words(71, 11, 12, 13, 77, level));
    const { changes, lsn, end } = written({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, data });
    const settings = {
      ...{ max_connections: 71, max_worker_processes: 11, max_wal_senders: 12 },
      ...{ max_prepared_transactions: 13, max_locks_per_transaction: 77 },
    };
    expect(changes).toEqual([{ kind: "parameters", lsn, end, walLevel, settings }]);
  });

  it("settings with flags behind them, and with low bits in the info byte, are read as well", () => {
    const data = mainData(words(71, 11, 12, 13, 77, 1, 0x0101));
    const { changes } = written({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE | 0x0f, data });
    expect(changes).toMatchObject([{ kind: "parameters", walLevel: "replica" }]);
  });

  it("settings with a wal_level that PostgreSQL does not have are none", () => {
    const data = mainData(words(71, 11, 12, 13, 77, 3));
    expect(found({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, data })).toEqual([]);
  });

  it("records of other kinds with the same bytes are none", () => {
    const data = mainData(words(71, 11, 12, 13, 77, 1));
    expect(found({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE ^ 0x10, data })).toEqual([]);
    expect(found({ rmid: 11, info: XLOG_PARAMETER_CHANGE, data })).toEqual([]);
    expect(found({ rmid: 11, info: XLOG_TBLSPC_CREATE, data: creation(5, "/a") })).toEqual([]);
    expect(found({ ...CREATE, data: new Uint8Array(0) })).toEqual([]);
  });

  it("a path whose first byte is a letter is taken as it is", () => {
    expect(found({ ...CREATE, data: creation(5, "relative") })).toMatchObject([{ location: "relative" }]);
  });

  it("only these kinds are looked at", () => {
    expect(isChange(RM_TBLSPC_ID, 0)).toBe(true);
    expect(isChange(RM_XLOG_ID, XLOG_PARAMETER_CHANGE)).toBe(true);
    expect(isChange(RM_XLOG_ID, XLOG_PARAMETER_CHANGE | 0x0f)).toBe(true);
    expect(isChange(RM_XLOG_ID, XLOG_PARAMETER_CHANGE ^ 0x10)).toBe(false);
    expect(isChange(11, XLOG_PARAMETER_CHANGE)).toBe(false);
  });

  it("whether tablespaces are created is asked of all changes", () => {
    const place = { lsn: lsnOf(8n), end: lsnOf(16n) };
    const dropped: WalChange = { kind: "tablespace-dropped", ...place, oid: 5 };
    const created: WalChange = { kind: "tablespace-created", ...place, oid: 5, location: "/a" };
    expect(createsTablespace([])).toBe(false);
    expect(createsTablespace([dropped])).toBe(false);
    expect(createsTablespace([dropped, created])).toBe(true);
  });

  it("64 are listed, and of more none: they are not listed in part", () => {
    const writer = new WalWriter();
    for (let i = 0; i < 64; i++) writer.write({ ...CREATE, data: creation(i + 1, "/a") });
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().changes).toHaveLength(64);
    writer.write({ ...CREATE, data: creation(65, "/a") });
    const { verifier: fuller } = verifierFor(writer);
    fuller.push(writer.bytes);
    expect(fuller.openSummary().changes).toBeUndefined();
  });

  it("settings with wal_level minimal are given once, those of all segments together, and no others", () => {
    const writer = new WalWriter();
    const settings = { rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE };
    const level = (value: number): Uint8Array => mainData(words(100, 8, 10, 0, 64, value));
    writer.write({ ...CREATE, data: creation(1, "/a") });
    const first = writer.write({ ...settings, data: level(0) });
    writer.write({ ...settings, data: level(1) });
    toSegmentEnd(writer, 200);
    writer.write({ data: filled(300) });
    const second = writer.write({ ...settings, data: level(0) });
    const { verifier } = verifierFor(writer);
    expect(verifier.takeMinimal()).toEqual([]);
    verifier.push(writer.bytes);
    expect(verifier.takeMinimal()).toMatchObject([
      { lsn: first.lsn, end: first.end, walLevel: "minimal" },
      { lsn: second.lsn, end: second.end, walLevel: "minimal" },
    ]);
    expect(verifier.takeMinimal()).toEqual([]);
  });
});
