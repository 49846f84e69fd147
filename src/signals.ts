/**
 * Listens to abort signals for the length of one piece of work, and lets go of them afterwards.
 *
 *     using limit = deadline(30_000, stop);
 *     await store.get(key, { signal: limit.signal });
 *
 * However much work waits for a signal, it has one listener of ours: Node.js warns of a leak at the eleventh.
 *
 * `AbortSignal.any` and `AbortSignal.timeout` are banned in src: Node.js 20 and 22 keep what they return registered with a
 * long-lived source, and with it everything that its listeners hold (about 100 KB per reconnect were measured).
 */
import { setMaxListeners } from "node:events";

/** An abort controller to whose signal much work listens at once, as requests in flight do: that is no leak to warn of. */
export function sharedController(): AbortController {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal);
  return controller;
}

type Source = AbortSignal | undefined;

interface Hub {
  readonly reactions: Set<() => void>;
  readonly fire: () => void;
}

/** The reactions to each signal that something waits for. */
const hubs = new WeakMap<AbortSignal, Hub>();

/** Calls `react` once the signal fires; at once when it has fired already. Disposed, it holds nothing and calls nothing. */
export function onAbort(signal: Source, react: () => void): Disposable {
  if (signal?.aborted === true) react();
  if (signal === undefined || signal.aborted) return { [Symbol.dispose]: () => undefined };
  const { reactions, fire } = hubs.get(signal) ?? openHub(signal);
  // Each call reacts by itself, also where two pass the same function.
  const reaction = (): void => react();
  reactions.add(reaction);
  return {
    [Symbol.dispose]: () => {
      reactions.delete(reaction);
      if (reactions.size > 0 || hubs.get(signal)?.reactions !== reactions) return;
      signal.removeEventListener("abort", fire);
      hubs.delete(signal);
    },
  };
}

function openHub(signal: AbortSignal): Hub {
  const reactions = new Set<() => void>();
  const fire = (): void => {
    hubs.delete(signal);
    // One that an earlier reaction has disposed of is called no more.
    for (const reaction of [...reactions]) {
      if (!reactions.has(reaction)) continue;
      try {
        reaction();
      } catch (error) {
        // As with listeners of the signal's own: uncaught, and the others are called all the same.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  };
  signal.addEventListener("abort", fire, { once: true });
  const hub = { reactions, fire };
  hubs.set(signal, hub);
  return hub;
}

/** Fires when one of its sources does or its time is over. Disposed, it holds nothing and never fires again. */
export class JoinedSignal implements Disposable {
  readonly #controller = sharedController();
  readonly #watched = new Map<AbortSignal, Disposable>();
  #timer: NodeJS.Timeout | undefined;
  #isOverdue = false;

  constructor(sources: readonly Source[], timeoutMs?: number) {
    for (const source of sources) if (source !== undefined) this.#watch(source);
    if (timeoutMs !== undefined && !this.signal.aborted) {
      this.#timer = setTimeout(() => this.#expire(timeoutMs), Math.min(timeoutMs, TIMER_MS_MAX));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The time was over before any source fired. */
  get isOverdue(): boolean {
    return this.#isOverdue;
  }

  /** Listens to `source` no longer; the other sources and the deadline stay. */
  leave(source: AbortSignal): void {
    this.#watched.get(source)?.[Symbol.dispose]();
    this.#watched.delete(source);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    for (const source of [...this.#watched.keys()]) this.leave(source);
  }

  #watch(source: AbortSignal): void {
    if (this.signal.aborted || this.#watched.has(source)) return;
    if (source.aborted) return this.#fire(source.reason);
    this.#watched.set(
      source,
      onAbort(source, () => this.#fire(source.reason)),
    );
  }

  #expire(timeoutMs: number): void {
    this.#isOverdue = true;
    this.#fire(new DOMException(`not done within ${timeoutMs} ms`, "TimeoutError"));
  }

  #fire(reason: unknown): void {
    this[Symbol.dispose]();
    this.#controller.abort(reason);
  }
}

/** The longest delay that a Node.js timer takes, about 25 days. */
const TIMER_MS_MAX = 0x7fffffff;

/** Fires with the first of `sources`. */
export function joinSignals(...sources: readonly Source[]): JoinedSignal {
  return new JoinedSignal(sources);
}

/** Fires after `timeoutMs`, with a `TimeoutError` as the reason, or with the first of `sources`. */
export function deadline(timeoutMs: number, ...sources: readonly Source[]): JoinedSignal {
  return new JoinedSignal(sources, timeoutMs);
}
