/**
 * What every store promises, as one suite: run over memory, file, s3 and over the decorators. A store is opened for each
 * test below a place of its own.
 */
import { randomBytes } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ObjectInfo, type Store } from "../../src/store/store.ts";

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

    putAndGet(() => store);
    races(() => opened);
    ranges(() => store);
    listing(() => store, traits);
    deletion(() => store, traits);
    streams(() => store);
    aborts(() => store);
    refusals(() => store);
  });
}

function putAndGet(store: () => Store): void {
  describe("put and get", () => {
    for (const bytes of [0, 1, 8192, 16 * MIB]) {
      test(`${bytes} bytes come back as they were, through get, getStream and head`, async () => {
        const body = randomBytes(bytes);
        const before = Date.now();
        expect(await store().put("a/b/object", body)).toBe("created");
        const got = await store().get("a/b/object");
        expect(got?.objectBytes).toBe(bytes);
        expect(Buffer.compare(got?.body ?? text("?"), body)).toBe(0);
        const streamed = await store().getStream("a/b/object");
        expect(streamed?.objectBytes).toBe(bytes);
        expect(Buffer.compare(await collect(streamed?.body), body)).toBe(0);
        const info = await store().head("a/b/object");
        expect(info).toMatchObject({ key: "a/b/object", bytes });
        expect(Math.abs((info?.modifiedAt.getTime() ?? 0) - before)).toBeLessThan(60_000);
      });
    }

    test("an absent key is undefined, whatever is asked of it", async () => {
      await store().put("folder/object", text("x"));
      for (const key of ["absent", "folder/absent", "absent/folder/object", "folder", "folder/object2"]) {
        expect(await store().get(key)).toBeUndefined();
        expect(await store().get(key, { range: { offset: 0, length: 1 } })).toBeUndefined();
        expect(await store().getStream(key)).toBeUndefined();
        expect(await store().head(key)).toBeUndefined();
      }
    });

    test("a second put of the key writes nothing, the same content or not", async () => {
      expect(await store().put("once", text("first"))).toBe("created");
      expect(await store().put("once", text("first"))).toBe("exists");
      expect(await store().put("once", text("second, and longer"))).toBe("exists");
      expect(await store().putStream("once", pieces([text("third")]))).toBe("exists");
      expect(Buffer.from((await store().get("once"))?.body ?? []).toString()).toBe("first");
    });

    test("every character a key may have survives the way there and back", async () => {
      const keys = ["A-Z.a_z=0+9-", "with=equals/and+plus/and..dots", "-", "=", "+", "_", "...", `${"k".repeat(255)}`];
      for (const key of keys) expect(await store().put(key, text(key))).toBe("created");
      for (const key of keys) expect(Buffer.from((await store().get(key))?.body ?? []).toString()).toBe(key);
      expect((await all(store().list(""))).map((info) => info.key)).toEqual([...keys].sort());
    });

    test("the longest key there is", async () => {
      const key = `${"a".repeat(255)}/${"b".repeat(254)}/c`;
      expect(key.length).toBe(512);
      expect(await store().put(key, text("x"))).toBe("created");
      expect((await store().head(key))?.bytes).toBe(1);
      expect((await all(store().list(key.slice(0, 300)))).map((info) => info.key)).toEqual([key]);
    });

    test("a body may be a view into a larger buffer", async () => {
      const whole = randomBytes(10_000);
      await store().put("view", whole.subarray(123, 4567));
      expect(Buffer.compare((await store().get("view"))?.body ?? text("?"), whole.subarray(123, 4567))).toBe(0);
    });

    test("the right CRC-32C is accepted, a wrong one is refused as store-checksum and leaves nothing", async () => {
      const body = randomBytes(8192);
      expect(await store().put("right", body, { crc32c: crc32c(body) })).toBe("created");
      await expect(store().put("wrong", body, { crc32c: (crc32c(body) ^ 1) >>> 0 })).rejects.toMatchObject({
        code: "store-checksum",
        retryable: true,
      });
      expect(await store().head("wrong")).toBeUndefined();
    });
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

    test("32 puts of different keys into folders nobody made yet all succeed", async () => {
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

function ranges(store: () => Store): void {
  describe("ranges", () => {
    const rows: readonly { offset: number; length: number; from: number; to: number; what: string }[] = [
      { what: "the first byte", offset: 0, length: 1, from: 0, to: 1 },
      { what: "the middle", offset: 100, length: 300, from: 100, to: 400 },
      { what: "all of it", offset: 0, length: 1000, from: 0, to: 1000 },
      { what: "the last byte", offset: 999, length: 1, from: 999, to: 1000 },
      { what: "more than there is", offset: 990, length: 500, from: 990, to: 1000 },
      { what: "from the end", offset: 1000, length: 1, from: 1000, to: 1000 },
      { what: "from far past the end", offset: 5000, length: 10, from: 1000, to: 1000 },
      { what: "nothing", offset: 10, length: 0, from: 10, to: 10 },
      { what: "nothing from far past the end", offset: 5000, length: 0, from: 1000, to: 1000 },
    ];
    test.each(rows)("$what ($offset, $length of 1000 bytes)", async ({ offset, length, from, to }) => {
      const body = randomBytes(1000);
      await store().put("ranged", body);
      const got = await store().get("ranged", { range: { offset, length } });
      expect(got?.objectBytes).toBe(1000);
      expect(Buffer.compare(got?.body ?? text("?"), body.subarray(from, to))).toBe(0);
    });

    test("any range of an empty object is empty", async () => {
      await store().put("empty", new Uint8Array(0));
      for (const range of [
        { offset: 0, length: 0 },
        { offset: 0, length: 10 },
        { offset: 7, length: 1 },
      ]) {
        expect(await store().get("empty", { range })).toMatchObject({ objectBytes: 0, body: { length: 0 } });
      }
    });
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

    test("listPrefixes above one page", async () => {
      const folders = Array.from({ length: 1005 }, (_, i) => `p/${String(i).padStart(5, "0")}/`);
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

function streams(store: () => Store): void {
  describe("putStream", () => {
    const partBytes = 5 * MIB;
    const rows: readonly { what: string; sizes: readonly number[] }[] = [
      { what: "no pieces at all", sizes: [] },
      { what: "one empty piece", sizes: [0] },
      { what: "small pieces, less than one part", sizes: [1, 0, 1000, 3] },
      { what: "exactly one part", sizes: [partBytes] },
      { what: "one byte more than a part", sizes: [partBytes, 1] },
      { what: "pieces that straddle part borders", sizes: [3 * MIB, 3 * MIB, 3 * MIB, 3 * MIB, 7] },
      { what: "one piece of several parts", sizes: [2 * partBytes + 12345] },
      { what: "64 MiB", sizes: Array.from({ length: 64 }, () => MIB) },
    ];
    test.each(rows)("$what", async ({ sizes }) => {
      const bodies = sizes.map((bytes) => randomBytes(bytes));
      const whole = Buffer.concat(bodies);
      expect(await store().putStream("streamed", pieces(bodies), { partBytes, partsInFlight: 3 })).toBe("created");
      expect(await store().head("streamed")).toMatchObject({ bytes: whole.length });
      const got = await store().getStream("streamed");
      expect(Buffer.compare(await collect(got?.body), whole)).toBe(0);
    });

    test("a large stream to a key that exists writes nothing", async () => {
      await store().put("taken", text("mine"));
      const body = pieces(Array.from({ length: 11 }, () => randomBytes(MIB)));
      expect(await store().putStream("taken", body, { partBytes })).toBe("exists");
      expect(Buffer.from((await store().get("taken"))?.body ?? []).toString()).toBe("mine");
    });

    test("a piece may be overwritten by its producer once the next one is asked for", async () => {
      const buffer = Buffer.alloc(MIB);
      async function* reusing(): AsyncGenerator<Uint8Array> {
        for (let i = 0; i < 12; i += 1) {
          buffer.fill(i);
          yield buffer;
        }
        buffer.fill(0xff);
      }
      expect(await store().putStream("reused", reusing(), { partBytes, partsInFlight: 3 })).toBe("created");
      const expected = Buffer.concat(Array.from({ length: 12 }, (_, i) => Buffer.alloc(MIB, i)));
      expect(Buffer.compare((await store().get("reused"))?.body ?? text("?"), expected)).toBe(0);
    });

    for (const before of [0, 3, 12]) {
      test(`a body that fails after ${before} MiB leaves no object, and its own error is what the caller gets`, async () => {
        const failure = new TypeError("the source broke");
        async function* failing(): AsyncGenerator<Uint8Array> {
          for (let i = 0; i < before; i += 1) yield randomBytes(MIB);
          throw failure;
        }
        await expect(store().putStream("failed", failing(), { partBytes })).rejects.toBe(failure);
        expect(await store().head("failed")).toBeUndefined();
        expect(await all(store().list(""))).toEqual([]);
      });
    }

    test("leaving a read early ends the transfer, and the store goes on", async () => {
      await store().put("long", randomBytes(16 * MIB));
      for (let round = 0; round < 20; round += 1) {
        const got = await store().getStream("long");
        for await (const piece of got?.body ?? []) {
          expect(piece.length).toBeGreaterThan(0);
          break;
        }
      }
      expect((await store().get("long"))?.objectBytes).toBe(16 * MIB);
    });
  });
}

function aborts(store: () => Store): void {
  describe("abort", () => {
    test("a signal that has fired already stops every method with `aborted`", async () => {
      await store().put("here", text("x"));
      const signal = AbortSignal.abort();
      const calls: readonly Promise<unknown>[] = [
        store().put("new", text("x"), { signal }),
        store().putStream("new", pieces([text("x")]), { signal }),
        store().get("here", { signal }),
        store().getStream("here", { signal }),
        store().head("here", { signal }),
        all(store().list("", { signal })),
        store().listPrefixes("", { signal }),
        store().delete(["here"], { signal }),
      ];
      for (const call of calls) await expect(call).rejects.toMatchObject({ code: "aborted", retryable: false });
      expect((await all(store().list(""))).map((info) => info.key)).toEqual(["here"]);
    });

    for (const after of [1, 12]) {
      test(`an abort while the body hangs after ${after} MiB leaves no object`, async () => {
        const controller = new AbortController();
        async function* hanging(): AsyncGenerator<Uint8Array> {
          for (let i = 0; i < after; i += 1) yield randomBytes(MIB);
          setTimeout(() => controller.abort(), 20);
          await new Promise(() => undefined);
        }
        const call = store().putStream("hung", hanging(), { partBytes: 5 * MIB, signal: controller.signal });
        await expect(call).rejects.toMatchObject({ code: "aborted" });
        expect(await store().head("hung")).toBeUndefined();
        expect(await all(store().list(""))).toEqual([]);
      });
    }

    test("an abort in the middle of a streamed read ends it with `aborted`", async () => {
      await store().put("long", randomBytes(16 * MIB));
      const controller = new AbortController();
      const got = await store().getStream("long", { signal: controller.signal });
      const reading = (async () => {
        for await (const piece of got?.body ?? []) if (piece.length > 0) controller.abort();
      })();
      await expect(reading).rejects.toMatchObject({ code: "aborted" });
    });

    test("a closed store refuses further calls", async () => {
      await store().close();
      await expect(store().put("late", text("x"))).rejects.toMatchObject({ code: "aborted" });
      await expect(store().get("late")).rejects.toMatchObject({ code: "aborted" });
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

export async function all(infos: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const found: ObjectInfo[] = [];
  for await (const info of infos) found.push(info);
  return found;
}

export async function collect(body: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of body ?? []) parts.push(Uint8Array.from(piece));
  return Buffer.concat(parts);
}

export async function* pieces(bodies: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const body of bodies) yield body;
}

async function inLots<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += 32) await Promise.all(items.slice(at, at + 32).map(work));
}
