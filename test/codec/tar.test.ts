/** tar, read and written: against the tar of this machine, at every split, and everything that must be refused. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type TarHeader, headerChecksum, paddingOf, pathFromBytes, pathToBytes } from "../../src/codec/tar.ts";
import { TarReader, TarScanner } from "../../src/codec/tar-reader.ts";
import { TAR_END_BYTES, encodeTarHeader } from "../../src/codec/tar-writer.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const folder = makeTempDir("tar");
afterAll(() => removeTree(folder));

interface Entry {
  readonly header: TarHeader;
  readonly content: Buffer;
}

const base = { mode: 0o600, uid: 26, gid: 27, mtime: 1_700_000_000 };
const file = (path: string, content: string | Buffer): Entry => {
  const bytes = Buffer.from(content);
  return { header: { ...base, path, type: "file", size: bytes.length }, content: bytes };
};
const directory = (path: string): Entry => ({
  header: { ...base, path, type: "directory", size: 0, mode: 0o700 },
  content: Buffer.alloc(0),
});
const symlink = (path: string, linkTarget: string): Entry => ({
  header: { ...base, path, type: "symlink", size: 0, mode: 0o777, linkTarget },
  content: Buffer.alloc(0),
});

const ENTRIES: readonly Entry[] = [
  file("backup_label", "START WAL LOCATION: 0/2000028\n"),
  directory("base"),
  directory("base/5"),
  file("base/5/empty", ""),
  file("base/5/block", Buffer.alloc(512, 7)),
  file("base/5/a name with spaces, ünïcode and 'quotes'\n\\", "odd"),
  file(`${"d".repeat(60)}/${"e".repeat(60)}/${"f".repeat(60)}`, "long name"),
  symlink("pg_tblspc/16400", "/srv/fast disks/pg"),
  file("global/pg_control", Buffer.alloc(1024, 1)),
];

function tarOf(entries: readonly Entry[]): Buffer {
  const pieces = entries.flatMap(({ header, content }) => [
    encodeTarHeader(header),
    content,
    Buffer.alloc(paddingOf(content.length)),
  ]);
  return Buffer.concat([...pieces, Buffer.alloc(TAR_END_BYTES)]);
}

function readTar(pieces: Iterable<Uint8Array>): Entry[] {
  const found: Entry[] = [];
  let header: TarHeader | undefined;
  let content: Buffer[] = [];
  const reader = new TarReader({
    onEntry: (next) => {
      if (header !== undefined) throw new Error("an entry began inside another");
      header = next;
      content = [];
    },
    onData: (view) => content.push(Buffer.from(view)),
    onEntryEnd: () => {
      if (header !== undefined) found.push({ header, content: Buffer.concat(content) });
      header = undefined;
    },
  });
  for (const piece of pieces) reader.push(piece);
  reader.end();
  return found;
}

test("what is written is read, cut anywhere", () => {
  const tar = tarOf(ENTRIES);
  expect(readTar([tar])).toEqual(ENTRIES);
  const expected = JSON.stringify(readTar([tar]));
  for (let at = 0; at <= tar.length; at += at < 4096 ? 1 : 61) {
    const found = JSON.stringify(readTar([tar.subarray(0, at), tar.subarray(at)]));
    if (found !== expected) throw new Error(`cut at byte ${at}: ${found}`);
  }
});

test("byte by byte, and without the blocks of zeros at the end, as PostgreSQL 14 sends it", () => {
  const tar = tarOf(ENTRIES);
  const bare = tar.subarray(0, tar.length - TAR_END_BYTES);
  const bytes = function* (): Generator<Uint8Array> {
    for (let at = 0; at < bare.length; at++) yield bare.subarray(at, at + 1);
  };
  expect(readTar(bytes())).toEqual(ENTRIES);
});

test("the tar of this machine extracts what is written", () => {
  const target = join(folder, "extracted");
  mkdirSync(target);
  execFileSync("tar", ["-x", "-C", target], { input: tarOf(ENTRIES) });
  for (const { header, content } of ENTRIES) {
    if (header.type === "file") expect(readFileSync(join(target, header.path))).toEqual(content);
  }
});

test("the tar of this machine writes what is read", () => {
  const source = join(folder, "source");
  mkdirSync(join(source, "dir"), { recursive: true });
  writeFileSync(join(source, "dir", "file"), "content", { mode: 0o640 });
  utimesSync(join(source, "dir", "file"), 1_600_000_000, 1_600_000_000);
  symlinkSync("/elsewhere", join(source, "dir", "link"));
  const args = ["--format=ustar", "--sort=name", "--owner=:26", "--group=:27", "-c", "-C", source, "dir"];
  const [dir, plain, link] = readTar([execFileSync("tar", args)]);
  expect(dir?.header).toMatchObject({ path: "dir", type: "directory", size: 0 });
  expect(plain?.header).toEqual({
    ...{ path: "dir/file", type: "file", size: 7, mode: 0o640, uid: 26, gid: 27, mtime: 1_600_000_000 },
  });
  expect(plain?.content.toString()).toBe("content");
  expect(link?.header).toMatchObject({ path: "dir/link", type: "symlink", linkTarget: "/elsewhere" });
});

test("a size beyond 8 GiB goes through base 256, as PostgreSQL writes it", () => {
  const size = 9 * 2 ** 30 + 5;
  const block = encodeTarHeader({ ...base, path: "big", type: "file", size });
  expect(block.subarray(124, 136)).toEqual(Buffer.from("800000000000000240000005", "hex"));
  const scanner = new TarScanner();
  scanner.feed(block);
  expect(scanner.next()).toMatchObject({ kind: "entry", header: { size } });
});

test("the largest size that fits octal digits stays octal", () => {
  const block = encodeTarHeader({ ...base, path: "big", type: "file", size: 8 ** 11 - 1 });
  expect(block.subarray(124, 136).toString("latin1")).toBe("77777777777\0");
});

test.each([
  ["plain", Buffer.from("base/1")],
  ["UTF-8", Buffer.from("b\u00e4se/\u{1F418}")],
  ["a replacement character that is really there", Buffer.from("a\uFFFDb")],
  ["Latin-1", Buffer.from("b\u00e4se", "latin1")],
  ["half a character at the end", Buffer.from([0x61, 0xf0, 0x9f, 0x90])],
  ["an encoded surrogate", Buffer.from([0xed, 0xb2, 0x80, 0x61])],
  ["an overlong slash", Buffer.from([0xc0, 0xaf])],
])("file names are bytes: %s", (_title, bytes) => {
  const path = pathFromBytes(bytes);
  expect(pathToBytes(path)).toEqual(bytes);
  expect(pathToBytes(JSON.parse(JSON.stringify(path)) as string)).toEqual(bytes);
  const [entry] = readTar([tarOf([{ header: { ...base, path, type: "file", size: 0 }, content: Buffer.alloc(0) }])]);
  expect(entry?.header.path).toBe(path);
});

/** A header with some bytes changed and its checksum made right again. */
function tampered(entry: Entry, changes: Readonly<Record<number, string | Buffer>>): Buffer {
  const tar = tarOf([entry]);
  for (const [at, value] of Object.entries(changes)) Buffer.from(value).copy(tar, Number(at));
  tar.write(`${headerChecksum(tar).toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return tar;
}

const NAMED = (name: string): Buffer =>
  tampered(file("x", ""), { 0: Buffer.concat([Buffer.from(name), Buffer.alloc(9)]) });

test("a path from the data directory on loses its dot, as PostgreSQL sends ./pg_wal/archive_status", () => {
  expect(readTar([NAMED("./pg_wal/x")])[0]?.header.path).toBe("pg_wal/x");
});

describe("refused", () => {
  test.each<[string, Buffer, RegExp]>([
    ["a path that climbs", NAMED("base/../../etc/passwd"), /"base\/\.\.\/\.\.\/etc\/passwd" contains "\.\."/],
    ["only ..", NAMED(".."), /contains "\.\."/],
    ["an absolute path", NAMED("/etc/passwd"), /is absolute/],
    ["an empty path", NAMED(""), /is empty/],
    ["an empty part", NAMED("base//1"), /an empty part/],
    ["a dot", NAMED("base/./1"), /contains "\."/],
    ["two dots in front", NAMED("././base"), /contains "\."/],
    ["nothing but a dot", NAMED("."), /contains "\."/],
    ["an absolute path behind a dot", NAMED(".//etc/passwd"), /is absolute/],
    ["a hard link", tampered(file("x", ""), { 156: "1", 157: "/etc/passwd" }), /type "1"/],
    ["a character device", tampered(file("x", ""), { 156: "3" }), /type "3"/],
    ["a block device", tampered(file("x", ""), { 156: "4" }), /type "4"/],
    ["a FIFO", tampered(file("x", ""), { 156: "6" }), /type "6"/],
    ["GNU's long names", tampered(file("x", ""), { 156: "L" }), /type "L"/],
    ["pax headers", tampered(file("x", ""), { 156: "x" }), /type "x"/],
    ["a directory with content", tampered(directory("x"), { 124: "00000000001" }), /directory with 1 bytes/],
    ["a symlink to nowhere", tampered(symlink("x", "y"), { 157: "\0" }), /symlink to nowhere/],
    ["an entry below a symlink", tarOf([symlink("a", "/etc"), file("a/passwd", "")]), /below or replaces a symlink/],
    ["a symlink replaced", tarOf([symlink("a/b", "/etc"), file("a/b", "")]), /below or replaces a symlink/],
    ["a wrong checksum", Buffer.from(tarOf([file("x", "")]).map((byte, at) => (at === 3 ? 1 : byte))), /checksum/],
    ["another format", tampered(file("x", ""), { 257: "cpio!" }), /not ustar/],
    ["a size that is no number", tampered(file("x", ""), { 124: "99999999999" }), /size field of "x"/],
    ["a size beyond reason", tampered(file("x", ""), { 124: Buffer.alloc(12, 0xff) }), /size field of "x"/],
    ["more after the end", Buffer.concat([tarOf([]), encodeTarHeader(file("x", "").header)]), /follows the end/],
    ["an end inside a header", tarOf([file("x", "y")]).subarray(0, 100), /in the middle of an entry/],
    ["an end inside content", tarOf([file("x", "y")]).subarray(0, 512), /in the middle of an entry/],
    ["an end inside padding", tarOf([file("x", "y")]).subarray(0, 600), /in the middle of an entry/],
  ])("%s", (_title, tar, message) => {
    expect(() => readTar([tar])).toThrow(expect.objectContaining({ code: "backup-corrupt" }) as Error);
    expect(() => readTar([tar])).toThrow(message);
  });

  test("a name that ustar cannot hold is not written", () => {
    const header = { ...base, path: "x".repeat(101), type: "file", size: 0 } as const;
    expect(() => encodeTarHeader(header)).toThrow(/too long for a tar header/);
  });
});
