/** WAL around real timeline switches, and around a record that a real crash cut off. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { addBytes, formatLsn, type Lsn, parseLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { historyFileName, segmentFileName } from "../../src/wal/names.ts";
import { ownerOf, parseHistory, rootHistory, type TimelineHistory } from "../../src/wal/timeline.ts";
import { type VerifiedRecord, WalVerifier } from "../../src/wal/verifier.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { settledEnd, type WalOfServer, walOf } from "./oracles.ts";
import { QUIET } from "./workloads.ts";

describe.each(versionsUnderTest())("on PostgreSQL %i", (version) => {
  it("a standby that was promoted, twice, writes each page with the timeline that owns its first byte", async () => {
    await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    await primary.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS i");
    const second = await primary.cloneAsStandby();
    await primary.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    await caughtUp(second, await settledEnd(primary));
    await primary.kill9();
    expect(await second.promote()).toBe(2);
    await second.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    const third = await second.cloneAsStandby();
    await second.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    await caughtUp(third, await settledEnd(second));
    await second.kill9();
    expect(await third.promote()).toBe(3);
    await third.sql("INSERT INTO t SELECT generate_series(1, 50000)");

    const history = historyOf(third, 3);
    expect(history.entries.map((entry) => entry.timeline)).toEqual([1, 2]);
    await verifySwitches(third, history);
    // What the first timeline streams up to its end is verified to exactly there.
    const [first] = history.entries;
    if (first === undefined) throw new Error("timeline 3 has a parent");
    const wal = walOf(second, 1, first.switchLsn);
    const { verifier } = await verifierOf(third, wal, rootHistory(timelineOf(1)));
    verifier.push(wal.bytes);
    expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(first.switchLsn));
  });

  it("a switch point on a segment border: the new timeline's first page is new, none of the old is copied", async () => {
    await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    await primary.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS i");
    const standby = await primary.cloneAsStandby();
    await primary.sql("SELECT pg_switch_wal()");
    await caughtUp(standby, await primary.currentFlushLsn());
    await primary.kill9();
    await standby.promote();
    await standby.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    const history = historyOf(standby, 2);
    expect(Number(history.entries[0]?.switchLsn ?? 1n) % standby.segmentSize).toBe(0);
    await verifySwitches(standby, history);
  });

  it("recovery along timeline 2 to a point before it began names 2 as the parent: the pages go from 1 to 3 all the same", async () => {
    await using primary = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    await primary.sql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS i");
    const standby = await primary.cloneAsStandby();
    const recovery = { recovery_target_timeline: "2", recovery_target_action: "promote" };
    const restored = await primary.clone({ signal: "recovery", start: false, settings: recovery });
    await primary.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    const target = await settledEnd(primary);
    await primary.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    await caughtUp(standby, await settledEnd(primary));
    await primary.kill9();
    await standby.promote();
    await standby.sql("INSERT INTO t VALUES (1)");

    const restore = { restore_command: `cp "${standby.walDir}/%f" "%p"`, recovery_target_lsn: formatLsn(target) };
    restored.writeConfiguration(restore, ["local all all trust"]);
    await restored.start();
    await inTime(async () => (await restored.value("SELECT pg_is_in_recovery()::text")) === "false");
    await restored.sql("INSERT INTO t SELECT generate_series(1, 5000)");

    const history = historyOf(restored, 3);
    const [one, two] = history.entries;
    if (one === undefined || two === undefined) throw new Error("timeline 3 has two ancestors");
    expect([one.timeline, two.timeline]).toEqual([1, 2]);
    expect(two.switchLsn < one.switchLsn).toBe(true);
    expect(ownerOf(history, two.switchLsn)).toBe(3);
    await verifySwitches(restored, history);
  });

  it.each([
    ["where its next segment would begin", 0],
    ["within a segment", 3],
  ])("a record that a crash cut off %s is given up where the server says so", async (_where, pages) => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    await server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
    const before = await settledEnd(server);
    await server.sql("SELECT pg_logical_emit_message(true, 'cut', repeat('x', 2500000))");
    await server.kill9();
    const border = segmentStart(segmentOf(addBytes(before, MIB), MIB), MIB);
    const cut = addBytes(border, pages * 8192);
    loseWalFrom(server, cut);
    await server.start();
    await server.sql("INSERT INTO t SELECT generate_series(1, 1000)");
    const end = await settledEnd(server);
    const wal = walOf(server, 1, end);
    const root = rootHistory(timelineOf(1));
    const { verifier, records } = await verifierOf(server, wal, root);
    verifier.push(wal.bytes);
    expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(end));
    const overwrites = records.filter((record) => record.rmid === 0 && record.info === 0xd0);
    expect(overwrites.map((record) => formatLsn(record.lsn))).toEqual([
      formatLsn(addBytes(cut, pages === 0 ? 40 : 24)),
    ]);
    expect(records.find((record) => record.lsn === before)).toBeUndefined();

    // The same from the second segment on, with and without what the first carries over.
    const first = await verifierOf(server, wal, root);
    first.verifier.push(wal.bytes.subarray(0, Number(border - wal.start)));
    const rest: WalOfServer = { start: border, bytes: wal.bytes.subarray(Number(border - wal.start)) };
    for (const carry of [first.verifier.carry(), undefined]) {
      const second = await verifierOf(server, rest, root, carry);
      second.verifier.push(rest.bytes);
      expect(formatLsn(second.verifier.verifiedLsn)).toBe(formatLsn(end));
    }

    // The record that says what it overwrites is believed only when that is the broken one.
    const carried = first.verifier.carry();
    if (carried?.record === undefined) throw new Error("the broken record crosses the border");
    const other = { ...carried, record: { ...carried.record, start: formatLsn(addBytes(before, 64)) } };
    const doubting = await verifierOf(server, rest, root, other);
    expect(() => doubting.verifier.push(rest.bytes)).toThrow("but the broken one is at");
  });
});

const MIB = 1 << 20;

/** As if the crash had come before anything from `cut` on was written (PostgreSQL: 026_overwrite_contrecord.pl). */
function loseWalFrom(server: PostgresServer, cut: Lsn): void {
  const last = segmentFileName(timelineOf(1), segmentOf(cut, MIB), MIB);
  for (const name of server.walFiles()) if (name > last) rmSync(join(server.walDir, name));
  const path = join(server.walDir, last);
  const kept = readFileSync(path).fill(0, Number(cut % BigInt(MIB)));
  // Into the same file, which keeps its owner.
  writeFileSync(path, kept);
}

/** All WAL of the server's newest timeline verifies, and the pages around each switch point say what the history says. */
async function verifySwitches(server: PostgresServer, history: TimelineHistory): Promise<void> {
  const end = await settledEnd(server);
  // A segment that holds a switch point exists whole on the new timeline; older ones keep their old names.
  const wal = walOf(server, history.timeline, end);
  const { verifier, records } = await verifierOf(server, wal, history);
  verifier.push(wal.bytes);
  expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(end));
  expect(records.length).toBeGreaterThan(10);
  const view = new DataView(wal.bytes.buffer, wal.bytes.byteOffset, wal.bytes.length);
  const owners = new Set<number>();
  for (let at = 0; at + 24 <= wal.bytes.length; at += 8192) {
    const timeline = view.getUint32(at + 4, true);
    // The zeros after a switch record have no headers.
    if (view.getUint16(at, true) !== 0) expect(timeline).toBe(ownerOf(history, addBytes(wal.start, at)));
    owners.add(timeline);
  }
  expect(owners.has(history.timeline)).toBe(true);

  // One timeline more or less in the history, and it does not verify.
  const wrong = {
    timeline: history.timeline,
    entries: history.entries.slice(1).map((e) => ({ ...e, switchLsn: addBytes(e.switchLsn, 65536) })),
  };
  const refusing = await verifierOf(server, wal, wrong.entries.length === 0 ? rootHistory(timelineOf(1)) : wrong);
  expect(() => refusing.verifier.push(wal.bytes)).toThrow("page timeline is");
}

function historyOf(server: PostgresServer, timeline: number): TimelineHistory {
  const tli = timelineOf(timeline);
  return parseHistory(tli, readFileSync(join(server.walDir, historyFileName(tli))));
}

async function verifierOf(
  server: PostgresServer,
  wal: WalOfServer,
  history: TimelineHistory,
  carry?: ReturnType<WalVerifier["carry"]>,
): Promise<{ verifier: WalVerifier; records: VerifiedRecord[] }> {
  const records: VerifiedRecord[] = [];
  const verifier = new WalVerifier({
    systemIdentifier: await server.systemIdentifier(),
    segmentSize: server.segmentSize,
    startLsn: wal.start,
    history,
    majorVersion: server.version,
    carry,
    onRecord: (record) => records.push(record),
  });
  return { verifier, records };
}

async function caughtUp(standby: PostgresServer, end: Lsn): Promise<void> {
  await inTime(async () => parseLsn(await standby.value("SELECT pg_last_wal_replay_lsn()::text")) >= end);
}

async function inTime(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("it did not come about in 20 seconds");
}
