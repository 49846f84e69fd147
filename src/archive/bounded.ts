/** Parallel work with a written ceiling. */

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
