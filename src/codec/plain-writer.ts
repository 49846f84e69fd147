/**
 * Content that is stored as it is, on its way into the store: one side writes, the other iterates `body`, with a ceiling
 * between them. The server's manifest is stored this way.
 */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";
import { type Sealing, sealStream } from "./age/seal.ts";
import { onAbort } from "../signals.ts";

const QUEUED_BYTES_MAX = 1 << 20;

export class PlainWriter {
  /** Bytes that have left through `body`, and their CRC-32C; the whole object's once that has ended. */
  storedBytes = 0;
  crc32c = 0;
  readonly #signal: AbortSignal;
  readonly #sealing: Sealing | undefined;
  readonly #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #ended = false;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  /** When the reader gives up, abort the signal, or the writer waits for ever. */
  constructor(signal: AbortSignal, sealing?: Sealing) {
    this.#signal = signal;
    this.#sealing = sealing;
    onAbort(signal, () => this.#wakeWriter?.());
  }

  /** Copies `chunk`; waits while too much is queued. Throws `aborted`. */
  async write(chunk: Uint8Array): Promise<void> {
    while (this.#queuedBytes >= QUEUED_BYTES_MAX && !this.#signal.aborted) {
      await new Promise<void>((resolve) => (this.#wakeWriter = resolve));
    }
    if (this.#signal.aborted) {
      throw new SeawallError("aborted", "storing the manifest was cancelled", { cause: this.#signal.reason });
    }
    const copy = Uint8Array.from(chunk);
    this.#queuedBytes += copy.length;
    this.#queue.push(copy);
    this.#wakeReader?.();
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
  }

  /** Stored bytes, in order; to be iterated once. */
  async *body(): AsyncGenerator<Uint8Array> {
    const sealing = this.#sealing;
    for await (const stored of sealing === undefined ? this.#chunks() : sealStream(this.#chunks(), sealing)) {
      this.storedBytes += stored.byteLength;
      this.crc32c = crc32c(stored, this.crc32c);
      yield stored;
    }
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        this.#queuedBytes -= chunk.length;
        this.#wakeWriter?.();
        yield chunk;
      } else if (this.#ended) return;
      else await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    }
  }
}
