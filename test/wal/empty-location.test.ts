/** A record that creates a tablespace, with its path emptied: valid to the verifier and to pg_waldump, wherever borders cut it. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { emptyLocation } from "../../src/wal/empty-location.ts";
import { RM_TBLSPC_ID, XLOG_TBLSPC_CREATE } from "../../src/wal/format.ts";
import { bytesBetween, formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { WalVerifier } from "../../src/wal/verifier.ts";
import { startPostgres, tool } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { concat, filled, mainData, verifierFor, WalWriter } from "./wal-writer.ts";

const CREATE = { rmid: RM_TBLSPC_ID, info: XLOG_TBLSPC_CREATE };
const SYSTEM = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;

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

test.skipIf(!SYSTEM)("pg_waldump reads a real server's segment with it", async () => {
  await using server = await startPostgres({ system: true, segmentSizeMiB: 1 });
  const places = makeTempDir("places");
  await server.sql("SELECT pg_switch_wal()");
  const from = await server.currentFlushLsn();
  await server.sql(`CREATE TABLESPACE late LOCATION '${makeTablespaceFolder(join(places, "late"))}'`);
  await server.sql("CREATE TABLE t TABLESPACE late AS SELECT generate_series(1, 100) i");
  const end = await server.currentFlushLsn();
  const segment = segmentOf(from, server.segmentSize);
  const name = segmentFileName(timelineOf(1), segment, server.segmentSize);
  const bytes = readFileSync(join(server.walDir, name));
  const startLsn = segmentStart(segment, server.segmentSize);
  const systemIdentifier = await server.systemIdentifier();
  const options = { systemIdentifier, segmentSize: server.segmentSize, startLsn, history: rootHistory(timelineOf(1)) };
  const verifier = new WalVerifier(options);
  verifier.push(bytes.subarray(0, bytesBetween(startLsn, end)));
  const [created] = verifier.openSummary().changes ?? [];
  if (created === undefined) throw new Error("no tablespace was found");
  const dump = async (file: string): Promise<string[]> => {
    const { stdout } = await run(tool("pg_waldump") ?? "", ["-s", formatLsn(from), "-e", formatLsn(end), file]);
    return stdout.split("\n");
  };
  const original = await dump(join(server.walDir, name));
  emptyLocation(bytes, bytesBetween(startLsn, created.lsn));
  writeFileSync(join(places, name), bytes);
  const changed = await dump(join(places, name));
  const different = changed.filter((line, at) => line !== original[at]);
  expect(changed).toHaveLength(original.length);
  expect(different).toHaveLength(1);
  expect(different[0]).toMatch(/desc: CREATE \d+ ""$/);
  removeTree(places);
});
