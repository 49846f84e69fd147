/** Opening an archive for a writer: which stores are refused, at every start. */
import { expect, test } from "vitest";
import { Codec } from "../../src/codec/codec.ts";
import { openArchiveFor } from "../../src/archive/archive.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { PutOptions, PutResult } from "../../src/store/store.ts";
import { keysBelow } from "../store/keys-below.ts";
import { FaultyStore } from "../harness/faulty-store.ts";

const SERVER = { systemIdentifier: 7n, segmentSize: 2 ** 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };

/** Ignores the condition of a put, as a server does that does not know If-None-Match. */
class OverwritingStore extends MemoryStore {
  isOverwriting = false;

  override async put(key: string, body: Uint8Array, options?: PutOptions): Promise<PutResult> {
    if (this.isOverwriting) await this.delete([key]);
    return super.put(key, body, options);
  }
}

test("a store that overwrites is refused at the first start of a writer, at the second and at every later one", async () => {
  const store = new OverwritingStore();
  store.isOverwriting = true;
  for (let start = 1; start <= 3; start++) {
    await expect(openArchiveFor(store, "main", SERVER, { codec: new Codec() })).rejects.toMatchObject({
      code: "store-unsupported",
    });
  }
});

test("a store that begins to overwrite is refused at the next start, and the archive's document keeps its bytes", async () => {
  const store = new OverwritingStore();
  await openArchiveFor(store, "main", SERVER, { codec: new Codec() });
  const before = (await store.get("main/cluster.json"))?.body;
  store.isOverwriting = true;
  const later = { ...SERVER, createdAt: "2026-07-07T00:00:00.000Z", pgMajor: 19 };
  await expect(openArchiveFor(store, "main", later, { codec: new Codec() })).rejects.toMatchObject({
    code: "store-unsupported",
  });
  expect((await store.get("main/cluster.json"))?.body).toEqual(before);
});

test("asking costs one put and one get, and leaves nothing behind", async () => {
  const store = new FaultyStore(new MemoryStore());
  await openArchiveFor(store, "main", SERVER, { codec: new Codec() });
  const before = await keysBelow(store, "");
  store.calls.length = 0;
  await openArchiveFor(store, "main", SERVER, { codec: new Codec() });
  expect(store.calls.map(({ operation, key }) => `${operation} ${key}`)).toEqual([
    "get main/generations/00000002.json",
    "get main/cluster.json",
    "put main/cluster.json",
    "get main/encryption/00000001.json",
  ]);
  expect(await keysBelow(store, "")).toEqual(before);
});
