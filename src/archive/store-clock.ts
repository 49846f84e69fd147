/**
 * Reads the store's own clock. The dates of its objects are compared with it where this machine's clock may be wrong, and a wrong
 * answer would delete the archive of a receiver that runs.
 */
import { randomBytes } from "node:crypto";
import { SeawallError } from "../errors.ts";
import { deadline } from "../signals.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { probeKey } from "./keys.ts";

const CLEANUP_MS = 30_000;

/** Stores a small object below the folder's `probe/`, reads its date, and removes it. Throws what the store throws. */
export async function readStoreClock(store: Store, folder: string, options: RequestOptions = {}): Promise<Date> {
  const key = probeKey(folder, randomBytes(8).toString("hex"));
  try {
    await store.put(key, new Uint8Array(1), options);
    const found = await store.head(key, options);
    if (found !== undefined) return found.modifiedAt;
    throw new SeawallError("store-lied", `${store.description} confirmed ${key} but does not have it`);
  } finally {
    // Not cancelled with the caller: the probe should not stay. A store that refuses deletions keeps it, which does no harm.
    using limit = deadline(CLEANUP_MS);
    await store.delete([key], { signal: limit.signal }).catch(() => undefined);
  }
}

/** A clock that runs from the store's time on. */
export async function storeClock(store: Store, folder: string, options: RequestOptions = {}): Promise<() => Date> {
  const readAtMs = performance.now();
  const read = await readStoreClock(store, folder, options);
  return () => new Date(read.getTime() + performance.now() - readAtMs);
}
