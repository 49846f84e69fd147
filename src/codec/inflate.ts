/**
 * Decompresses a stream as it arrives, for servers that compress their base backup. Takes bytes in any split, and gives
 * views.
 */
import { constants, createGunzip } from "node:zlib";
import { SeawallError } from "../errors.ts";
import { zstdOfThread } from "./zstd-of-thread.ts";

export interface Inflater {
  /** Decompresses these bytes; each view is valid until the next, and `bytes` is borrowed until the iteration has ended. */
  push(bytes: Uint8Array): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** The last of it; throws `server-protocol` when the stream is cut off. */
  end(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

const OUTPUT_BYTES = 256 << 10;

export function startInflating(compression: "none" | "zstd" | "gzip"): Inflater {
  switch (compression) {
    case "none":
      return { push: (bytes) => [bytes], end: () => [] };
    case "zstd":
      return new ZstdInflater();
    case "gzip":
      return new GzipInflater();
  }
}

class ZstdInflater implements Inflater {
  readonly #stream = zstdOfThread().startDecompressing(OUTPUT_BYTES);

  async *push(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#stream.push(bytes);
    } catch (cause) {
      throw broken("does not decompress", cause);
    }
  }

  /** All content has been given by now. */
  end(): Iterable<Uint8Array> {
    if (!this.#stream.isComplete) throw broken("is cut off");
    return [];
  }
}

/** In Node's thread pool; what comes out late comes with the next push, or the end. */
class GzipInflater implements Inflater {
  readonly #gunzip = createGunzip({ chunkSize: OUTPUT_BYTES, finishFlush: constants.Z_FINISH });
  readonly #ready: Uint8Array[] = [];
  #error: Error | undefined;

  constructor() {
    this.#gunzip.on("data", (chunk: Uint8Array) => this.#ready.push(chunk));
    this.#gunzip.on("error", (error: Error) => (this.#error ??= error));
  }

  async *push(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
    await this.#settled((done) => this.#gunzip.write(bytes, done));
    yield* this.#drain();
  }

  async *end(): AsyncGenerator<Uint8Array> {
    // Closed once everything has been given, or with the error.
    await this.#settled(() => this.#gunzip.end());
    yield* this.#drain();
  }

  /** After an error a stream closes without telling its writer. */
  async #settled(begin: (done: () => void) => unknown): Promise<void> {
    if (this.#gunzip.closed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#gunzip.off("close", done);
        resolve();
      };
      this.#gunzip.once("close", done);
      begin(done);
    });
  }

  *#drain(): Generator<Uint8Array> {
    if (this.#error !== undefined) throw broken("does not decompress", this.#error);
    yield* this.#ready.splice(0);
  }
}

function broken(why: string, cause?: unknown): SeawallError {
  return new SeawallError("server-protocol", `an archive that the server compressed ${why}`, { cause });
}
