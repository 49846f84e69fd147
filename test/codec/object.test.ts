/** The stored object: envelope and content, there and back, damaged everywhere, and what the zstd tool makes of it. */
import { spawnSync } from "node:child_process";
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { ENVELOPE_BYTES_MAX, decodeEnvelope, encodeEnvelope, sealEnvelope } from "../../src/codec/envelope.ts";
import {
  checkObject,
  checkPieces,
  decodeObject,
  encodeInPlace,
  encodeObject,
  encodedBytesMax,
} from "../../src/codec/object.ts";
import { CodecPool, LARGE_OBJECT_BYTES } from "../../src/codec/pool.ts";
import { tool } from "../harness/postgres.ts";

const RAW = Buffer.from("WAL ".repeat(5000));

describe("an encoded object", () => {
  test.each([0, 1, 4, 20_000])("of %i bytes gives its content and its facts back", (length) => {
    const raw = RAW.subarray(0, length);
    const { stored } = encodeObject(raw, { kind: "chunk", start: "0/1000000" }, 3);
    const decoded = decodeObject(stored, "key", 1 << 20);
    expect(decoded.raw.equals(raw)).toBe(true);
    expect(decoded.envelope.meta).toEqual({ kind: "chunk", start: "0/1000000" });
    expect(decoded.envelope.rawBytes).toBe(length);
    // Its first kilobytes state its length: a listing shows whether it is whole.
    const { contentOffset, contentBytes } = decodeEnvelope(stored.subarray(0, ENVELOPE_BYTES_MAX), "key");
    expect(contentOffset + (contentBytes ?? 0)).toBe(stored.byteLength);
  });

  test("is what the zstd tool decompresses to the plain content", () => {
    const zstd = tool("zstd");
    // The format is also checked by decoding it with the library's own streaming decoder, which needs no tool.
    const { stored } = encodeObject(RAW, { kind: "segment" }, 3);
    if (zstd === undefined) return expect(decodeObject(stored, "key", 1 << 20).raw.equals(RAW)).toBe(true);
    const result = spawnSync(zstd, ["-d", "-c"], { input: stored, maxBuffer: 1 << 24 });
    expect(result.stderr.toString()).toBe("");
    expect(result.stdout.equals(RAW)).toBe(true);
  });

  test("with one bit flipped anywhere is refused, or is still the same content", async () => {
    const { stored } = encodeObject(RAW.subarray(0, 400), { kind: "chunk" }, 3);
    const tolerated: number[] = [];
    for (let bit = 0; bit < stored.length * 8; bit++) {
      const damaged = Uint8Array.from(stored);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        const decoded = decodeObject(damaged, "the/key", 1 << 20);
        expect(decoded.raw.equals(RAW.subarray(0, 400))).toBe(true);
        expect(await checkObject(damaged, "the/key", 1 << 20)).toEqual(decoded.envelope);
        expect(decoded.envelope.meta).toEqual({ kind: "chunk" });
        tolerated.push(bit);
      } catch (error) {
        expect(error).toMatchObject({ message: expect.stringContaining("the/key") as string });
        await expect(checkObject(damaged, "the/key", 1 << 20)).rejects.toThrow(/the\/key/);
      }
    }
    // Zstd's frame header has one bit that decoders must ignore (RFC 8878, 3.1.1.1.1.4, Unused_Bit).
    expect(tolerated.length).toBeLessThanOrEqual(1);
  });

  test("that expands to far more than its envelope says is refused at once, not when all of it has been expanded", async () => {
    const small = encodeObject(RAW.subarray(0, 400), { kind: "chunk" }, 1).stored;
    const large = encodeObject(Buffer.alloc(64 << 20), { kind: "chunk" }, 1).stored;
    const envelope = Buffer.from(small.subarray(0, decodeEnvelope(small, "key").contentOffset));
    const content = large.subarray(decodeEnvelope(large, "key").contentOffset);
    sealEnvelope(envelope, content.byteLength);
    const bomb = Buffer.concat([envelope, content]);
    await expect(checkObject(bomb, "the/key", 1 << 20)).rejects.toThrow(/the\/key: holds more than the 400 bytes/);
    expect(() => decodeObject(bomb, "the/key", 1 << 20)).toThrow(/the\/key: its content does not decompress/);
  });

  test("cut off anywhere is refused", async () => {
    const { stored } = encodeObject(RAW.subarray(0, 400), { kind: "chunk" }, 3);
    for (let length = 0; length < stored.length; length++) {
      expect(() => decodeObject(stored.subarray(0, length), "the/key", 1 << 20)).toThrow(/the\/key/);
      await expect(checkObject(stored.subarray(0, length), "the/key", 1 << 20)).rejects.toThrow(/the\/key/);
    }
  });

  test("that claims more than it may hold is refused before memory is taken", async () => {
    const { stored } = encodeObject(RAW, {}, 3);
    expect(() => decodeObject(stored, "key", RAW.length - 1)).toThrow(/more than/);
    await expect(checkObject(stored, "key", RAW.length - 1)).rejects.toThrow(/more than/);
  });

  test.each([0, 1, 20_000, 5 << 20])(
    "of %i bytes is checked without being kept, and nothing may follow it",
    async (length) => {
      const { stored } = encodeObject(Buffer.alloc(length, "WAL, "), { kind: "chunk" }, 3);
      expect(await checkObject(stored, "key", 8 << 20)).toEqual(decodeObject(stored, "key", 8 << 20).envelope);
      const longer = Buffer.concat([stored, Buffer.from("x")]);
      await expect(checkObject(longer, "the/key", 8 << 20)).rejects.toThrow(/the\/key/);
      // What was refused leaves nothing behind for the next.
      expect((await checkObject(stored, "key", 8 << 20)).rawBytes).toBe(length);
    },
  );
});

/** Noise from a small generator, which zstd cannot compress, or text. */
function content(kind: "noise" | "text" | "text, then noise", length: number): Buffer {
  const raw = Buffer.alloc(length, "WAL, ");
  let state = 88_172_645;
  for (let at = kind === "text, then noise" ? length >> 1 : 0; kind !== "text" && at < length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    raw[at] = state;
  }
  return raw;
}

/** Memory that ends with `raw`. */
function memoryFor(raw: Uint8Array): Uint8Array {
  const memory = new Uint8Array(encodedBytesMax(raw.byteLength));
  memory.set(raw, memory.byteLength - raw.byteLength);
  return memory;
}

describe("content encoded into its own memory", () => {
  test.each([
    ["noise", 0],
    ["noise", 1],
    ["text", 20_000],
    ["noise", 128 << 10],
    ["noise", (1 << 20) + 1],
    ["text", (4 << 20) - 1],
    ["noise", (7 << 20) + 4711],
    ["text, then noise", 8 << 20],
  ] as const)("is the same content when it is read: %s, %i bytes", async (kind, length) => {
    const raw = content(kind, length);
    const memory = memoryFor(raw);
    const { stored, storedCrc32c, rawCrc32c, rawBytes } = await encodeInPlace(memory, length, { kind: "segment" }, 1);
    expect(stored.buffer).toBe(memory.buffer);
    const { envelope, raw: decoded } = decodeObject(stored, "key", 8 << 20);
    expect(Buffer.compare(decoded, raw)).toBe(0);
    const plain = encodeObject(raw, { kind: "segment" }, 1);
    expect({ rawCrc32c, rawBytes, meta: envelope.meta }).toEqual({
      ...{ rawCrc32c: plain.rawCrc32c, rawBytes: length },
      meta: { kind: "segment" },
    });
    expect(storedCrc32c).toBe(crc32c(stored));
    // What follows on the same thread is encoded as ever.
    expect(Buffer.compare(encodeObject(RAW, {}, 1).stored, encodeObject(RAW, {}, 1).stored)).toBe(0);
  });

  test("needs the room that content takes when it does not compress", async () => {
    const memory = memoryFor(content("noise", 100_000)).subarray(1);
    await expect(encodeInPlace(memory, 100_000, {}, 1)).rejects.toThrow(/without room/);
  });
});

describe("an object that arrives in pieces", () => {
  async function* split(stored: Uint8Array, bytes: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < stored.byteLength; at += bytes) yield await Promise.resolve(stored.subarray(at, at + bytes));
  }

  test.each([1, 7, 16_384, 100_000, 1 << 24])("of %i bytes is checked as a whole one is", async (bytes) => {
    const { stored } = encodeObject(content("text, then noise", 300_000), { kind: "segment" }, 1);
    const checked = await checkPieces(split(stored, bytes), "key", 1 << 20);
    expect(checked).toEqual(await checkObject(stored, "key", 1 << 20));
  });

  test("is refused when it is cut off, has one more byte, is damaged, or holds more than it may", async () => {
    const { stored } = encodeObject(content("noise", 40_000), { kind: "segment" }, 1);
    const damaged = Uint8Array.from(stored);
    damaged[30_000] = (damaged[30_000] ?? 0) ^ 1;
    for (const refused of [stored.subarray(0, -1), Buffer.concat([stored, Buffer.from("x")]), damaged]) {
      await expect(checkPieces(split(refused, 10_000), "the/key", 1 << 20)).rejects.toMatchObject({
        code: "object-corrupt",
      });
    }
    await expect(checkPieces(split(stored, 10_000), "the/key", 39_999)).rejects.toThrow(/more than 39999/);
    await expect(checkPieces(split(stored.subarray(0, 9), 4), "the/key", 1 << 20)).rejects.toThrow(/the\/key/);
  });
});

describe("the envelope", () => {
  test("is read from the front of an object, however little more there is", () => {
    const { stored } = encodeObject(RAW, { kind: "segment" }, 3);
    const front = stored.subarray(0, ENVELOPE_BYTES_MAX);
    expect(decodeEnvelope(front, "key")).toMatchObject({ rawBytes: RAW.length, meta: { kind: "segment" } });
  });

  test("of another version is refused with a hint to upgrade", () => {
    const frame = Buffer.from(encodeEnvelope(0, 0, { seawall: 2 }));
    sealEnvelope(frame, 0);
    expect(() => decodeEnvelope(frame, "key")).toThrowError(expect.objectContaining({ code: "archive-version" }));
  });

  test("that would not fit is an error when written, not when read", () => {
    expect(() => encodeEnvelope(0, 0, { text: "x".repeat(ENVELOPE_BYTES_MAX) })).toThrow(/too large/);
  });
});

describe("the codec pool", () => {
  test("encodes shared memory in its threads exactly as in place, many at a time", async () => {
    const pool = new CodecPool({ threads: 2 });
    const jobs = Array.from({ length: 8 }, async (_, i) => {
      const raw = new Uint8Array(new SharedArrayBuffer(200_000));
      raw.fill(i);
      const encoded = await pool.encode(raw, { job: i }, 1);
      expect(Buffer.from(encoded.stored).equals(encodeObject(raw, { job: i }, 1).stored)).toBe(true);
    });
    await Promise.all(jobs);
    await pool.close();
    await expect(pool.encode(new Uint8Array(1), {}, 1)).rejects.toThrow(/closed/);
  });

  test("encodes a segment in its own memory, and copies a small result out of it", async () => {
    const pool = new CodecPool({ threads: 1 });
    const raw = content("text", 3 << 20);
    const shared = new SharedArrayBuffer(encodedBytesMax(raw.byteLength));
    new Uint8Array(shared).set(raw, shared.byteLength - raw.byteLength);
    const { stored, release } = await pool.encodeInPlace(shared, raw.byteLength, { kind: "segment" }, 1);
    expect(stored.buffer).not.toBe(shared);
    new Uint8Array(shared).fill(0);
    expect(Buffer.compare(decodeObject(stored, "key", 4 << 20).raw, raw)).toBe(0);
    release?.();
    await pool.close();
    await expect(pool.encodeInPlace(shared, 1, {}, 1)).rejects.toThrow(/closed/);
  });

  test("leaves a large result in the segment's memory", async () => {
    const pool = new CodecPool({ threads: 1 });
    const raw = content("noise", LARGE_OBJECT_BYTES + (2 << 20));
    const shared = new SharedArrayBuffer(encodedBytesMax(raw.byteLength));
    new Uint8Array(shared).set(raw, shared.byteLength - raw.byteLength);
    const { stored, release } = await pool.encodeInPlace(shared, raw.byteLength, { kind: "segment" }, 1);
    expect(stored.buffer).toBe(shared);
    expect(release).toBeUndefined();
    expect(Buffer.compare(decodeObject(stored, "key", raw.byteLength).raw, raw)).toBe(0);
    await pool.close();
  });

  test("encodes into memory given back, whatever the sizes before, and never into what is still held", async () => {
    const pool = new CodecPool({ threads: 2 });
    const sizes = [300_000, 100_000, 300_000, 70_000, 2_000_000, 70_000, 300_000];
    const held: { stored: Uint8Array; expected: Uint8Array }[] = [];
    for (const [i, size] of sizes.entries()) {
      const raw = new Uint8Array(new SharedArrayBuffer(size));
      for (let at = 0; at < size; at++) raw[at] = (at * (i + 7)) >> 3;
      const { stored, release } = await pool.encode(raw, { job: i }, 1);
      const expected = encodeObject(raw, { job: i }, 1).stored;
      expect(Buffer.compare(stored, expected)).toBe(0);
      if (i % 3 === 0) held.push({ stored, expected });
      else release?.();
    }
    for (const { stored, expected } of held) expect(Buffer.compare(stored, expected)).toBe(0);
    await pool.close();
  });

  test("takes no new memory once it has as much as was ever in use at once, however the sizes change", async () => {
    const pool = new CodecPool({ threads: 2 });
    const memories = new Set<ArrayBufferLike>();
    // A segment, and chunks of it that are alone or beside one another.
    const together = [[48], [11, 48], [0.2, 0.4], [30, 48], [2, 1], [46, 48], [0.1, 48], [48, 48]];
    for (let round = 0; round < 4; round++) {
      // The first round may still grow.
      if (round === 1) memories.clear();
      for (const sizes of together) {
        const raws = sizes.map((mib) => new Uint8Array(new SharedArrayBuffer(mib * (1 << 20))));
        const encoded = await Promise.all(raws.map(async (raw) => pool.encode(raw, {}, 1)));
        for (const { stored, release } of encoded) {
          memories.add(stored.buffer);
          release?.();
        }
      }
    }
    // Small objects have memory of their own: they would hold a segment's.
    const large = [...memories].filter(({ byteLength }) => byteLength >= 16 << 20).length;
    expect(large).toBe(2);
    expect(memories.size - large).toBeLessThanOrEqual(2);
    await pool.close();
  });

  test("that is closed while encoding rejects the jobs under way", async () => {
    const pool = new CodecPool({ threads: 1 });
    const job = pool.encode(new Uint8Array(new SharedArrayBuffer(32 << 20)), {}, 19);
    await pool.close();
    await expect(job).rejects.toMatchObject({ code: "aborted" });
  });
});
