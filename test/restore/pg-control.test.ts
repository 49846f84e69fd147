/** global/pg_control, field by field, as PostgreSQL's pg_control.h places them. */
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { parseControlFile } from "../../src/restore/pg-control.ts";

/** A control file whose CRC-32C stands at `crcAt`; every byte that is not set is 0x11. */
function control(changes: { state?: number; crcAt?: number; length?: number } = {}): Buffer {
  const { state = 5, crcAt = 292, length = 8192 } = changes;
  const bytes = Buffer.alloc(length, 0x11);
  bytes.writeBigUInt64LE(7_412_345_678_901_234_567n, 0);
  bytes.writeUInt32LE(state, 16);
  bytes.writeBigUInt64LE(0x16b3740n, 40);
  bytes.writeUInt32LE(3, 48);
  bytes.writeBigUInt64LE(0x9000000180000000n, 136);
  [100, 8, 10, 2, 64].forEach((setting, index) => bytes.writeInt32LE(setting, 180 + index * 4));
  if (crcAt + 4 <= length) bytes.writeUInt32LE(crc32c(bytes.subarray(0, crcAt)), crcAt);
  return bytes;
}

test("is read to the field", () => {
  expect(parseControlFile(control())).toEqual({
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
  });
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

test.each([
  ["right behind the fields", 200],
  ["at the end of the sector", 508],
])("its CRC-32C may stand %s", (_, crcAt) => {
  expect(parseControlFile(control({ crcAt })).timeline).toBe(3);
});

test("512 bytes of it are enough", () => {
  expect(parseControlFile(control({ length: 512 })).timeline).toBe(3);
});

describe("is damaged", () => {
  const flipped = control();
  flipped[100] = 0;
  test.each<[string, Buffer, RegExp]>([
    ["with one byte changed", flipped, /no CRC-32C in it is right/],
    ["when it is cut short", control({ length: 511 }), /no CRC-32C in it is right/],
    ["when it is empty", Buffer.alloc(0), /no CRC-32C in it is right/],
    ["with a CRC-32C inside the fields", control({ crcAt: 196 }), /no CRC-32C in it is right/],
    ["with a CRC-32C behind the sector", control({ crcAt: 512 }), /no CRC-32C in it is right/],
    ["with a CRC-32C where none can stand", control({ crcAt: 294 }), /no CRC-32C in it is right/],
    ["with a state that does not exist", control({ state: 7 }), /holds an unknown state/],
  ])("%s", (_, bytes, message) => {
    expect(() => parseControlFile(bytes)).toThrowError(
      expect.objectContaining({ code: "backup-corrupt", message: expect.stringMatching(message) as string }) as Error,
    );
  });
});
