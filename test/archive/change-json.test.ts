/** Changes of tablespaces and settings in a segment's envelope: written, read back, and refused when they are anything else. */
import { describe, expect, test } from "vitest";
import { changesJson, parseChanges } from "../../src/archive/wal/change-json.ts";
import type { Lsn } from "../../src/wal/lsn.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";

const place = { lsn: 0x5000028n as Lsn, end: 0x5000060n as Lsn };
const created: WalChange = { kind: "tablespace-created", ...place, oid: 16_400, location: "/srv/a" };
const dropped: WalChange = { kind: "tablespace-dropped", ...place, oid: 16_400 };
const settings = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
};
const parameters: WalChange = { kind: "parameters", ...place, walLevel: "replica", settings };

const at = { lsn: "0/5000028", end: "0/5000060" };
const createdJson = { kind: "tablespace-created", ...at, oid: 16_400, location: "/srv/a" };
const droppedJson = { kind: "tablespace-dropped", ...at, oid: 16_400 };
const parametersJson = { kind: "parameters", ...at, walLevel: "replica", settings };

describe("a segment's changes", () => {
  test("are written with LSNs as PostgreSQL writes them", () => {
    expect(changesJson([created, dropped, parameters])).toEqual([createdJson, droppedJson, parametersJson]);
    expect(changesJson([])).toEqual([]);
  });

  test("are read as they were written, in their order", () => {
    expect(parseChanges([createdJson, droppedJson, parametersJson])).toEqual([created, dropped, parameters]);
    expect(parseChanges([])).toEqual([]);
  });

  test.each(["minimal", "replica", "logical"] as const)("keep wal_level %s", (walLevel) => {
    expect(parseChanges([{ ...parametersJson, walLevel }])).toEqual([{ ...parameters, walLevel }]);
  });

  test("of which one has an unknown path are left out, so that readers look at the records", () => {
    expect(changesJson(undefined)).toBeUndefined();
    expect(changesJson([dropped, { ...created, location: undefined }])).toBeUndefined();
    expect(changesJson([{ ...created, location: "" }])).toEqual([{ ...createdJson, location: "" }]);
  });

  test("of 4096 bytes fit, and of one more do not", () => {
    const bytesOf = (length: number): number =>
      Buffer.byteLength(JSON.stringify([{ ...createdJson, location: "x".repeat(length) }]));
    const fits = 4_096 - bytesOf(0);
    expect(bytesOf(fits)).toBe(4_096);
    expect(changesJson([{ ...created, location: "x".repeat(fits) }])).toHaveLength(1);
    expect(changesJson([{ ...created, location: "x".repeat(fits + 1) }])).toBeUndefined();
    // Letters of two bytes count as two.
    expect(changesJson([{ ...created, location: "ä".repeat(fits - 10) }])).toBeUndefined();
  });
});

describe("anything else is not read as changes", () => {
  const without = (name: keyof typeof settings): object =>
    Object.fromEntries(Object.entries(settings).filter(([key]) => key !== name));
  test.each<[string, unknown]>([
    ["no list", undefined],
    ["null", null],
    ["an object", { 0: createdJson }],
    ["a list with a text in it", [createdJson, "tablespace-created"]],
    ["a list with null in it", [null]],
    ["an unknown kind", [{ ...createdJson, kind: "database-created" }]],
    ["an LSN that is a number", [{ ...createdJson, lsn: 5 }]],
    ["an end that is missing", [{ ...createdJson, end: undefined }]],
    ["an OID that is a text", [{ ...createdJson, oid: "16400" }]],
    ["a dropped tablespace without an OID", [{ ...droppedJson, oid: undefined }]],
    ["a created tablespace without a path", [{ ...createdJson, location: undefined }]],
    ["a path that is null", [{ ...createdJson, location: null }]],
    ["a wal_level that PostgreSQL does not have", [{ ...parametersJson, walLevel: "archive" }]],
    ["a wal_level that is missing", [{ ...parametersJson, walLevel: undefined }]],
    ["settings that are null", [{ ...parametersJson, settings: null }]],
    ["settings that are a text", [{ ...parametersJson, settings: "none" }]],
    ["settings without max_connections", [{ ...parametersJson, settings: without("max_connections") }]],
    [
      "settings without max_locks_per_transaction",
      [{ ...parametersJson, settings: without("max_locks_per_transaction") }],
    ],
    ["a setting that is a text", [{ ...parametersJson, settings: { ...settings, max_wal_senders: "10" } }]],
    ["a change that cannot be read behind one that can", [createdJson, { ...droppedJson, oid: null }]],
  ])("%s", (_, json) => {
    expect(parseChanges(json)).toBeUndefined();
  });

  test("an LSN that is none is an error", () => {
    expect(() => parseChanges([{ ...createdJson, lsn: "5000028" }])).toThrowError(
      expect.objectContaining({ code: "usage" }),
    );
  });

  test("other members of a change are dropped", () => {
    expect(parseChanges([{ ...createdJson, comment: "x" }])).toEqual([created]);
    const more = { ...settings, max_replication_slots: 10 };
    expect(parseChanges([{ ...parametersJson, settings: more }])).toEqual([parameters]);
  });
});
