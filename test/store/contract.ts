/**
 * What every store promises, as one suite: run over memory, file, s3 and over the decorators. A store is opened for each
 * test below a place of its own.
 */
import { randomBytes } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { withRetry } from "../../src/store/retry.ts";
import type { ReplaceResult, RestCheck, Store } from "../../src/store/store.ts";
import { all, describeAborts, describeBodies, pieces } from "./contract-bodies.ts";

export interface StoreUnderTest {
  readonly store: Store;
  /** A second client of the same place: another process's view. */
  readonly other: Store;
  dispose(): Promise<void>;
}

export interface ContractTraits {
  /** Objects in the tests about long listings: above one page of the store. */
  readonly manyObjects: number;
}

const MIB = 1024 * 1024;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

export function describeStoreContract(name: string, open: () => Promise<StoreUnderTest>, traits: ContractTraits): void {
  describe(`store contract: ${name}`, () => {
    let opened: StoreUnderTest;
    let store: Store;
    beforeEach(async () => {
      opened = await open();
      store = opened.store;
    });
    afterEach(() => opened.dispose());

    describeBodies(() => store);
    describeAborts(() => store);
    races(() => opened);
    listing(() => store, traits);
    deletion(() => store, traits);
    replacement(() => opened);
    refusals(() => store);
  });
}

function races(opened: () => StoreUnderTest): void {
  describe("races", () => {
    test("of 32 puts of one key at once exactly one creates it, and its content is what all read", async () => {
      const { store, other } = opened();
      const bodies = Array.from({ length: 32 }, (_, i) => Buffer.concat([Buffer.from([i]), randomBytes(5000)]));
      const results = await Promise.all(bodies.map((body, i) => (i % 2 === 0 ? store : other).put("race/key", body)));
      expect(results.filter((result) => result === "created")).toHaveLength(1);
      const winner = bodies[results.indexOf("created")];
      const got = await Promise.all([store.get("race/key"), other.get("race/key")]);
      for (const read of got) expect(Buffer.compare(read?.body ?? text("?"), winner ?? text("!"))).toBe(0);
    });

    test("of 6 large streams into one key at once exactly one creates it, and its content is what all read", async () => {
      const { store, other } = opened();
      const bodies = Array.from({ length: 6 }, (_, i) => Buffer.concat([Buffer.from([i]), randomBytes(6 * MIB)]));
      const options = { partBytes: 5 * MIB, partsInFlight: 2 };
      const results = await Promise.all(
        bodies.map((body, i) => (i % 2 === 0 ? store : other).putStream("race/large", pieces([body]), options)),
      );
      expect(results.filter((result) => result === "created")).toHaveLength(1);
      const winner = bodies[results.indexOf("created")];
      expect(Buffer.compare((await other.get("race/large"))?.body ?? text("?"), winner ?? text("!"))).toBe(0);
      expect((await all(store.list(""))).map(({ key }) => key)).toEqual(["race/large"]);
      expect(await store.listPrefixes("")).toEqual(["race/"]);
    });

    test("32 puts of different keys into folders that do not exist yet all succeed", async () => {
      const { store, other } = opened();
      const keys = Array.from({ length: 32 }, (_, i) => `new/${i % 4}/folder/${i}`);
      const results = await Promise.all(keys.map((key, i) => (i % 2 === 0 ? store : other).put(key, text(key))));
      expect(new Set(results)).toEqual(new Set(["created"]));
      expect(await all(store.list("new/"))).toHaveLength(32);
    });

    test("puts and deletes that meet in one folder disturb neither", async () => {
      const { store, other } = opened();
      for (let round = 0; round < 8; round += 1) {
        await store.put(`meet/${round}/first`, text("1"));
        const [, result] = await Promise.all([
          other.delete([`meet/${round}/first`]),
          store.put(`meet/${round}/second`, text("2")),
        ]);
        expect(result).toBe("created");
        expect((await all(other.list(`meet/${round}/`))).map((info) => info.key)).toEqual([`meet/${round}/second`]);
      }
    });

    test("what one client created another sees at once", async () => {
      const { store, other } = opened();
      await store.put("seen", text("x"));
      expect((await other.head("seen"))?.bytes).toBe(1);
      expect((await all(other.list(""))).map((info) => info.key)).toEqual(["seen"]);
      await other.delete(["seen"]);
      expect(await store.get("seen")).toBeUndefined();
    });
  });
}

function replacement(opened: () => StoreUnderTest): void {
  describe("replaceFront", () => {
    const body = (bytes: number): { readonly old: Buffer; readonly rest: Buffer } => {
      return { old: randomBytes(700), rest: randomBytes(bytes - 700) };
    };
    const replace = async (
      store: Store,
      key: string,
      { old, rest }: { readonly old: Buffer; readonly rest: Buffer },
      front: Uint8Array,
    ): Promise<ReplaceResult> => store.replaceFront(key, { old, front, objectBytes: old.byteLength + rest.byteLength });

    // moto answers 500 to a request that meets an overwrite; every command repeats such a request.
    const patient = (): [Store, Store] => [withRetry(opened().store), withRetry(opened().other)];

    // The largest of them goes in several parts to a bucket.
    for (const bytes of [701, 6 * MIB, 33 * MIB]) {
      test.each([0, 1, 699, 700, 5_000])(`${bytes} bytes get a beginning of %i bytes`, async (length) => {
        const { store, other } = opened();
        const was = body(bytes);
        const stored = Buffer.concat([was.old, was.rest]);
        await store.putStream("a/key", pieces([stored]));
        const front = randomBytes(length);
        expect(await replace(store, "a/key", was, front)).toBe("replaced");
        const now = Buffer.concat([front, was.rest]);
        const got = await other.get("a/key");
        expect(now.equals(got?.body ?? text("?"))).toBe(true);
        expect((await other.head("a/key"))?.bytes).toBe(now.byteLength);
        expect((await all(store.list(""))).map(({ key }) => key)).toEqual(["a/key"]);
      });

      test(`of ${bytes} bytes that are others now, or of another size, nothing is changed`, async () => {
        const { store } = opened();
        const was = body(bytes);
        const stored = Buffer.concat([was.old, was.rest]);
        await store.putStream("a/key", pieces([stored]));
        const front = randomBytes(10);
        expect(await replace(store, "a/key", { ...was, old: randomBytes(700) }, front)).toBe("changed");
        expect(await replace(store, "a/key", { ...was, rest: was.rest.subarray(1) }, front)).toBe("changed");
        expect(await replace(store, "a/key", { ...was, rest: Buffer.concat([was.rest, front]) }, front)).toBe(
          "changed",
        );
        expect(stored.equals((await store.get("a/key"))?.body ?? text("?"))).toBe(true);
      });

      test(`of ${bytes} bytes all that passes through this process is checked first`, async () => {
        const { store } = opened();
        const was = body(bytes);
        const stored = Buffer.concat([was.old, was.rest]);
        await store.putStream("a/key", pieces([stored]));
        const request = { old: was.old, front: randomBytes(10), objectBytes: bytes };
        let seen: Buffer[] = [];
        const refusing = (): RestCheck => ({
          push: () => {
            throw new SeawallError("object-corrupt", "another payload");
          },
          end: () => undefined,
        });
        const refused = store.replaceFront("a/key", { ...request, checkRest: refusing });
        await expect(refused).rejects.toMatchObject({ code: "object-corrupt" });
        expect(stored.equals((await store.get("a/key"))?.body ?? text("?"))).toBe(true);
        let isEnded = false;
        const checkRest = (): RestCheck => {
          seen = [];
          return { push: (piece) => seen.push(Buffer.from(piece)), end: () => void (isEnded = true) };
        };
        expect(await store.replaceFront("a/key", { ...request, checkRest })).toBe("replaced");
        const first = Buffer.concat(seen);
        expect(first.byteLength).toBeGreaterThan(0);
        expect(was.rest.subarray(0, first.byteLength).equals(first)).toBe(true);
        // The rest of it is what a bucket's server copies by itself.
        expect(isEnded).toBe(first.byteLength === was.rest.byteLength);
        if (bytes < 32 * MIB) expect(isEnded).toBe(true);
      });

      test(`an object of ${bytes} bytes that is gone is not made anew`, async () => {
        const { store, other } = opened();
        const was = body(bytes);
        await store.putStream("a/key", pieces([was.old, was.rest]));
        await other.delete(["a/key"]);
        expect(await replace(store, "a/key", was, randomBytes(10))).toBe("absent");
        expect(await all(store.list(""))).toEqual([]);
      });

      test(`of many replacements of ${bytes} bytes at once the object has one, whole`, async () => {
        const [store, other] = patient();
        const was = body(bytes);
        await store.putStream("a/key", pieces([was.old, was.rest]));
        const fronts = Array.from({ length: 4 }, (_, i) => randomBytes(10 + i * 300));
        const results = await Promise.all(
          fronts.map((front, i) => replace(i % 2 === 0 ? store : other, "a/key", was, front)),
        );
        expect(results).toContain("replaced");
        expect(results).not.toContain("absent");
        const got = Buffer.from((await store.get("a/key"))?.body ?? text("?"));
        const winners = fronts.filter((front) => got.equals(Buffer.concat([front, was.rest])));
        expect(winners).toHaveLength(1);
        expect(results[fronts.indexOf(winners[0] ?? randomBytes(1))]).toBe("replaced");
      });

      test(`a reader of ${bytes} bytes sees the old object or the new one`, async () => {
        const [store, other] = patient();
        let was = body(bytes);
        await store.putStream("a/key", pieces([was.old, was.rest]));
        const { rest } = was;
        const fronts = [randomBytes(100), randomBytes(101), randomBytes(102)];
        const states = [was.old, ...fronts].map((front) => Buffer.concat([front, rest]));
        const writing = new AbortController();
        const reading = (async () => {
          let others = 0;
          for (let reads = 0; reads < 10_000 && !writing.signal.aborted; reads++) {
            const read = (await other.get("a/key"))?.body ?? text("?");
            if (!states.some((state) => state.equals(read))) others++;
            // A store in memory answers without a turn of the event loop; the writer's pauses need turns.
            await setImmediate();
          }
          return others;
        })();
        try {
          for (const front of fronts) {
            expect(await replace(store, "a/key", was, front)).toBe("replaced");
            was = { old: front, rest };
          }
        } finally {
          writing.abort();
        }
        expect(await reading).toBe(0);
      });
    }
  });
}

function listing(store: () => Store, traits: ContractTraits): void {
  describe("list", () => {
    // By hand, in byte order: '+' 2B, '-' 2D, '.' 2E, '/' 2F, digits, '=' 3D, capitals, '_' 5F, small letters.
    const ordered = [
      "a+/x",
      "a-/x",
      "a.b",
      "a.b.c/x",
      "a/+",
      "a/-/z",
      "a/0/1",
      "a/A",
      "a/_",
      "a/a",
      "a0",
      "a=",
      "aB",
      "b",
    ];

    test("byte order of whole keys, folders and objects mixed", async () => {
      for (const key of [...ordered].reverse()) await store().put(key, text(key));
      const infos = await all(store().list(""));
      expect(infos.map((info) => info.key)).toEqual(ordered);
      expect(infos.map((info) => info.bytes)).toEqual(ordered.map((key) => key.length));
    });

    test("prefix and startAfter cut exactly, wherever they fall", async () => {
      for (const key of ordered) await store().put(key, text(key));
      const probes = ["", "a", "a+", "a+/", "a+/x", "a/", "a/0", "a/0/", "a.b", "a.b.", "a/zzz", "b", "b0", "c/d/e"];
      for (const prefix of probes) {
        for (const startAfter of [...probes, ...ordered]) {
          const found = (await all(store().list(prefix, { startAfter }))).map((info) => info.key);
          const expected = ordered.filter((key) => key.startsWith(prefix) && key > startAfter);
          expect(found, `prefix "${prefix}", startAfter "${startAfter}"`).toEqual(expected);
        }
      }
    });

    test(`${traits.manyObjects} objects in one folder come in order, from anywhere, and may be left early`, async () => {
      const keys = Array.from({ length: traits.manyObjects }, (_, i) => `many/${String(i).padStart(6, "0")}`);
      await inLots(keys, (key) => store().put(key, text("x")));
      expect((await all(store().list("many/"))).map((info) => info.key)).toEqual(keys);
      const middle = Math.floor(keys.length / 2);
      const startAfter = keys[middle] ?? "";
      expect((await all(store().list("many/", { startAfter }))).map((info) => info.key)).toEqual(
        keys.slice(middle + 1),
      );
      for await (const info of store().list("many/")) {
        expect(info.key).toBe(keys[0]);
        break;
      }
    });

    test("an empty store and an unknown prefix list nothing", async () => {
      expect(await all(store().list(""))).toEqual([]);
      expect(await store().listPrefixes("")).toEqual([]);
      await store().put("x/y", text("x"));
      expect(await all(store().list("x/z"))).toEqual([]);
      expect(await all(store().list("nowhere/"))).toEqual([]);
      expect(await store().listPrefixes("nowhere/")).toEqual([]);
    });

    test("listPrefixes gives each next part once, sorted, without objects", async () => {
      for (const key of ["b/1/x", "b/1/y", "b/10/x", "b/2", "b/A/1/2/3", "a/x", "c"]) await store().put(key, text("x"));
      expect(await store().listPrefixes("")).toEqual(["a/", "b/"]);
      expect(await store().listPrefixes("b/")).toEqual(["b/1/", "b/10/", "b/A/"]);
      expect(await store().listPrefixes("b/A/1/")).toEqual(["b/A/1/2/"]);
      expect(await store().listPrefixes("c/")).toEqual([]);
    });

    test("listPrefixes gives the objects beside them when it is asked to", async () => {
      for (const key of ["w/1/x", "w/1.history", "w/2/x", "w/2/y/z", "w/3.history", "x"])
        await store().put(key, text("x"));
      const below = ["w/1.history", "w/1/", "w/2/", "w/3.history"];
      expect(await store().listPrefixes("w/", { objects: true })).toEqual(below);
      expect(await store().listPrefixes("w/2/", { objects: true })).toEqual(["w/2/x", "w/2/y/"]);
      expect(await store().listPrefixes("w/1/x/", { objects: true })).toEqual([]);
      expect(await store().listPrefixes("w/")).toEqual(["w/1/", "w/2/"]);
    });

    test(`listPrefixes with ${traits.manyObjects} of them`, async () => {
      const folders = Array.from({ length: traits.manyObjects }, (_, i) => `p/${String(i).padStart(5, "0")}/`);
      await inLots(folders, (folder) => store().put(`${folder}x`, text("x")));
      expect(await store().listPrefixes("p/")).toEqual(folders);
    });
  });
}

function deletion(store: () => Store, traits: ContractTraits): void {
  describe("delete", () => {
    test("absent keys and no keys at all are success", async () => {
      await store().delete([]);
      await store().delete(["never/was/there"]);
      await store().put("here", text("x"));
      await store().delete(["here", "absent", "here"]);
      expect(await store().head("here")).toBeUndefined();
    });

    test("a deleted key can be created again, in a folder that had become empty", async () => {
      await store().put("f/g/h", text("1"));
      await store().delete(["f/g/h"]);
      expect(await store().listPrefixes("")).toEqual([]);
      expect(await store().put("f/g/h", text("2"))).toBe("created");
      expect(Buffer.from((await store().get("f/g/h"))?.body ?? []).toString()).toBe("2");
    });

    test(`${traits.manyObjects} keys in one call, and the neighbours stay`, async () => {
      const keys = Array.from({ length: traits.manyObjects }, (_, i) => `del/${i % 3}/${i}`);
      await inLots([...keys, "del/stays", "del/1/stays"], (key) => store().put(key, text("x")));
      await store().delete(keys);
      expect((await all(store().list(""))).map((info) => info.key)).toEqual(["del/1/stays", "del/stays"]);
    });
  });
}

function refusals(store: () => Store): void {
  describe("refusals", () => {
    const bad = [
      "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", "a b", "a\\b", "a\0b", "ä", "a%2fb",
      "~tmp/x", "a?b", "a#b", "k".repeat(513), `${"p".repeat(256)}/x`, "a\n", "\na",
    ]; // prettier-ignore
    test.each(bad)("the key %j is refused by every method that takes one", async (key) => {
      await expect(store().put(key, text("x"))).rejects.toMatchObject({ code: "internal" });
      await expect(store().putStream(key, pieces([text("x")]))).rejects.toMatchObject({ code: "internal" });
      await expect(store().get(key)).rejects.toMatchObject({ code: "internal" });
      await expect(store().getStream(key)).rejects.toMatchObject({ code: "internal" });
      await expect(store().head(key)).rejects.toMatchObject({ code: "internal" });
      await expect(store().delete(["fine", key])).rejects.toMatchObject({ code: "internal" });
    });

    test.each(["/", "/a", "../", "a/../", "a//", "a b", "ä", "~"])("the prefix %j is refused", async (prefix) => {
      await expect(all(store().list(prefix))).rejects.toMatchObject({ code: "internal" });
      await expect(store().listPrefixes(prefix)).rejects.toMatchObject({ code: "internal" });
    });

    test("listPrefixes wants whole parts", async () => {
      await expect(store().listPrefixes("a/b")).rejects.toMatchObject({ code: "internal" });
    });

    test.each([
      { offset: -1, length: 1 },
      { offset: 0, length: -1 },
      { offset: 0.5, length: 1 },
      { offset: 0, length: Number.NaN },
    ])("the range $offset, $length is refused", async (range) => {
      await store().put("ranged", text("x"));
      await expect(store().get("ranged", { range })).rejects.toMatchObject({ code: "internal" });
    });
  });
}

async function inLots<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += 32) await Promise.all(items.slice(at, at + 32).map(work));
}
