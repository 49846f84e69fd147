/**
 * One frame of a part: at most 4 MiB of tar as an independent zstd frame with its content's size and checksum. Parts are
 * frames one after the other, so that they are made and read in parallel and `zstd -d` still sees one stream.
 *
 * Synchronous; the codec pool runs it on its threads. Source: RFC 8878, section 3.1.1 (Zstandard Frames).
 */
import { messageOf } from "../errors.ts";
import type { WholeFrame } from "./frame-split.ts";
import { compressBound } from "./zstd.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

export const FRAME_RAW_BYTES_MAX = 4 << 20;
export const FRAME_STORED_BYTES_MAX = compressBound(FRAME_RAW_BYTES_MAX);

export type FrameToDecode = Omit<WholeFrame, "kind">;

/** Memory of this thread for the content of one frame. */
let memory = new Uint8Array(0);

/** Compresses `raw` to the front of `target`, which has room for the worst case. Returns the frame's length. */
export function compressFrame(target: Uint8Array, raw: Uint8Array, level: number): number {
  return zstdOfThread().compress(target, raw, { level, hashLog: 0 });
}

/**
 * Decompresses a whole frame whose header states `rawBytes`, at most `FRAME_RAW_BYTES_MAX`. The content is borrowed until the next
 * call on this thread. Throws zstd's own error, with the place `at` of the frame in its stream.
 */
export function decompressFrame({ stored, rawBytes, at }: FrameToDecode): Uint8Array {
  if (memory.byteLength < rawBytes) memory = new Uint8Array(rawBytes);
  try {
    const content = zstdOfThread().decompress(stored, rawBytes, memory);
    if (content.byteLength === rawBytes) return content;
    throw new Error(`${content.byteLength} bytes of content instead of ${rawBytes}`);
  } catch (cause) {
    throw new Error(`${messageOf(cause)}, in the zstd frame at byte ${at}`, { cause });
  }
}
