/**
 * One frame of a part: at most 4 MiB of tar as an independent zstd frame with its content's size and checksum. Parts are
 * frames one after the other, so that they are made and read in parallel and `zstd -d` still sees one stream.
 *
 * Synchronous; the codec pool runs it on its threads. Source: RFC 8878, section 3.1.1 (Zstandard Frames).
 */
import binding from "zstd-napi/binding.js";
import { SeawallError } from "../errors.ts";

export const FRAME_RAW_BYTES_MAX = 4 << 20;
export const FRAME_STORED_BYTES_MAX = binding.compressBound(FRAME_RAW_BYTES_MAX);

let compressor: { readonly context: binding.CCtx; level: number } | undefined;
let decompressor: binding.DCtx | undefined;

/** Compresses `raw` to the front of `target`, which has room for the worst case; the frame's length. */
export function compressFrame(target: Uint8Array, raw: Uint8Array, level: number): number {
  compressor ??= { context: new binding.CCtx(), level: Number.NaN };
  if (compressor.level !== level) {
    compressor.context.setParameter(binding.CParameter.compressionLevel, level);
    compressor.context.setParameter(binding.CParameter.checksumFlag, 1);
    compressor.level = level;
  }
  return compressor.context.compress2(target, raw);
}

/** Decompresses exactly one frame; its content's length. Throws zstd's words, also for a wrong content checksum. */
export function decompressFrame(target: Uint8Array, stored: Uint8Array): number {
  decompressor ??= new binding.DCtx();
  return decompressor.decompress(target, stored);
}

const ZSTD_MAGIC = 0xfd2fb528;
/** The magic and the frame header descriptor, which tells how long the header is. */
const HEADER_START_BYTES = 5;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;

/**
 * Finds where a frame ends, while its bytes arrive in any split: `need` says how many bytes of the frame, counted from its
 * start, must be there before `look` can say more.
 */
export class FrameEnd {
  /** Bytes of the frame to gather before the next look. */
  need = HEADER_START_BYTES;
  #hasChecksum = false;
  #state: "descriptor" | "block" | "end" = "descriptor";

  /** Looks at the first `need` bytes of the frame; true when they are all of it. Throws `backup-corrupt`. */
  look(frame: Uint8Array): boolean {
    switch (this.#state) {
      case "descriptor":
        this.need = headerBytes(frame) + BLOCK_HEADER_BYTES;
        this.#hasChecksum = ((frame[4] ?? 0) & 0x04) !== 0;
        this.#state = "block";
        break;
      case "block": {
        const at = this.need - BLOCK_HEADER_BYTES;
        const header = (frame[at] ?? 0) | ((frame[at + 1] ?? 0) << 8) | ((frame[at + 2] ?? 0) << 16);
        const type = (header >> 1) & 3;
        if (type === 3) throw corruptFrame("has a block of a reserved type");
        const isLast = (header & 1) === 1;
        // A run-length block is one byte, however long it says its content is.
        this.need += type === 1 ? 1 : header >> 3;
        if (isLast) this.need += this.#hasChecksum ? CHECKSUM_BYTES : 0;
        else this.need += BLOCK_HEADER_BYTES;
        if (isLast) this.#state = "end";
        break;
      }
      case "end":
        return true;
    }
    if (this.need > FRAME_STORED_BYTES_MAX) throw corruptFrame("is too long");
    return false;
  }
}

function headerBytes(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint32(0, true) !== ZSTD_MAGIC) throw corruptFrame("does not begin like one");
  const descriptor = view.getUint8(4);
  if ((descriptor & 0x08) !== 0) throw corruptFrame("has a reserved bit set");
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  return HEADER_START_BYTES + (isSingleSegment ? 0 : 1) + dictionaryIdBytes + contentSizeBytes;
}

/** Reads the size that a whole frame gives for its content. Throws `backup-corrupt` when it does not say, or says too much. */
export function frameContentBytes(frame: Uint8Array): number {
  const bytes = binding.getFrameContentSize(frame);
  if (bytes === null) throw corruptFrame("does not say how large its content is");
  if (bytes > FRAME_RAW_BYTES_MAX) throw corruptFrame(`claims ${bytes} bytes of content`);
  return bytes;
}

function corruptFrame(why: string): SeawallError {
  return new SeawallError("backup-corrupt", `a zstd frame ${why}`);
}
