/** The archive's small documents, member by member: what is read, what is refused, and what is written. */
import { describe, expect, test } from "vitest";
import { decodeGap, decodeIdentity, encodeGap, encodeIdentity } from "../../src/archive/documents.ts";
import { decodeDocument, encodeDocument, type Fields, parseFields } from "../../src/archive/json-document.ts";
import type { Lsn, TimelineId } from "../../src/wal/lsn.ts";

const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const wrong = (code: string, message: string): Error => expect.objectContaining({ code, message }) as Error;

describe("a document", () => {
  test("is JSON of one version, indented, with a line end", () => {
    expect(Buffer.from(encodeDocument({ a: 1 })).toString()).toBe('{\n  "version": 1,\n  "a": 1\n}\n');
  });

  test.each<[name: string, content: Buffer, code: string, message: string]>([
    ["of no JSON", Buffer.from("{"), "object-corrupt", "the/key is not JSON"],
    ["of a list", bytes([]), "object-corrupt", "the/key is not a JSON object"],
    ["of null", bytes(null), "object-corrupt", "the/key is not a JSON object"],
    ["of text", bytes("x"), "object-corrupt", "the/key is not a JSON object"],
    ["of the next version", bytes({ version: 2 }), "archive-version", "the/key has version 2"],
    ["without a version", bytes({}), "archive-version", "the/key has version undefined"],
    ["whose version is text", bytes({ version: "1" }), "archive-version", 'the/key has version "1"'],
  ])("%s is refused", (_, content, code, message) => {
    expect(() => decodeDocument(content, "the/key")).toThrowError(wrong(code, message));
  });

  test("of no JSON keeps the parser's error as the cause", () => {
    expect(() => decodeDocument(Buffer.from("{"), "the/key")).toThrowError(
      expect.objectContaining({ cause: expect.any(SyntaxError) as Error }) as Error,
    );
  });
});

describe("a member", () => {
  const read = (value: unknown): Fields => parseFields(JSON.stringify({ m: value }), "line 7", "backup-corrupt");
  const accessors: Record<string, (fields: Fields) => unknown> = {
    text: (fields) => fields.text("m"),
    pattern: (fields) => fields.text("m", /^a+$/),
    number: (fields) => fields.number("m"),
    count: (fields) => fields.count("m"),
    timeline: (fields) => fields.timeline("m"),
    boolean: (fields) => fields.boolean("m"),
    oneOf: (fields) => fields.oneOf("m", ["a", "b"]),
    lsn: (fields) => fields.lsn("m"),
    time: (fields) => fields.time("m"),
  };

  test.each<[as: string, value: unknown, found: unknown]>([
    ["text", "", ""],
    ["pattern", "aa", "aa"],
    ["number", -1.5, -1.5],
    ["count", 0, 0],
    ["count", 2 ** 53 - 1, 2 ** 53 - 1],
    ["timeline", 1, 1],
    ["timeline", 4_294_967_295, 4_294_967_295],
    ["boolean", false, false],
    ["oneOf", "b", "b"],
    ["lsn", "1/8", 0x100000008n],
    ["time", "2026-03-01T04:05:06.007Z", "2026-03-01T04:05:06.007Z"],
  ])("as %s: %j", (as, value, found) => {
    expect(accessors[as]?.(read(value))).toBe(found);
  });

  test.each<[as: string, value: unknown]>([
    ["text", 1],
    ["text", undefined],
    ["pattern", "ab"],
    ["number", "1"],
    ["number", null],
    ["count", -1],
    ["count", 1.5],
    ["count", 2 ** 53],
    ["count", "1"],
    ["timeline", 0],
    ["timeline", 4_294_967_296],
    ["timeline", 1.5],
    ["timeline", "1"],
    ["boolean", 0],
    ["oneOf", "c"],
    ["oneOf", 1],
    ["lsn", "18"],
    ["lsn", 8],
    ["time", "2026-03-01T04:05:06Z"],
    ["time", "2026-03-01 04:05:06.007Z"],
    ["time", "yesterday"],
    ["time", 1],
  ])("as %s: %j is refused", (as, value) => {
    const shown = value === undefined ? "missing" : JSON.stringify(value);
    expect(() => accessors[as]?.(read(value))).toThrowError(wrong("backup-corrupt", `line 7: m is ${shown}`));
  });

  test("of a member is named with its way, in objects and in lists", () => {
    const fields = read({ list: [{ a: 1 }, { a: "x" }] });
    const [first, second] = fields.object("m").list("list");
    expect(first?.number("a")).toBe(1);
    expect(() => second?.number("a")).toThrowError(wrong("backup-corrupt", 'line 7: m.list[1].a is "x"'));
    expect(() => read(1).object("m")).toThrowError(wrong("backup-corrupt", "line 7: m is not a JSON object"));
    expect(() => read([1]).list("m")).toThrowError(wrong("backup-corrupt", "line 7: m[0] is not a JSON object"));
    expect(() => read({}).list("m")).toThrowError(wrong("backup-corrupt", "line 7: m is {}"));
  });

  test("that is long is shown by its beginning", () => {
    expect(() => read("x".repeat(500)).number("m")).toThrowError(
      wrong("backup-corrupt", `line 7: m is "${"x".repeat(199)}`),
    );
  });
});

const IDENTITY = {
  version: 1,
  systemIdentifier: "7412345678901234567",
  segmentSize: 16_777_216,
  pgMajor: 18,
  createdAt: "x",
};
const GAP = { version: 1, timeline: 3, fromLsn: "1/28", toLsn: "1/1000000", detectedAt: "x", reason: "slot lost" };

test("the identity of a cluster is read and written to the byte", () => {
  const identity = { systemIdentifier: 7_412_345_678_901_234_567n, segmentSize: 1 << 24, pgMajor: 18, createdAt: "x" };
  expect(decodeIdentity(bytes(IDENTITY), "k")).toEqual(identity);
  expect(JSON.parse(Buffer.from(encodeIdentity(identity)).toString())).toEqual(IDENTITY);
});

test.each<[changes: object, message: string]>([
  [{ segmentSize: 1000 }, "k: segmentSize is 1000"],
  [{ segmentSize: 1_048_576.5 }, "k: segmentSize is 1048576.5"],
  [{ segmentSize: "16777216" }, 'k: segmentSize is "16777216"'],
  [{ systemIdentifier: 7 }, "k: systemIdentifier is 7"],
  [{ systemIdentifier: "-7" }, 'k: systemIdentifier is "-7"'],
  [{ systemIdentifier: "7x" }, 'k: systemIdentifier is "7x"'],
  [{ systemIdentifier: "" }, 'k: systemIdentifier is ""'],
  [{ systemIdentifier: "123456789012345678901" }, 'k: systemIdentifier is "123456789012345678901"'],
  [{ pgMajor: undefined }, "k: pgMajor is missing"],
  [{ createdAt: 1 }, "k: createdAt is 1"],
])("an identity with %j is refused", (changes, message) => {
  expect(() => decodeIdentity(bytes({ ...IDENTITY, ...changes }), "k")).toThrowError(wrong("object-corrupt", message));
});

test("a gap is read and written to the byte", () => {
  const gap = {
    ...{ timeline: 3 as TimelineId, fromLsn: 0x100000028n as Lsn, toLsn: 0x101000000n as Lsn },
    ...{ detectedAt: "x", reason: "slot lost" },
  };
  expect(decodeGap(bytes(GAP), "k")).toEqual(gap);
  expect(JSON.parse(Buffer.from(encodeGap(gap)).toString())).toEqual(GAP);
});

test.each<[changes: object, message: string]>([
  [{ fromLsn: "x" }, 'k: fromLsn is "x"'],
  [{ toLsn: undefined }, "k: toLsn is missing"],
  [{ timeline: "3" }, 'k: timeline is "3"'],
  [{ timeline: 0 }, "k: timeline is 0"],
  [{ reason: 1 }, "k: reason is 1"],
])("a gap with %j is refused", (changes, message) => {
  expect(() => decodeGap(bytes({ ...GAP, ...changes }), "k")).toThrowError(wrong("object-corrupt", message));
});
