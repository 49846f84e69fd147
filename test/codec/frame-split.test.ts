/** Streams of zstd frames split into whole small frames and pieces of others, at every cut; headers written by hand. */
import { expect, test } from "vitest";
import { FrameSplit, type SplitFrames, statedBytes } from "../../src/codec/frame-split.ts";

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
const bytes = (count: number): number[] => Array.from({ length: count }, (_, i) => (i + 1) & 255);
/** The last block of a frame, raw. */
const last = (count: number): number[] => [1 | ((count << 3) & 255), (count << 3) >> 8, 0, ...bytes(count)];

const SMALL = [...MAGIC, 0x20, 5, ...last(5)];
const WINDOWED = [...MAGIC, 0x40, 0x50, 44, 0, ...last(300)];
const EMPTY = [...MAGIC, 0x20, 0, ...last(0)];
/** States 1301 bytes. */
const LARGE = [...MAGIC, 0x60, 0x15, 4, ...last(7)];
const UNSIZED = [...MAGIC, 0x00, 0x50, ...last(40)];
const SKIPPABLE = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
/** States 5 bytes and has 600. */
const LONG = [...MAGIC, 0x20, 5, ...last(600)];
const FRAMES = [SMALL, LARGE, WINDOWED, UNSIZED, SKIPPABLE, EMPTY, LONG, SMALL];
const STREAM = Uint8Array.from(FRAMES.flat());

/** Whole frames as they come out, and the pieces between them put together. */
function split(pieces: readonly Uint8Array[]): unknown[] {
  const splitter = new FrameSplit({ rawBytesMax: 1300, storedBytesMax: 400 });
  const found: { kind: string; stored: number[]; rawBytes?: number; at?: number }[] = [];
  const take = (part: SplitFrames): void => {
    const before = found.at(-1);
    if (part.kind === "piece" && before?.kind === "piece") before.stored.push(...part.stored);
    else found.push({ ...part, stored: [...part.stored] });
  };
  for (const piece of pieces) for (const part of splitter.push(piece)) take(part);
  expect(splitter.isComplete).toBe(true);
  return found;
}

const EXPECTED = [
  { kind: "frame", stored: SMALL, rawBytes: 5, at: 0 },
  { kind: "piece", stored: LARGE },
  { kind: "frame", stored: WINDOWED, rawBytes: 300, at: SMALL.length + LARGE.length },
  { kind: "piece", stored: [...UNSIZED, ...SKIPPABLE] },
  { kind: "frame", stored: EMPTY, rawBytes: 0, at: [SMALL, LARGE, WINDOWED, UNSIZED, SKIPPABLE].flat().length },
  { kind: "piece", stored: LONG },
  { kind: "frame", stored: SMALL, rawBytes: 5, at: STREAM.length - SMALL.length },
];

test("small frames come whole, others in pieces, in any split", () => {
  expect(split([STREAM])).toEqual(EXPECTED);
  expect(split([...STREAM].map((byte) => Uint8Array.of(byte)))).toEqual(EXPECTED);
  for (let cut = 0; cut <= STREAM.length; cut++) {
    expect(split([STREAM.subarray(0, cut), STREAM.subarray(cut)])).toEqual(EXPECTED);
  }
});

test("a frame keeps its bytes although the pieces that it came in are used again", () => {
  const piece = new Uint8Array(7);
  const splitter = new FrameSplit({ rawBytesMax: 1300, storedBytesMax: 400 });
  const found: number[][] = [];
  for (let at = 0; at < WINDOWED.length; at += piece.length) {
    const taken = WINDOWED.slice(at, at + piece.length);
    piece.set(taken);
    for (const { stored } of splitter.push(piece.subarray(0, taken.length))) found.push([...stored]);
  }
  expect(found).toEqual([WINDOWED]);
});

test("a large frame is given as it comes, and never held whole", () => {
  const splitter = new FrameSplit({ rawBytesMax: 1300, storedBytesMax: 400 });
  const frame = Uint8Array.from(LARGE);
  expect([...splitter.push(frame.subarray(0, 12))]).toEqual([]);
  expect([...splitter.push(frame.subarray(12))].map(({ kind }) => kind)).toEqual(["piece", "piece"]);
  const long = Uint8Array.from(LONG);
  expect([...splitter.push(long.subarray(0, 400))]).toEqual([]);
  expect([...splitter.push(long.subarray(400, 401))].map(({ stored }) => stored.length)).toEqual([400, 1]);
  expect([...splitter.push(long.subarray(401))].map(({ stored }) => stored.length)).toEqual([long.length - 401]);
});

test("a frame that is cut off is not complete, and bytes that are no frame are refused behind the frames before them", () => {
  const splitter = new FrameSplit({ rawBytesMax: 1300, storedBytesMax: 400 });
  const cut = splitter.push(STREAM.subarray(0, SMALL.length + 3));
  expect(cut.next().value).toMatchObject({ kind: "frame", rawBytes: 5 });
  expect(cut.next().done).toBe(true);
  expect(splitter.isComplete).toBe(false);
  const stray = new FrameSplit({ rawBytesMax: 1300, storedBytesMax: 400 }).push(Uint8Array.from([...SMALL, 0, 0]));
  expect(stray.next().value).toMatchObject({ kind: "frame", rawBytes: 5 });
  expect(() => stray.next()).toThrow("begin no zstd frame");
});

test.each([
  ["one byte, single segment", [...MAGIC, 0x20, 255], 255],
  ["two bytes, which begin at 256", [...MAGIC, 0x60, 1, 0], 257],
  ["two bytes behind a window", [...MAGIC, 0x40, 0x50, 0xff, 0xff], 65_791],
  ["four bytes", [...MAGIC, 0xa0, 0, 0, 64, 0], 4 << 20],
  ["four bytes at their most", [...MAGIC, 0xa0, 255, 255, 255, 255], 2 ** 32 - 1],
  ["eight bytes", [...MAGIC, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0], 2 ** 32],
  ["eight bytes behind a window and a dictionary of four", [...MAGIC, 0xc3, 1, 1, 2, 3, 4, 9, 0, 0, 0, 0, 0, 0, 0], 9],
  ["behind a dictionary of one", [...MAGIC, 0x21, 1, 7], 7],
  ["behind a dictionary of two", [...MAGIC, 0x22, 1, 2, 8], 8],
  ["no size", [...MAGIC, 0x00, 0x50, 1, 2, 3], undefined],
  ["a size that is cut off", [...MAGIC, 0xa0, 0, 0, 64], undefined],
  ["a skippable frame", [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0], undefined],
  ["the magic alone", MAGIC, undefined],
])("the size that a header states: %s", (_title, front, size) => {
  expect(statedBytes(Uint8Array.from(front))).toBe(size);
});
