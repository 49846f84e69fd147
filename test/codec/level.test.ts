/** `--compress-level auto`: which level an object gets, and that both libraries take each of them. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { Codec } from "../../src/codec/codec.ts";
import { AUTO_LEVELS, fixedLevel, LevelChoice } from "../../src/codec/level.ts";
import { CodecPool } from "../../src/codec/pool.ts";

const SEGMENT = 16 << 20;
const meta = { kind: "segment" };

/** The levels of objects that are encoded one after the other. */
async function levelsOf(choice: LevelChoice, count: number): Promise<number[]> {
  const levels: number[] = [];
  for (let i = 0; i < count; i++) levels.push(await choice.during(SEGMENT, (level) => Promise.resolve(level)));
  return levels;
}

/** The levels of objects that are encoded at the same time. */
async function together(choice: LevelChoice, ...sizes: readonly number[]): Promise<number[]> {
  return Promise.all(sizes.map((bytes) => choice.during(bytes, (level) => Promise.resolve(level))));
}

describe("auto", () => {
  test("segments that come one by one to an idle machine get the slower level, after a while", async () => {
    expect(await levelsOf(new LevelChoice("auto", () => 0.2), 10)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 3, 3]);
  });

  test("a busy machine keeps the usual level", async () => {
    expect(new Set(await levelsOf(new LevelChoice("auto", () => 0.5), 30))).toEqual(new Set([1]));
  });

  test("a segment that finds another one being encoded gets the quick level, and the slower one has to wait again", async () => {
    const choice = new LevelChoice("auto", () => 0);
    await levelsOf(choice, 8);
    expect(await together(choice, SEGMENT, SEGMENT)).toEqual([3, -1]);
    expect(await levelsOf(choice, 9)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 3]);
  });

  test("a segment whose encoding failed is not counted as under way", async () => {
    const choice = new LevelChoice("auto", () => 0);
    await expect(choice.during(SEGMENT, () => Promise.reject(new Error("no memory")))).rejects.toThrow("no memory");
    expect(await levelsOf(choice, 2)).toEqual([1, 1]);
  });

  test("chunks are not chosen for, and do not count", async () => {
    expect(await together(new LevelChoice("auto", () => 0), 8192, SEGMENT)).toEqual([1, 1]);
  });
});

test("a given level is used for everything", async () => {
  expect(await together(new LevelChoice(7, () => 0), SEGMENT, SEGMENT)).toEqual([7, 7]);
  expect([fixedLevel(7), fixedLevel("auto")]).toEqual([7, 1]);
});

test.each(Object.values(AUTO_LEVELS))("an object of level %i is read back", async (level) => {
  const raw = Buffer.concat([Buffer.alloc(1 << 20, "WAL of pgbench "), randomBytes(4096)]);
  const codec = new Codec({ level });
  const encoded = await codec.encode(raw, meta);
  expect(encoded.level).toBe(level);
  expect(encoded.stored.byteLength).toBeLessThan(40_000);
  const { raw: read } = await codec.decode(encoded.stored, { key: "k", rawBytesMax: raw.byteLength });
  expect(read.equals(raw)).toBe(true);
});

test("segments that are encoded side by side get the quick level, by the codec itself", async () => {
  const pool = new CodecPool({ threads: 2 });
  const codec = new Codec({ level: "auto", pool, ownsPool: true });
  try {
    const segments = [1, 2, 3].map(() => new Uint8Array(new SharedArrayBuffer(2 << 20)));
    const encoded = await Promise.all(segments.map((raw) => codec.encode(raw, meta)));
    expect(encoded.map(({ level }) => level)).toEqual([1, -1, -1]);
    expect((await codec.encode(segments[0] ?? new Uint8Array(0), meta)).level).toBe(1);
  } finally {
    await codec.close();
  }
});
