/** Every fault does what its name says, to the calls it is meant for and to no other. */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "./memory-store.ts";
import { describeStoreContract } from "../store/contract.ts";
import { FaultyStore, HONEST_FAULTS } from "./faulty-store.ts";
import { announcedRandom, randomFrom } from "./random.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (body: Uint8Array | undefined) => (body === undefined ? undefined : new TextDecoder().decode(body));

function newStore(): FaultyStore {
  return new FaultyStore(new MemoryStore());
}

async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of from) all.push(item);
  return all;
}

describe("faults of a put", () => {
  const cases = [
    { fault: "fail-before", code: "store-unavailable", stored: undefined },
    { fault: "fail-after", code: "store-unavailable", stored: "tide" },
    { fault: "throttle", code: "store-unavailable", stored: undefined },
    { fault: "deny", code: "store-denied", stored: undefined },
  ] as const;
  test.each(cases)("$fault rejects with $code", async ({ fault, code, stored }) => {
    const store = newStore();
    const point = store.failpoint({ operation: "put", fault });
    await expect(store.put("k", bytes("tide"))).rejects.toMatchObject({ code });
    expect(text((await store.get("k"))?.body)).toBe(stored);
    expect(point.hits).toBe(1);
  });

  test("truncate says created and stores the first half, whatever checksum came along", async () => {
    const store = newStore();
    store.failpoint({ operation: "put", fault: "truncate" });
    expect(await store.put("k", bytes("tide"), { crc32c: 0 })).toBe("created");
    expect(text((await store.get("k"))?.body)).toBe("ti");
  });

  test("lie says created and stores nothing", async () => {
    const store = newStore();
    store.failpoint({ operation: "put", fault: "lie" });
    expect(await store.put("k", bytes("tide"))).toBe("created");
    expect(await store.get("k")).toBeUndefined();
  });

  test("stall stores nothing until it is released; late stores at once and answers when released", async () => {
    const store = newStore();
    const stall = store.failpoint({ operation: "put", key: "a", fault: "stall" });
    const late = store.failpoint({ operation: "put", key: "b", fault: "late" });
    let answers = 0;
    const puts = ["a", "b"].map(async (key) => store.put(key, bytes(key)).finally(() => answers++));
    await Promise.all([stall.reached, late.reached]);
    await new Promise((resolve) => setImmediate(resolve));
    expect([await store.get("a"), text((await store.get("b"))?.body), answers]).toEqual([undefined, "b", 0]);
    stall.release();
    late.release();
    expect(await Promise.all(puts)).toEqual(["created", "created"]);
    expect(text((await store.get("a"))?.body)).toBe("a");
  });

  test("an abort, and closing the store, end a stall", async () => {
    const store = newStore();
    store.failpoint({ operation: "put", fault: "stall", times: Infinity });
    const abort = new AbortController();
    const first = store.put("a", bytes("a"), { signal: abort.signal });
    const second = store.put("b", bytes("b"));
    abort.abort();
    await expect(first).rejects.toMatchObject({ code: "aborted" });
    await store.close();
    await expect(second).rejects.toMatchObject({ code: "aborted" });
  });
});

describe("faults of reading", () => {
  test("lies: a flipped bit, an absent object, an empty list, a delete that deletes nothing", async () => {
    const store = newStore();
    await store.put("k", bytes("tide"));
    store.failpoint({ fault: "lie", times: Infinity });
    expect(text((await store.get("k"))?.body)).toBe("tiee");
    expect(await store.head("k")).toBeUndefined();
    expect(await collect(store.list(""))).toEqual([]);
    await store.delete(["k"]);
    store.heal();
    expect(text((await store.get("k"))?.body)).toBe("tide");
  });

  test("truncated: half a body, the first of a list", async () => {
    const store = newStore();
    await store.put("a", bytes("tide"));
    await store.put("b", bytes("wave"));
    store.failpoint({ fault: "truncate", times: Infinity });
    const stream = await store.getStream("a");
    const pieces = stream === undefined ? [] : await collect(stream.body);
    expect([text(Buffer.concat(pieces)), stream?.objectBytes]).toEqual(["ti", 4]);
    expect((await collect(store.list(""))).map(({ key }) => key)).toEqual(["a"]);
  });
});

test("a failpoint strikes the nth to the (nth+times-1)th call of its operation and key, and no other", async () => {
  const store = newStore();
  store.failpoint({
    operation: ["put", "head"],
    key: /^wal\//,
    nth: 2,
    times: 2,
    fault: "fail-before",
    code: "store-full",
  });
  const outcomes: string[] = [];
  for (const key of ["wal/1", "tail/1", "wal/2", "wal/3", "wal/4"]) {
    outcomes.push(await store.put(key, bytes("")).catch((error: { code: string }) => error.code));
  }
  expect(outcomes).toEqual(["created", "created", "store-full", "store-full", "created"]);
  expect(store.calls.map(({ fault }) => fault ?? "-").join(" ")).toBe("- - fail-before fail-before -");
});

test("chaos from one seed strikes the same calls again, and honest faults never store what was not sent", async () => {
  const { seed } = announcedRandom("chaos");
  const runOnce = async () => {
    const store = newStore();
    store.chaos({ random: randomFrom(seed), probability: 0.5, faults: HONEST_FAULTS, stallMsMax: 2 });
    const outcomes: string[] = [];
    for (let i = 0; i < 200; i++) {
      outcomes.push(await store.put(`k${i}`, bytes(`${i}`)).catch((error: { code: string }) => error.code));
    }
    store.heal();
    for (const [i, outcome] of outcomes.entries()) {
      const stored = text((await store.get(`k${i}`))?.body);
      expect(outcome === "created" ? [`${i}`] : [undefined, `${i}`]).toContain(stored);
    }
    return outcomes;
  };
  const first = await runOnce();
  expect(await runOnce()).toEqual(first);
  expect(new Set(first).size).toBeGreaterThan(1);
});

describeStoreContract(
  "faulty without faults",
  async () => {
    const inner = new MemoryStore();
    const store = new FaultyStore(inner);
    return { store, other: inner, dispose: async () => store.close() };
  },
  { manyObjects: 50 },
);
