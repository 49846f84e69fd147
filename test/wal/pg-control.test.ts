/** global/pg_control, field by field, as PostgreSQL's pg_control.h places them. */
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { readFileSync } from "node:fs";
import { parseControlFile } from "../../src/wal/pg-control.ts";
import { parseLsn } from "../../src/wal/lsn.ts";
import { VERSIONS } from "../harness/postgres-binaries.ts";

interface Changes {
  readonly version?: number;
  readonly state?: number;
  readonly crcAt?: number;
  readonly length?: number;
  readonly checksums?: number;
}

/** Where CRC-32C, minRecoveryPoint, MaxConnections, xlog_seg_size and data_checksum_version stand, by pg_control_version. */
const PLACES: Readonly<Record<number, readonly [number, number, number, number, number]>> = {
  1300: [288, 136, 180, 228, 252],
  1700: [288, 136, 180, 228, 252],
  1800: [292, 136, 180, 228, 252],
  1905: [308, 144, 188, 240, 264],
};

/** A control file of PostgreSQL 18 unless told otherwise; every byte that is not set is 0x11. */
function control(changes: Changes = {}): Buffer {
  const { version = 1800, state = 5, length = 8192 } = changes;
  const [crcAt, minRecoveryAt, settingsAt, segmentSizeAt, checksumsAt] = PLACES[version] ?? [292, 136, 180, 228, 252];
  const at = changes.crcAt ?? crcAt;
  const bytes = Buffer.alloc(length, 0x11);
  bytes.writeBigUInt64LE(7_412_345_678_901_234_567n, 0);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(state, 16);
  bytes.writeBigUInt64LE(0x16b3740n, 40);
  bytes.writeUInt32LE(3, 48);
  bytes.writeBigUInt64LE(0x9000000180000000n, minRecoveryAt);
  [100, 8, 10, 2, 64].forEach((setting, index) => bytes.writeInt32LE(setting, settingsAt + index * 4));
  bytes.writeUInt32LE(1 << 20, segmentSizeAt);
  bytes.writeUInt32LE(changes.checksums ?? 1, checksumsAt);
  if (at + 4 <= length) bytes.writeUInt32LE(crc32c(bytes.subarray(0, at)), at);
  return bytes;
}

/**
 * The control file of a new cluster of every version, whichever versions the run has servers of, and what pg_controldata of
 * that version says of it (for 14 to 16: that of 15).
 */
test.each(VERSIONS)("PostgreSQL %i: says what pg_controldata says", (version) => {
  const kept = (ending: string): Buffer =>
    readFileSync(new URL(`../fixtures/control/${version}.${ending}`, import.meta.url));
  const facts = new Map(
    kept("txt")
      .toString("utf8")
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
  );
  const fact = (name: string): string => facts.get(name) ?? `pg_controldata has no ${name}`;
  expect(parseControlFile(kept("bin"))).toEqual({
    systemIdentifier: BigInt(fact("Database system identifier")),
    state: fact("Database cluster state"),
    timeline: Number(fact("Latest checkpoint's TimeLineID")),
    redoLsn: parseLsn(fact("Latest checkpoint's REDO location")),
    minRecoveryLsn: parseLsn(fact("Minimum recovery ending location")),
    settings: {
      max_connections: Number(fact("max_connections setting")),
      max_worker_processes: Number(fact("max_worker_processes setting")),
      max_wal_senders: Number(fact("max_wal_senders setting")),
      max_prepared_transactions: Number(fact("max_prepared_xacts setting")),
      max_locks_per_transaction: Number(fact("max_locks_per_xact setting")),
    },
    segmentSize: Number(fact("Bytes per WAL segment")),
    dataChecksums: fact("Data page checksum version") !== "0",
  });
});

test.each([1300, 1700, 1800, 1905])("version %i is read to the field", (version) => {
  expect(parseControlFile(control({ version }))).toEqual({
    systemIdentifier: 7_412_345_678_901_234_567n,
    state: "in archive recovery",
    timeline: 3,
    redoLsn: 0x16b3740n,
    minRecoveryLsn: 0x9000000180000000n,
    settings: {
      max_connections: 100,
      max_worker_processes: 8,
      max_wal_senders: 10,
      max_prepared_transactions: 2,
      max_locks_per_transaction: 64,
    },
    segmentSize: 1 << 20,
    dataChecksums: true,
  });
  expect(parseControlFile(control({ version, checksums: 0 })).dataChecksums).toBe(false);
});

test("is read from the middle of other memory", () => {
  const whole = Buffer.concat([Buffer.alloc(3), control()]);
  expect(parseControlFile(whole.subarray(3)).timeline).toBe(3);
});

test.each([
  [0, "starting up"],
  [1, "shut down"],
  [2, "shut down in recovery"],
  [3, "shutting down"],
  [4, "in crash recovery"],
  [5, "in archive recovery"],
  [6, "in production"],
])("state %i is %s", (state, name) => {
  expect(parseControlFile(control({ state })).state).toBe(name);
});

test("a version that is not known is refused by its number when its bytes are whole", () => {
  expect(() => parseControlFile(control({ version: 2001 }))).toThrowError(
    expect.objectContaining({
      code: "server-version",
      message: "global/pg_control has version 2001, which Seawall does not know",
    }) as Error,
  );
});

test("512 bytes of it are enough", () => {
  expect(parseControlFile(control({ length: 512 })).timeline).toBe(3);
});

describe("is damaged", () => {
  const flipped = control();
  flipped[100] = 0;
  const strange = control({ version: 2001 });
  strange[100] = 0;
  test.each<[string, Buffer, RegExp]>([
    ["with one byte changed", flipped, /its CRC-32C is wrong/],
    ["when it is cut short", control({ length: 511 }), /it is 511 bytes long/],
    ["when it is empty", Buffer.alloc(0), /it is 0 bytes long/],
    ["with the CRC-32C of another version's place", control({ crcAt: 288 }), /its CRC-32C is wrong/],
    ["with an unknown version and one byte changed", strange, /it claims version 2001, and no CRC-32C in it is right/],
    ["with a state that does not exist", control({ state: 7 }), /holds an unknown state/],
  ])("%s", (_, bytes, message) => {
    expect(() => parseControlFile(bytes)).toThrowError(
      expect.objectContaining({ code: "backup-corrupt", message: expect.stringMatching(message) as string }) as Error,
    );
  });
});
