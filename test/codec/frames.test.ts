/** Frames in parallel and in order: read back in any split, by zstd too; bounds, and giving up. */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { crc32c } from "@node-rs/crc32";
import { Codec } from "../../src/codec/codec.ts";
import { FRAME_RAW_BYTES_MAX } from "../../src/codec/frame.ts";
import { FrameSlots } from "../../src/codec/frame-slots.ts";
import { FrameWriter } from "../../src/codec/frames.ts";
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

/** Read back as a restore reads: stored bytes in pieces of `length`. */
async function load(stored: Buffer, length: number): Promise<Buffer> {
  const reader = new Codec().startReading("frames", "key");
  const pieces: Buffer[] = [];
  for (let at = 0; at < stored.length; at += length) {
    await reader.push(stored.subarray(at, at + length), (view) => pieces.push(Buffer.from(view)));
  }
  expect(reader.isComplete).toBe(true);
  return Buffer.concat(pieces);
}

const RAW = content(2 * FRAME_RAW_BYTES_MAX + 12_345);
let stored: Stored;
beforeAll(async () => {
  stored = await store(RAW);
});
test.each([
  ["nothing", 0],
  ["one byte", 1],
  ["exactly one frame", FRAME_RAW_BYTES_MAX],
  ["one byte more than a frame", FRAME_RAW_BYTES_MAX + 1],
])("there and back: %s", async (_title, bytes) => {
  const raw = RAW.subarray(0, bytes);
  const made = await store(raw);
  expect((await load(made.bytes, 65_536)).equals(raw)).toBe(true);
});

test.each([1, 7, 4_096, 1 << 20, 1 << 30])("read in pieces of %i bytes", async (length) => {
  // Few bytes for the smallest pieces: a piece a byte is what an incremental reader must stand, not what it is made for.
  const raw = length < 100 ? RAW.subarray(0, 50_000) : RAW;
  const made = length < 100 ? await store(raw) : stored;
  expect((await load(made.bytes, length)).equals(raw)).toBe(true);
});

test("one slot is enough for a writer, and several writers share few", async () => {
  const made = await store(RAW, { slots: new FrameSlots(1), piece: RAW.length });
  expect(made.bytes.equals(stored.bytes)).toBe(true);
  const slots = new FrameSlots(2);
  for (const each of await Promise.all([1, 2, 3, 4].map(() => store(RAW, { slots })))) {
    expect(each.bytes.equals(stored.bytes)).toBe(true);
  }
});

test.skipIf(tool("zstd") === undefined)("zstd reads a part as one stream", () => {
  const back = execFileSync("zstd", ["-dc"], { input: stored.bytes, maxBuffer: 1 << 28 });
  expect(back.equals(RAW)).toBe(true);
});

test.each([
  ["the end is missing", -1],
  ["the end of the last checksum is missing", -3],
])("%s: the reader knows that the part is not complete", async (_title, end) => {
  const reader = new Codec().startReading("frames", "key");
  await reader.push(stored.bytes.subarray(0, end), () => undefined);
  expect(reader.isComplete).toBe(false);
});

test("an abort ends a writer whose body is not read", async () => {
  const controller = new AbortController();
  const writer = new FrameWriter({ pool, level: 1, slots: new FrameSlots(1), signal: controller.signal });
  const writing = writer.write(RAW);
  controller.abort(new Error("enough"));
  await expect(writing).rejects.toMatchObject({ code: "aborted" });
});
