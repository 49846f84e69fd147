/** What a server compressed on the way, decompressed in any split; and streams that do not hold together. */
import { execFileSync } from "node:child_process";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { startInflating } from "../../src/codec/inflate.ts";
import { tool } from "../harness/postgres.ts";
import { announcedRandom } from "../harness/random.ts";

const RAW = Buffer.alloc(1_500_000, "many of the same ");
RAW.set(announcedRandom("inflate").bytes(400_000), 300_000);

async function inflate(compression: "none" | "zstd" | "gzip", pieces: Iterable<Buffer>): Promise<Buffer> {
  const inflater = startInflating(compression);
  const out: Buffer[] = [];
  for (const piece of pieces) for await (const view of inflater.push(piece)) out.push(Buffer.from(view));
  for await (const view of inflater.end()) out.push(Buffer.from(view));
  return Buffer.concat(out);
}

function* cut(bytes: Buffer, length: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const zstd = tool("zstd");
const COMPRESSED = {
  none: () => RAW,
  gzip: () => gzipSync(RAW),
  // As a stream, without the content's size in front: so PostgreSQL writes it.
  zstd: () => execFileSync("zstd", ["-c", "-3"], { input: RAW, maxBuffer: 1 << 24 }),
};

describe.each(["none", "gzip", "zstd"] as const)("%s", (compression) => {
  test.skipIf(compression === "zstd" && zstd === undefined).each([1_000, 32_768, 1 << 24])(
    "in pieces of %i bytes",
    async (length) => {
      const out = await inflate(compression, cut(COMPRESSED[compression](), length));
      expect(out.equals(RAW)).toBe(true);
    },
  );
});

describe.each(["gzip", "zstd"] as const)("%s", (compression) => {
  test.skipIf(compression === "zstd" && zstd === undefined)("damaged and cut off", async () => {
    const whole = COMPRESSED[compression]();
    const flipped = Buffer.from(whole);
    flipped[700] = (flipped[700] ?? 0) ^ 0xff;
    for (const bytes of [whole.subarray(0, whole.length - 10), flipped, Buffer.from("no such thing at all")]) {
      const outcome = await inflate(compression, cut(bytes, 10_000)).catch((error: unknown) => error);
      // A flip may decompress to other bytes: then it is the file's checksum that tells.
      if (outcome instanceof Buffer) expect(outcome.equals(RAW)).toBe(false);
      else expect(outcome).toMatchObject({ code: "server-protocol" });
    }
    await expect(inflate(compression, cut(whole.subarray(0, -10), 10_000))).rejects.toMatchObject({
      code: "server-protocol",
    });
  });
});
