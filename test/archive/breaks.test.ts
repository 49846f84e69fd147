/** Breaks: where the server went on with wal_level=minimal, and how the archive remembers it. */
import { beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { MINIMAL_REASON, listBreaks, minimalIn, putBreak } from "../../src/archive/wal/breaks.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { breakKey } from "../../src/archive/keys.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import type { WalChange, WalLevel } from "../../src/wal/wal-changes.ts";

const lsn = (value: bigint): Lsn => value as Lsn;
const settings = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
};

function parameters(walLevel: WalLevel, from: bigint, to: bigint): WalChange {
  return { kind: "parameters", lsn: lsn(from), end: lsn(to), walLevel, settings };
}

describe("records that no recovery can pass", () => {
  test("are those that say wal_level=minimal, in their order", () => {
    const place = { lsn: lsn(0x100n), end: lsn(0x140n) };
    const changes: WalChange[] = [
      { kind: "tablespace-dropped", oid: 5, ...place },
      parameters("replica", 0x200n, 0x240n),
      parameters("minimal", 0x300n, 0x340n),
      parameters("logical", 0x400n, 0x440n),
      parameters("minimal", 0x500n, 0x540n),
    ];
    expect(minimalIn(changes)).toEqual([
      { lsn: 0x300n, end: 0x340n },
      { lsn: 0x500n, end: 0x540n },
    ]);
    expect(minimalIn([])).toEqual([]);
  });
});

describe("a break", () => {
  let store: MemoryStore;
  let archive: Archive;
  beforeEach(() => {
    store = new MemoryStore();
    const identity = { systemIdentifier: 7n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
    archive = { store, cluster: "main", identity, codec: runCodec };
  });
  const found = (timeline: number, from: bigint, to: bigint) => ({
    timeline: timelineOf(timeline),
    record: { lsn: lsn(from), end: lsn(to) },
    detectedAt: new Date("2026-03-02T10:15:00.000Z"),
  });
  const keyOf = (timeline: number, from: bigint, to: bigint): string =>
    breakKey("main", timelineOf(timeline), lsn(from), lsn(to));

  test("is listed with its place, whatever its document says", async () => {
    expect(await putBreak(archive, found(2, 0x300n, 0x340n))).toBe("created");
    await store.put(keyOf(1, 0x500n, 0x540n), Buffer.from("{"));
    await store.put("main/breaks/README", Buffer.from("by hand"));
    expect(await listBreaks(archive)).toMatchObject([
      { timeline: 1, fromLsn: 0x500n, toLsn: 0x540n, reason: MINIMAL_REASON },
      { timeline: 2, fromLsn: 0x300n, toLsn: 0x340n, reason: MINIMAL_REASON },
    ]);
  });

  test("is recorded once, also by a second finder at another time", async () => {
    await putBreak(archive, found(2, 0x300n, 0x340n));
    const later = { ...found(2, 0x300n, 0x340n), detectedAt: new Date("2026-03-03T00:00:00.000Z") };
    expect(await putBreak(archive, later)).toBe("exists");
  });

  test.each<[string, number, bigint, bigint]>([
    ["another timeline", 3, 0x300n, 0x340n],
    ["another begin", 2, 0x200n, 0x340n],
    ["another end", 2, 0x300n, 0x400n],
  ])("whose key holds a document of %s is refused", async (_, timeline, from, to) => {
    const other = { timeline: timelineOf(timeline), fromLsn: lsn(from), toLsn: lsn(to) };
    await store.put(keyOf(2, 0x300n, 0x340n), encodeGap({ ...other, detectedAt: "", reason: MINIMAL_REASON }));
    await expect(putBreak(archive, found(2, 0x300n, 0x340n))).rejects.toMatchObject({ code: "segment-conflict" });
  });
});
