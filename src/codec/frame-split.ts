/**
 * Splits a stream of zstd frames into whole frames that state a small content (frame.ts), and pieces of any other frame. A whole
 * frame can be decompressed at once, by any thread. Pure; memory is one frame as it is stored.
 *
 * Source: RFC 8878, section 3.1.1.1 (Frame_Header).
 */
import { FrameWalk } from "./frame-walk.ts";

/** A frame whose content has at most the split's `rawBytesMax` bytes. */
export interface WholeFrame {
  readonly kind: "frame";
  /** Borrowed until the next is asked for. */
  readonly stored: Uint8Array;
  /** Size of its content, as its header states it. */
  readonly rawBytes: number;
  /** Offset of its first byte in the stream. */
  readonly at: number;
}

export type SplitFrames =
  | WholeFrame
  /** The next bytes of another frame, borrowed until the next is asked for: a skippable one, a large one, one without a size. */
  | { readonly kind: "piece"; readonly stored: Uint8Array };

export interface FrameSplitOptions {
  /** Frames with more content, or more stored bytes, are given in pieces. */
  readonly rawBytesMax: number;
  readonly storedBytesMax: number;
}

export class FrameSplit {
  readonly #options: FrameSplitOptions;
  readonly #walk = new FrameWalk();
  /** Begins with the bytes so far of the frame under way, unless it is given in pieces. Grows to the longest frame. */
  #memory = new Uint8Array(0);
  #heldBytes = 0;
  #inPieces = false;
  /** The size that the header of the frame under way states. */
  #rawBytes: number | undefined | "unread" = "unread";
  /** Offset of the frame under way. */
  #at = 0;
  #bytes = 0;

  constructor(options: FrameSplitOptions) {
    this.#options = options;
  }

  /** True when everything pushed was whole frames. */
  get isComplete(): boolean {
    return this.#walk.isAtBorder;
  }

  /** Borrows `stored` until the iteration has ended. Throws for bytes that are no zstd frame, behind the frames before them. */
  *push(stored: Uint8Array): Generator<SplitFrames, void, undefined> {
    for (let from = 0; from < stored.byteLength;) {
      const taken = this.#walk.take(stored.subarray(from));
      const piece = stored.subarray(from, from + taken);
      from += taken;
      this.#bytes += taken;
      if (this.#inPieces) yield { kind: "piece", stored: piece };
      else yield* this.#hold(piece);
      if (!this.#walk.isAtBorder) continue;
      this.#inPieces = false;
      this.#rawBytes = "unread";
      this.#at = this.#bytes;
    }
  }

  *#hold(piece: Uint8Array): Generator<SplitFrames, void, undefined> {
    const isWhole = this.#walk.isAtBorder;
    const held = this.#memory.subarray(0, this.#heldBytes);
    const bytes = held.byteLength + piece.byteLength;
    if (!isWhole && bytes < HEADER_BYTES_MAX) return this.#keep(piece);
    if (this.#rawBytes === "unread") {
      this.#rawBytes = statedBytes(
        held.byteLength === 0 ? piece : Buffer.concat([held, piece.subarray(0, HEADER_BYTES_MAX)]),
      );
    }
    const rawBytes = this.#rawBytes;
    const { rawBytesMax, storedBytesMax } = this.#options;
    const isSmall = rawBytes !== undefined && rawBytes <= rawBytesMax && bytes <= storedBytesMax;
    if (isSmall && !isWhole) return this.#keep(piece);
    if (!isSmall) {
      this.#inPieces = true;
      this.#heldBytes = 0;
      if (held.byteLength > 0) yield { kind: "piece", stored: held };
      yield { kind: "piece", stored: piece };
      return;
    }
    // A frame that lies in one piece is not copied.
    if (held.byteLength > 0) this.#keep(piece);
    const stored = held.byteLength > 0 ? this.#memory.subarray(0, bytes) : piece;
    this.#heldBytes = 0;
    yield { kind: "frame", stored, rawBytes, at: this.#at };
  }

  #keep(piece: Uint8Array): void {
    const bytes = this.#heldBytes + piece.byteLength;
    if (this.#memory.byteLength < bytes) {
      const grown = new Uint8Array(
        Math.max(bytes, Math.min(2 * this.#memory.byteLength, this.#options.storedBytesMax)),
      );
      grown.set(this.#memory.subarray(0, this.#heldBytes));
      this.#memory = grown;
    }
    this.#memory.set(piece, this.#heldBytes);
    this.#heldBytes = bytes;
  }
}

const ZSTD_MAGIC = 0xfd2fb528;
/** Magic, descriptor, window, dictionary and size at their longest. */
const HEADER_BYTES_MAX = 18;

/** The size of the content that a frame's header states; undefined for a skippable frame, and where it states none. */
export function statedBytes(front: Uint8Array): number | undefined {
  const view = new DataView(front.buffer, front.byteOffset, front.byteLength);
  if (view.byteLength < 5 || view.getUint32(0, true) !== ZSTD_MAGIC) return undefined;
  const descriptor = view.getUint8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const at = 5 + (isSingleSegment ? 0 : 1) + dictionary;
  const bytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >>> 6] ?? 0;
  if (bytes === 0 || at + bytes > view.byteLength) return undefined;
  if (bytes === 1) return view.getUint8(at);
  // The two bytes begin at 256: smaller sizes have one.
  if (bytes === 2) return view.getUint16(at, true) + 256;
  return bytes === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
}
