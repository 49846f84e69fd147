/**
 * Gives memory back when a cluster falls quiet, and while a thread encrypts. V8 does not count shared memory, so it sees no reason
 * to collect, and dropped buffers stay resident. The collection is asked for here.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Memory that was not used for this time is given back. */
const IDLE_MS = 60_000;

/** Calls back once after each time of use, when that was `IDLE_MS` ago. Keeps no process alive. */
export class IdleTimer {
  readonly #onIdle: () => void;
  #timer: NodeJS.Timeout | undefined;
  #lastMs = 0;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  /** The memory is in use now. Cheap: the timer is not set anew each time. */
  touch(): void {
    this.#lastMs = performance.now();
    this.#timer ??= this.#wait(IDLE_MS);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wait(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      const leftMs = this.#lastMs + IDLE_MS - performance.now();
      this.#timer = leftMs > 0 ? this.#wait(leftMs) : undefined;
      if (leftMs <= 0) this.#onIdle();
    }, ms).unref();
  }
}

let collecting = false;

/** Has V8 collect once soon, however many callers have dropped memory by then. */
export function collectSoon(): void {
  if (collecting) return;
  collecting = true;
  setTimeout(() => {
    collecting = false;
    collect();
  }, COLLECT_DELAY_MS).unref();
}

/** Threads that held the memory as well have ended by then. */
const COLLECT_DELAY_MS = 1_000;

function collect(): void {
  collector()();
}

/** V8's own function, which collects at once. */
type Collector = (options?: { readonly type: "minor" }) => void;

function collector(): Collector {
  setFlagsFromString("--expose-gc");
  // The flag counts for contexts that are made after it. A cast: what this name is in such a context.
  const collector = runInNewContext("gc") as Collector;
  setFlagsFromString("--no-expose-gc");
  return collector;
}

/**
 * Collects short-lived buffers after each so many bytes of them. V8 lets a thread gather 32 MiB and more: with three threads that is
 * more than a receiver's segments take.
 */
export class ShortLived {
  readonly #bytesMax: number;
  #bytes = 0;
  #collector: Collector | undefined;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** So many bytes of buffers are garbage now. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < this.#bytesMax) return;
    this.#bytes = 0;
    this.#collector ??= collector();
    this.#collector({ type: "minor" });
  }
}
