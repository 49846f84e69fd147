/** Lists a store, for tests that compare everything it holds. */
import type { Store } from "../../src/store/store.ts";

/** The keys that start with `prefix`, in the store's order. */
export async function keysBelow(store: Store, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys;
}
