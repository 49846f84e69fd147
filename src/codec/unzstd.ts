/**
 * Decompresses zstd as it arrives: any number of frames one after another, in any split, in fixed memory. zstd verifies
 * content checksums where frames have them.
 */
import { FRAME_RAW_BYTES_MAX, FRAME_STORED_BYTES_MAX } from "./frame.ts";
import { FrameSplit, type WholeFrame } from "./frame-split.ts";
import type { Pieces } from "./zstd.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

const OUTPUT_BYTES = 1 << 20;

export class ZstdDecoder {
  readonly #stream = zstdOfThread().startDecompressing(OUTPUT_BYTES);

  /** Calls `take` with pieces of content, borrowed for the call. Throws zstd's own error for what is no zstd. */
  async push(stored: Uint8Array, take: (content: Uint8Array) => void): Promise<void> {
    for await (const content of this.read(stored)) take(content);
  }

  /** Gives the same pieces as they are asked for, each borrowed until the next: a few bytes may grow to gigabytes. */
  read(stored: Uint8Array): Pieces {
    return this.#stream.push(stored);
  }

  /** True when everything pushed was whole frames. */
  get isComplete(): boolean {
    return this.#stream.isComplete;
  }
}

/** Takes over a whole frame, borrowed for the call, which is not decompressed here then; false: it is. */
export type TakeFrame = (frame: WholeFrame) => boolean;

/**
 * The same for streams that are made of small frames (frame.ts), as parts of backups are: each may be handed on, to be decompressed
 * elsewhere at the same time.
 */
export class SharedZstdDecoder {
  readonly #handOn: TakeFrame;
  readonly #split = new FrameSplit({ rawBytesMax: FRAME_RAW_BYTES_MAX, storedBytesMax: FRAME_STORED_BYTES_MAX });
  readonly #others = new ZstdDecoder();

  /** `handOn` is called with each small frame, before `take` with any of its content. */
  constructor(handOn: TakeFrame) {
    this.#handOn = handOn;
  }

  /** Calls `take` with pieces of content, borrowed for the call. Throws as `ZstdDecoder` does. */
  async push(stored: Uint8Array, take: (content: Uint8Array) => void): Promise<void> {
    for (const part of this.#split.push(stored)) {
      if (part.kind === "frame" && this.#handOn(part)) continue;
      await this.#others.push(part.stored, take);
    }
  }

  /** True when everything pushed was whole frames. */
  get isComplete(): boolean {
    return this.#split.isComplete;
  }
}
