/** The store's clock: the date of an object that was stored just now. */
import { expect, test } from "vitest";
import { readStoreClock, storeClock } from "../../src/archive/store-clock.ts";
import type { ObjectInfo, RequestOptions } from "../../src/store/store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";

const THEIRS = new Date("2031-03-01T00:00:00Z");

/** Dates its objects by a clock that is years ahead. */
class ElsewhereStore extends MemoryStore {
  override async head(key: string, options?: RequestOptions): Promise<ObjectInfo | undefined> {
    const found = await super.head(key, options);
    return found === undefined ? undefined : { ...found, modifiedAt: THEIRS };
  }
}

async function keysOf(store: MemoryStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("")) keys.push(key);
  return keys;
}

test("the store's time is read, and nothing is left behind", async () => {
  const store = new ElsewhereStore();
  expect(await readStoreClock(store, "main@2")).toEqual(THEIRS);
  expect(await keysOf(store)).toEqual([]);
});

test("the clock runs on from there", async () => {
  const now = await storeClock(new ElsewhereStore(), "main");
  const first = now().getTime();
  expect(first).toBeGreaterThanOrEqual(THEIRS.getTime());
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(now().getTime()).toBeGreaterThan(first);
  expect(now().getTime()).toBeLessThan(THEIRS.getTime() + 3_600_000);
});

test("a store that refuses deletions keeps the object below probe/, and its time counts", async () => {
  const inner = new ElsewhereStore();
  const store = new FaultyStore(inner);
  store.failpoint({ operation: "delete", fault: "deny" });
  expect(await readStoreClock(store, "main")).toEqual(THEIRS);
  expect(await keysOf(inner)).toEqual([expect.stringMatching(/^main\/probe\/[0-9a-f]{16}$/)]);
});

test("a store that loses the object has lied, and one that refuses it is named", async () => {
  const liar = new FaultyStore(new MemoryStore());
  liar.failpoint({ operation: "put", fault: "lie" });
  await expect(readStoreClock(liar, "main")).rejects.toMatchObject({ code: "store-lied" });
  const denied = new FaultyStore(new MemoryStore());
  denied.failpoint({ operation: "put", fault: "deny" });
  await expect(readStoreClock(denied, "main")).rejects.toMatchObject({ code: "store-denied" });
});
