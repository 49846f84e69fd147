/** zstd by the native package zstd-napi: synchronous, with contexts that are kept. The seam is zstd.ts. */
import type { CompressionContext, DecompressionContext, ZstdBinding } from "../zstd-library.ts";
import type { StreamCompressor, StreamDecompressor, Zstd, ZstdSettings } from "./zstd.ts";

// Source: zstd.h, ZSTD_cParameter and ZSTD_EndDirective.
const PARAMETER = { compressionLevel: 100, hashLog: 102, checksumFlag: 201 };
const DIRECTIVE = { continue: 0, end: 2 };
/** Room for the largest block, so that no call returns without progress (ZSTD_CStreamOutSize). */
const STREAM_OUTPUT_BYTES = (128 << 10) + 1024;

interface Compressor {
  readonly context: CompressionContext;
  readonly settings: ZstdSettings;
}

export class NativeZstd implements Zstd {
  readonly #binding: ZstdBinding;
  /** Contexts are kept: creating one costs more than compressing a chunk. */
  #compressor: Compressor | undefined;
  #decompressor: DecompressionContext | undefined;

  constructor(binding: ZstdBinding) {
    this.#binding = binding;
  }

  compress(target: Uint8Array, raw: Uint8Array, settings: ZstdSettings): number {
    this.#compressor = this.#compressorFor(settings);
    return this.#compressor.context.compress2(target, raw);
  }

  startCompressing(rawBytes: number, settings: ZstdSettings): StreamCompressor {
    const compressor = this.#compressorFor(settings);
    // A context left within a frame would go on with it, so only one that has ended its frame is kept.
    this.#compressor = undefined;
    compressor.context.setPledgedSrcSize(rawBytes);
    const output = new Uint8Array(STREAM_OUTPUT_BYTES);
    const keep = (): void => void (this.#compressor = compressor);
    return {
      *push(raw, isLast) {
        const directive = isLast ? DIRECTIVE.end : DIRECTIVE.continue;
        for (let rest = raw, isDone = false; !isDone;) {
          const [remaining, produced, consumed] = compressor.context.compressStream2(output, rest, directive);
          rest = rest.subarray(consumed);
          isDone = rest.byteLength === 0 && (!isLast || remaining === 0);
          if (produced > 0) yield output.subarray(0, produced);
        }
        if (isLast) keep();
      },
    };
  }

  decompress(stored: Uint8Array, rawBytes: number, into?: Uint8Array<ArrayBuffer>): Buffer {
    const fits = into !== undefined && into.byteLength >= rawBytes;
    const raw = fits ? Buffer.from(into.buffer, into.byteOffset, rawBytes) : Buffer.allocUnsafe(rawBytes);
    this.#decompressor ??= new this.#binding.DCtx();
    return raw.subarray(0, this.#decompressor.decompress(raw, stored));
  }

  startDecompressing(outputBytes: number): StreamDecompressor {
    return new NativeDecompressor(new this.#binding.DCtx(), outputBytes);
  }

  #compressorFor(settings: ZstdSettings): Compressor {
    const { level, hashLog } = settings;
    const kept = this.#compressor;
    if (kept?.settings.level === level && kept.settings.hashLog === hashLog) return kept;
    const context = kept?.context ?? new this.#binding.CCtx();
    context.setParameter(PARAMETER.compressionLevel, level);
    context.setParameter(PARAMETER.checksumFlag, 1);
    context.setParameter(PARAMETER.hashLog, hashLog);
    return { context, settings };
  }
}

class NativeDecompressor implements StreamDecompressor {
  readonly #context: DecompressionContext;
  readonly #output: Uint8Array;
  /** Bytes that zstd still expects of the frame it is in; 0 between two frames. */
  #expected = 0;

  constructor(context: DecompressionContext, outputBytes: number) {
    this.#context = context;
    this.#output = new Uint8Array(outputBytes);
  }

  *push(stored: Uint8Array): Generator<Uint8Array, void, undefined> {
    for (let at = 0; ;) {
      const [expected, produced, consumed] = this.#context.decompressStream(this.#output, stored.subarray(at));
      at += consumed;
      this.#expected = expected;
      if (produced > 0) yield this.#output.subarray(0, produced);
      // A full output may leave more inside the decoder although all input is taken.
      if (at === stored.byteLength && (produced < this.#output.byteLength || expected === 0)) return;
    }
  }

  get isComplete(): boolean {
    return this.#expected === 0;
  }
}
