/**
 * Unpacks what other programs have compressed, as a stream in little memory: gzip and brotli by Node.js, zstd by the library
 * that the archive's own objects use. `pieces` are read only as the result is.
 */
import { pipeline, Readable, type Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflateRaw } from "node:zlib";
import { ZstdDecoder } from "./unzstd.ts";

const CHUNK_BYTES = 256 << 10;

/** `deflate`: without a header, as inside of gzip. */
export type ForeignFormat = "gzip" | "deflate" | "brotli" | "zstd";

/**
 * The content of `pieces`, each piece of it borrowed until the next. Throws the library's error for what is damaged or cut, and
 * what `pieces` throws.
 */
export function unpackForeign(format: ForeignFormat, pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  switch (format) {
    case "gzip":
      return through(createGunzip({ chunkSize: CHUNK_BYTES }), pieces);
    case "deflate":
      return through(createInflateRaw({ chunkSize: CHUNK_BYTES }), pieces);
    case "brotli":
      return through(createBrotliDecompress({ chunkSize: CHUNK_BYTES }), pieces);
    case "zstd":
      return unzstd(pieces);
  }
}

/** A transform waits for its reader, so a small input cannot grow beyond its buffers. */
async function* through(transform: Transform, pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  // Its error is the transform's, which the loop below meets.
  pipeline(Readable.from(pieces, { objectMode: true, highWaterMark: 1 }), transform, () => undefined);
  for await (const piece of transform) yield piece as Uint8Array;
}

async function* unzstd(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder = new ZstdDecoder();
  for await (const piece of pieces) yield* decoder.read(piece);
  if (!decoder.isComplete) throw new Error("the zstd frame is cut off");
}
