/** tar at the level of its bytes: each field of a header, each split, and each thing that an extraction must refuse. */
import { describe, expect, test } from "vitest";
import { TarScanner, TarReader } from "../../src/codec/tar-reader.ts";
import {
  headerChecksum,
  paddingOf,
  pathFromBytes,
  pathToBytes,
  type TarHeader,
  unsafePath,
} from "../../src/codec/tar.ts";
import { encodeTarHeader, TAR_END_BYTES } from "../../src/codec/tar-writer.ts";

const HEADER: TarHeader = {
  ...{ path: "base/5/16384", type: "file", size: 3, mode: 0o640, uid: 26, gid: 27, mtime: 1_700_000_000 },
};

/** The header of a file, field by field as POSIX has it; its checksum right unless given. */
function block(fields: Readonly<Record<number, string | Uint8Array>> = {}, checksum?: string): Buffer {
  const bytes = Buffer.alloc(512);
  const plain = {
    ...{ 0: "base/5/16384", 100: "0000640\0", 108: "0000032\0", 116: "0000033\0", 124: "00000000003\0" },
    ...{ 136: "14524770400\0", 156: "0", 257: "ustar\x0000", 265: "postgres", 297: "postgres" },
    ...{ 329: "0000000\0", 337: "0000000\0" },
  };
  for (const [at, text] of Object.entries({ ...plain, ...fields })) bytes.set(Buffer.from(text), Number(at));
  bytes.write("        ", 148);
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(checksum ?? `${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return bytes;
}

const padded = (text: string): Buffer =>
  Buffer.concat([Buffer.from(text), Buffer.alloc((512 - (text.length % 512)) % 512)]);
const END = Buffer.alloc(1024);

/** What a scanner finds, as text; data put together. */
function scan(pieces: readonly Uint8Array[], isEnded = true): string[] {
  const scanner = new TarScanner();
  const found: string[] = [];
  for (const piece of pieces) {
    scanner.feed(piece);
    for (let event = scanner.next(); event !== undefined; event = scanner.next()) {
      if (event.kind === "entry") found.push(`${event.header.type} ${event.header.path}`);
      else if (event.kind === "entry-end") found.push("end");
      else if (found.at(-1)?.startsWith("data ") === true)
        found.push(`${found.pop()}${Buffer.from(event.bytes).toString()}`);
      else found.push(`data ${Buffer.from(event.bytes).toString()}`);
    }
  }
  if (isEnded) scanner.end();
  return found;
}

function header(bytes: Buffer): TarHeader {
  const scanner = new TarScanner();
  scanner.feed(bytes);
  const event = scanner.next();
  if (event?.kind !== "entry") throw new Error("no entry");
  return event.header;
}

test("a header is written as PostgreSQL writes it, to the byte", () => {
  expect(encodeTarHeader(HEADER).equals(block())).toBe(true);
  expect(
    encodeTarHeader({ ...HEADER, path: "base", type: "directory", size: 0 }).equals(
      block({ 0: "base/\0\0\0\0\0\0\0", 124: "00000000000\0", 156: "5" }),
    ),
  ).toBe(true);
  expect(
    encodeTarHeader({ ...HEADER, path: "pg_tblspc/1", type: "symlink", size: 0, linkTarget: "/srv/x" }).equals(
      block({ 0: "pg_tblspc/1\0", 124: "00000000000\0", 156: "2", 157: "/srv/x" }),
    ),
  ).toBe(true);
});

test("bits of the mode that are not permissions are neither written nor read", () => {
  expect(encodeTarHeader({ ...HEADER, mode: 0o100640 }).equals(block())).toBe(true);
  expect(header(block({ 100: "0100640\0" })).mode).toBe(0o640);
});

describe("a field of a header is read", () => {
  test.each<{ name: string; fields: Record<number, string | Uint8Array>; facts: Partial<TarHeader> }>([
    { name: "as it was written", fields: {}, facts: HEADER },
    { name: "with spaces around its digits", fields: { 124: "         3 \0" }, facts: { size: 3 } },
    { name: "with a zero before it is full", fields: { 124: "3\0garbage\0\0\0" }, facts: { size: 3 } },
    { name: "when it is empty", fields: { 136: Buffer.alloc(12) }, facts: { mtime: 0 } },
    {
      name: "with a space at its end, as servers write it",
      fields: { 100: "0000600 ", 108: "0000145 ", 124: "00000000003 ", 136: "15303270064 " },
      facts: { mode: 0o600, uid: 101, size: 3, mtime: 1_796_042_804 },
    },
    { name: "with digits in all of its bytes", fields: { 124: "000000000017" }, facts: { size: 15 } },
    {
      name: "to base 256",
      fields: { 124: Buffer.from("800000000000000200000001", "hex") },
      facts: { size: 0x200000001 },
    },
    {
      name: "to base 256 from its first byte on",
      fields: { 108: Buffer.from("8001000000000000", "hex") },
      facts: { uid: 2 ** 48 },
    },
    { name: "of an old tar whose files have the type zero", fields: { 156: "\0" }, facts: { type: "file" } },
    { name: "with a prefix", fields: { 345: "a/b" }, facts: { path: "a/b/base/5/16384" } },
    {
      name: "without one in GNU's own format",
      fields: { 257: "ustar  \0", 345: "a/b" },
      facts: { path: "base/5/16384" },
    },
    {
      name: "that PostgreSQL begins at its own directory",
      fields: { 0: "./pg_wal/archive_status/x" },
      facts: { path: "pg_wal/archive_status/x" },
    },
    {
      name: "of 100 bytes without a zero",
      fields: { 0: "x".repeat(100), 100: "0000640\0" },
      facts: { path: "x".repeat(100) },
    },
  ])("$name", ({ fields, facts }) => {
    expect(header(block(fields))).toMatchObject(facts);
  });

  test("of a directory with the slash at its end, and of a symlink with its target", () => {
    const directory = block({ 0: "base/\0\0\0\0\0\0\0", 124: "00000000000\0", 156: "5" });
    expect(header(directory)).toMatchObject({ path: "base", type: "directory" });
    expect(header(directory)).not.toHaveProperty("linkTarget");
    const symlink = block({ 124: "00000000000\0", 156: "2", 157: "/srv/x" });
    expect(header(symlink)).toMatchObject({ type: "symlink", linkTarget: "/srv/x" });
    const longest = block({ 124: "00000000000\0", 156: "2", 157: "y".repeat(100) });
    expect(header(longest).linkTarget).toBe("y".repeat(100));
  });
});

describe("a header is refused", () => {
  test.each<{ name: string; bytes: Buffer; message: RegExp }>([
    { name: "with another checksum", bytes: block({}, "000001\0 "), message: /^a tar header's checksum is wrong$/ },
    {
      name: "with a checksum that is no number",
      bytes: block({}, "00000x\0 "),
      message: /^the checksum field of a header is no number$/,
    },
    { name: "that is not ustar", bytes: block({ 257: "tar\0\0" }), message: /^a header is not ustar$/ },
    {
      name: "of a hard link",
      bytes: block({ 156: "1" }),
      message: /"base\/5\/16384" is an entry of type "1": refused/,
    },
    { name: "of a device", bytes: block({ 156: "3" }), message: /of type "3": refused/ },
    { name: "of an extended header", bytes: block({ 156: "x" }), message: /of type "x": refused/ },
    { name: "with a way up", bytes: block({ 0: "base/../x\0\0\0" }), message: /the path "base\/..\/x" contains ".."/ },
    { name: "with an absolute path", bytes: block({ 0: "/" }), message: /is absolute/ },
    {
      name: "with a size of digits that are not octal",
      bytes: block({ 124: "00000000008\0" }),
      message: /^the size field of "base\/5\/16384" is no number/,
    },
    { name: "with a size that is negative", bytes: block({ 124: "-0000000001\0" }), message: /^the size field/ },
    { name: "with words behind its size", bytes: block({ 124: "000000003 x\0" }), message: /^the size field/ },
    {
      name: "with a size that a number cannot hold",
      bytes: block({ 124: Buffer.from("800000000020000000000000", "hex") }),
      message: /^the size field/,
    },
    {
      name: "of a directory with content",
      bytes: block({ 156: "5" }),
      message: /is a directory with 3 bytes of content/,
    },
    {
      name: "of a symlink with content",
      bytes: block({ 156: "2", 157: "x" }),
      message: /is a symlink with 3 bytes of content/,
    },
    {
      name: "of a symlink to nowhere",
      bytes: block({ 124: "00000000000\0", 156: "2" }),
      message: /is a symlink to nowhere/,
    },
  ])("$name", ({ bytes, message }) => {
    expect(() => header(bytes)).toThrowError(
      expect.objectContaining({ code: "backup-corrupt", message: expect.stringMatching(message) as string }) as Error,
    );
  });

  test("the largest exact size is one", () => {
    expect(header(block({ 124: Buffer.from("80000000001fffffffffffff", "hex") })).size).toBe(2 ** 53 - 1);
  });
});

describe("entries below a symlink", () => {
  const link = block({ 0: "pg_tblspc/1\0", 124: "00000000000\0", 156: "2", 157: "/srv/x" });
  test.each([
    ["pg_tblspc/1/x", true],
    ["pg_tblspc/1/x/y", true],
    ["pg_tblspc/1", true],
    ["pg_tblspc/10", false],
    ["pg_tblspc", false],
    ["x/pg_tblspc/1", false],
    ["pg_tblspc/2/pg_tblspc/1", false],
  ])("%s: refused is %s", (path, isRefused) => {
    const entry = block({ 0: Buffer.concat([Buffer.from(path), Buffer.alloc(40)]), 124: "00000000000\0" });
    const run = (): string[] => scan([link, entry, END]);
    if (isRefused) expect(run).toThrow(/lies below or replaces a symlink: refused/);
    else expect(run()).toEqual(["symlink pg_tblspc/1", "end", `file ${path}`, "end"]);
  });
});

describe("a tar", () => {
  const whole = Buffer.concat([block(), padded("abc"), block({ 0: "empty\0\0\0\0\0\0\0", 124: "00000000000\0" }), END]);
  const found = ["file base/5/16384", "data abc", "end", "file empty", "end"];

  test("is read the same wherever it is cut", () => {
    for (let cut = 0; cut <= whole.length; cut++) {
      expect(scan([whole.subarray(0, cut), whole.subarray(cut)])).toEqual(found);
    }
  });

  test("calls a reader's handlers with the same", () => {
    const calls: string[] = [];
    const reader = new TarReader({
      onEntry: ({ type, path }) => calls.push(`${type} ${path}`),
      onData: (view) => calls.push(`data ${Buffer.from(view).toString()}`),
      onEntryEnd: () => calls.push("end"),
    });
    reader.push(whole);
    reader.end();
    expect(calls).toEqual(found);
  });

  test.each<[name: string, bytes: Buffer]>([
    ["with both blocks of zeros at its end", whole],
    ["with more of them", Buffer.concat([whole, Buffer.alloc(700)])],
    ["without them, as PostgreSQL 14 writes it", whole.subarray(0, -1024)],
    ["of nothing but them", END],
    ["of nothing at all", Buffer.alloc(0)],
  ])("%s is complete", (_, bytes) => {
    expect(() => scan([bytes])).not.toThrow();
  });

  test.each([1, 511, 513, 515, 516, 1023])("that ends after %i bytes is cut off", (length) => {
    const scanner = new TarScanner();
    scanner.feed(whole.subarray(0, length));
    while (scanner.next() !== undefined);
    expect(() => scanner.end()).toThrow(/ends in the middle of an entry/);
  });

  test.each([1, 511, 513, 515])("that ends after %i bytes is cut off for the reader with handlers, too", (length) => {
    const ignore = (): void => undefined;
    const reader = new TarReader({ onEntry: ignore, onData: ignore, onEntryEnd: ignore });
    reader.push(whole.subarray(0, length));
    expect(() => reader.end()).toThrow(/ends in the middle of an entry/);
  });

  test("that goes on behind its end is refused", () => {
    expect(() => scan([whole, Buffer.from("x")])).toThrow(/something other than zeros follows the end of the tar/);
  });

  test("whose content has just ended is not complete before its padding", () => {
    expect(scan([whole.subarray(0, 515)], false)).toEqual(found.slice(0, 3));
  });

  test("is fed when the last piece is used up, and not before", () => {
    const scanner = new TarScanner();
    scanner.feed(whole);
    expect(() => scanner.feed(whole)).toThrow(/before the last one was used up/);
    expect(() => scanner.end()).toThrow(/before its last chunk was used up/);
  });
});

describe("content that is passed over", () => {
  const FILE = block({ 124: "00000000012\0" });
  const rest = Buffer.concat([
    padded("0123456789").subarray(10),
    block({ 0: "next\0".padEnd(12, "\0") }),
    padded("abc"),
    END,
  ]);

  /** Calls to the handlers for a file of ten bytes and one of three, when `passed` bytes follow `before` and are not fed. */
  function read(before: number, passed: number): string[] {
    const found: string[] = [];
    const reader = new TarReader({
      onEntry: ({ path }) => found.push(path),
      onData: (view) => found.push(Buffer.from(view).toString()),
      onEntryEnd: () => found.push("end"),
    });
    const content = Buffer.from("0123456789");
    reader.push(FILE);
    expect(reader.contentLeft).toBe(10);
    reader.push(content.subarray(0, before));
    expect(reader.contentLeft).toBe(10 - before);
    reader.passOver(passed);
    expect(reader.contentLeft).toBe(10 - before - passed);
    reader.push(Buffer.concat([content.subarray(before + passed), rest]));
    expect(reader.contentLeft).toBe(0);
    reader.end();
    return found;
  }

  const NEXT = ["next", "abc", "end"];
  test.each([
    ["from its first byte to its last", 0, 10, ["base/5/16384", "end", ...NEXT]],
    ["in its middle", 3, 4, ["base/5/16384", "012", "789", "end", ...NEXT]],
    ["to its end", 3, 7, ["base/5/16384", "012", "end", ...NEXT]],
    ["nothing", 3, 0, ["base/5/16384", "012", "3456789", "end", ...NEXT]],
  ])("%s", (_title, before, passed, expected) => {
    expect(read(before, passed)).toEqual(expected);
  });

  test("ends its entry at once", () => {
    const found: string[] = [];
    const reader = new TarReader({
      onEntry: () => undefined,
      onData: () => undefined,
      onEntryEnd: () => found.push("end"),
    });
    reader.push(FILE);
    reader.passOver(10);
    expect(found).toEqual(["end"]);
  });

  test("is no more than the entry has, and none where there is no entry", () => {
    expect(() => read(3, 8)).toThrow("more was passed over than the content of a tar entry");
    const scanner = new TarScanner();
    expect(scanner.contentLeft).toBe(0);
    expect(() => scanner.passOver(1)).toThrow("more was passed over");
    scanner.feed(FILE);
    expect(() => scanner.passOver(0)).toThrow("before the last chunk was used up");
  });
});

describe("a name in a header", () => {
  const cut = (path: string, type: "file" | "directory" = "file"): [string, string] => {
    const bytes = encodeTarHeader({ ...HEADER, path, type, size: 0 });
    const text = (from: number, to: number): string => bytes.toString("latin1", from, to).replace(/\0+$/, "");
    return [text(345, 500), text(0, 100)];
  };
  const [d99, d100, d155, d156] = [99, 100, 155, 156].map((length) => "d".repeat(length)) as [
    string,
    string,
    string,
    string,
  ];

  test.each<{ name: string; path: string; type?: "directory"; fields: [string, string] }>([
    { name: "of 100 bytes is whole", path: d100, fields: ["", d100] },
    { name: "of 101 is cut at its slash", path: `a/${d99}`, fields: ["a", d99] },
    { name: "is cut at the first slash that will do", path: `a/b/${d99}`, fields: ["a/b", d99] },
    { name: "may leave 100 bytes behind the slash", path: `a/${d100}`, fields: ["a", d100] },
    { name: "may have 155 bytes in front of it", path: `${d155}/x`, fields: [d155, "x"] },
    {
      name: "of a directory of 99 bytes is whole with its slash",
      path: d99,
      type: "directory",
      fields: ["", `${d99}/`],
    },
    {
      name: "of a directory is not cut at its own slash",
      path: `a/${d99}`,
      type: "directory",
      fields: ["a", `${d99}/`],
    },
  ])("$name", ({ path, type, fields }) => {
    expect(cut(path, type)).toEqual(fields);
  });

  test.each<[name: string, path: string, type?: "directory"]>([
    ["of 101 bytes without a slash", `${d100}d`],
    ["with more than 155 bytes in front of its last slash", `${d156}/x`],
    ["with more than 100 bytes behind its last slash", `a/${d100}d`],
    ["of a directory of 100 bytes without a slash", d100, "directory"],
  ])("%s is too long", (_, path, type) => {
    expect(() => cut(path, type)).toThrow(/is too long for a tar header/);
  });

  test("and the target of a symlink have 100 bytes", () => {
    const link = (linkTarget: string): Buffer => encodeTarHeader({ ...HEADER, type: "symlink", size: 0, linkTarget });
    expect(link(d100).toString("latin1", 157, 257)).toBe(d100);
    expect(() => link(`${d100}d`)).toThrow(/is too long for a tar header/);
  });
});

test.each<[size: number, field: string]>([
  [8 ** 11 - 1, "77777777777\0"],
  [8 ** 11, "\x80\0\0\0\0\0\0\x02\0\0\0\0"],
  [0x123456789a, "\x80\0\0\0\0\0\0\x12\x34\x56\x78\x9a"],
])("a size of %i bytes is written as a field of twelve", (size, field) => {
  const bytes = encodeTarHeader({ ...HEADER, size });
  expect(bytes.toString("latin1", 124, 136)).toBe(field);
  expect(header(bytes).size).toBe(size);
});

test("the end of a tar is two blocks", () => {
  expect(TAR_END_BYTES).toBe(1024);
});

test("a checksum counts every byte but its own field, which counts as spaces", () => {
  expect(headerChecksum(Buffer.alloc(512))).toBe(256);
  expect(headerChecksum(Buffer.alloc(512, 1))).toBe(504 + 256);
  expect(headerChecksum(Buffer.alloc(512, 0xff))).toBe(504 * 255 + 256);
  for (let at = 0; at < 512; at++) {
    const block = Buffer.alloc(512);
    block[at] = 0xff;
    expect(headerChecksum(block)).toBe(at >= 148 && at < 156 ? 256 : 255 + 256);
  }
});

test.each([
  [0, 0],
  [1, 511],
  [511, 1],
  [512, 0],
  [513, 511],
  [8_589_934_593, 511],
])("a content of %i bytes is followed by %i zeros", (size, zeros) => {
  expect(paddingOf(size)).toBe(zeros);
});

describe("file names are bytes", () => {
  test.each<[name: string, hex: string, text: string]>([
    ["ASCII", "61", "a"],
    ["two bytes", "c3bc", "ü"],
    ["three bytes", "e282ac", "€"],
    ["four bytes", "f09f9880", "😀"],
    ["the replacement character itself", "efbfbd", "\uFFFD"],
    ["a byte that begins nothing", "80", "\uDC80"],
    ["an overlong form", "c0af", "\uDCC0\uDCAF"],
    ["a cut character", "e282", "\uDCE2\uDC82"],
    ["a cut character and text", "61e28262", "a\uDCE2\uDC82b"],
    ["a surrogate in UTF-8", "eda080", "\uDCED\uDCA0\uDC80"],
    ["beyond Unicode", "f4908080", "\uDCF4\uDC90\uDC80\uDC80"],
    ["the highest byte", "ff", "\uDCFF"],
    ["odd bytes beside good ones", "c3bcfff09f9880", "ü\uDCFF😀"],
    ["an odd byte beside the replacement character", "efbfbdff", "\uFFFD\uDCFF"],
    ["the first character of two bytes", "ffc280", "\uDCFF\u0080"],
    ["the last character of two bytes", "ffdfbf", "\uDCFF\u07FF"],
    ["the first character of three bytes", "ffe0a080", "\uDCFF\u0800"],
    ["the last character of three bytes", "ffefbfbf", "\uDCFF\uFFFF"],
    ["the first character of four bytes", "fff0908080", "\uDCFF\u{10000}"],
    ["the last character of four bytes", "fff48fbfbf", "\uDCFF\u{10FFFF}"],
    ["the last character of one byte", "ff7f", "\uDCFF\u007F"],
  ])("%s, there and back", (_, hex, text) => {
    expect(pathFromBytes(Buffer.from(hex, "hex"))).toBe(text);
    expect(pathToBytes(text).toString("hex")).toBe(hex);
  });

  test("from the middle of other memory", () => {
    expect(pathFromBytes(Buffer.from("ffc3bcff", "hex").subarray(1, 3))).toBe("ü");
  });
});

test.each<[path: string, why: string | undefined]>([
  ["a", undefined],
  ["a/b.c/..d/e..", undefined],
  ["", "is empty"],
  ["/a", "is absolute"],
  ["a\0b", "contains a zero byte"],
  ["..", 'contains ".."'],
  ["a/../b", 'contains ".."'],
  ["a/..", 'contains ".."'],
  [".", 'contains "."'],
  ["a/./b", 'contains "."'],
  ["a//b", "contains an empty part"],
  ["a/", "contains an empty part"],
])("the path %j: %s", (path, why) => {
  expect(unsafePath(path)).toBe(why);
});
