/** The observer hears of every operation once, and the store behind it is none the wiser. */
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { type StoreObservation, observed } from "../../src/store/observe.ts";
import { describeStoreContract } from "./contract.ts";
import { all, collect, pieces } from "./contract-bodies.ts";
import { flaky } from "./flaky.ts";

const classify = (key: string): string => (key.startsWith("wal/") ? "segment" : "other");

describeStoreContract(
  "observed over memory",
  async () => {
    const memory = new MemoryStore();
    const store = observed(memory, { observe: () => undefined, classify });
    return { store, other: memory, dispose: async () => undefined };
  },
  { manyObjects: 50 },
);

describe("observed", () => {
  function watch(fails: () => boolean = () => false) {
    const seen: StoreObservation[] = [];
    let clock = 0;
    const inner = flaky(new MemoryStore(), { fails });
    const store = observed(inner, {
      observe: (observation) => seen.push(observation),
      classify,
      nowMs: () => (clock += 5),
    });
    return { seen, store };
  }

  test("each operation says what it moved and how it went", async () => {
    const { seen, store } = watch();
    await store.put("wal/1", new Uint8Array(100));
    await store.put("wal/1", new Uint8Array(100));
    await store.putStream("other", pieces([new Uint8Array(30), new Uint8Array(12)]));
    await store.get("wal/1", { range: { offset: 90, length: 20 } });
    await store.get("wal/2");
    await collect((await store.getStream("wal/1"))?.body);
    await store.getStream("nothing");
    await store.head("wal/1");
    await store.head("wal/2");
    await all(store.list("wal/"));
    await store.listPrefixes("");
    await store.delete(["wal/1", "wal/9"]);
    expect(
      seen.map(({ operation, keyClass, bytes, count, outcome }) => [operation, keyClass, bytes, count, outcome]),
    ).toEqual([
      ["put", "segment", 100, 1, "created"],
      ["put", "segment", 100, 1, "exists"],
      ["putStream", "other", 42, 1, "created"],
      ["get", "segment", 10, 1, "ok"],
      ["get", "segment", 0, 1, "absent"],
      ["getStream", "segment", 100, 1, "ok"],
      ["getStream", "other", 0, 1, "absent"],
      ["head", "segment", 0, 1, "ok"],
      ["head", "segment", 0, 1, "absent"],
      ["list", "segment", 0, 1, "ok"],
      ["listPrefixes", "other", 0, 1, "ok"],
      ["delete", "segment", 0, 2, "ok"],
    ]);
    expect(new Set(seen.map(({ durationMs }) => durationMs))).toEqual(new Set([5]));
  });

  test("failures carry their code, and are thrown on", async () => {
    const { seen, store } = watch(() => true);
    const calls: readonly (() => Promise<unknown>)[] = [
      () => store.put("k", new Uint8Array(100)),
      () => store.get("k"),
      () => store.getStream("k"),
      () => store.head("k"),
      () => store.listPrefixes(""),
      () => store.delete(["k"]),
    ];
    for (const call of calls) await expect(call()).rejects.toMatchObject({ code: "store-unavailable" });
    expect(seen.map(({ outcome, bytes }) => [outcome, bytes])).toEqual(calls.map(() => ["store-unavailable", 0]));
  });

  test("a stream that breaks counts what it moved, in either direction", async () => {
    let items = 0;
    const { seen, store } = watch(() => (items += 1) > 3);
    // Two calls pass, then the first piece, then the stream breaks.
    await store.put("k", new Uint8Array(3 * 64 * 1024));
    await expect(collect((await store.getStream("k"))?.body)).rejects.toThrow("flaky");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(7);
      throw new TypeError("the source broke");
    }
    await expect(store.putStream("s", failing())).rejects.toThrow("the source broke");
    expect(seen.slice(1).map(({ operation, bytes, outcome }) => [operation, bytes, outcome])).toEqual([
      ["getStream", 64 * 1024, "store-unavailable"],
      ["putStream", 7, "failed"],
    ]);
  });

  test("a reader that leaves early is no failure", async () => {
    const { seen, store } = watch();
    await store.put("k", new Uint8Array(3 * 64 * 1024));
    for await (const piece of (await store.getStream("k"))?.body ?? []) {
      expect(piece.length).toBe(64 * 1024);
      break;
    }
    expect(seen.at(-1)).toMatchObject({ operation: "getStream", bytes: 64 * 1024, outcome: "ok" });
  });

  test("an abort is reported as such", async () => {
    const { seen, store } = watch();
    await expect(store.get("k", { signal: AbortSignal.abort() })).rejects.toBeInstanceOf(SeawallError);
    expect(seen).toMatchObject([{ operation: "get", outcome: "aborted" }]);
  });
});
