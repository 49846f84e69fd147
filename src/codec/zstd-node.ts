/**
 * zstd by Node.js itself, through its public functions. They do not tell where a frame ends, and versions differ on a cut frame
 * and on bytes behind the last one; so every frame is walked (frame-walk.ts), and all versions refuse the same. The seam
 * is zstd.ts.
 */
import { finished, type Transform } from "node:stream";
import type { NodeZstd } from "../zstd-library.ts";
import { FrameWalk } from "./frame-walk.ts";
import { compressBound, type StreamCompressor, type StreamDecompressor, type Zstd, type ZstdSettings } from "./zstd.ts";

/** Output buffers get this much more than the output, or Node.js takes a second one of the same size. */
const SPARE_BYTES = 64;
const STREAM_OUTPUT_BYTES = 128 << 10;

export class NodesZstd implements Zstd {
  readonly #zlib: NodeZstd;

  constructor(zlib: NodeZstd) {
    this.#zlib = zlib;
  }

  compress(target: Uint8Array, raw: Uint8Array, settings: ZstdSettings): number {
    const chunkSize = compressBound(raw.byteLength) + SPARE_BYTES;
    const options = { chunkSize, pledgedSrcSize: raw.byteLength, params: this.#parameters(settings) };
    const frame = this.#zlib.zstdCompressSync(raw, options);
    target.set(frame);
    return frame.byteLength;
  }

  startCompressing(rawBytes: number, settings: ZstdSettings): StreamCompressor {
    const options = {
      chunkSize: STREAM_OUTPUT_BYTES,
      pledgedSrcSize: rawBytes,
      params: this.#parameters(settings),
    };
    const stream = new PulledTransform(this.#zlib.createZstdCompress(options));
    return { push: (raw, isLast) => stream.push(raw, isLast) };
  }

  decompress(stored: Uint8Array, rawBytes: number): Buffer {
    const walk = new FrameWalk();
    for (let at = 0; at < stored.byteLength;) at += walk.take(stored.subarray(at));
    if (!walk.isAtBorder) throw new Error("the zstd frame is cut off");
    // Node.js refuses a ceiling of 0; the caller compares the length.
    const options = { chunkSize: rawBytes + SPARE_BYTES, maxOutputLength: Math.max(rawBytes, 1) };
    return this.#zlib.zstdDecompressSync(stored, options);
  }

  startDecompressing(outputBytes: number): StreamDecompressor {
    return new NodeDecompressor(this.#zlib.createZstdDecompress({ chunkSize: outputBytes }));
  }

  // Source: zstd.h, ZSTD_cParameter: compressionLevel, hashLog, checksumFlag.
  #parameters({ level, hashLog }: ZstdSettings): Record<number, number> {
    return { 100: level, 201: 1, ...(hashLog === 0 ? {} : { 102: hashLog }) };
  }
}

class NodeDecompressor implements StreamDecompressor {
  readonly #walk = new FrameWalk();
  readonly #stream: PulledTransform;

  constructor(transform: Transform) {
    this.#stream = new PulledTransform(transform);
  }

  async *push(stored: Uint8Array): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < stored.byteLength;) {
      // One frame at a time: what stands before a damaged one is given first.
      const taken = this.#walk.take(stored.subarray(at));
      yield* this.#stream.push(stored.subarray(at, at + taken), false);
      at += taken;
    }
  }

  get isComplete(): boolean {
    return this.#walk.isAtBorder;
  }
}

/** A transform whose output is asked for: it stops within its input until more is read, so a bomb fills no memory. */
class PulledTransform {
  readonly #transform: Transform;
  #error: Error | undefined;
  #hasEnded = false;
  #wake: (() => void) | undefined;

  constructor(transform: Transform) {
    this.#transform = transform;
    const wake = (): void => this.#wake?.();
    transform.on("readable", wake);
    finished(transform, (error) => {
      this.#error = error ?? undefined;
      this.#hasEnded = true;
      wake();
    });
  }

  async *push(bytes: Uint8Array, isLast: boolean): AsyncGenerator<Uint8Array, void, undefined> {
    let isTaken = false;
    const taken = (): void => {
      isTaken = true;
      this.#wake?.();
    };
    if (isLast) this.#transform.end(bytes);
    else this.#transform.write(bytes, taken);
    for (;;) {
      const piece = this.#transform.read() as Uint8Array | null;
      if (piece !== null) {
        yield piece;
        continue;
      }
      if (this.#error !== undefined) throw this.#error;
      if (isLast ? this.#hasEnded : isTaken) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
