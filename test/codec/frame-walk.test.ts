/** Frames of zstd whose bytes are written by hand, walked in any split. */
import { expect, test } from "vitest";
import { FrameWalk } from "../../src/codec/frame-walk.ts";

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];
/** A block header: last or not, kind, size. */
function block(isLast: boolean, kind: 0 | 1 | 2 | 3, size: number): number[] {
  const value = (isLast ? 1 : 0) | (kind << 1) | (size << 3);
  return [value & 255, (value >> 8) & 255, value >> 16];
}
const bytes = (count: number): number[] => Array.from({ length: count }, () => 0xaa);

const FRAMES: readonly (readonly [string, readonly number[]])[] = [
  ["a raw block, single segment, size in one byte", [...MAGIC, 0x20, 5, ...block(true, 0, 5), ...bytes(5)]],
  ["an empty block and a window", [...MAGIC, 0x00, 0x50, ...block(true, 0, 0)]],
  ["a checksum", [...MAGIC, 0x24, 2, ...block(true, 0, 2), ...bytes(2 + 4)]],
  ["a checksum behind nothing", [...MAGIC, 0x24, 0, ...block(true, 0, 0), ...bytes(4)]],
  ["a block of one repeated byte, claimed long", [...MAGIC, 0x20, 9, ...block(true, 1, 100_000), 7]],
  [
    "three blocks",
    [
      ...MAGIC,
      0x20,
      9,
      ...block(false, 0, 3),
      ...bytes(3),
      ...block(false, 1, 9),
      7,
      ...block(true, 2, 300),
      ...bytes(300),
    ],
  ],
  ["window, dictionary of one byte, size of two", [...MAGIC, 0x41, 1, 2, 3, 4, ...block(true, 0, 1), 8]],
  ["window, dictionary of two bytes, size of four", [...MAGIC, 0x82, ...bytes(1 + 2 + 4), ...block(true, 0, 1), 8]],
  ["dictionary of four bytes, size of eight", [...MAGIC, 0xe3, ...bytes(4 + 8), ...block(true, 0, 1), 8]],
  ["a skippable frame", [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]],
  ["the last kind of skippable frame", [0x5f, 0x2a, 0x4d, 0x18, 2, 1, 0, 0, ...bytes(258)]],
  ["a skippable frame of nothing", [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]],
];

test.each(FRAMES)("%s: found to end where it does, in any split", (_title, frame) => {
  const followed = Uint8Array.from([...frame, ...MAGIC]);
  const whole = new FrameWalk();
  expect(whole.isAtBorder).toBe(true);
  expect(whole.take(followed)).toBe(frame.length);
  expect(whole.isAtBorder).toBe(true);
  expect(whole.take(followed.subarray(frame.length))).toBe(4);
  expect(whole.isAtBorder).toBe(false);
  for (let cut = 1; cut < frame.length; cut++) {
    const walk = new FrameWalk();
    expect(walk.take(followed.subarray(0, cut))).toBe(cut);
    expect(walk.isAtBorder).toBe(false);
    expect(walk.take(followed.subarray(cut))).toBe(frame.length - cut);
    expect(walk.isAtBorder).toBe(true);
  }
});

test("frames one after another", () => {
  let rest = Uint8Array.from(FRAMES.flatMap(([, frame]) => frame));
  const walk = new FrameWalk();
  for (const [, frame] of FRAMES) {
    expect(walk.take(rest)).toBe(frame.length);
    rest = rest.subarray(frame.length);
  }
  expect(rest).toHaveLength(0);
});

test("a skippable frame of four gigabytes is passed over, not taken for a short one", () => {
  const walk = new FrameWalk();
  walk.take(Uint8Array.from([0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff]));
  const piece = new Uint8Array(1 << 20);
  for (let passed = 0; passed < 4096; passed++) {
    expect(walk.isAtBorder).toBe(false);
    expect(walk.take(piece)).toBe(passed === 4095 ? piece.length - 1 : piece.length);
  }
  expect(walk.isAtBorder).toBe(true);
});

test.each([
  ["no zstd", [0x1f, 0x8b, 8, 0], "begin no zstd frame"],
  ["one wrong byte", [0x27], "begin no zstd frame"],
  ["a second byte of another number", [0x28, 0x2a], "begin no zstd frame"],
  ["a third byte that is wrong", [0x50, 0x2a, 0x4c], "begin no zstd frame"],
  ["a magic number that is nearly skippable", [0x60, 0x2a, 0x4d, 0x18], "begin no zstd frame"],
  ["a block of the reserved kind", [...MAGIC, 0x20, 5, ...block(true, 3, 5)], "a zstd block is of an unknown kind"],
])("%s is refused", (_title, frame, message) => {
  expect(() => new FrameWalk().take(Uint8Array.from(frame))).toThrow(message);
});

test("nothing is a border, and is taken", () => {
  const walk = new FrameWalk();
  expect(walk.take(new Uint8Array(0))).toBe(0);
  expect(walk.isAtBorder).toBe(true);
});
