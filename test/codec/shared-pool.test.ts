/** Receivers of one process share the threads of one pool: each at its own level, and none of them ends it. */
import { afterAll, expect, it } from "vitest";
import { Codec } from "../../src/codec/codec.ts";
import { CodecPool, sharedOrOwn } from "../../src/codec/pool.ts";
import { decodeObject, encodeObject } from "../../src/codec/object.ts";

const META = { kind: "segment" };
const pool = new CodecPool({ threads: 1 });
afterAll(async () => pool.close());

/** Large enough for a thread, and of the kind that levels make a difference for. */
function content(): Uint8Array<SharedArrayBuffer> {
  const bytes = new Uint8Array(new SharedArrayBuffer(1 << 20));
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * i * 31 + (i >> 5)) & (i % 7 === 0 ? 0xff : 0x3f);
  return bytes;
}

it("each encodes at its own level, as it would by itself", async () => {
  const raw = content();
  const [quick, small] = [1, 12].map((level) => new Codec({ level, ...sharedOrOwn(pool, { threads: 9 }) }));
  const both = await Promise.all([quick?.encode(raw, META), small?.encode(raw, META)]);
  const sizes = both.map((encoded) => encoded?.stored.length);
  expect(sizes).toEqual([1, 12].map((level) => encodeObject(raw, META, level).stored.length));
  expect(sizes[0]).not.toBe(sizes[1]);
  for (const encoded of both) {
    const { raw: decoded } = decodeObject(encoded?.stored ?? new Uint8Array(), "key", 1 << 20);
    expect(Buffer.compare(decoded, raw)).toBe(0);
    encoded?.release?.();
  }
});

it("one that is closed leaves the others their threads; a pool of one's own ends", async () => {
  const [gone, other] = [new Codec(sharedOrOwn(pool, { threads: 1 })), new Codec(sharedOrOwn(pool, { threads: 1 }))];
  await gone.close();
  expect((await other.encode(content(), META)).rawBytes).toBe(1 << 20);
  const own = new Codec(sharedOrOwn(undefined, { threads: 1 }));
  await own.close();
  await expect(own.encode(content(), META)).rejects.toThrow(/closed/);
});
