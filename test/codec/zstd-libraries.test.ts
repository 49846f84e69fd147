/**
 * The two libraries of zstd behind the codec's seam: zstd-napi and the one in Node.js. What either writes the other reads, both
 * refuse the same damages, both stay within the same memory, and the tests of the codec pass with either.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import binding from "zstd-napi/binding.js";
import { crc32c } from "@node-rs/crc32";
import { beforeAll, describe, expect, test } from "vitest";
import { encodeObject } from "../../src/codec/object.ts";
import { compressBound } from "../../src/codec/zstd.ts";
import type { ZstdBinding } from "../../src/zstd-library.ts";
import { ROOT } from "../harness/build.ts";
import { NODE_VERSIONS, type NodeVersion, provideNode } from "../harness/node-versions.ts";
import { announcedRandom } from "../harness/random.ts";
import { run } from "../harness/run.ts";
import { makeTempDir } from "../harness/temp.ts";
import { FORMS, type Job, LEVELS, work } from "./library-program.ts";

const PROGRAM = join(import.meta.dirname, "library-program.ts");
const scratch = makeTempDir("zstd-libraries");

/** 1.5 MB of which zstd finds something to do for every level: repeated text, noise, and numbers that grow. */
function content(): Buffer {
  const random = announcedRandom("zstd-libraries");
  const raw = Buffer.alloc(1_500_000, "INSERT 0 1 heap_page ");
  for (let at = 0; at + 600 <= 1_000_000; at += 2_000) raw.set(random.bytes(500), at);
  for (let at = 1_000_000; at + 8 <= raw.length; at += 8) raw.writeUInt32LE(at * 7, at);
  return raw;
}

async function ask(major: NodeVersion, library: "node" | "zstd-napi", job: Job): Promise<unknown> {
  const { node } = await provideNode(major);
  const env = { ...process.env, SEAWALL_ZSTD: library };
  const { stdout } = await run(node, [PROGRAM, JSON.stringify(job)], { env, timeoutMs: 300_000 });
  return JSON.parse(stdout);
}

test("the types of the optional package are those that the seam expects", () => {
  const used: ZstdBinding = binding;
  expect(new used.CCtx()).toHaveProperty("compress2");
  for (const bytes of [0, 1, 1000, 131_071, 131_072, 4 << 20, 1 << 30]) {
    expect(compressBound(bytes)).toBe(binding.compressBound(bytes));
  }
});

describe("archives", () => {
  const raw = content();
  const file = join(scratch, "raw");
  const native = join(scratch, "native");
  const expected = Object.fromEntries(
    FORMS.flatMap((form) => LEVELS.map((level) => [`${form}-${level}`, crc32c(raw)] as const)),
  );
  beforeAll(async () => {
    writeFileSync(file, raw);
    mkdirSync(native);
    expect(await work({ kind: "write", raw: file, folder: native })).toBe("zstd-napi");
  });

  test("written by zstd-napi at every level are read by the zstd of every Node.js", async () => {
    for (const major of NODE_VERSIONS) {
      expect(await ask(major, "node", { kind: "read", folder: native }), `Node.js ${major}`).toEqual(expected);
    }
  });

  test("written by the zstd of the oldest and the newest Node.js are read by zstd-napi", async () => {
    for (const major of [22, 26] as const) {
      const folder = join(scratch, `node-${major}`);
      mkdirSync(folder);
      expect(await ask(major, "node", { kind: "write", raw: file, folder })).toBe("node");
      expect(await work({ kind: "read", folder }), `Node.js ${major}`).toEqual(expected);
    }
  });
});

test("a damaged object is refused by either library in the same words, wherever the damage is", async () => {
  const file = join(scratch, "damaged");
  const { stored } = encodeObject(Buffer.from("WAL ".repeat(30)), { kind: "chunk" }, 3);
  writeFileSync(file, stored);
  const job = { kind: "damage", file } as const;
  const expected = (await work(job)) as readonly string[];
  expect(expected.length).toBeGreaterThan(3 * 9 * stored.length);
  for (const major of NODE_VERSIONS) expect(await ask(major, "node", job), `Node.js ${major}`).toEqual(expected);
});

test.each(["zstd-napi", "node"] as const)(
  "%s: a few kilobytes that expand to gigabytes fill no memory",
  async (library) => {
    const file = join(scratch, `bomb-${library}`);
    const zeros = Buffer.alloc(64 << 20);
    const target = new Uint8Array(binding.compressBound(zeros.length));
    const frame = target.slice(0, new binding.CCtx().compress(target, zeros, 1));
    const frames = Buffer.concat(Array.from({ length: 24 }, () => frame));
    expect(frames.length).toBeLessThan(200_000);
    writeFileSync(file, frames);
    for (const readsAll of [true, false]) {
      const answer = (await ask(26, library, { kind: "bomb", file, readsAll })) as { bytes: number; grownMiB: number };
      expect(answer.grownMiB).toBeLessThan(80);
      if (readsAll) expect(answer.bytes).toBe(24 * zeros.length);
      else expect(answer.bytes).toBeLessThan(16 << 20);
    }
  },
);

test.each([22, 26] as const)(
  "Node.js %i passes the tests of the codec with its own zstd",
  async (major) => {
    const { node, binDir } = await provideNode(major);
    const env = { ...process.env, SEAWALL_ZSTD: "node", PATH: `${binDir}:${process.env["PATH"] ?? ""}` };
    const args = ["run", "--config", "vitest.codec.config.ts", "--no-color"];
    const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
    const { stdout } = await run(node, [vitest, ...args], { cwd: ROOT, env, timeoutMs: 600_000 });
    expect(stdout).toMatch(/Test Files +5 passed \(5\)/);
  },
  600_000,
);

test("without any zstd the first thing said is what to install", async () => {
  const node = process.version.startsWith("v20.") ? process.execPath : (await provideNode(20)).node;
  const store = join(scratch, "store");
  mkdirSync(store);
  const args = ["dist/cli/main.js", "list", "--store", `file://${store}`];
  const env = { ...process.env, SEAWALL_ZSTD: "node" };
  const { stdout, stderr } = await run(node, args, { cwd: ROOT, env, accept: [3] });
  expect({ stdout, stderr }).toEqual({
    stdout: "",
    stderr: expect.stringMatching(
      /^error: no zstd: Node\.js v20\.\S+ has none, and SEAWALL_ZSTD asks for it \[zstd-missing\]\nhint: Use Node\.js 22\.15 or later/,
    ) as string,
  });
});
