/**
 * Unpacks a file of the source: finds by its first bytes how it is packed, and gives its content as a stream. Barman keeps
 * packed files without an ending, so the name tells only of brotli, which has no mark of its own.
 *
 * lz4, bzip2 and xz are unpacked by the programs of these names, as children: no library for Node.js unpacks lz4 frames as a
 * stream, and a hostile file then meets a process that only reads and writes pipes.
 */
import { type ForeignFormat, unpackForeign } from "../codec/foreign.ts";
import { runFilter } from "./filter.ts";

export type Packing = "plain" | Exclude<ForeignFormat, "deflate"> | "lz4" | "bzip2" | "xz";

const PROGRAMS = {
  lz4: ["lz4", "-dcq"],
  bzip2: ["bzip2", "-dcq"],
  xz: ["xz", "-dcq", "--memlimit=256MiB"],
} as const;

/** The bytes at a file's front by which `packingOf` knows it. */
export const MARK_BYTES = 6;

/** How a file that begins with `head` is packed. Pure. */
export function packingOf(head: Uint8Array, { isBrotli }: { readonly isBrotli: boolean }): Packing {
  if (isBrotli) return "brotli";
  const [a = 0, b = 0, c = 0, d = 0] = head;
  const begins = (...mark: readonly number[]): boolean => mark.every((byte, i) => head[i] === byte);
  if (a === 0x1f && b === 0x8b) return "gzip";
  if (begins(0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  // A skippable frame, as Seawall's own objects begin with.
  if ((a & 0xf0) === 0x50 && b === 0x2a && c === 0x4d && d === 0x18) return "zstd";
  if (begins(0x04, 0x22, 0x4d, 0x18)) return "lz4";
  if (begins(0x42, 0x5a, 0x68)) return "bzip2";
  if (begins(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return "xz";
  return "plain";
}

export interface UnpackOptions {
  readonly isBrotli: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** The content of a packed file, each piece borrowed until the next. Throws an error about the packing, and what `pieces` throws. */
export async function* unpack(pieces: AsyncIterable<Uint8Array>, options: UnpackOptions): AsyncGenerator<Uint8Array> {
  const rest = pieces[Symbol.asyncIterator]();
  try {
    const head = await readHead(rest);
    const whole = joined(head, rest);
    const packing = packingOf(Buffer.concat(head), options);
    switch (packing) {
      case "plain":
        yield* whole;
        return;
      case "gzip":
      case "brotli":
      case "zstd":
        yield* unpackForeign(packing, whole);
        return;
      case "lz4":
      case "bzip2":
      case "xz": {
        const [program, ...args] = PROGRAMS[packing];
        yield* runFilter(program, args, whole, options);
      }
    }
  } finally {
    await rest.return?.();
  }
}

async function readHead(rest: AsyncIterator<Uint8Array>): Promise<Uint8Array[]> {
  const head: Uint8Array[] = [];
  for (let bytes = 0; bytes < MARK_BYTES;) {
    const next = await rest.next();
    if (next.done === true) break;
    head.push(next.value);
    bytes += next.value.byteLength;
  }
  return head;
}

async function* joined(head: readonly Uint8Array[], rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield* head;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}
