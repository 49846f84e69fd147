/**
 * The codec in a process of its own, for zstd-libraries.test.ts: which library it uses is decided once in a process. Runs from its
 * source by Node.js 22.18 or later. Takes one job as JSON from its arguments, prints the answer as JSON.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { Codec } from "../../src/codec/codec.ts";
import { compressFrame, FRAME_STORED_BYTES_MAX } from "../../src/codec/frame.ts";
import { decodeObject, checkObject, encodedBytesMax, encodeInPlace, encodeObject } from "../../src/codec/object.ts";
import { zstdLibrary } from "../../src/zstd-library.ts";

export const LEVELS = [-1, ...Array.from({ length: 19 }, (_, i) => i + 1)];
export const FORMS = ["object", "in-place", "frames"] as const;
export type Form = (typeof FORMS)[number];
const RAW_BYTES_MAX = 64 << 20;

export type Job =
  /** Writes `<form>-<level>` for each into `folder`. */
  | { readonly kind: "write"; readonly raw: string; readonly folder: string }
  /** Reads them; the answer has the CRC-32C of each content. */
  | { readonly kind: "read"; readonly folder: string }
  /** Decodes, checks and unpacks the object of that file with each of its bits flipped, and cut at each length. */
  | { readonly kind: "damage"; readonly file: string }
  /** Reads frames that expand to gigabytes, and stops after the first pieces, or goes on to the end. */
  | { readonly kind: "bomb"; readonly file: string; readonly readsAll: boolean };

/** The work of one job; also called by the test itself, for the library of its own process. */
export async function work(job: Job): Promise<unknown> {
  switch (job.kind) {
    case "write":
      for (const level of LEVELS) await write(readFileSync(job.raw), job.folder, level);
      return zstdLibrary().name;
    case "read":
      return readAll(job.folder);
    case "damage":
      return damages(readFileSync(job.file));
    case "bomb":
      return bomb(readFileSync(job.file), job.readsAll);
  }
}

async function write(raw: Buffer, folder: string, level: number): Promise<void> {
  const meta = { kind: "segment" };
  writeFileSync(join(folder, `object-${level}`), encodeObject(raw, meta, level).stored);
  const memory = new Uint8Array(encodedBytesMax(raw.length));
  memory.set(raw, memory.length - raw.length);
  const inPlace = await encodeInPlace(memory, raw.length, meta, level);
  writeFileSync(join(folder, `in-place-${level}`), inPlace.stored);
  const target = new Uint8Array(FRAME_STORED_BYTES_MAX);
  const halves = [raw.subarray(0, raw.length >> 1), raw.subarray(raw.length >> 1)];
  const frames = halves.map((half) => Uint8Array.from(target.subarray(0, compressFrame(target, half, level))));
  writeFileSync(join(folder, `frames-${level}`), Buffer.concat(frames));
}

async function readAll(folder: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const form of FORMS) {
    for (const level of LEVELS) {
      const name = `${form}-${level}`;
      const stored = readFileSync(join(folder, name));
      if (form === "frames") found[name] = (await unpack(stored, 10_000)).crc;
      else {
        found[name] = crc32c(decodeObject(stored, name, RAW_BYTES_MAX).raw);
        if ((await checkObject(stored, name, RAW_BYTES_MAX)).rawCrc32c !== found[name]) found[name] = -1;
      }
    }
  }
  return found;
}

async function unpack(stored: Uint8Array, piece: number): Promise<{ readonly crc: number; readonly isWhole: boolean }> {
  const reader = new Codec().startReading("frames", "key");
  let crc = 0;
  for (let at = 0; at < stored.length; at += piece) {
    await reader.push(stored.subarray(at, at + piece), (content) => (crc = crc32c(content, crc)));
  }
  return { crc, isWhole: reader.isComplete };
}

/** For each damage what becomes of it: the message of a refusal, the content's checksum otherwise. */
async function damages(stored: Buffer): Promise<readonly string[]> {
  const outcomes: string[] = [];
  const look = async (title: string, bytes: Uint8Array): Promise<void> => {
    const ways = {
      decoded: async () => crc32c(decodeObject(bytes, "key", 1 << 20).raw),
      checked: async () => (await checkObject(bytes, "key", 1 << 20)).rawCrc32c,
      unpacked: async () => JSON.stringify(await unpack(bytes, 100)),
    };
    for (const [way, action] of Object.entries(ways)) {
      const outcome = await action().catch((error: unknown) => refusal(way, error));
      outcomes.push(`${title} ${way}: ${outcome}`);
    }
  };
  for (let bit = 0; bit < stored.length * 8; bit++) {
    const flipped = Uint8Array.from(stored);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    await look(`bit ${bit}`, flipped);
  }
  for (let length = 0; length < stored.length; length++) await look(`cut at ${length}`, stored.subarray(0, length));
  for (const [title, more] of Object.entries({ byte: [1], zeros: new Uint8Array(20), itself: stored })) {
    await look(`followed by ${title}`, Buffer.concat([stored, Uint8Array.from(more)]));
  }
  return outcomes;
}

/** The codec's own words are the same; those of the library below may differ, so of an unpacked stream only the refusal counts. */
function refusal(way: string, error: unknown): string {
  if (way === "unpacked") return "refused";
  return error instanceof Error ? error.message : String(error);
}

async function bomb(frames: Buffer, readsAll: boolean): Promise<{ readonly bytes: number; readonly grownMiB: number }> {
  const before = process.resourceUsage().maxRSS;
  let bytes = 0;
  const reader = new Codec().startReading("frames", "key");
  const enough = new Error("enough");
  try {
    await reader.push(frames, (content) => {
      bytes += content.length;
      if (!readsAll && bytes > 4 << 20) throw enough;
    });
  } catch (error) {
    if (error !== enough) throw error;
  }
  return { bytes, grownMiB: (process.resourceUsage().maxRSS - before) >> 10 };
}

const [job] = process.argv.slice(2);
if (import.meta.filename === process.argv[1] && job !== undefined) {
  process.stdout.write(JSON.stringify(await work(JSON.parse(job) as Job)));
}
