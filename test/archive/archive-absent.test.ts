/** A name that has no archive: the message says which names have one. */
import { expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { encodeIdentity } from "../../src/archive/documents.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";

const SERVER = encodeIdentity({
  systemIdentifier: 7n,
  segmentSize: 1 << 20,
  pgMajor: 18,
  createdAt: "2026-11-29T00:00:00.000Z",
});

async function storeOf(...keys: readonly string[]): Promise<MemoryStore> {
  const store = new MemoryStore();
  for (const key of keys) await store.put(key, SERVER);
  return store;
}

test.each([
  { title: "one other", keys: ["shop/cluster.json"], hint: "It has shop: choose with --cluster." },
  {
    title: "others, and folders that are no cluster",
    keys: ["shop/cluster.json", "crm/cluster.json", "notes/readme", "Photos/cluster.json"],
    hint: "It has crm, shop: choose with --cluster.",
  },
  {
    title: "many",
    keys: Array.from({ length: 12 }, (_, i) => `c${String(i).padStart(2, "0")}/cluster.json`),
    hint: "It has c00, c01, c02, c03, c04, c05, c06, c07, c08, c09 and more: choose with --cluster.",
  },
])("in a store with $title", async ({ keys, hint }) => {
  const store = await storeOf(...keys);
  await expect(openArchive(store, "main")).rejects.toMatchObject({ code: "archive-absent", hint });
});

test("in an empty store, or one that may not be listed, the general hint stands", async () => {
  const empty = await openArchive(await storeOf(), "main").catch((error: unknown) => error);
  const store = new FaultyStore(await storeOf("shop/cluster.json"));
  store.failpoint({ operation: "listPrefixes", fault: "deny", times: Infinity });
  const denied = await openArchive(store, "main").catch((error: unknown) => error);
  expect(denied).toMatchObject({ code: "archive-absent", hint: (empty as { hint: string }).hint });
});
