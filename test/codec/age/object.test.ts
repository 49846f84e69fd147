/** Encrypted objects through the codec: there and back, damaged everywhere, and read without a key. */
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
  Decrypter,
  Encrypter,
  generateHybridIdentity,
  generateX25519Identity,
  identityToRecipient,
} from "age-encryption";
import { describe, expect, test, vi } from "vitest";
import { CLEAR_FRONT_BYTES, decodeClear } from "../../../src/codec/age/clear-envelope.ts";
import { digestOf } from "../../../src/codec/age/digest.ts";
import { encodeHeader, encodeMac, encodeStanza, MAC_LINE_BYTES, parseHeader } from "../../../src/codec/age/header.ts";
import { Identities } from "../../../src/codec/age/identities.ts";
import {
  headerMac,
  NONCE_BYTES,
  payloadKey,
  SEALED_PIECE_BYTES,
  sealedBytes,
  sealInPlace,
  StreamOpener,
  StreamSealer,
} from "../../../src/codec/age/payload.ts";
import { Recipients } from "../../../src/codec/age/recipients.ts";
import { Codec, OWN_DIGEST } from "../../../src/codec/codec.ts";
import { decodeObject } from "../../../src/codec/object.ts";
import { CodecPool, inPlaceBytes } from "../../../src/codec/pool.ts";
import { sealFrames } from "../../../src/codec/seal-frames.ts";
import { type Sealing, sealStream } from "../../../src/codec/age/seal.ts";
import { FrameSlots } from "../../../src/codec/frame-slots.ts";

const identity = await generateX25519Identity();
const other = await generateX25519Identity();
const quantum = await generateHybridIdentity();
const recipients = await Recipients.of([await identityToRecipient(identity)]);
const writer = new Codec({ recipients });
const reader = new Codec({ identities: new Identities([identity]) });
const LIMITS = { key: "the/key", rawBytesMax: 64 << 20 };
const CLEAR = { meta: { kind: "chunk", start: "0/1000000" }, digest: OWN_DIGEST };
const META = { ...CLEAR.meta, secret: "the name of a restore point" };

async function encode(raw: Uint8Array, codec = writer): Promise<Buffer> {
  return Buffer.from((await codec.encode(raw, META, CLEAR)).stored);
}

describe("an encrypted object", () => {
  test.each([0, 1, 20_000, 65_536, 3_000_000])("of %i random bytes gives content and facts back", async (length) => {
    const raw = randomBytes(length);
    const { raw: read, envelope } = await reader.decode(await encode(raw), LIMITS);
    expect(read.equals(raw)).toBe(true);
    expect(envelope.meta).toEqual(META);
    expect(envelope.rawBytes).toBe(length);
    expect(envelope.encryption).toEqual({ to: recipients.names, digest: digestOf(raw), isOpen: true });
  });

  test("made by threads, and made in its own memory, is the same to a reader", async () => {
    const pool = new CodecPool({ threads: 1 });
    const codec = new Codec({ recipients, pool, ownsPool: true });
    try {
      const raw = new Uint8Array(new SharedArrayBuffer(2 << 20));
      raw.set(randomBytes(1 << 20));
      const memory = new SharedArrayBuffer(inPlaceBytes(raw.byteLength));
      new Uint8Array(memory, memory.byteLength - raw.byteLength).set(raw);
      const made = await codec.encode(raw, META, CLEAR);
      const inPlace = await codec.encodeInPlace(memory, raw.byteLength, META, CLEAR);
      for (const { stored, rawCrc32c } of [made, inPlace]) {
        const { raw: read, envelope } = await reader.decode(Uint8Array.from(stored), LIMITS);
        expect(read.equals(raw)).toBe(true);
        expect(envelope.rawCrc32c).toBe(rawCrc32c);
        expect(envelope.encryption?.digest).toBe(digestOf(raw));
      }
    } finally {
      await codec.close();
    }
  });

  test("says in the clear what is given as clear, and nothing of its content", async () => {
    const raw = Buffer.from("a canary in the table data ".repeat(40));
    const stored = await encode(raw);
    const blind = new Codec();
    const envelope = await blind.readEnvelope(stored.subarray(0, CLEAR_FRONT_BYTES), "the/key");
    expect(envelope.meta).toEqual(CLEAR.meta);
    expect(envelope.rawCrc32c).toBeUndefined();
    expect(envelope.contentOffset + (envelope.contentBytes ?? 0)).toBe(stored.byteLength);
    const text = `${stored.toString("latin1")} ${JSON.stringify(decodeClear(stored, "the/key"))}`;
    expect(text).not.toContain("canary");
    expect(text).not.toContain("restore point");
  });

  test("has its whole envelope at its front for one who has the identity", async () => {
    const stored = await encode(randomBytes(300_000));
    const front = stored.subarray(0, reader.envelopeBytesMax("full"));
    expect(front.byteLength).toBeLessThan(stored.byteLength);
    expect((await reader.readEnvelope(front, "the/key", "full")).meta).toEqual(META);
    expect((await reader.readEnvelope(front, "the/key")).meta).toEqual(CLEAR.meta);
  });

  test("is opened by the library, and by each of its recipients", async () => {
    const both = await Recipients.of([await identityToRecipient(identity), await identityToRecipient(quantum)]);
    const stored = await encode(Buffer.from("WAL"), new Codec({ recipients: both }));
    for (const text of [identity, quantum]) {
      const decrypter = new Decrypter();
      decrypter.addIdentity(text);
      const plain = await decrypter.decrypt(Uint8Array.from(stored));
      expect(decodeObject(plain, "the/key", 100).raw.toString()).toBe("WAL");
      const codec = new Codec({ identities: new Identities([other, text]) });
      expect((await codec.decode(stored, LIMITS)).raw.toString()).toBe("WAL");
    }
    expect(both.names[1]).toMatch(/^age1pq1\w{9}…[0-9a-f]{16}$/);
  });

  test("that the library made without a Seawall envelope is no object", async () => {
    const encrypter = new Encrypter();
    encrypter.addRecipient(await identityToRecipient(identity));
    const foreign = await encrypter.encrypt("WAL");
    await expect(reader.decode(foreign, LIMITS)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test("lies beside plain ones", async () => {
    const plain = await new Codec().encode(Buffer.from("WAL"), META, CLEAR);
    expect((await reader.decode(plain.stored, LIMITS)).raw.toString()).toBe("WAL");
    expect(reader.isLocked(plain.stored)).toBe(false);
    expect(new Codec().isLocked(await encode(Buffer.from("WAL")))).toBe(true);
  });
});

test("of sixteen large recipients states its facts at its front, and is opened by the last of them", async () => {
  const texts = [quantum];
  while (texts.length < 16) texts.unshift(await generateHybridIdentity());
  const many = await Recipients.of(await Promise.all(texts.map(identityToRecipient)));
  const clear = { ...CLEAR, meta: { ...CLEAR.meta, long: "x".repeat(14_000) } };
  const { stored } = await new Codec({ recipients: many }).encode(randomBytes(200_000), META, clear);
  expect(parseHeader(stored)?.byteLength).toBeGreaterThan(40_000);
  const blind = new Codec();
  const envelope = await blind.readEnvelope(stored.subarray(0, blind.envelopeBytesMax()), "the/key");
  expect(envelope.contentOffset + (envelope.contentBytes ?? 0)).toBe(stored.byteLength);
  expect(envelope.encryption?.to).toHaveLength(16);
  const last = new Codec({ identities: new Identities([quantum]) });
  const front = stored.subarray(0, last.envelopeBytesMax("full"));
  expect((await last.readEnvelope(front, "the/key", "full")).meta).toEqual(META);
  expect((await last.decode(stored, LIMITS)).raw).toHaveLength(200_000);
});

test("keys that cannot be made fail the objects that need them, and not the process", async () => {
  const broken = await Recipients.of([await identityToRecipient(identity)]);
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  const encrypt = vi.spyOn(Encrypter.prototype, "encrypt").mockRejectedValue(new Error("no randomness"));
  process.on("unhandledRejection", note);
  try {
    await expect(broken.take()).rejects.toThrow("no randomness");
    await expect(broken.take()).rejects.toThrow("no randomness");
    // Node.js reports rejections without a handler when its microtasks are done.
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).toEqual([]);
  } finally {
    process.off("unhandledRejection", note);
    encrypt.mockRestore();
  }
});

test("a header with more stanzas than any writer makes is damage before one is tried", async () => {
  const { fileKey, stanzas, nonce } = await recipients.take();
  const own = encodeStanza({ args: ["grease"], body: new Uint8Array(1) });
  const fileOf = (count: number): Buffer => {
    const text = encodeHeader([...Array<Uint8Array>(count - 1).fill(own), stanzas]);
    const sealer = new StreamSealer(payloadKey(fileKey, nonce));
    const sealed = [sealer.push(Buffer.from("WAL")), sealer.end()];
    return Buffer.concat([text, encodeMac(headerMac(fileKey, text)), nonce, ...sealed]);
  };
  const read = async (stored: Uint8Array): Promise<string> => {
    const content = reader.startReading("plain", "the/key");
    const pieces: Buffer[] = [];
    const take = (piece: Uint8Array): void => void pieces.push(Buffer.from(piece));
    await content.push(stored, take);
    await content.end(take);
    return Buffer.concat(pieces).toString();
  };
  expect(await read(fileOf(64))).toBe("WAL");
  const attempt = vi.spyOn(Decrypter.prototype, "decryptHeader");
  try {
    await expect(read(fileOf(65))).rejects.toMatchObject({
      code: "object-corrupt",
      message: "the/key: the header has more than 64 stanzas",
    });
    expect(attempt).not.toHaveBeenCalled();
  } finally {
    attempt.mockRestore();
  }
});

describe("without the right identity", () => {
  test.each([
    ["no identity was given", new Codec()],
    ["the identity that was given is another one", new Codec({ identities: new Identities([other]) })],
  ])("%s: one error that names the recipients", async (why, codec) => {
    const stored = await encode(Buffer.from("WAL"));
    const message = `the/key is encrypted to ${recipients.names.join(", ")}, and ${why}`;
    await expect(codec.decode(stored, LIMITS)).rejects.toMatchObject({ code: "identity-missing", message });
  });
});

test("an identity of other recipients checks as much as none does", async () => {
  const stored = await encode(Buffer.from("WAL"));
  const codec = new Codec({ identities: new Identities([other]) });
  const envelope = await codec.check(stored, LIMITS);
  expect(envelope).toEqual(await new Codec().check(stored, LIMITS));
  expect(await codec.readEnvelope(stored, "the/key", "full")).toEqual(envelope);
});

describe("damage", () => {
  test("every flipped bit is found by a reader and, but for those of the header's MAC, without a key", async () => {
    const stored = await encode(Buffer.from("WAL ".repeat(20)));
    const headerBytes = parseHeader(stored)?.byteLength ?? 0;
    const blind = new Codec();
    for (let bit = 0; bit < stored.byteLength * 8; bit++) {
      const copy = Buffer.from(stored);
      copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const where = `bit ${bit} of ${stored.byteLength} bytes`;
      const code = expect.stringMatching(/^(object-corrupt|archive-version)$/) as string;
      await expect(reader.decode(copy, LIMITS), where).rejects.toMatchObject({ code });
      await expect(reader.readEnvelope(copy, "the/key", "full"), where).rejects.toMatchObject({ code });
      const isInMac = bit >> 3 >= headerBytes - MAC_LINE_BYTES && bit >> 3 < headerBytes;
      if (isInMac) continue;
      await expect(blind.check(copy, LIMITS), where).rejects.toMatchObject({ code });
    }
  });

  test("every truncation is found", async () => {
    const stored = await encode(Buffer.from("WAL ".repeat(20)));
    for (let length = 0; length < stored.byteLength; length++) {
      await expect(reader.decode(stored.subarray(0, length), LIMITS), `${length} bytes`).rejects.toMatchObject({
        code: "object-corrupt",
      });
    }
    // A reader of the front alone says it, too, of an object that ends in its first piece.
    const large = await encode(randomBytes(70_000));
    for (const whole of [stored, large]) {
      const from = (parseHeader(whole)?.byteLength ?? 0) + NONCE_BYTES;
      for (const length of [from, from + 1, Math.min(whole.byteLength, from + SEALED_PIECE_BYTES) - 1]) {
        await expect(reader.readEnvelope(whole.subarray(0, length), "the/key", "full")).rejects.toMatchObject({
          ...{ code: "object-corrupt", message: `the/key: has ${length} bytes, ${whole.byteLength} were stored` },
        });
      }
    }
    await expect(reader.decode(Buffer.concat([stored, Buffer.alloc(1)]), LIMITS)).rejects.toMatchObject({
      code: "object-corrupt",
    });
  });

  test("every changed byte of a stream's header is damage, and never an object for others", async () => {
    const both = [identity, quantum];
    const keys = await Recipients.of(await Promise.all(both.map(async (one) => identityToRecipient(one))));
    const clear = { keys: await keys.take(), to: keys.names, clear: {} };
    const stored = await collect(sealStream(Readable.from([Buffer.from("a manifest")]), clear));
    const headerBytes = parseHeader(stored)?.byteLength ?? 0;
    const readers = both.map((one) => new Codec({ identities: new Identities([other, one]) }));
    // What does not begin as an age file is read as a plain one.
    for (let at = stored.indexOf("-> "); at < headerBytes; at++) {
      const copy = Buffer.from(stored);
      copy[at] = (copy[at] ?? 0) ^ 2;
      for (const [index, codec] of readers.entries()) {
        const stream = codec.startReading("plain", "the/key");
        const reading = stream.push(copy, () => undefined).then(async () => stream.end(() => undefined));
        await expect(reading, `byte ${at} of ${headerBytes}, identity ${index}`).rejects.toMatchObject({
          code: "object-corrupt",
        });
      }
    }
  });

  test("pieces in another order, left out, or of another object are found", async () => {
    const stream = await collect(streamOf(await sealing(), [randomBytes(5 * 65_536 + 10)]));
    const start = (parseHeader(stream)?.byteLength ?? 0) + NONCE_BYTES;
    const piece = (index: number): Buffer =>
      stream.subarray(start + index * SEALED_PIECE_BYTES, start + (index + 1) * SEALED_PIECE_BYTES);
    const front = stream.subarray(0, start);
    const rows = {
      "in another order": [piece(1), piece(0), piece(2), piece(3), piece(4), piece(5)],
      "one left out": [piece(0), piece(2), piece(3), piece(4), piece(5)],
      "the last left out": [piece(0), piece(1), piece(2), piece(3), piece(4)],
      "one twice": [piece(0), piece(0), piece(1), piece(2), piece(3), piece(4), piece(5)],
      "more behind the last": [piece(0), piece(1), piece(2), piece(3), piece(4), piece(5), piece(5)],
      none: [],
    };
    expect((await read(stream)).byteLength).toBe(5 * 65_536 + 10);
    for (const [name, pieces] of Object.entries(rows)) {
      await expect(read(Buffer.concat([front, ...pieces])), name).rejects.toMatchObject({ code: "object-corrupt" });
    }
  });
});

type Made = Awaited<ReturnType<Recipients["take"]>>;

async function sealing(): Promise<Made> {
  return recipients.take();
}

/** A stream as the codec stores it, from its parts. */
async function* streamOf(
  { fileKey, stanzas, nonce }: Made,
  content: readonly Uint8Array[],
): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  const text = encodeHeader([stanzas]);
  yield Buffer.concat([text, encodeMac(headerMac(fileKey, text)), nonce]);
  const sealer = new StreamSealer(payloadKey(fileKey, nonce));
  for (const bytes of content) yield sealer.push(bytes);
  yield sealer.end();
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(Buffer.from(piece));
  return Buffer.concat(all);
}

async function read(
  stored: Uint8Array,
  split = stored.byteLength,
  form: "plain" | "frames" = "plain",
): Promise<Buffer> {
  const stream = reader.startReading(form, "the/key");
  const content: Buffer[] = [];
  const take = (piece: Uint8Array): void => void content.push(Buffer.from(piece));
  for (let at = 0; at < stored.byteLength; at += split) await stream.push(stored.subarray(at, at + split), take);
  await stream.end(take);
  if (!stream.isComplete) throw new Error("not complete");
  return Buffer.concat(content);
}

describe("an encrypted stream", () => {
  test.each([0, 1, 65_535, 65_536, 65_537, 200_000])("of %i bytes is read in any split", async (length) => {
    const content = randomBytes(length);
    const stored = await collect(streamOf(await sealing(), [content.subarray(0, 100), content.subarray(100)]));
    for (const split of [1009, 65_552, 70_000, stored.byteLength]) {
      expect((await read(stored, split)).equals(content)).toBe(true);
    }
    const short = stored.subarray(0, (parseHeader(stored)?.byteLength ?? 0) + NONCE_BYTES + Math.min(length, 300));
    for (let cut = 1; cut < short.byteLength; cut += 7) await expect(read(stored.subarray(0, cut))).rejects.toThrow();
  });

  test("of frames is made by threads, counted as it is stored, and decompressed", async () => {
    const pool = new CodecPool({ threads: 1 });
    const codec = new Codec({ recipients, pool, ownsPool: true });
    try {
      const { signal } = new AbortController();
      const frames = await codec.writeFrames({ slots: new FrameSlots(3), signal });
      const body = collect(frames.body());
      const content = Buffer.concat([randomBytes(5 << 20), Buffer.alloc(5 << 20)]);
      for (let at = 0; at < content.length; at += 999_999) await frames.write(content.subarray(at, at + 999_999));
      frames.end();
      const stored = await body;
      expect(frames.storedBytes).toBe(stored.byteLength);
      expect((await read(stored, 777_777, "frames")).equals(content)).toBe(true);
      const plain = await codec.writePlain({ signal });
      const plainBody = collect(plain.body());
      await plain.write(Buffer.from("a manifest"));
      plain.end();
      const manifest = await plainBody;
      expect(plain.storedBytes).toBe(manifest.byteLength);
      expect((await read(manifest)).toString()).toBe("a manifest");
      expect(manifest.includes("a manifest")).toBe(false);
    } finally {
      await codec.close();
    }
  });
});

describe("a stream that threads encrypt", () => {
  const MIB = 1 << 20;
  const wholeSealing = async (): Promise<Sealing> => ({ keys: await sealing(), to: recipients.names, clear: {} });
  const sealed = async (pool: CodecPool, content: Uint8Array, piece: number): Promise<Buffer> => {
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < content.byteLength; at += piece) yield content.subarray(at, at + piece);
    }
    return collect(sealFrames(pieces(), await wholeSealing(), pool));
  };

  test.each([0, 1, 65_536, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 100_000])(
    "of %i bytes is read",
    async (length) => {
      const pool = new CodecPool({ threads: 2 });
      try {
        const content = randomBytes(length);
        for (const piece of [99_991, MIB, 3 * MIB]) {
          expect((await read(await sealed(pool, content, piece), 777_777)).equals(content)).toBe(true);
        }
      } finally {
        await pool.close();
      }
    },
  );

  test("has the pieces of one that this thread encrypts", async () => {
    const pool = new CodecPool({ threads: 2 });
    try {
      const content = randomBytes(3 * MIB + 5);
      const keys = await wholeSealing();
      const one = (): AsyncIterable<Uint8Array> => Readable.from([content]);
      expect((await collect(sealFrames(one(), keys, pool))).equals(await collect(sealStream(one(), keys)))).toBe(true);
    } finally {
      await pool.close();
    }
  });

  test("may be left early, and fails with what it encrypts", async () => {
    const pool = new CodecPool({ threads: 1 });
    try {
      for await (const first of sealFrames(Readable.from([randomBytes(9 * MIB)]), await wholeSealing(), pool)) {
        expect(first.byteLength).toBeGreaterThan(0);
        break;
      }
      async function* failing(): AsyncGenerator<Uint8Array> {
        yield randomBytes(4 * MIB);
        throw new Error("no more frames");
      }
      await expect(collect(sealFrames(failing(), await wholeSealing(), pool))).rejects.toThrow("no more frames");
    } finally {
      await pool.close();
    }
  });
});

test("encrypting in place gathers little garbage, however much is encrypted", () => {
  const MIB = 1 << 20;
  const memory = new Uint8Array(sealedBytes(MIB));
  const key = randomBytes(32);
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  for (let round = 0; round < 256; round++) {
    sealInPlace(memory, MIB, 0, key);
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  }
  expect(peak).toBeLessThan(4 * MIB);
});

test("opening a stream gathers little garbage, however much is opened", () => {
  const MIB = 1 << 20;
  const key = randomBytes(32);
  const sealed = new Uint8Array(sealedBytes(128 * MIB)).fill(7, 0, 128 * MIB);
  sealInPlace(sealed, 128 * MIB, 0, key);
  const opener = new StreamOpener(key);
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  let bytes = 0;
  const take = (content: Uint8Array): void => {
    if (content[0] !== 7 || content.at(-1) !== 7) throw new Error(`other content at byte ${bytes}`);
    bytes += content.byteLength;
    peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
  };
  opener.push(sealed, take);
  opener.end(take);
  expect(bytes).toBe(128 * MIB);
  expect(peak).toBeLessThan(4 * MIB);
});

test("a header goes there and back, whatever the length of a body", async () => {
  const { fileKey } = await recipients.take();
  for (let length = 0; length < 100; length++) {
    const stanza = { args: ["a", "b!"], body: randomBytes(length) };
    const text = encodeHeader([encodeStanza(stanza)]);
    const file = Buffer.concat([text, encodeMac(headerMac(fileKey, text)), Buffer.from("rest")]);
    const header = parseHeader(file);
    expect(header?.stanzas).toEqual([{ args: stanza.args, body: stanza.body }]);
    expect(header?.byteLength).toBe(file.byteLength - 4);
    for (let cut = 1; cut < file.byteLength - 4; cut++) expect(parseHeader(file.subarray(0, cut))).toBeUndefined();
  }
});
