/**
 * One frame of a part: at most 4 MiB of tar as an independent zstd frame with its content's size and checksum. Parts are
 * frames one after the other, so that they are made and read in parallel and `zstd -d` still sees one stream.
 *
 * Synchronous; the codec pool runs it on its threads. Source: RFC 8878, section 3.1.1 (Zstandard Frames).
 */
import { compressBound } from "./zstd.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

export const FRAME_RAW_BYTES_MAX = 4 << 20;
export const FRAME_STORED_BYTES_MAX = compressBound(FRAME_RAW_BYTES_MAX);

/** Compresses `raw` to the front of `target`, which has room for the worst case. Returns the frame's length. */
export function compressFrame(target: Uint8Array, raw: Uint8Array, level: number): number {
  return zstdOfThread().compress(target, raw, { level, hashLog: 0 });
}
