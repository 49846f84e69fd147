/** What the verifier counts: commits and their times, restore points, segment by segment. */
import { describe, expect, it } from "vitest";
import { XLOG_XACT_COMMIT } from "../../src/wal/format.ts";
import { type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import { WalAccount } from "../../src/wal/summary.ts";
import { concat, filled, mainData, MIB, timestamp, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

const at = (n: number): number => 1_760_000_000_123_456 + n * 1_000_000;

describe("commits are counted and dated", () => {
  const COMMIT = { rmid: 1, info: XLOG_XACT_COMMIT | 0x80 };
  const commit = (n: number, extra: number, options = {}): Uint8Array =>
    mainData(concat([timestamp(at(n)), filled(extra)]), options);

  it("in whole and in cut records, with an origin, with a top-level xid, with long data", () => {
    const writer = new WalWriter();
    writer.write({ ...COMMIT, data: commit(0, 0) });
    writer.write({ ...COMMIT, data: commit(1, 20, { origin: 513 }) });
    writer.write({ ...COMMIT, info: 0x30, data: commit(2, 20, { origin: 1, topXid: 70_000 }) });
    writer.write({ rmid: 1, info: 0x20, data: commit(3, 20) });
    writer.write({ rmid: 1, info: 0x40, data: commit(4, 20) });
    writer.write({ rmid: 1, info: 0x10, data: commit(5, 20) });
    for (const left of [8, 16, 24, 32, 40, 48]) {
      writer.fillPage(left);
      writer.write({ ...COMMIT, data: commit(left, 300) });
    }
    writer.fillPage(32);
    const last = writer.write({ ...COMMIT, data: commit(99, 100_000, { origin: 7, topXid: 9 }) });
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.commitCount).toBe(10);
    expect(verifier.lastCommitTime).toBe(at(99));
    expect(verifier.openSummary()).toEqual({
      segment: 1,
      timeline: 1,
      recordCount: writer.records.length,
      isRead: true,
      commitCount: 10,
      abortCount: 2,
      firstCommitTime: at(0),
      lastCommitTime: at(99),
      lastRecordEnd: last.end,
      restorePoints: [],
      changes: [],
    });
  });

  it("for the segment in which they end", () => {
    const writer = new WalWriter();
    writer.write({ ...COMMIT, data: commit(0, 0) });
    toSegmentEnd(writer, 40);
    writer.write({ ...COMMIT, data: commit(1, 1.5 * MIB) });
    writer.write({ ...COMMIT, data: commit(2, 0) });
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    const [first, second, ...rest] = verifier.takeSummaries();
    expect(first).toMatchObject({
      segment: 1,
      isRead: true,
      commitCount: 1,
      lastCommitTime: at(0),
      lastRecordEnd: writer.records.at(-3)?.end,
    });
    expect(second).toEqual({
      segment: 2,
      timeline: 1,
      recordCount: 0,
      isRead: true,
      commitCount: 0,
      abortCount: 0,
      lastRecordEnd: writer.records.at(-3)?.end,
      restorePoints: [],
      changes: [],
    });
    expect(rest).toEqual([]);
    expect(verifier.openSummary()).toMatchObject({ commitCount: 2, firstCommitTime: at(1), lastCommitTime: at(2) });
    expect(verifier.takeSummaries()).toEqual([]);
  });

  it("without a time when the record has none, and without falling over", () => {
    const writer = new WalWriter();
    for (const data of [undefined, filled(1, 255), mainData(filled(4)), filled(40, 0), filled(40, 252)]) {
      writer.write({ ...COMMIT, ...(data === undefined ? {} : { data }) });
    }
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.commitCount).toBe(5);
    expect(verifier.lastCommitTime).toBeUndefined();
  });

  it("keeps the names of restore points, whole and cut", () => {
    const writer = new WalWriter();
    const name = (text: string): Uint8Array =>
      concat([new TextEncoder().encode(text), new Uint8Array(64 - text.length)]);
    const point = (n: number, text: string): void =>
      void writer.write({ rmid: 0, info: 0x70, data: mainData(concat([timestamp(at(n)), name(text)])) });
    point(1, "before the upgrade");
    writer.fillPage(56);
    point(2, "x".repeat(63));
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().restorePoints).toEqual([
      { name: "before the upgrade", time: at(1), lsn: writer.records[0]?.end },
      { name: "x".repeat(63), time: at(2), lsn: writer.position },
    ]);
  });

  it("keeps no more than a bounded number of them", () => {
    const writer = new WalWriter();
    for (let n = 0; n < 100; n++) {
      writer.write({ rmid: 0, info: 0x70, data: mainData(concat([timestamp(at(n)), filled(64)])) });
    }
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().restorePoints).toHaveLength(64);
  });

  it("and of those that are too short for a name or a time none", () => {
    const writer = new WalWriter();
    const whole = concat([timestamp(at(1)), filled(64, 0x61)]);
    for (const length of [0, 7, 8, 71]) {
      writer.write({ rmid: 0, info: 0x70, data: mainData(whole.subarray(0, length)) });
    }
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().restorePoints).toEqual([]);
    writer.write({ rmid: 0, info: 0x70, data: mainData(whole) });
    verifier.push(writer.bytes.subarray(Number(verifier.position - writer.start)));
    expect(verifier.openSummary().restorePoints).toHaveLength(1);
  });
});

describe("an account", () => {
  const newAccount = (): WalAccount => {
    return new WalAccount(0x100000n as Lsn, { segmentSize: MIB, timeline: timelineOf(1), isRead: true });
  };

  it("has no member for what has not been seen", () => {
    const summary = newAccount().openSummary(0x100028n as Lsn);
    expect(summary).toStrictEqual({
      ...{ segment: 1, timeline: 1, recordCount: 0, isRead: true, commitCount: 0, abortCount: 0 },
      ...{ lastRecordEnd: 0x100028n, restorePoints: [], changes: [] },
    });
  });

  it("keeps the time of the commit before, when a commit has none", () => {
    const account = newAccount();
    const record = (data: Uint8Array): Uint8Array => concat([new Uint8Array(24), mainData(data)]);
    account.noteTransaction(record(timestamp(at(1))), 0, 34);
    account.noteTransaction(record(filled(2)), 0, 28);
    expect(account.lastCommitTime).toBe(at(1));
    expect(account.openSummary(0x103000n as Lsn)).toMatchObject({
      ...{ commitCount: 2, firstCommitTime: at(1), lastCommitTime: at(1) },
    });
  });

  it("holds 65,536 summaries that are not taken, and no more", () => {
    const account = newAccount();
    const end = 0x200000n as Lsn;
    for (let n = 0; n < 65_536; n++) account.closeSegment(end, end);
    expect(() => account.closeSegment(end, end)).toThrow(/segment summaries are not being taken/);
    expect(account.takeSummaries()).toHaveLength(65_536);
    account.closeSegment(end, end);
  });
});
