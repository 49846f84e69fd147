/** Runs work in parallel up to a limit. */
import { joinSignals } from "../signals.ts";

/** Maps `items` in order with at most `inFlight` under way; the first failure rejects once those under way have ended. */
export async function mapBounded<T, R>(
  items: readonly T[],
  inFlight: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let failed = false;
  const hand = async (): Promise<void> => {
    while (!failed && next < items.length) {
      const index = next++;
      try {
        // index < items.length holds here; T itself may include undefined
        results[index] = await work(items[index] as T);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const hands = Array.from({ length: Math.min(inFlight, items.length) }, hand);
  const outcomes = await Promise.allSettled(hands);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  return results;
}

type Works<T extends readonly unknown[]> = { readonly [K in keyof T]: (signal: AbortSignal) => Promise<T[K]> };

/** Runs different work side by side. The first failure aborts the rest, and rejects once all of it has ended. */
export async function sideBySide<T extends readonly unknown[]>(
  works: Works<T>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<T> {
  const failed = new AbortController();
  using either = joinSignals(options.signal, failed.signal);
  let first: { readonly error: unknown } | undefined;
  const run = async (work: (signal: AbortSignal) => Promise<unknown>): Promise<unknown> => {
    try {
      return await work(either.signal);
    } catch (error) {
      first ??= { error };
      failed.abort();
      return undefined;
    }
  };
  const results = await Promise.all(works.map(run));
  if (first !== undefined) throw first.error;
  // Each result stands at the place of its work.
  return results as unknown as T;
}

/**
 * Begins work on `items` in their order, with at most `ahead` under way beside the one at hand. Gives each item with its
 * result, so that a failure is met in its turn. Leaving early cancels the work under way.
 */
export async function* readAhead<T, R>(
  items: Iterable<T>,
  ahead: number,
  work: (item: T, signal: AbortSignal) => Promise<R>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<{ readonly item: T; readonly result: Promise<R> }> {
  const left = new AbortController();
  using either = joinSignals(options.signal, left.signal);
  const queue: { readonly item: T; readonly result: Promise<R> }[] = [];
  const rest = items[Symbol.iterator]();
  try {
    for (;;) {
      while (queue.length <= ahead) {
        const next = rest.next();
        if (next.done === true) break;
        const result = work(next.value, either.signal);
        result.catch(() => undefined);
        queue.push({ item: next.value, result });
      }
      const first = queue.shift();
      if (first === undefined) return;
      yield first;
    }
  } finally {
    left.abort();
  }
}
