/**
 * Keeps resident memory small. When a cluster falls quiet its memory is given back: V8 does not count shared memory, so it sees no
 * reason to collect, and dropped buffers stay resident until the collection is asked for here. Short-lived buffers are freed as soon
 * as they are used, and a receiver keeps V8's memory for new objects small.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { MessageChannel, type MessagePort } from "node:worker_threads";

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

/** V8's own function, which collects at once. */
function collect(): void {
  setFlagsFromString("--expose-gc");
  // The flag counts for contexts that are made after it. A cast: what this name is in such a context.
  const collector = runInNewContext("gc") as () => void;
  setFlagsFromString("--no-expose-gc");
  collector();
}

/** A closed port. */
let nowhere: MessagePort | undefined;

/**
 * Frees the memory of short-lived bytes at once; every view of it is empty then. Bytes that are a part of larger memory are left to V8.
 * V8 itself frees buffers when it collects. It marks a thread's whole heap for each few dozen MiB of them, which costs four times as much
 * as decrypting them.
 *
 * Memory that is transferred to a closed port is taken from its sender, and freed as no thread gets it. Source: HTML, "Message port post
 * message steps", which transfer before they look for the other port.
 */
export function freeNow({ buffer, byteLength }: Uint8Array): void {
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== byteLength) return;
  nowhere ??= closedPort();
  nowhere.postMessage(undefined, [buffer]);
}

function closedPort(): MessagePort {
  const { port1 } = new MessageChannel();
  port1.close();
  return port1;
}

let keepsYoungSmall = false;

/**
 * Keeps V8's memory for new objects at 2 MiB in this process. V8 doubles it to 32 MiB while modules load, and Node.js 20 never gives
 * it back. Nearly all of a receiver's objects are dropped at once, so a small space costs it no time. One thread collects so little:
 * to wake others takes longer, 6 % of a receiver's processor time with 32 clients that commit.
 */
export function keepYoungGenerationSmall(): void {
  keepsYoungSmall = true;
  keepYoungGeneration();
  setFlagsFromString("--no-parallel-scavenge");
}

/** Called when a thread has started: V8 resets the factor with each new heap (Node.js 20 and 22). */
export function keepYoungGeneration(): void {
  // --max-semi-space-size would say it plainly, but V8 reads it only when it makes a heap; it reads this one at each growth.
  if (keepsYoungSmall) setFlagsFromString("--semi-space-growth-factor=1");
}
