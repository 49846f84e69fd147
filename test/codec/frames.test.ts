/** Frames in parallel and in order, both ways: what zstd makes of them, damage, bounds, and giving up. */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32c } from "@node-rs/crc32";
import { FRAME_RAW_BYTES_MAX } from "../../src/codec/frame.ts";
import { FrameSlots } from "../../src/codec/frame-slots.ts";
import { FrameWriter, decodeFrames } from "../../src/codec/frames.ts";
import { CodecPool } from "../../src/codec/pool.ts";
import { tool } from "../harness/postgres.ts";
import { announcedRandom } from "../harness/random.ts";

const pool = new CodecPool({ threads: 2 });
afterAll(() => pool.close());

/** Compressible and incompressible runs in turn. */
function content(bytes: number): Buffer {
  const random = announcedRandom("frames");
  const raw = Buffer.alloc(bytes, "the quick brown fox ");
  for (let at = 0; at + 900 <= bytes; at += 3_000) raw.set(random.bytes(900), at);
  return raw;
}

interface Stored {
  readonly bytes: Buffer;
  readonly crc32c: number;
}

async function store(
  raw: Buffer,
  options: { readonly slots?: FrameSlots; readonly piece?: number } = {},
): Promise<Stored> {
  const writer = new FrameWriter({ pool, level: 1, slots: options.slots ?? new FrameSlots(4) });
  const pieces: Buffer[] = [];
  const reading = (async () => {
    for await (const view of writer.body()) pieces.push(Buffer.from(view));
  })();
  const piece = options.piece ?? 100_000;
  for (let at = 0; at < raw.length; at += piece) await writer.write(raw.subarray(at, at + piece));
  writer.end();
  await reading;
  const bytes = Buffer.concat(pieces);
  expect(writer.rawBytes).toBe(raw.length);
  expect(writer.storedBytes).toBe(bytes.length);
  expect(writer.crc32c).toBe(crc32c(bytes));
  return { bytes, crc32c: writer.crc32c };
}

async function* inPieces(bytes: Buffer, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield Promise.resolve(bytes.subarray(at, at + length));
}

async function load(
  stored: AsyncIterable<Uint8Array>,
  facts: { readonly storedBytes: number; readonly crc32c: number },
  options: { readonly slots?: FrameSlots; readonly signal?: AbortSignal } = {},
): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const { signal } = options;
  const slots = options.slots ?? new FrameSlots(4);
  for await (const view of decodeFrames(stored, { pool, slots, name: "parts/00001.tar.zst", ...facts, signal })) {
    pieces.push(Buffer.from(view));
  }
  return Buffer.concat(pieces);
}

const RAW = content(2 * FRAME_RAW_BYTES_MAX + 12_345);
let stored: Stored;
beforeAll(async () => {
  stored = await store(RAW);
});
const facts = (): { storedBytes: number; crc32c: number } => ({
  storedBytes: stored.bytes.length,
  crc32c: stored.crc32c,
});

test.each([
  ["nothing", 0],
  ["one byte", 1],
  ["exactly one frame", FRAME_RAW_BYTES_MAX],
  ["one byte more than a frame", FRAME_RAW_BYTES_MAX + 1],
])("there and back: %s", async (_title, bytes) => {
  const raw = RAW.subarray(0, bytes);
  const made = await store(raw);
  const back = await load(inPieces(made.bytes, 65_536), { storedBytes: made.bytes.length, crc32c: made.crc32c });
  expect(back.equals(raw)).toBe(true);
});

test.each([1, 7, 4_096, 1 << 20, 1 << 30])("read in pieces of %i bytes", async (length) => {
  // Few bytes for the smallest pieces: a piece a byte is what an incremental reader must stand, not what it is made for.
  const raw = length < 100 ? RAW.subarray(0, 50_000) : RAW;
  const made = length < 100 ? await store(raw) : stored;
  const back = await load(inPieces(made.bytes, length), { storedBytes: made.bytes.length, crc32c: made.crc32c });
  expect(back.equals(raw)).toBe(true);
});

test("one slot for a writer and one for a reader are enough", async () => {
  const made = await store(RAW, { slots: new FrameSlots(1), piece: RAW.length });
  expect(made.bytes.equals(stored.bytes)).toBe(true);
  const slots = new FrameSlots(1);
  for (let round = 0; round < 2; round++) {
    expect((await load(inPieces(made.bytes, 65_536), facts(), { slots })).equals(RAW)).toBe(true);
  }
});

test("several readers share few slots", async () => {
  const slots = new FrameSlots(2);
  const backs = await Promise.all([1, 2, 3, 4].map(() => load(inPieces(stored.bytes, 300_000), facts(), { slots })));
  for (const back of backs) expect(back.equals(RAW)).toBe(true);
});

test.skipIf(tool("zstd") === undefined)("zstd reads a part as one stream", () => {
  const back = execFileSync("zstd", ["-dc"], { input: stored.bytes, maxBuffer: 1 << 28 });
  expect(back.equals(RAW)).toBe(true);
});

describe("damage", () => {
  const flip = (at: number): Buffer => {
    const copy = Buffer.from(stored.bytes);
    copy[at] = (copy[at] ?? 0) ^ 0x10;
    return copy;
  };
  const cut = (bytes: number): Buffer => stored.bytes.subarray(0, bytes);
  test.each<[string, () => Buffer, RegExp]>([
    ["in the magic", () => flip(0), /does not begin like one/],
    ["in the first content", () => flip(1_000), /a zstd frame|CRC-32C/],
    ["in the middle", () => flip(stored.bytes.length >> 1), /a zstd frame|CRC-32C/],
    ["in the last checksum", () => flip(stored.bytes.length - 1), /does not decompress/],
    ["the end is missing", () => cut(stored.bytes.length - 1), /ends in the middle of a zstd frame/],
    [
      "the last frame is missing",
      () => cut(stored.bytes.lastIndexOf(Buffer.from("28b52ffd", "hex"))),
      /bytes instead of/,
    ],
    ["nothing is there", () => cut(0), /has 0 bytes instead of/],
    ["more follows", () => Buffer.concat([stored.bytes, Buffer.alloc(5)]), /does not begin like one/],
    ["a frame is there twice", () => Buffer.concat([stored.bytes, stored.bytes]), /bytes instead of/],
  ])("%s", async (_title, damaged, message) => {
    const slots = new FrameSlots(3);
    const outcome = load(inPieces(damaged(), 65_536), facts(), { slots });
    await expect(outcome).rejects.toThrow(expect.objectContaining({ code: "backup-corrupt" }) as Error);
    await expect(outcome).rejects.toThrow(message);
    await expect(outcome).rejects.toThrow(/^parts\/00001\.tar\.zst: /);
    // No slot was lost on the way.
    expect((await load(inPieces(stored.bytes, 65_536), facts(), { slots })).equals(RAW)).toBe(true);
  });

  test("another object of the same length is told by its CRC-32C", async () => {
    await expect(load(inPieces(stored.bytes, 65_536), { ...facts(), crc32c: 7 })).rejects.toThrow(
      "parts/00001.tar.zst: its CRC-32C is wrong",
    );
  });

  test("a frame whose content is larger than any of ours is refused before memory is taken", async () => {
    const huge = Buffer.from("28b52ffda0000000ff", "hex");
    await expect(load(inPieces(Buffer.concat([huge, Buffer.from([1, 0, 0])]), 5), facts())).rejects.toThrow(/claims/);
  });
});

describe("giving up", () => {
  test("a reader that leaves ends the source, and every slot is free again", async () => {
    const slots = new FrameSlots(2);
    let ended = false;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield* inPieces(stored.bytes, 65_536);
      } finally {
        ended = true;
      }
    };
    for await (const view of decodeFrames(source(), { pool, slots, name: "x", ...facts() })) {
      expect(view.length).toBe(FRAME_RAW_BYTES_MAX);
      break;
    }
    expect(ended).toBe(true);
    expect((await load(inPieces(stored.bytes, 65_536), facts(), { slots })).equals(RAW)).toBe(true);
  });

  test("an abort ends a reader that waits for memory", async () => {
    const slots = new FrameSlots(1);
    const taken = await slots.acquire();
    const controller = new AbortController();
    const loading = load(inPieces(stored.bytes, 65_536), facts(), { slots, signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(loading).rejects.toMatchObject({ code: "aborted" });
    slots.release(taken);
    expect((await load(inPieces(stored.bytes, 65_536), facts(), { slots })).equals(RAW)).toBe(true);
  });

  test("an abort ends a writer whose body is not read", async () => {
    const controller = new AbortController();
    const writer = new FrameWriter({ pool, level: 1, slots: new FrameSlots(1), signal: controller.signal });
    const writing = writer.write(RAW);
    controller.abort(new Error("enough"));
    await expect(writing).rejects.toMatchObject({ code: "aborted" });
  });

  test("a source that fails fails the reader with the source's own error", async () => {
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield stored.bytes.subarray(0, 1_000);
      throw await Promise.resolve(new Error("the disk is gone"));
    };
    await expect(load(source(), facts())).rejects.toThrow("the disk is gone");
  });
});
