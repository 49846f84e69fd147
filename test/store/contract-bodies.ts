/**
 * The part of the store contract that is about bodies: what goes in comes out, whole, in ranges and as streams, and what
 * breaks off on the way leaves nothing.
 */
import { randomBytes } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { type ObjectInfo, type Store } from "../../src/store/store.ts";

const MIB = 1024 * 1024;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

export function describeBodies(store: () => Store): void {
  putAndGet(store);
  ranges(store);
  streams(store);
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

    test("the right CRC-32C is accepted, a wrong one is refused for good and leaves nothing", async () => {
      const body = randomBytes(8192);
      expect(await store().put("right", body, { crc32c: crc32c(body) })).toBe("created");
      await expect(store().put("wrong", body, { crc32c: (crc32c(body) ^ 1) >>> 0 })).rejects.toMatchObject({
        code: "internal",
        retryable: false,
      });
      expect(await store().head("wrong")).toBeUndefined();
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

export function describeAborts(store: () => Store): void {
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
