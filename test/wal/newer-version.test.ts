/**
 * WAL of a version that is newer than the known ones: pages, the record chain and CRCs are verified as before, and nothing is
 * concluded from the contents of records.
 */
import { describe, expect, test } from "vitest";
import { MAJOR_MAX, PAGE_MAGIC, PAGE_SIZE } from "../../src/wal/format.ts";
import { addBytes, lsnOf } from "../../src/wal/lsn.ts";
import { type WalVerifier } from "../../src/wal/verifier.ts";
import { concat, filled, mainData, timestamp, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";

const NEWER = MAJOR_MAX + 1;
const MAGIC = 0xd1f0;
/** No version so far has this resource manager. */
const NEW_RMGR = 22;
const RM_XACT = 1;

function writer(): WalWriter {
  return new WalWriter({ majorVersion: NEWER, magic: MAGIC });
}

function verified(wal: WalWriter, bytes = wal.bytes): WalVerifier {
  const { verifier } = verifierFor(wal);
  verifier.push(bytes);
  return verifier;
}

test("records are verified to the last one, those of a new resource manager included", () => {
  const wal = writer();
  wal.write({ rmid: NEW_RMGR, data: filled(100) });
  // Its header crosses a page border.
  wal.fillPage(8);
  wal.write({ rmid: NEW_RMGR, data: filled(20_000) });
  const { verifier, records } = verifierFor(wal);
  verifier.push(wal.bytes);
  expect(records).toEqual(wal.records);
  expect(verifier.verifiedLsn).toBe(wal.position);
});

test("what looks like a commit, a restore point or wal_level=minimal is not read", () => {
  const wal = writer();
  wal.write({ rmid: RM_XACT, info: 0, data: mainData(timestamp(1_700_000_000_000_000)) });
  wal.write({ rmid: 0, info: 0x60, data: mainData(new Uint8Array(28)) });
  wal.write({ rmid: 0, info: 0x70, data: mainData(concat([timestamp(1_700_000_000_000_000), filled(64)])) });
  const verifier = verified(wal);
  expect(verifier.commitCount).toBeUndefined();
  expect(verifier.takeMinimal()).toEqual([]);
  expect(verifier.openSummary()).toEqual({
    ...{ segment: 1, timeline: 1, recordCount: 3, isRead: false, commitCount: 0, abortCount: 0 },
    ...{ lastRecordEnd: wal.position, restorePoints: [], changes: undefined },
  });
});

test("a switch and an overwritten record shape the pages, and are heeded", () => {
  const wal = writer();
  wal.write();
  wal.overwrite(wal.abort({ data: filled(9000) }));
  wal.switchSegment();
  wal.write();
  const verifier = verified(wal);
  expect(verifier.verifiedLsn).toBe(wal.position);
  expect(verifier.takeSummaries()).toHaveLength(1);
});

describe("damage is found", () => {
  test.each([
    ["in a record", PAGE_SIZE + 500],
    ["in a page's magic", PAGE_SIZE],
    ["in a page's flags", PAGE_SIZE + 2],
    ["in a page's address", PAGE_SIZE + 8],
  ])("%s", (_, at) => {
    const wal = writer();
    for (let i = 0; i < 40; i++) wal.write({ rmid: NEW_RMGR, data: filled(1000) });
    const bytes = wal.bytes;
    bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    expect(() => verified(wal, bytes)).toThrow(expect.objectContaining({ code: "wal-corrupt" }));
  });

  test("in the magic of the very first page: the second one differs", () => {
    const wal = writer();
    wal.write({ data: filled(10_000) });
    const bytes = wal.bytes;
    bytes[0] = (bytes[0] ?? 0) ^ 0x04;
    expect(() => verified(wal, bytes)).toThrow("page magic is D1F0, expected D1F4");
  });
});

describe("the magic", () => {
  test("of a known version that is older is refused", () => {
    const wal = new WalWriter({ majorVersion: NEWER, magic: PAGE_MAGIC[18] ?? 0 });
    wal.write();
    expect(() => verified(wal)).toThrow(`page magic D118 is of no version after ${MAJOR_MAX}`);
  });

  test("stays the same from segment to segment", () => {
    const wal = writer();
    wal.write();
    toSegmentEnd(wal, 0);
    const carry = verified(wal).carry();
    expect(carry).toMatchObject({ magic: MAGIC });
    const next = new WalWriter({
      ...{ majorVersion: NEWER, magic: MAGIC + 1, start: addBytes(wal.start, wal.segmentSize) },
      prev: lsnOf(wal.records.at(-1)?.lsn ?? 0n),
    });
    next.write();
    const { verifier } = verifierFor(next, { carry });
    expect(() => verifier.push(next.bytes)).toThrow("page magic is D1F1, expected D1F0");
  });

  test("is unknown to a verifier that was not told of a newer version", () => {
    const wal = writer();
    wal.write();
    const { verifier } = verifierFor(wal, { majorVersion: undefined });
    expect(() => verifier.push(wal.bytes)).toThrow(`page magic D1F0 is none of PostgreSQL 14 to ${MAJOR_MAX}`);
  });
});
