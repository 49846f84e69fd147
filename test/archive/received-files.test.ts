/** The files that came, until the manifest has asked for each: as a Map would tell, in a fraction of its memory. */
import { describe, expect, test } from "vitest";
import { FileLedger } from "../../src/archive/backups/file-ledger.ts";
import { ReceivedFiles } from "../../src/archive/backups/received-files.ts";
import { startChecksum } from "../../src/codec/checksum.ts";
import { Codec } from "../../src/codec/codec.ts";
import { sharedOrOwn } from "../../src/codec/pool.ts";
import { FrameSlots } from "../../src/codec/frame-slots.ts";
import { TAR_BLOCK_BYTES } from "../../src/codec/tar.ts";
import { TarScanner } from "../../src/codec/tar-reader.ts";
import { encodeTarHeader } from "../../src/codec/tar-writer.ts";
import { report } from "../campaigns/campaign.ts";
import { announcedRandom } from "../harness/random.ts";

describe("received files", () => {
  test("are given once each, and files without a request are left", () => {
    const files = new ReceivedFiles();
    expect(files.add("base/1/2619", { size: 8192, checksum: "0a1b2c3d" })).toBe(true);
    expect(files.add("base/1/2619_fsm", { size: 0, checksum: "00000000" })).toBe(true);
    expect(files.add("base/1/2619", { size: 1, checksum: "ffffffff" })).toBe(false);
    expect(files.take("base/1/2619")).toEqual({ size: 8192, checksum: "0a1b2c3d" });
    expect(files.take("base/1/2619")).toBeUndefined();
    expect(files.take("base/1/2620")).toBeUndefined();
    expect(files.add("base/1/2619", { size: 1, checksum: "ffffffff" })).toBe(false);
    expect([...files.left()]).toEqual(["base/1/2619_fsm"]);
  });

  test("keep sizes beyond 32 bits, the longest checksums, and names that are not UTF-8", () => {
    const files = new ReceivedFiles();
    const sha512 = "ab".repeat(64);
    const rows = [
      ["base/1/large", 2 ** 50, sha512],
      ["", 1, ""],
      ["é/\u{1F418}", 2, "01"],
      ["odd\uDCFF", 3, "02"],
      ["odd\uDCFE", 4, "03"],
      ["long/".repeat(50), 5, "04"],
    ] as const;
    for (const [path, size, checksum] of rows) files.add(path, { size, checksum });
    expect([...files.left()].sort()).toEqual(rows.map(([path]) => path).sort());
    for (const [path, size, checksum] of rows) expect(files.take(path)).toEqual({ size, checksum });
    expect([...files.left()]).toEqual([]);
  });

  test("tell the same as a Map, whatever is added and asked for in whatever order", () => {
    const random = announcedRandom("received files");
    const files = new ReceivedFiles();
    const expected = new Map<string, { size: number; checksum: string }>();
    const taken = new Set<string>();
    for (let i = 0; i < 60_000; i++) {
      const path = `base/${random.between(1, 9)}/${random.between(1, 20_000)}`;
      if (random.between(0, 2) > 0) {
        const file = { size: random.between(0, 2 ** 31), checksum: Buffer.from(random.bytes(4)).toString("hex") };
        expect(files.add(path, file)).toBe(!expected.has(path) && !taken.has(path));
        if (!taken.has(path) && !expected.has(path)) expected.set(path, file);
      } else {
        expect(files.take(path)).toEqual(expected.get(path));
        if (expected.delete(path)) taken.add(path);
      }
    }
    expect([...files.left()].sort()).toEqual([...expected.keys()].sort());
  });
});

const FILES = 400_000;
const path = (i: number): string => `base/${16384 + (i % 40)}/${1_000_000 + i}`;
const contentOf = (i: number): Buffer => Buffer.alloc(TAR_BLOCK_BYTES, i & 0xff);

test("a data directory of 400,000 files is held against its manifest in less than 96 MiB more", async () => {
  const codec = new Codec(sharedOrOwn(undefined, { threads: 1 }));
  const { signal } = new AbortController();
  const index = await codec.writeFrames({ slots: new FrameSlots(3), signal });
  const ledger = new FileLedger({ index, algorithm: "CRC32C" });
  let indexBytes = 0;
  const draining = (async () => {
    for await (const piece of index.body()) indexBytes += piece.length;
  })();
  const scanner = new TarScanner();
  const before = process.memoryUsage().rss;
  let peak = before;
  for (let i = 0; i < FILES; i++) {
    const header = {
      path: path(i),
      type: "file",
      size: TAR_BLOCK_BYTES,
      mode: 0o600,
      uid: 0,
      gid: 0,
      mtime: 0,
    } as const;
    for (const bytes of [encodeTarHeader(header), contentOf(i)]) {
      scanner.feed(bytes);
      for (let event = scanner.next(); event !== undefined; event = scanner.next()) {
        if (event.kind === "entry") ledger.begin(event.header, event.header.path, "part-000001.tar.zst");
        else if (event.kind === "data") ledger.data(event.bytes);
        else await ledger.end();
      }
    }
    if (i % 10_000 === 0) peak = Math.max(peak, process.memoryUsage().rss);
  }
  index.end();
  await draining;
  peak = Math.max(peak, process.memoryUsage().rss);
  report("memory of a file ledger", { files: FILES, indexBytes, moreMiB: Math.round((peak - before) / 2 ** 20) });
  expect(ledger.files).toBe(FILES);
  const wrong = 123_456;
  for (let i = 0; i < FILES - 1; i++) {
    const checksum = i === wrong ? "00000000" : crcOf(i & 0xff);
    ledger.compare({ path: path(i), size: TAR_BLOCK_BYTES, algorithm: "CRC32C", checksum });
  }
  expect(() => ledger.finish()).toThrow(
    new RegExp(`${path(wrong)} came with CRC32C .*; ${path(FILES - 1)} came and is not`),
  );
  expect(peak - before).toBeLessThan(96 << 20);
  await codec.close();
}, 300_000);

const known = new Map<number, string>();
function crcOf(byte: number): string {
  let hex = known.get(byte);
  if (hex === undefined) {
    const checksum = startChecksum("CRC32C");
    checksum.update(contentOf(byte));
    hex = checksum.hex();
    known.set(byte, hex);
  }
  return hex;
}
