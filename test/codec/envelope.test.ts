/** The envelope, document by document and byte by byte: what is read, and what is refused with which reason. */
import { crc32c } from "@node-rs/crc32";
import { describe, expect, test } from "vitest";
import { decodeEnvelope, encodeEnvelope, ENVELOPE_BYTES_MAX, sealEnvelope } from "../../src/codec/envelope.ts";

/** An envelope whose JSON is exactly this text, its magic, length and CRC-32C right unless changed. */
function frame(json: string, changes: { magic?: number; length?: number; crc?: number } = {}): Buffer {
  const text = Buffer.from(json);
  const bytes = Buffer.alloc(12 + text.length);
  bytes.writeUInt32LE(changes.magic ?? 0x184d2a53, 0);
  bytes.writeUInt32LE(changes.length ?? 4 + text.length, 4);
  bytes.writeUInt32LE(changes.crc ?? crc32c(text), 8);
  text.copy(bytes, 12);
  return bytes;
}

const document = (changes: Record<string, unknown>): string =>
  JSON.stringify({ content: "0000000a", seawall: 1, bytes: 5, crc32c: "0000ffff", kind: "chunk", ...changes });

function refusal(stored: Uint8Array): { code: string; message: string } {
  try {
    decodeEnvelope(stored, "the/key");
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return { code, message };
  }
  throw new Error("the envelope was accepted");
}

describe("an envelope is read:", () => {
  test("its facts, and where the content begins and ends", () => {
    const stored = frame(document({}));
    expect(decodeEnvelope(stored, "the/key")).toEqual({
      ...{ rawBytes: 5, rawCrc32c: 0xffff, meta: { kind: "chunk" }, contentOffset: stored.length, contentBytes: 10 },
    });
  });

  test.each<{ name: string; changes: Record<string, unknown>; facts: object }>([
    { name: "no content at all", changes: { bytes: 0 }, facts: { rawBytes: 0 } },
    { name: "the largest exact size", changes: { bytes: 2 ** 53 - 1 }, facts: { rawBytes: 9_007_199_254_740_991 } },
    { name: "a CRC-32C of every bit", changes: { crc32c: "ffffffff" }, facts: { rawCrc32c: 0xffffffff } },
    { name: "no length of the content", changes: { content: undefined }, facts: { contentBytes: undefined } },
    { name: "a length that is a number", changes: { content: 10 }, facts: { contentBytes: undefined } },
    { name: "a number of eight digits", changes: { content: 12345678 }, facts: { contentBytes: undefined } },
    { name: "a length of seven digits", changes: { content: "000000a" }, facts: { contentBytes: undefined } },
    { name: "a length of nine digits", changes: { content: "00000000a" }, facts: { contentBytes: undefined } },
    { name: "a length in capitals", changes: { content: "0000000A" }, facts: { contentBytes: undefined } },
  ])("$name", ({ changes, facts }) => {
    expect(decodeEnvelope(frame(document(changes)), "the/key")).toMatchObject(facts);
  });

  test("one that is as large as it may be, and alone in the buffer", () => {
    const room = ENVELOPE_BYTES_MAX - 12 - document({ pad: "" }).length;
    const stored = frame(document({ pad: "x".repeat(room) }));
    expect(stored).toHaveLength(ENVELOPE_BYTES_MAX);
    expect(decodeEnvelope(stored, "the/key").contentOffset).toBe(ENVELOPE_BYTES_MAX);
    const larger = frame(document({ pad: "x".repeat(room + 1) }));
    expect(refusal(larger)).toEqual({ code: "object-corrupt", message: "the/key: envelope claims 16373 bytes" });
  });

  test("one in the middle of other memory", () => {
    const whole = Buffer.concat([Buffer.alloc(5, 0xee), frame(document({})), Buffer.alloc(3, 0xee)]);
    expect(decodeEnvelope(whole.subarray(5), "the/key").rawBytes).toBe(5);
  });
});

describe("an envelope is refused:", () => {
  test.each<{ name: string; stored: Buffer; message: string }>([
    { name: "no byte", stored: Buffer.alloc(0), message: "only 0 bytes long" },
    { name: "a header without its last byte", stored: frame("").subarray(0, 11), message: "only 11 bytes long" },
    {
      name: "another magic",
      stored: frame("{}", { magic: 0x184d2a54 }),
      message: "does not begin with a Seawall envelope",
    },
    {
      name: "a length without room for the CRC",
      stored: frame("{}", { length: 3 }),
      message: "envelope claims -1 bytes",
    },
    { name: "no JSON", stored: frame(""), message: "its envelope is not JSON" },
    {
      name: "a byte less than it claims",
      stored: frame(document({})).subarray(0, -1),
      message: "ends inside its envelope",
    },
    { name: "a wrong CRC-32C", stored: frame("{}", { crc: 1 }), message: "the CRC-32C of its envelope is wrong" },
    { name: "half a document", stored: frame("{"), message: "its envelope is not JSON" },
    { name: "a number", stored: frame("1"), message: "its envelope is not an object" },
    { name: "null", stored: frame("null"), message: "its envelope is not an object" },
    { name: "no size", stored: frame(document({ bytes: undefined })), message: "envelope without a size" },
    { name: "a size that is text", stored: frame(document({ bytes: "5" })), message: "envelope without a size" },
    { name: "a negative size", stored: frame(document({ bytes: -1 })), message: "envelope without a size" },
    { name: "half a byte", stored: frame(document({ bytes: 1.5 })), message: "envelope without a size" },
    {
      name: "a size that a number cannot hold exactly",
      stored: frame(document({ bytes: 2 ** 53 })),
      message: "envelope without a size",
    },
    { name: "no CRC-32C", stored: frame(document({ crc32c: undefined })), message: "envelope without a CRC-32C" },
    {
      name: "a CRC-32C that is a number",
      stored: frame(document({ crc32c: 12345678 })),
      message: "envelope without a CRC-32C",
    },
    {
      name: "seven digits of it",
      stored: frame(document({ crc32c: "000ffff" })),
      message: "envelope without a CRC-32C",
    },
    {
      name: "nine digits of it",
      stored: frame(document({ crc32c: "00000ffff" })),
      message: "envelope without a CRC-32C",
    },
    {
      name: "digits that are none",
      stored: frame(document({ crc32c: "0000fffg" })),
      message: "envelope without a CRC-32C",
    },
    { name: "capitals in it", stored: frame(document({ crc32c: "0000FFFF" })), message: "envelope without a CRC-32C" },
  ])("$name", ({ stored, message }) => {
    expect(refusal(stored)).toEqual({ code: "object-corrupt", message: `the/key: ${message}` });
  });

  test("with the parser's error as the cause", () => {
    expect(() => decodeEnvelope(frame("{"), "the/key")).toThrowError(
      expect.objectContaining({ cause: expect.any(SyntaxError) as Error }) as Error,
    );
  });

  test.each([2, "1", null])("version %j", (version) => {
    expect(refusal(frame(document({ seawall: version })))).toMatchObject({ code: "archive-version" });
  });

  test("no version", () => {
    expect(refusal(frame("{}"))).toMatchObject({ code: "archive-version" });
  });
});

describe("an envelope is written:", () => {
  test("to the byte as docs/archive-format.md has it, the content's length last", () => {
    const envelope = encodeEnvelope(5, 0xabc, { kind: "chunk" });
    expect(Buffer.from(envelope.subarray(12)).toString()).toBe(
      '{"content":"00000000","seawall":1,"bytes":5,"crc32c":"00000abc","kind":"chunk"}',
    );
    sealEnvelope(envelope, 0x1a2b);
    const text = '{"content":"00001a2b","seawall":1,"bytes":5,"crc32c":"00000abc","kind":"chunk"}';
    expect(Buffer.from(envelope).equals(frame(text))).toBe(true);
  });

  test("into the middle of other memory", () => {
    const whole = Buffer.alloc(200);
    const own = encodeEnvelope(5, 0xabc, {});
    whole.set(own, 7);
    sealEnvelope(whole.subarray(7, 7 + own.length), 3);
    expect(decodeEnvelope(whole.subarray(7), "the/key").contentBytes).toBe(3);
    expect(whole.subarray(0, 7).equals(Buffer.alloc(7))).toBe(true);
  });

  test("as large as it may be, and not a byte larger", () => {
    const room = ENVELOPE_BYTES_MAX - encodeEnvelope(0, 0, { pad: "" }).length;
    expect(encodeEnvelope(0, 0, { pad: "x".repeat(room) })).toHaveLength(ENVELOPE_BYTES_MAX);
    expect(() => encodeEnvelope(0, 0, { pad: "x".repeat(room + 1) })).toThrowError(
      expect.objectContaining({ code: "internal" }) as Error,
    );
  });
});
