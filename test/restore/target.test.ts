/** Recovery targets as people write them: understood, or refused with what to write instead. */
import { describe, expect, test } from "vitest";
import { parseTarget, parseTargetTime, targetJson } from "../../src/restore/target.ts";
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
    // More digits than PostgreSQL has: cut, never rounded up past the moment.
    ["2026-11-22T10:30:00.123456999Z", "2026-11-22T10:30:00.123456Z"],
    ["5 minutes ago", "2026-11-22T11:55:00.000000Z"],
    ["2 hours 30 minutes ago", "2026-11-22T09:30:00.000000Z"],
    ["90s ago", "2026-11-22T11:58:30.000000Z"],
    ["1 day, 1 h ago", "2026-11-21T11:00:00.000000Z"],
    ["2 weeks ago", "2026-11-08T12:00:00.000000Z"],
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
    ["2026-11-22T10:30:00+16:00", /not a real moment/, /offset/],
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
    [{ timeline: "0" }, '"0" is not a timeline'],
    [{ timeline: "newest" }, '"newest" is not a timeline'],
    [{ timeline: "4294967296" }, '"4294967296" is not a timeline'],
  ])("number %# is refused", (texts, message) => {
    expect(() => parseTarget(texts, NOW)).toThrowError(expect.objectContaining({ code: "usage", message }) as Error);
  });
});
