/** Recovery targets as people write them: understood, or refused with what to write instead. */
import { describe, expect, test } from "vitest";
import { describePoint, parseTarget, parseTargetTime, targetJson } from "../../src/restore/target/target.ts";
import { parseLsn } from "../../src/wal/lsn.ts";
import { formatPgTime } from "../../src/wal/record-facts.ts";

const NOW = Date.UTC(2026, 10, 22, 12, 0, 0);
const LSN = parseLsn("0/3000060");

describe("a moment", () => {
  test.each([
    ["2026-11-22T10:30:00Z", "2026-11-22T10:30:00.000000Z"],
    ["2026-11-22T10:30Z", "2026-11-22T10:30:00.000000Z"],
    ["2026-11-22T10:30:00+01:00", "2026-11-22T09:30:00.000000Z"],
    ["2026-11-22T10:30:00-0530", "2026-11-22T16:00:00.000000Z"],
    // As PostgreSQL prints it.
    ["2026-11-22 10:30:00.123456+00", "2026-11-22T10:30:00.123456Z"],
    ["2026-11-22 10:30:00.1+02", "2026-11-22T08:30:00.100000Z"],
    ["2026-11-22 10:30:00 UTC", "2026-11-22T10:30:00.000000Z"],
    ["2026-11-22 10:30:00,5 gmt", "2026-11-22T10:30:00.500000Z"],
    ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"],
    ["2026-11-22t10:30:00z", "2026-11-22T10:30:00.000000Z"],
    ["  2026-11-22T10:30:00Z  ", "2026-11-22T10:30:00.000000Z"],
    ["2026-12-31T23:59:59Z", "2026-12-31T23:59:59.000000Z"],
    ["2026-11-22T00:00:00Z", "2026-11-22T00:00:00.000000Z"],
    ["2026-11-22T10:30:00+15:59", "2026-11-21T18:31:00.000000Z"],
    ["2026-11-22T10:30:00-15:59", "2026-11-23T02:29:00.000000Z"],
    ["2026-11-22T10:30:00.5 +01:30", "2026-11-22T09:00:00.500000Z"],
    ["1999-12-31T23:59:59.999999Z", "1999-12-31T23:59:59.999999Z"],
    // More digits than PostgreSQL has: cut, never rounded up past the moment.
    ["2026-11-22T10:30:00.123456999Z", "2026-11-22T10:30:00.123456Z"],
    ["5 minutes ago", "2026-11-22T11:55:00.000000Z"],
    ["2 hours 30 minutes ago", "2026-11-22T09:30:00.000000Z"],
    ["90s ago", "2026-11-22T11:58:30.000000Z"],
    ["1 day, 1 h ago", "2026-11-21T11:00:00.000000Z"],
    ["2 weeks ago", "2026-11-08T12:00:00.000000Z"],
    ["1 week 1 day 1 hour 1 min 1 sec ago", "2026-11-14T10:58:59.000000Z"],
    ["10 MINUTES AGO", "2026-11-22T11:50:00.000000Z"],
    ["10m ago", "2026-11-22T11:50:00.000000Z"],
    ["3hrs ago", "2026-11-22T09:00:00.000000Z"],
    ["2 secs ago", "2026-11-22T11:59:58.000000Z"],
    ["2d ago", "2026-11-20T12:00:00.000000Z"],
    ["1w ago", "2026-11-15T12:00:00.000000Z"],
  ])("%s", (text, expected) => {
    expect(formatPgTime(parseTargetTime(text, NOW))).toBe(expected);
  });

  test.each([
    ["2026-11-22T10:30:00", /has no time zone/, /"2026-11-22T10:30:00Z" for UTC/],
    ["2026-11-22 10:30", /has no time zone/, /offset/],
    ["2026-02-29T00:00:00Z", /not a real moment/, /day of the month/],
    ["2026-11-22T24:00:00Z", /not a real moment/, /hour/],
    ["2026-13-01T00:00:00Z", /not a real moment/, /day/],
    ["2026-11-22T10:30:60Z", /not a real moment/, /offset/],
    ["2026-11-22T10:60:00Z", /not a real moment/, /hour/],
    ["2026-00-22T10:30:00Z", /not a real moment/, /day/],
    ["2026-11-00T10:30:00Z", /not a real moment/, /day/],
    ["2026-11-31T10:30:00Z", /not a real moment/, /day/],
    ["2026-11-22T10:30:00+16:00", /not a real moment/, /offset/],
    ["2026-11-22T10:30:00+01:60", /not a real moment/, /offset/],
    ["2026-11-22T10:30:00-00:60", /not a real moment/, /offset/],
    ["2026-11-22T10:30:00+1", /is not a time/, /Write it like/],
    ["2026-11-22T10:30:00Z.", /is not a time/, /Write it like/],
    ["on 2026-11-22T10:30:00Z", /is not a time/, /Write it like/],
    ["2026-11-22T10:30:00.1234567890Z", /is not a time/, /Write it like/],
    ["2026-11-22T10:30:0Z", /is not a time/, /Write it like/],
    ["2026-1-22T10:30:00Z", /is not a time/, /Write it like/],
    ["in 5 minutes ago", /is not a time/, /Write it like/],
    ["5 minutes ago or so", /is not a time/, /Write it like/],
    ["5 ago", /is not a time/, /Write it like/],
    ["minutes ago", /is not a time/, /Write it like/],
    ["3 sx ago", /"sx" is not a unit/, /90 seconds ago/],
    ["3 xs ago", /"xs" is not a unit/, /90 seconds ago/],
    ["3 hx ago", /"hx" is not a unit/, /90 seconds ago/],
    ["3 months ago", /"months" is not a unit/, /90 seconds ago/],
    ["yesterday", /is not a time/, /5 minutes ago/],
    ["22.11.2026 10:30", /is not a time/, /Write it like/],
    ["1795343400", /is not a time/, /Write it like/],
    ["3 fortnights ago", /"fortnights" is not a unit/, /90 seconds ago/],
    ["ago", /is not a time/, /Write it like/],
    ["", /is not a time/, /Write it like/],
  ])("%s is refused", (text, message, hint) => {
    expect(() => parseTargetTime(text, NOW)).toThrowError(
      expect.objectContaining({
        code: "usage",
        message: expect.stringMatching(message) as string,
        hint: expect.stringMatching(hint) as string,
      }) as Error,
    );
  });
});

describe("a target", () => {
  test.each([
    [{}, { kind: "latest" }],
    [{ target: "latest" as const }, { kind: "latest" }],
    [
      { target: "immediate" as const, action: "pause" as const },
      { kind: "immediate", action: "pause" },
    ],
    [{ lsn: LSN }, { kind: "lsn", value: "0/3000060", inclusive: true, action: "promote" }],
    [
      { xid: "1234", exclusive: true },
      { kind: "xid", value: 1234, inclusive: false, action: "promote" },
    ],
    // Epoch 2: WAL holds the low half.
    [{ xid: "8589935826" }, { kind: "xid", value: 1234, inclusive: true, action: "promote" }],
    [{ xid: "3" }, { kind: "xid", value: 3, inclusive: true, action: "promote" }],
    [{ xid: "18446744073709551615" }, { kind: "xid", value: 4294967295, inclusive: true, action: "promote" }],
    [
      { lsn: LSN, exclusive: true, action: "shutdown" as const },
      { kind: "lsn", value: "0/3000060", inclusive: false, action: "shutdown" },
    ],
    [
      { time: "1 h ago", exclusive: true },
      { kind: "time", value: "2026-11-22T11:00:00.000000Z", inclusive: false, action: "promote" },
    ],
    [{ name: "x".repeat(63) }, { kind: "name", value: "x".repeat(63), action: "promote" }],
    [{ name: "before it" }, { kind: "name", value: "before it", action: "promote" }],
    [
      { time: "1 h ago", inclusive: true },
      { kind: "time", value: "2026-11-22T11:00:00.000000Z", inclusive: true, action: "promote" },
    ],
  ])("number %#", (texts, expected) => {
    expect(targetJson(parseTarget(texts, NOW))).toEqual(expected);
  });

  test.each([
    [undefined, "latest"],
    ["latest", "latest"],
    ["current", "current"],
    ["2", 2],
    ["0x1F", 31],
    ["1", 1],
    ["4294967295", 4294967295],
    ["0xFFFFFFFF", 4294967295],
    ["0xabcdef", 0xabcdef],
  ])("timeline %s", (timeline, expected) => {
    expect(parseTarget({ timeline }, NOW).timeline).toBe(expected);
  });

  test.each([
    [{ time: "1 h ago", xid: "5" }, "--target-time and --target-xid exclude each other"],
    [{ target: "latest" as const, name: "x" }, "--target and --target-name exclude each other"],
    [{ xid: "5", inclusive: true, exclusive: true }, "--target-inclusive and --target-exclusive exclude each other"],
    [{ exclusive: true }, '--target-exclusive has no meaning with the target "latest"'],
    [{ name: "x", exclusive: true }, '--target-exclusive has no meaning with the target "name"'],
    [{ action: "pause" as const }, "--target-action pause has no meaning without a target to stop at"],
    [{ xid: "2" }, "2 is not the ID of a transaction that writes"],
    [{ xid: "0x10" }, '"0x10" is not a transaction ID'],
    [{ xid: "18446744073709551616" }, "18446744073709551616 is not the ID of a transaction that writes"],
    [{ name: "x".repeat(64) }, "the name of a restore point has at most 63 bytes"],
    [{ name: "ü".repeat(32) }, "the name of a restore point has at most 63 bytes"],
    [
      { target: "immediate" as const, exclusive: true },
      '--target-exclusive has no meaning with the target "immediate"',
    ],
    [{ action: "shutdown" as const }, "--target-action shutdown has no meaning without a target to stop at"],
    [{ time: "1 h ago", lsn: LSN, name: "x" }, "--target-time and --target-lsn and --target-name exclude each other"],
    [{ xid: "4294967298" }, "4294967298 is not the ID of a transaction that writes"],
    [{ xid: "123456789012345678901" }, '"123456789012345678901" is not a transaction ID'],
    [{ xid: "1234x" }, '"1234x" is not a transaction ID'],
    [{ xid: "" }, '"" is not a transaction ID'],
    [{ timeline: "0" }, '"0" is not a timeline'],
    [{ timeline: "0x" }, '"0x" is not a timeline'],
    [{ timeline: "2 " }, '"2 " is not a timeline'],
    [{ timeline: "-2" }, '"-2" is not a timeline'],
    [{ timeline: "0x123456789" }, '"0x123456789" is not a timeline'],
    [{ timeline: "00000000002" }, '"00000000002" is not a timeline'],
    [{ timeline: "newest" }, '"newest" is not a timeline'],
    [{ timeline: "4294967296" }, '"4294967296" is not a timeline'],
  ])("number %# is refused", (texts, message) => {
    expect(() => parseTarget(texts, NOW)).toThrowError(expect.objectContaining({ code: "usage", message }) as Error);
  });
});

test.each([
  [{}, "latest"],
  [{ target: "immediate" as const }, "immediate"],
  [{ time: "1 h ago" }, "time 2026-11-22T11:00:00.000000Z"],
  [{ lsn: LSN }, "LSN 0/3000060"],
  [{ xid: "1234" }, "xid 1234"],
  [{ name: "before it" }, 'restore point "before it"'],
])("target %# is shown as it was understood", (texts, shown) => {
  expect(describePoint(parseTarget(texts, NOW).point)).toBe(shown);
});
