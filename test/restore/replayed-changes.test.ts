/** What recovery replays outside of the data files: which changes lie on the way, and what they add up to. */
import { describe, expect, test } from "vitest";
import { replayedChanges } from "../../src/restore/replayed-changes.ts";
import type { Lsn } from "../../src/wal/lsn.ts";
import type { WalChange, WalLevel } from "../../src/wal/wal-changes.ts";

const MIB = 1 << 20;
const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const span = { fromLsn: lsn(1_000), toLsn: lsn(2_000) };
const at = (from: number, to: number) => ({ lsn: lsn(from), end: lsn(to) });

const created = (oid: number, from: number, to: number): WalChange => ({
  ...{ kind: "tablespace-created", oid, location: `/srv/${oid}` },
  ...at(from, to),
});
const dropped = (oid: number, from: number, to: number): WalChange => ({
  kind: "tablespace-dropped",
  oid,
  ...at(from, to),
});
function parameters(
  from: number,
  to: number,
  connections: number,
  workers = 8,
  walLevel: WalLevel = "replica",
): WalChange {
  const settings = {
    ...{ max_connections: connections, max_worker_processes: workers, max_wal_senders: 10 },
    ...{ max_prepared_transactions: 0, max_locks_per_transaction: 64 },
  };
  return { kind: "parameters", ...at(from, to), walLevel, settings };
}
const replayed = (...changes: WalChange[]) => replayedChanges(changes, span, MIB);
const tablespace = (oid: number, from: number, more: object = {}): object => ({
  ...{ oid, location: `/srv/${oid}`, lsn: BigInt(from), isCut: false, droppedLsn: undefined },
  ...more,
});

describe("of the changes, those count that recovery replays:", () => {
  test.each<[string, number, number, boolean]>([
    ["one that begins where it begins", 1_000, 1_050, true],
    ["one that begins a byte before", 999, 1_050, false],
    ["one that ends where it ends", 1_950, 2_000, true],
    ["one that ends a byte behind", 1_950, 2_001, false],
  ])("%s", (_, from, to, counts) => {
    const { tablespaces, minimal, minimums } = replayed(created(5, from, to), parameters(from, to, 100, 8, "minimal"));
    expect(tablespaces).toEqual(counts ? [tablespace(5, from)] : []);
    expect(minimal).toEqual(counts ? { lsn: BigInt(from), end: BigInt(to) } : undefined);
    expect(minimums.max_connections).toBe(counts ? 100 : undefined);
  });

  test("none where there are none", () => {
    expect(replayed()).toEqual({ tablespaces: [], minimums: {}, minimal: undefined });
  });
});

describe("a tablespace", () => {
  test("that is removed again is known with the place where", () => {
    expect(replayed(created(5, 1_000, 1_050), created(6, 1_100, 1_150), dropped(5, 1_200, 1_210)).tablespaces).toEqual([
      ...[tablespace(5, 1_000, { droppedLsn: 1_200n }), tablespace(6, 1_100)],
    ]);
  });

  test("that is removed and was not created on the way is none", () => {
    expect(replayed(dropped(5, 1_000, 1_010), created(6, 1_100, 1_150)).tablespaces).toEqual([tablespace(6, 1_100)]);
  });

  test("that is made again under the same OID is removed the second time", () => {
    const changes = [created(5, 1_000, 1_050), dropped(5, 1_100, 1_110), created(5, 1_200, 1_250)];
    expect(replayed(...changes, dropped(5, 1_300, 1_310)).tablespaces).toEqual([
      ...[tablespace(5, 1_000, { droppedLsn: 1_100n }), tablespace(5, 1_200, { droppedLsn: 1_300n })],
    ]);
  });

  test.each<[string, number, number, boolean]>([
    ["within a segment", 1_000, 1_050, false],
    ["up to the end of its segment", MIB - 50, MIB, false],
    ["over the end of its segment by a byte", MIB - 50, MIB + 1, true],
    ["from the beginning of a segment", MIB, MIB + 50, false],
  ])("whose record lies %s: it is cut: %s", (_, from, to, isCut) => {
    const wide = { fromLsn: lsn(0), toLsn: lsn(3 * MIB) };
    expect(replayedChanges([created(5, from, to)], wide, MIB).tablespaces).toEqual([tablespace(5, from, { isCut })]);
  });
});

describe("settings", () => {
  test("are needed at the highest value on the way, each by itself", () => {
    const { minimums } = replayed(
      parameters(1_000, 1_050, 100, 20),
      parameters(1_100, 1_150, 300, 4),
      parameters(1_200, 1_250, 200, 8),
    );
    expect(minimums).toEqual({
      ...{ max_connections: 300, max_worker_processes: 20, max_wal_senders: 10 },
      ...{ max_prepared_transactions: 0, max_locks_per_transaction: 64 },
    });
  });

  test("with wal_level=minimal end recovery at the first such record", () => {
    const { minimal } = replayed(
      ...[parameters(1_000, 1_050, 100, 8, "logical"), parameters(1_100, 1_150, 100, 8, "minimal")],
      ...[parameters(1_200, 1_250, 100), parameters(1_300, 1_350, 100, 8, "minimal")],
    );
    expect(minimal).toEqual({ lsn: 1_100n, end: 1_150n });
    expect(replayed(parameters(1_000, 1_050, 100), parameters(1_100, 1_150, 1, 8, "logical")).minimal).toBeUndefined();
  });
});
