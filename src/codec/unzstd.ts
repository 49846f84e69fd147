/**
 * Decompresses zstd as it arrives: any number of frames one after another, in any split, in fixed memory. zstd verifies
 * content checksums where frames have them.
 */
import binding from "zstd-napi/binding.js";

const OUTPUT_BYTES = 1 << 20;

export class ZstdDecoder {
  readonly #context = new binding.DCtx();
  readonly #output = new Uint8Array(OUTPUT_BYTES);
  /** Bytes that zstd still expects of the frame it is in; 0 between two frames. */
  #expected = 0;

  /** Calls `take` with pieces of content, borrowed for the call. Throws zstd's own error for what is no zstd. */
  push(stored: Uint8Array, take: (content: Uint8Array) => void): void {
    for (const content of this.read(stored)) take(content);
  }

  /** Gives the same pieces as they are asked for, each borrowed until the next: a few bytes may grow to gigabytes. */
  *read(stored: Uint8Array): Generator<Uint8Array, void, undefined> {
    let at = 0;
    for (;;) {
      const [expected, produced, consumed] = this.#context.decompressStream(this.#output, stored.subarray(at));
      at += consumed;
      this.#expected = expected;
      if (produced > 0) yield this.#output.subarray(0, produced);
      // A full output may leave more inside the decoder although all input is taken.
      if (at === stored.byteLength && (produced < OUTPUT_BYTES || expected === 0)) return;
    }
  }

  /** Whether everything pushed was whole frames. */
  get isComplete(): boolean {
    return this.#expected === 0;
  }
}
