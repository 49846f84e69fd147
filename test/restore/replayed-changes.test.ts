/** What recovery replays outside of the data files: which changes lie on the way, and what they add up to. */
import { describe, expect, test } from "vitest";
import { segmentKey } from "../../src/archive/keys.ts";
import { readReplayedChanges, replayedChanges } from "../../src/restore/replayed-changes.ts";
import type { RouteItem } from "../../src/restore/target/route.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import type { WalChange, WalLevel } from "../../src/wal/wal-changes.ts";
import { emptyArchive, putSegments } from "../archive/retained.ts";
import { FaultyStore } from "../harness/faulty-store.ts";

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
const tablespace = (oid: number, from: number, isCut = false): object => ({
  ...{ oid, location: `/srv/${oid}`, lsn: BigInt(from), isCut },
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
  test("that is removed again on the way counts", () => {
    expect(replayed(created(5, 1_000, 1_050), created(6, 1_100, 1_150), dropped(5, 1_200, 1_210)).tablespaces).toEqual([
      ...[tablespace(5, 1_000), tablespace(6, 1_100)],
    ]);
  });

  test("that is removed and was not created on the way is none", () => {
    expect(replayed(dropped(5, 1_000, 1_010), created(6, 1_100, 1_150)).tablespaces).toEqual([tablespace(6, 1_100)]);
  });

  test("that is made again under the same OID counts twice", () => {
    const changes = [created(5, 1_000, 1_050), dropped(5, 1_100, 1_110), created(5, 1_200, 1_250)];
    expect(replayed(...changes, dropped(5, 1_300, 1_310)).tablespaces).toEqual([
      ...[tablespace(5, 1_000), tablespace(5, 1_200)],
    ]);
  });

  test.each<[string, number, number, boolean]>([
    ["within a segment", 1_000, 1_050, false],
    ["up to the end of its segment", MIB - 50, MIB, false],
    ["over the end of its segment by a byte", MIB - 50, MIB + 1, true],
    ["from the beginning of a segment", MIB, MIB + 50, false],
  ])("whose record lies %s: it is cut: %s", (_, from, to, isCut) => {
    const wide = { fromLsn: lsn(0), toLsn: lsn(3 * MIB) };
    expect(replayedChanges([created(5, from, to)], wide, MIB).tablespaces).toEqual([tablespace(5, from, isCut)]);
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

describe("from an archive, those segments are read", () => {
  const start = (segment: number): number => segment * MIB;
  const item = (segment: number): RouteItem => ({
    ...{ segment: segment as SegmentNumber, timeline: timelineOf(1), kind: "segment", storedBytes: 100, length: MIB },
  });
  const oids = async (fromLsn: number, toLsn: number, store = new MemoryStore()): Promise<number[]> => {
    const archive = await emptyArchive(store);
    const changes = [3, 4, 5, 6].map((segment) => created(segment, start(segment) + 1_000, start(segment) + 2_000));
    await putSegments(archive, 1, 3, 6, changes);
    const asked: string[] = [];
    const getStream = store.getStream.bind(store);
    store.getStream = (key, options) => (asked.push(key), getStream(key, options));
    const get = store.get.bind(store);
    store.get = (key, options) => (asked.push(key), get(key, options));
    const span = { fromLsn: lsn(fromLsn), toLsn: lsn(toLsn) };
    const found = await readReplayedChanges(archive, [3, 4, 5, 6].map(item), span);
    const read = new Set(asked.flatMap((key) => /([0-9A-F]{2})\.zst$/.exec(key)?.[1] ?? []));
    expect([...read].map((hex) => Number.parseInt(hex, 16))).toEqual(
      [3, 4, 5, 6].filter((segment) => start(segment) < toLsn && start(segment + 1) > fromLsn),
    );
    return found.tablespaces.map(({ oid }) => oid);
  };

  test("of which the replay needs a byte", async () => {
    expect(await oids(start(4), start(6))).toEqual([4, 5]);
    expect(await oids(start(4) + 1, start(6) + 1)).toEqual([4, 5]);
    expect(await oids(start(3), start(7))).toEqual([3, 4, 5, 6]);
  });

  test("and one that is damaged has none", async () => {
    const archive = await emptyArchive(new MemoryStore());
    await putSegments(archive, 1, 3, 3, [created(7, start(3) + 1_000, start(3) + 2_000)]);
    const key = segmentKey("main", { timeline: timelineOf(1), segment: 4 as SegmentNumber, segmentSize: MIB });
    await archive.store.put(key, Buffer.from("no segment"));
    const found = await readReplayedChanges(archive, [item(3), item(4)], {
      fromLsn: lsn(start(3)),
      toLsn: lsn(start(5)),
    });
    expect(found.tablespaces.map(({ oid }) => oid)).toEqual([7]);
  });

  test("but an error of the store is thrown", async () => {
    const store = new FaultyStore(new MemoryStore());
    const archive = await emptyArchive(store);
    await putSegments(archive, 1, 3, 3);
    store.failpoint({ fault: "fail-before", operation: ["get", "getStream"], times: Infinity });
    const span = { fromLsn: lsn(start(3)), toLsn: lsn(start(4)) };
    await expect(readReplayedChanges(archive, [item(3)], span)).rejects.toMatchObject({ code: "store-unavailable" });
  });
});
