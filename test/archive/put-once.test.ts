/** Nothing is overwritten: an object is created, found equal, or refused with the place where it differs. */
import { beforeEach, describe, expect, test } from "vitest";
import { createOrCompare, firstDifference, putOnce, putPlainOnce } from "../../src/archive/put-once.ts";
import { Codec } from "../../src/codec/codec.ts";
import { type EncodedObject, decodeObject, encodeObject } from "../../src/codec/object.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { PutOptions } from "../../src/store/store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";

const KEY = "main/wal/a.zst";
let inner: MemoryStore;
let store: FaultyStore;
let archive: { readonly store: FaultyStore; readonly codec: Codec };

beforeEach(() => {
  inner = new MemoryStore();
  store = new FaultyStore(inner);
  archive = { store, codec: new Codec() };
});

const encoded = (raw: Uint8Array, level = 1): EncodedObject => encodeObject(raw, { kind: "x" }, level);
/** Content that two zstd levels store differently. */
const content = (last: number): Uint8Array => {
  const text = Array.from({ length: 4_000 }, (_, i) => `row ${i % 97} of ${i % 13};`).join("");
  return Buffer.concat([Buffer.from(text), Uint8Array.of(last)]);
};
const stored = async (): Promise<Uint8Array | undefined> => (await inner.get(KEY))?.body;

describe("an encoded object", () => {
  test("is stored as it is, with its sum", async () => {
    const object = encoded(content(1));
    const given: (PutOptions | undefined)[] = [];
    const put = inner.put.bind(inner);
    inner.put = (key, body, options) => (given.push(options), put(key, body, options));
    const { signal } = new AbortController();
    expect(await putOnce(archive, KEY, object, { signal })).toBe("created");
    expect(given).toEqual([{ signal, crc32c: object.storedCrc32c }]);
    expect(Buffer.compare((await stored()) ?? Buffer.alloc(0), object.stored)).toBe(0);
  });

  test("with the same content, stored in other bytes, is there already", async () => {
    const [first, second] = [encoded(content(1), 1), encoded(content(1), 19)];
    expect(Buffer.compare(first.stored, second.stored)).not.toBe(0);
    await putOnce(archive, KEY, first);
    expect(await putOnce(archive, KEY, second)).toBe("exists");
    expect(Buffer.compare((await stored()) ?? Buffer.alloc(0), first.stored)).toBe(0);
  });

  test("with different content is refused, names the first byte that differs, and the stored one stays", async () => {
    const first = encoded(content(1));
    await putOnce(archive, KEY, first);
    const at = content(1).byteLength - 1;
    await expect(putOnce(archive, KEY, encoded(content(2)))).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining(`the first difference is at byte ${at}`) as string,
    });
    expect(Buffer.compare((await stored()) ?? Buffer.alloc(0), first.stored)).toBe(0);
  });

  test("is compared with one of up to twice its size", async () => {
    await putOnce(archive, KEY, encoded(Buffer.alloc(200, 7)));
    await expect(putOnce(archive, KEY, encoded(Buffer.alloc(100, 7)))).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining("the first difference is at byte 100") as string,
    });
  });

  test("that is empty is compared as well", async () => {
    await putOnce(archive, KEY, encoded(new Uint8Array(0)));
    expect(await putOnce(archive, KEY, encoded(new Uint8Array(0)))).toBe("exists");
    expect(decodeObject((await stored()) ?? new Uint8Array(0), KEY, 1).raw.byteLength).toBe(0);
  });
});

describe("a plain file", () => {
  test("is created once, and exists when it is the same", async () => {
    expect(await putPlainOnce(store, KEY, Buffer.from("abc"))).toBe("created");
    expect(await putPlainOnce(store, KEY, Buffer.from("abc"))).toBe("exists");
  });

  test.each([
    ["abd", 2],
    ["xbc", 0],
    ["ab", 2],
    ["abcd", 3],
    ["", 0],
  ])('%j in place of "abc" is refused: byte %i differs', async (text, at) => {
    await putPlainOnce(store, KEY, Buffer.from("abc"));
    await expect(putPlainOnce(store, KEY, Buffer.from(text))).rejects.toMatchObject({
      code: "segment-conflict",
      message: expect.stringContaining(`with different content: the first difference is at byte ${at}`) as string,
    });
    expect(Buffer.from((await stored()) ?? []).toString()).toBe("abc");
  });
});

describe("an object that is there when it is stored and gone when it is read", () => {
  /** Says "exists" to the first `times` puts although nothing is there. */
  function sayExists(times: number): { puts: number } {
    const count = { puts: 0 };
    const put = inner.put.bind(inner);
    inner.put = (key, body, options) => (++count.puts <= times ? Promise.resolve("exists") : put(key, body, options));
    return count;
  }

  test("is stored again, up to three times", async () => {
    const count = sayExists(2);
    expect(await putPlainOnce(inner, KEY, Buffer.from("abc"))).toBe("created");
    expect(count.puts).toBe(3);
  });

  test("three times is an error, and not taken for stored", async () => {
    const count = sayExists(Infinity);
    await expect(putPlainOnce(inner, KEY, Buffer.from("abc"))).rejects.toMatchObject({ code: "store-unavailable" });
    expect(count.puts).toBe(3);
  });
});

test("what counts as equal is for the caller to say", async () => {
  await inner.put(KEY, Buffer.from("abc"));
  const ask = (difference: string | undefined) => {
    const seen: string[] = [];
    const result = createOrCompare(inner, KEY, Buffer.from("xyz"), {}, (existing) => {
      seen.push(Buffer.from(existing).toString());
      return difference;
    });
    return { result, seen };
  };
  const equal = ask(undefined);
  expect(await equal.result).toBe("exists");
  expect(equal.seen).toEqual(["abc"]);
  await expect(ask("it is red").result).rejects.toMatchObject({
    code: "segment-conflict",
    message: expect.stringContaining("with different content: it is red") as string,
  });
});

test("an abort ends the wait for the store", async () => {
  store.failpoint({ operation: "get", fault: "stall", times: Infinity });
  await inner.put(KEY, Buffer.from("abc"));
  const stop = new AbortController();
  const storing = putPlainOnce(store, KEY, Buffer.from("abc"), { signal: stop.signal });
  stop.abort();
  await expect(storing).rejects.toThrow();
});

describe("the first byte that differs", () => {
  test.each([
    ["", "", -1],
    ["abc", "abc", -1],
    ["abc", "abd", 2],
    ["abc", "xbc", 0],
    ["ab", "abc", 2],
    ["abc", "ab", 2],
    ["", "a", 0],
    ["b", "ab", 0],
  ])("of %j and %j: %i", (a, b, at) => {
    expect(firstDifference(Buffer.from(a), Buffer.from(b))).toBe(at);
  });
});
