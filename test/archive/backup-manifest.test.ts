/** PostgreSQL's backup manifest: read in any split, damage refused. Real servers' manifests: test/backup. */
import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type ManifestFacts, type ManifestFile, ManifestReader } from "../../src/archive/backups/manifest.ts";
import { startChecksum } from "../../src/codec/checksum.ts";
import { pathFromBytes } from "../../src/codec/tar.ts";
import { parseLsn } from "../../src/wal/lsn.ts";

/** As PostgreSQL's backup_manifest.c writes it: one entry a line, the checksum's line last. */
function manifestOf(body: string): Buffer {
  const checksum = createHash("sha256").update(body).digest("hex");
  return Buffer.from(`${body}"Manifest-Checksum": "${checksum}"}\n`);
}

const FILES = [
  `{ "Path": "backup_label", "Size": 226, "Last-Modified": "2026-02-03 04:05:06 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "a1b2c3d4" }`,
  `{ "Path": "base/5/odd \\"name\\" {[\\\\u00e9 é", "Size": 0, "Last-Modified": "2026-02-03 04:05:06 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "${"0F".repeat(32)}" }`,
  `{ "Encoded-Path": "62e464", "Size": 1, "Last-Modified": "2026-02-03 04:05:06 GMT" }`,
];
const RANGES = `"WAL-Ranges": [\n{ "Timeline": 3, "Start-LSN": "2/28", "End-LSN": "2/120" }\n],\n`;
const listOf = (files: readonly string[]): string => `"Files": [\n${files.join(",\n")}\n],\n`;
const V1 = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n${listOf(FILES)}${RANGES}`;
const V2 = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7412345678901234567,\n${listOf(FILES)}${RANGES}`;

function read(pieces: Iterable<Uint8Array>): { files: ManifestFile[]; facts: ManifestFacts } {
  const files: ManifestFile[] = [];
  const reader = new ManifestReader("backup_manifest", { onFile: (file) => files.push(file) });
  for (const piece of pieces) reader.push(piece);
  return { files, facts: reader.end() };
}

const modifiedMs = Date.UTC(2026, 1, 3, 4, 5, 6);
const EXPECTED_FILES: ManifestFile[] = [
  { path: "backup_label", size: 226, algorithm: "CRC32C", checksum: "a1b2c3d4", modifiedMs },
  { path: 'base/5/odd "name" {[\\u00e9 é', size: 0, algorithm: "SHA256", checksum: "0f".repeat(32), modifiedMs },
  { path: pathFromBytes(Buffer.from([0x62, 0xe4, 0x64])), size: 1, algorithm: undefined, checksum: "", modifiedMs },
];

test("a manifest of version 2, cut anywhere", () => {
  const manifest = manifestOf(V2);
  const whole = read([manifest]);
  expect(whole.files).toEqual(EXPECTED_FILES);
  expect(whole.facts).toEqual({
    version: 2,
    systemIdentifier: 7_412_345_678_901_234_567n,
    files: 3,
    algorithm: "CRC32C",
    walRanges: [{ timeline: 3, startLsn: parseLsn("2/28"), endLsn: parseLsn("2/120") }],
  });
  for (let at = 0; at <= manifest.length; at++) {
    expect(read([manifest.subarray(0, at), manifest.subarray(at)])).toEqual(whole);
  }
});

test("a manifest of version 1, byte by byte", () => {
  const manifest = manifestOf(V1);
  const bytes = [...manifest].map((byte) => Buffer.from([byte]));
  expect(read(bytes)).toMatchObject({ files: EXPECTED_FILES, facts: { version: 1, systemIdentifier: undefined } });
});

test("a manifest without files, and one without checksums", () => {
  const head = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n`;
  expect(read([manifestOf(`${head}"Files": [\n],\n${RANGES}`)]).facts).toMatchObject({ files: 0, algorithm: "NONE" });
  expect(read([manifestOf(`${head}${listOf(FILES.slice(2))}${RANGES}`)]).facts).toMatchObject({ algorithm: "NONE" });
});

test.each([
  ["one escaped quote before a brace", '{ "Path": "a\\"{b", "Size": 7 }', 'a"{b'],
  ["a backslash before the closing quote", '{ "Path": "a\\\\", "Size": 7 }', "a\\"],
  ["closing brackets in its name", '{ "Path": "a]}]}", "Size": 7 }', "a]}]}"],
])("a path with %s", (_, line, path) => {
  const { files } = read([manifestOf(V2.replace(FILES[0] ?? "", line))]);
  expect(files[0]).toEqual({ path, size: 7, algorithm: undefined, checksum: "" });
  expect(files).toHaveLength(3);
});

test("a manifest with other white space than the server's", () => {
  const spaced = V2.replace(`"System-Identifier": `, `"System-Identifier"  :\n  `).replaceAll("},\n{", "} , \t{");
  const { files, facts } = read([manifestOf(spaced)]);
  expect(files).toEqual(EXPECTED_FILES);
  expect(facts.systemIdentifier).toBe(7_412_345_678_901_234_567n);
  const tight = V2.replace(`"System-Identifier": `, `"System-Identifier":`);
  expect(read([manifestOf(tight)]).facts.systemIdentifier).toBe(7_412_345_678_901_234_567n);
});

test("a list that Seawall does not know is passed over", () => {
  const more = `"Checksum-Notes": [\n{ "Timeline": "none" }\n],\n`;
  expect(read([manifestOf(V2.replace(RANGES, more + RANGES))]).files).toEqual(EXPECTED_FILES);
});

describe("refused", () => {
  const manifest = manifestOf(V2);
  const files = (line: string): Buffer => manifestOf(V2.replace(FILES[0] ?? "", line));
  const flipped = (at: number): Buffer => Buffer.from(manifest.map((byte, index) => (index === at ? byte ^ 1 : byte)));
  test.each<[string, Buffer, string]>([
    ["a changed digit", flipped(manifest.indexOf("226")), "has the checksum"],
    ["a changed checksum", flipped(manifest.length - 10), "has the checksum"],
    ["an end inside the files", manifest.subarray(0, 300), "is cut off"],
    ["nothing", Buffer.alloc(0), "is cut off"],
    ["no newline at the end", manifest.subarray(0, -1), "does not end with its checksum's line"],
    ["more after the end", Buffer.concat([manifest, Buffer.from("\n")]), "has the checksum"],
    ["a path that climbs", files(`{ "Path": "../x", "Size": 0 }`), 'the path "../x", which contains ".."'],
    ["no path", files(`{ "Size": 0 }`), "Path is missing"],
    ["a negative size", files(`{ "Path": "x", "Size": -1 }`), "Size is -1"],
    ["an unknown checksum", files(`{ "Path": "x", "Size": 0, "Checksum-Algorithm": "MD5", "Checksum": "00" }`), "MD5"],
    ["a file that is no object", files(`"x"`), 'something else than objects in "Files"'],
    ["WAL of no timeline", manifestOf(V2.replace('"Timeline": 3', '"Timeline": 0')), "Timeline is 0"],
    ["WAL from no LSN", manifestOf(V2.replace('"Start-LSN": "2/28", ', "")), "Start-LSN is missing"],
    [
      "a checksum with an odd number of digits",
      files(`{ "Path": "x", "Size": 0, "Checksum-Algorithm": "CRC32C", "Checksum": "abc" }`),
      'Checksum is "abc"',
    ],
    [
      "a checksum that begins with no digit",
      files(`{ "Path": "x", "Size": 0, "Checksum-Algorithm": "CRC32C", "Checksum": "-abcd" }`),
      'Checksum is "-abcd"',
    ],
    [
      "a checksum that ends with no digit",
      files(`{ "Path": "x", "Size": 0, "Checksum-Algorithm": "CRC32C", "Checksum": "abcd-" }`),
      'Checksum is "abcd-"',
    ],
    ["an encoded path with an odd number of digits", files(`{ "Encoded-Path": "616", "Size": 0 }`), "Encoded-Path is"],
    ["an encoded path that begins with no digit", files(`{ "Encoded-Path": "-6161", "Size": 0 }`), "Encoded-Path is"],
    ["an encoded path that ends with no digit", files(`{ "Encoded-Path": "6161-", "Size": 0 }`), "Encoded-Path is"],
    ["an entry of 70,000 letters", files(`{ "Path": "${"x".repeat(70_000)}", "Size": 0 }`), "entries far too long"],
    [
      "100,000 letters beside the lists",
      Buffer.from(`{ "PostgreSQL-Backup-Manifest-Version": 1,\n${'"more": 12345,\n'.repeat(8_000)}`),
      "too much beside its lists",
    ],
    [
      "a manifest checksum with a digit more",
      Buffer.from(manifest.toString().replace('"Manifest-Checksum": "', '"Manifest-Checksum": "0')),
      "Manifest-Checksum is",
    ],
    [
      "a manifest checksum with a digit more behind",
      Buffer.from(manifest.toString().replace(/"\}\n$/, '0"}\n')),
      "Manifest-Checksum is",
    ],
    ["a line without end", Buffer.from(`{ "${"x".repeat(200_000)}`), "lines far too long"],
    ["what is no JSON at all", manifestOf("}"), "is no JSON object"],
  ])("%s", (_title, bytes, message) => {
    expect(() => read([bytes])).toThrow(expect.objectContaining({ code: "backup-corrupt" }) as Error);
    expect(() => read([bytes])).toThrow(message);
  });

  test("another version", () => {
    const newer = manifestOf(V2.replace(`Version": 2`, `Version": 3`));
    expect(() => read([newer])).toThrow(expect.objectContaining({ code: "archive-version" }) as Error);
  });
});

describe("checksums are those of the manifest", () => {
  // CRC-32C of "123456789" is E3069283; PostgreSQL writes its bytes as they lie in memory.
  test.each([
    ["CRC32C", "839206e3"],
    ["SHA224", createHash("sha224").update("123456789").digest("hex")],
    ["SHA256", createHash("sha256").update("123456789").digest("hex")],
    ["SHA384", createHash("sha384").update("123456789").digest("hex")],
    ["SHA512", createHash("sha512").update("123456789").digest("hex")],
  ] as const)("%s", (algorithm, hex) => {
    const checksum = startChecksum(algorithm);
    checksum.update(Buffer.from("1234"));
    checksum.update(Buffer.from("56789"));
    expect(checksum.hex()).toBe(hex);
  });

  test("of nothing", () => {
    expect(startChecksum("CRC32C").hex()).toBe("00000000");
  });
});
