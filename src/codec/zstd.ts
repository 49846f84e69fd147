/**
 * The seam to zstd: what the codec needs of it, made by either library (zstd-native.ts, zstd-node.ts) with the same results, the same
 * refusals and the same bounds on memory. One frame has its content's size in front and a checksum behind.
 */

export interface ZstdSettings {
  /** 1 to 19. */
  readonly level: number;
  /** Logarithm of the size of the table of matches; 0 is the level's own. */
  readonly hashLog: number;
}

/** Pieces of output, each borrowed until the next is asked for. They are made as they are asked for. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

export interface StreamCompressor {
  /** Compresses `raw`, which is borrowed until the iteration has ended. With `isLast` the frame ends behind it. */
  push(raw: Uint8Array, isLast: boolean): Pieces;
}

export interface StreamDecompressor {
  /** Decompresses frames in any split; `stored` is borrowed until the iteration has ended. Throws what is no zstd. */
  push(stored: Uint8Array): Pieces;
  /** True when everything pushed was whole frames. */
  readonly isComplete: boolean;
}

export interface Zstd {
  /** Compresses `raw` to the front of `target`, which has `compressBound` bytes. Returns the frame's length. */
  compress(target: Uint8Array, raw: Uint8Array, settings: ZstdSettings): number;
  /** Begins a frame of `rawBytes` bytes of content. One at a time on a thread. */
  startCompressing(rawBytes: number, settings: ZstdSettings): StreamCompressor;
  /**
   * Decompresses whole frames to at most `rawBytes` bytes, into `into` where that is given and the library can. Throws
   * when there is more content, when a frame is damaged or cut, and when something follows.
   */
  decompress(stored: Uint8Array, rawBytes: number, into?: Uint8Array<ArrayBuffer>): Buffer;
  startDecompressing(outputBytes: number): StreamDecompressor;
}

/** Memory that content of this length can always be compressed into. Source: zstd.h, ZSTD_COMPRESSBOUND. */
export function compressBound(rawBytes: number): number {
  const small = rawBytes < 128 << 10 ? ((128 << 10) - rawBytes) >> 11 : 0;
  return rawBytes + Math.floor(rawBytes / 256) + small;
}
