/** A store that fails now and then, before it does anything: what `withRetry` must make invisible. */
import { SeawallError } from "../../src/errors.ts";
import { type Store } from "../../src/store/store.ts";

export interface Flakiness {
  /** Asked before every call and every item of a listing; true: this one fails. */
  readonly fails: () => boolean;
}

/** A putStream never fails here: it cannot be repeated, so no caller could make up for it. */
export function flaky(store: Store, { fails }: Flakiness): Store {
  const maybeFail = (): void => {
    if (fails()) throw new SeawallError("store-unavailable", "flaky");
  };
  return {
    description: store.description,
    put: async (...call) => {
      maybeFail();
      return store.put(...call);
    },
    putStream: (...call) => store.putStream(...call),
    get: async (...call) => {
      maybeFail();
      return store.get(...call);
    },
    getStream: async (...call) => {
      maybeFail();
      const got = await store.getStream(...call);
      if (got === undefined) return undefined;
      return { ...got, body: breaking(got.body, maybeFail) };
    },
    head: async (...call) => {
      maybeFail();
      return store.head(...call);
    },
    list: (...call) => breaking(store.list(...call), maybeFail),
    listPages: (...call) => breaking(store.listPages(...call), maybeFail),
    listPrefixes: async (...call) => {
      maybeFail();
      return store.listPrefixes(...call);
    },
    replaceFront: async (...call) => {
      maybeFail();
      return store.replaceFront(...call);
    },
    delete: async (...call) => {
      maybeFail();
      return store.delete(...call);
    },
    close: () => store.close(),
  };
}

async function* breaking<T>(source: AsyncIterable<T>, maybeFail: () => void): AsyncGenerator<T> {
  for await (const item of source) {
    maybeFail();
    yield item;
  }
}
