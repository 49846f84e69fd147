/** Objects whose header is made anew: their payload stays, and other identities open them. */
import { randomBytes } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import {
  Decrypter,
  Encrypter,
  generateHybridIdentity,
  generateX25519Identity,
  identityToRecipient,
} from "age-encryption";
import { describe, expect, test } from "vitest";
import { decodeClear } from "../../../src/codec/age/clear-envelope.ts";
import { parseHeader } from "../../../src/codec/age/header.ts";
import { Identities } from "../../../src/codec/age/identities.ts";
import { Recipients } from "../../../src/codec/age/recipients.ts";
import { checkNewHeader, headerFor } from "../../../src/codec/age/rekey.ts";
import { StoredSum, storedNow } from "../../../src/codec/age/stored-sum.ts";
import { movedOn } from "../../../src/codec/crc32c-pieces.ts";
import { Codec, OWN_DIGEST } from "../../../src/codec/codec.ts";

const [old, fresh, second] = [
  await generateX25519Identity(),
  await generateX25519Identity(),
  await generateX25519Identity(),
];
const quantum = await generateHybridIdentity();
const to = async (...identities: readonly string[]): Promise<Recipients> =>
  Recipients.of(await Promise.all(identities.map(identityToRecipient)));
const [toOld, toFresh] = [await to(old), await to(fresh)];
const LIMITS = { key: "the/key", rawBytesMax: 64 << 20 };
const CLEAR = { meta: { kind: "chunk", start: "0/1000000" }, digest: OWN_DIGEST };
const META = { ...CLEAR.meta, secret: "the name of a restore point" };
const reader = (...texts: readonly string[]): Codec => new Codec({ identities: new Identities(texts) });

async function segment(raw: Uint8Array): Promise<Buffer> {
  return Buffer.from((await new Codec({ recipients: toOld }).encode(raw, META, CLEAR)).stored);
}

/** A stream, as a backup's manifest. */
async function stream(content: Uint8Array): Promise<Buffer> {
  const writer = await new Codec({ recipients: toOld }).writePlain({ signal: new AbortController().signal });
  const pieces: Uint8Array[] = [];
  const reading = (async () => {
    for await (const piece of writer.body()) pieces.push(Uint8Array.from(piece));
  })();
  await writer.write(content);
  writer.end();
  await reading;
  return Buffer.concat(pieces);
}

async function rekeyed(stored: Buffer, recipients = toFresh, identity = old): Promise<Buffer> {
  const found = { front: stored, objectBytes: stored.byteLength };
  const made = await headerFor(recipients, found, { key: "the/key", identities: new Identities([identity]) });
  const whole = Buffer.concat([made.header, stored.subarray(made.replacesBytes)]);
  checkNewHeader(whole, made, { key: "the/key", objectBytes: whole.byteLength });
  return whole;
}

const payloadOf = (stored: Buffer): Buffer => stored.subarray(parseHeader(stored)?.byteLength ?? -1);

describe("a segment with a new header", () => {
  test.each([0, 20_000, 3_000_000])(
    "of %i bytes opens with the new identity and not with the old one",
    async (length) => {
      const raw = randomBytes(length);
      const stored = await segment(raw);
      const whole = await rekeyed(stored);
      expect(payloadOf(whole).equals(payloadOf(stored))).toBe(true);
      const { raw: read, envelope } = await reader(fresh).decode(whole, LIMITS);
      expect(read.equals(raw)).toBe(true);
      expect(envelope.meta).toEqual(META);
      await expect(reader(old).decode(whole, LIMITS)).rejects.toMatchObject({ code: "identity-missing" });
    },
  );

  test("states the new recipients, and all else as before", async () => {
    const stored = await segment(randomBytes(20_000));
    const whole = await rekeyed(stored, await to(fresh, second));
    const [before, after] = [decodeClear(stored, "the/key"), decodeClear(whole, "the/key")];
    const stanzas = parseHeader(whole)?.stanzas ?? [];
    expect(stanzas.map(({ args }) => args[0])).toEqual(["seawall", "X25519", "X25519"]);
    expect(after).toEqual({
      ...before,
      to: (await to(fresh, second)).names,
      headerBytes: parseHeader(whole)?.byteLength,
      keysCrc32c: after.keysCrc32c,
    });
    expect(after.keysCrc32c).not.toBe(before.keysCrc32c);
    expect(new Codec().recipientsOf(whole, "the/key")).toEqual(after.to);
    expect(new Codec().recipientsOf(Buffer.from([0x28, 0xb5]), "the/key")).toBeUndefined();
    // A reader without a key checks length and sums.
    await expect(new Codec().check(whole, LIMITS)).resolves.toMatchObject({ meta: CLEAR.meta });
  });

  test("opens with each of two identities, one of them post-quantum", async () => {
    const raw = randomBytes(1_000);
    const whole = await rekeyed(await segment(raw), await to(quantum, second));
    for (const identity of [quantum, second]) {
      expect((await reader(identity).decode(whole, LIMITS)).raw.equals(raw)).toBe(true);
    }
  });

  test("is made of an object for a post-quantum recipient too, and back", async () => {
    const raw = randomBytes(1_000);
    const there = await rekeyed(await segment(raw), await to(quantum));
    const back = await rekeyed(there, toOld, quantum);
    expect((await reader(old).decode(back, LIMITS)).raw.equals(raw)).toBe(true);
  });

  test("is found damaged where any byte of the header was changed", async () => {
    const raw = randomBytes(100);
    const whole = await rekeyed(await segment(raw));
    const headerBytes = parseHeader(whole)?.byteLength ?? 0;
    for (let at = 0; at < headerBytes; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      await expect(reader(fresh).decode(damaged, LIMITS), `byte ${at}`).rejects.toThrow();
    }
  });
});

describe("no header is made", () => {
  test("with an identity of other recipients", async () => {
    await expect(rekeyed(await segment(randomBytes(10)), toFresh, second)).rejects.toMatchObject({
      code: "identity-missing",
    });
  });

  test("for an object whose header or length is damaged", async () => {
    const stored = await segment(randomBytes(10));
    const headerBytes = parseHeader(stored)?.byteLength ?? 0;
    for (let at = 0; at < headerBytes; at++) {
      const damaged = Buffer.from(stored);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      await expect(rekeyed(damaged), `byte ${at}`).rejects.toMatchObject({ isDamage: true });
    }
    await expect(rekeyed(stored.subarray(0, -1))).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("for an age file of another program", async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(old));
    const theirs = Buffer.from(await encrypter.encrypt("text"));
    await expect(rekeyed(theirs)).rejects.toMatchObject({ code: "object-corrupt" });
  });
});

test("a new header that the store has changed or cut is found when it is read back", async () => {
  const stored = await segment(randomBytes(10));
  const found = { front: stored, objectBytes: stored.byteLength };
  const made = await headerFor(toFresh, found, { key: "the/key", identities: new Identities([old]) });
  const whole = Buffer.concat([made.header, stored.subarray(made.replacesBytes)]);
  const objectBytes = whole.byteLength;
  const changed = Buffer.from(whole);
  changed[made.header.byteLength - 2] = (changed[made.header.byteLength - 2] ?? 0) ^ 1;
  for (const [front, bytes] of [
    [changed, objectBytes],
    [stored, stored.byteLength],
    [whole, objectBytes - 1],
  ] as const) {
    expect(() => checkNewHeader(front, made, { key: "the/key", objectBytes: bytes })).toThrow(/its new header/);
  }
});

describe("a stream with a new header", () => {
  const content = randomBytes(200_000);

  test("opens with the library and the new identity", async () => {
    const whole = await rekeyed(await stream(content));
    const decrypter = new Decrypter();
    decrypter.addIdentity(fresh);
    expect(Buffer.from(await decrypter.decrypt(whole)).equals(content)).toBe(true);
  });

  test("has the size and CRC-32C that follow from those it was stored with, however often it was replaced", async () => {
    const stored = await stream(content);
    const expected = { bytes: stored.byteLength, crc32c: crc32c(stored) };
    const once = await rekeyed(stored, await to(fresh, second));
    const twice = await rekeyed(once, await to(quantum), second);
    const back = await rekeyed(twice, toOld, quantum);
    for (const whole of [stored, once, twice, back]) {
      const sum = new StoredSum();
      sum.push(whole);
      expect(sum.difference(expected)).toBeUndefined();
    }
    expect(decodeClear(back, "the/key").first).toEqual({
      bytes: parseHeader(stored)?.byteLength,
      crc32c: crc32c(stored.subarray(0, parseHeader(stored)?.byteLength)),
    });
    expect(storedNow(expected, stored)).toBeUndefined();
    expect(storedNow(expected, twice)).toEqual({ bytes: twice.byteLength, crc32c: crc32c(twice) });
  });

  test("is compared alike in any split", async () => {
    const stored = await stream(randomBytes(500));
    const expected = { bytes: stored.byteLength, crc32c: crc32c(stored) };
    const whole = await rekeyed(stored, await to(fresh, second));
    for (let at = 0; at <= whole.byteLength; at++) {
      const sum = new StoredSum();
      sum.push(whole.subarray(0, at));
      sum.push(whole.subarray(at));
      expect(sum.difference(expected), `split at ${at}`).toBeUndefined();
    }
  });

  test("is found damaged where its payload, its length or what it states was changed", async () => {
    const stored = await stream(randomBytes(300));
    const expected = { bytes: stored.byteLength, crc32c: crc32c(stored) };
    const whole = await rekeyed(stored, await to(fresh, second));
    const differenceOf = (bytes: Uint8Array): unknown => {
      const sum = new StoredSum();
      sum.push(bytes);
      return sum.difference(expected);
    };
    const headerBytes = parseHeader(whole)?.byteLength ?? 0;
    for (let at = headerBytes; at < whole.byteLength; at++) {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(differenceOf(damaged), `byte ${at}`).toEqual({ in: "crc32c" });
    }
    expect(differenceOf(whole.subarray(0, -1))).toEqual({ in: "size", bytes: whole.byteLength });
    expect(differenceOf(stored.subarray(0, -1))).toEqual({ in: "size", bytes: stored.byteLength });
    const plain = Buffer.from("no age file");
    expect(differenceOf(plain)).toEqual({ in: "size", bytes: stored.byteLength });
  });
});

test.each([0, 1, 7, 8, 1_000, 65_537, 3_000_000])("the CRC of two pieces follows from theirs: %i bytes", (length) => {
  const [a, b] = [randomBytes(1_234), randomBytes(length)];
  expect((movedOn(crc32c(a), length) ^ crc32c(b)) >>> 0).toBe(crc32c(Buffer.concat([a, b])));
});
