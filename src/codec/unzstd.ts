/**
 * Decompresses zstd as it arrives: any number of frames one after another, in any split, in fixed memory. zstd verifies
 * content checksums where frames have them.
 */
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
