/** Deleting many objects: batches, what is asked before each few of them, and objects that the store keeps. */
import { describe, expect, test } from "vitest";
import { BulkDelete, type DoomedObject, isRefusal, refusedDeletion } from "../../src/archive/retention/bulk-delete.ts";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { DeleteOptions } from "../../src/store/store.ts";

const objects = (count: number, from = 0): DoomedObject[] =>
  Array.from({ length: count }, (_, i) => ({ key: `k/${String(from + i).padStart(6, "0")}`, bytes: 2 }));

async function* each(list: readonly DoomedObject[]): AsyncGenerator<DoomedObject> {
  yield* list;
}

/** A store that says which keys each delete was for, and refuses those that a test keeps. */
function keepingStore(
  keeps: (key: string) => boolean = () => false,
  code: "store-denied" | "store-unavailable" = "store-denied",
) {
  const store = new MemoryStore();
  const deletes: (readonly string[])[] = [];
  let underWay = 0;
  const most = { underWay: 0 };
  store.delete = async (keys, options: DeleteOptions = {}) => {
    underWay++;
    most.underWay = Math.max(most.underWay, underWay);
    await new Promise((resolve) => setImmediate(resolve));
    underWay--;
    if (keys.some(keeps)) throw new SeawallError(code, "kept");
    deletes.push(keys);
    options.onHidden?.(1);
  };
  return { store, deletes, most };
}

describe("batches", () => {
  test.each([
    [0, []],
    [1, [1]],
    [1_000, [1_000]],
    [1_001, [1_000, 1]],
    [5_000, [1_000, 1_000, 1_000, 1_000, 1_000]],
  ])("of %i objects have %j", async (count, sizes) => {
    const { store, deletes, most } = keepingStore();
    const told: [number, number][] = [];
    const bulk = new BulkDelete(store, { onDeleted: (some, bytes) => told.push([some, bytes]) });
    expect(await bulk.all(each(objects(count)))).toBe(true);
    expect(deletes.map((keys) => keys.length)).toEqual(sizes);
    expect(deletes.flat()).toEqual(objects(count).map(({ key }) => key));
    expect(told).toEqual(sizes.map((size) => [size, 2 * size]));
    expect([bulk.objects, bulk.bytes, bulk.refused, bulk.hidden]).toEqual([count, 2 * count, 0, sizes.length]);
    expect(most.underWay).toBe(Math.min(4, sizes.length));
  });

  test("of which some were deleted before count together with later ones", async () => {
    const { store } = keepingStore();
    const bulk = new BulkDelete(store);
    await bulk.one({ key: "a", bytes: 5 });
    await bulk.all(each(objects(2)));
    expect([bulk.objects, bulk.bytes, bulk.hidden]).toEqual([3, 9, 2]);
  });
});

describe("before each four batches the caller is asked", () => {
  /** Deletes with these answers of the caller, and returns the deleted keys. */
  async function deletedBy(
    count: number,
    answers: boolean[],
  ): Promise<{ deleted: number; done: boolean; asked: number }> {
    const { store, deletes } = keepingStore();
    let asked = 0;
    const done = await new BulkDelete(store).all(each(objects(count)), async () => answers[asked++] ?? true);
    return { deleted: deletes.flat().length, done, asked };
  }

  describe("in order", () => {
    const asked = { times: 0 };
    const always = async (): Promise<boolean> => (asked.times++, true);

    test("objects go in batches as long as they may, then one by one", async () => {
      const { store, deletes, most } = keepingStore();
      const bulk = new BulkDelete(store);
      asked.times = 0;
      const options = { mayBatch: (key: string) => key < "k/002500", before: always };
      expect(await bulk.inOrder(each(objects(2_630)), options)).toBe("done");
      expect(deletes.map((keys) => keys.length)).toEqual([1_000, 1_000, 500, ...Array<number>(130).fill(1)]);
      expect(deletes.flat()).toEqual(objects(2_630).map(({ key }) => key));
      expect(most.underWay).toBe(1);
      // Before each batch, and before 64, 64 and 2 single ones.
      expect(asked.times).toBe(6);
      expect([bulk.objects, bulk.bytes]).toEqual([2_630, 5_260]);
    });

    test("nothing is deleted of nothing", async () => {
      const { store, deletes } = keepingStore();
      asked.times = 0;
      expect(await new BulkDelete(store).inOrder(each([]), { mayBatch: () => true, before: always })).toBe("done");
      expect([deletes, asked.times]).toEqual([[], 0]);
    });

    test.each([
      { name: "a single one", key: "k/001003", mayBatch: (key: string) => key < "k/001000", gone: 1_003 },
      { name: "the first single one", key: "k/001000", mayBatch: (key: string) => key < "k/001000", gone: 1_000 },
      { name: "one in the first batch", key: "k/000010", mayBatch: () => true, gone: 999 },
      { name: "the last one", key: "k/002999", mayBatch: () => true, gone: 2_999 },
    ])("a refusal of $name keeps everything behind it", async ({ key, mayBatch, gone }) => {
      const { store, deletes } = keepingStore((other) => other === key);
      const bulk = new BulkDelete(store);
      expect(await bulk.inOrder(each(objects(3_000)), { mayBatch, before: always })).toBe("refused");
      expect(bulk.refusals.map((refusal) => refusal.key)).toEqual([key]);
      expect(deletes.flat()).toHaveLength(gone);
      expect(Math.max(...deletes.flat().map((other) => Number(other.slice(2))))).toBeLessThan(3_000);
    });

    test.each([
      [0, 0],
      [1, 1_000],
      [2, 2_000],
      [3, 2_064],
    ])("%i answers of yes end it after %i objects", async (yes, gone) => {
      const { store, deletes } = keepingStore();
      let times = 0;
      const before = async (): Promise<boolean> => times++ < yes;
      const mayBatch = (key: string): boolean => key < "k/002000";
      expect(await new BulkDelete(store).inOrder(each(objects(3_000)), { mayBatch, before })).toBe("ended");
      expect(deletes.flat()).toHaveLength(gone);
    });

    test("an error that is no refusal is thrown, and nothing behind it goes", async () => {
      const { store, deletes } = keepingStore((key) => key === "k/001500", "store-unavailable");
      const run = new BulkDelete(store).inOrder(each(objects(3_000)), { mayBatch: () => true, before: always });
      await expect(run).rejects.toMatchObject({ code: "store-unavailable" });
      expect(deletes.flat()).toHaveLength(1_000);
    });
  });

  test.each([
    ["a few", 10, [true], { deleted: 10, done: true, asked: 1 }],
    ["a few, and the answer is no", 10, [false], { deleted: 0, done: false, asked: 1 }],
    ["exactly four batches", 4_000, [true], { deleted: 4_000, done: true, asked: 1 }],
    ["one more", 4_001, [true, true], { deleted: 4_001, done: true, asked: 2 }],
    ["one more, and the second answer is no", 4_001, [true, false], { deleted: 4_000, done: false, asked: 2 }],
    ["many, and the second answer is no", 12_001, [true, false], { deleted: 4_000, done: false, asked: 2 }],
    ["many, and the first answer is no", 12_001, [false], { deleted: 0, done: false, asked: 1 }],
    ["none", 0, [false], { deleted: 0, done: true, asked: 0 }],
  ])("%s", async (_, count, answers, outcome) => {
    expect(await deletedBy(count, answers)).toEqual(outcome);
  });
});

describe("objects that the store keeps", () => {
  const last = (keys: readonly string[]) => keys.map((key) => key.slice(2));

  test("stay, and everything else of their batch goes", async () => {
    const { store, deletes } = keepingStore((key) => ["k/000003", "k/000007"].includes(key));
    const bulk = new BulkDelete(store);
    expect(await bulk.all(each(objects(10)))).toBe(true);
    expect(deletes.flat()).toEqual(
      objects(10)
        .map(({ key }) => key)
        .filter((key) => !/[37]$/.test(key)),
    );
    expect(last(bulk.refusals.map(({ key }) => key))).toEqual(["000003", "000007"]);
    expect(bulk.refusals[0]?.error.code).toBe("store-denied");
    expect([bulk.objects, bulk.bytes, bulk.refused]).toEqual([8, 16, 2]);
  });

  test("one alone: the caller is told", async () => {
    const { store } = keepingStore((key) => key === "a");
    const bulk = new BulkDelete(store);
    expect(await bulk.one({ key: "a", bytes: 5 })).toBe(false);
    expect(await bulk.one({ key: "b", bytes: 5 })).toBe(true);
    expect([bulk.objects, bulk.bytes, bulk.refused]).toEqual([1, 5, 1]);
  });

  test("are counted beyond the hundred that are remembered", async () => {
    const { store } = keepingStore((key) => key >= "k/000001");
    const bulk = new BulkDelete(store);
    await bulk.one({ key: "k/000000", bytes: 5 });
    for (const object of objects(150, 1)) expect(await bulk.one(object)).toBe(false);
    expect(bulk.refused).toBe(150);
    expect(bulk.refusals).toHaveLength(100);
    expect(bulk.refusals.at(-1)?.key).toBe("k/000100");
  });

  test("fifty of them before anything is deleted are an error", async () => {
    const { store } = keepingStore(() => true);
    const bulk = new BulkDelete(store);
    for (const object of objects(49)) expect(await bulk.one(object)).toBe(false);
    await expect(bulk.one({ key: "k/000049", bytes: 1 })).rejects.toMatchObject({
      code: "deletion-refused",
      message: "the store refused to delete 50 objects, among them k/000000",
    });
    expect(bulk.refused).toBe(50);
  });

  test("fifty of them are none once something was deleted", async () => {
    const { store } = keepingStore((key) => key !== "first");
    const bulk = new BulkDelete(store);
    await bulk.one({ key: "first", bytes: 1 });
    for (const object of objects(60)) expect(await bulk.one(object)).toBe(false);
    expect(bulk.refused).toBe(60);
  });
});

test("a store that fails ends the deletion with its error, and nothing counts as refused", async () => {
  const { store } = keepingStore((key) => key === "k/000003", "store-unavailable");
  const bulk = new BulkDelete(store);
  await expect(bulk.all(each(objects(10)))).rejects.toMatchObject({ code: "store-unavailable" });
  expect([bulk.objects, bulk.refused]).toEqual([0, 0]);
});

test("an abort reaches the store", async () => {
  const { signal } = new AbortController();
  const store = new MemoryStore();
  const signals: unknown[] = [];
  store.delete = async (_, options) => void signals.push(options?.signal);
  await new BulkDelete(store, { signal }).all(each(objects(1)));
  expect(signals).toEqual([signal]);
});

test.each<[string, unknown, boolean]>([
  ["denied", new SeawallError("store-denied", "x"), true],
  ["unsupported", new SeawallError("store-unsupported", "x"), true],
  ["unavailable", new SeawallError("store-unavailable", "x"), false],
  ["an error that is not ours", new Error("store-denied"), false],
  ["nothing", undefined, false],
])("a store that says %s refuses: %s", (_, error, refuses) => {
  expect(isRefusal(error)).toBe(refuses);
});

test("the error of a command names the first refusal and its cause, and is none without refusals", () => {
  expect(refusedDeletion({ refused: 0, refusals: [] })).toBeUndefined();
  const cause = new SeawallError("store-denied", "kept", { hint: "Allow s3:DeleteObject." });
  const refusals = [{ key: "main/a", error: cause }];
  expect(refusedDeletion({ refused: 1, refusals })).toMatchObject({
    ...{ code: "deletion-refused", message: "the store refused to delete main/a", cause, details: { objects: 1 } },
    hint: "Allow s3:DeleteObject. The next expiry then removes what is left.",
  });
  expect(refusedDeletion({ refused: 200, refusals })).toMatchObject({
    ...{ message: "the store refused to delete 200 objects, among them main/a", details: { objects: 200 } },
  });
});
