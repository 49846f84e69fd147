/**
 * Delays the first document of an archive until something is stored: an import that stores nothing must not give a cluster's name
 * to the system identifier of its source.
 */
import type { Store } from "../store/store.ts";

/** Runs `prepare` before the first write. If it fails, the write fails, and the next write runs it again. */
export function withFirstWrite(store: Store, prepare: () => Promise<unknown>): Store {
  let prepared: Promise<unknown> | undefined;
  const once = async (): Promise<void> => {
    prepared ??= prepare();
    try {
      await prepared;
    } catch (error) {
      prepared = undefined;
      throw error;
    }
  };
  return {
    description: store.description,
    put: async (...args) => {
      await once();
      return store.put(...args);
    },
    putStream: async (...args) => {
      await once();
      return store.putStream(...args);
    },
    get: (...args) => store.get(...args),
    getStream: (...args) => store.getStream(...args),
    head: (...args) => store.head(...args),
    list: (...args) => store.list(...args),
    listPages: (...args) => store.listPages(...args),
    listPrefixes: (...args) => store.listPrefixes(...args),
    replaceFront: (...args) => store.replaceFront(...args),
    delete: (...args) => store.delete(...args),
    close: () => store.close(),
  };
}
