/** CRC-32C from tables and from native code. */
import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import { describe, expect, it } from "vitest";
import {
  CRC_START,
  crc32c,
  crcUpdate,
  crcUpdateBytes,
  crcUpdateWord,
  crcUpdateWords,
  NATIVE_FROM_BYTES,
} from "../../src/wal/crc32c.ts";
import { randomFrom } from "../harness/random.ts";

describe("CRC-32C", () => {
  // RFC 3720, appendix B.4, and the check value of the CRC catalogues.
  it.each([
    ["nothing", new Uint8Array(), 0],
    ["the digits 1 to 9", new TextEncoder().encode("123456789"), 0xe3069283],
    ["32 bytes of zeros", new Uint8Array(32), 0x8a9136aa],
    ["32 bytes of ones", new Uint8Array(32).fill(0xff), 0x62a8ab43],
    ["32 rising bytes", Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
    ["32 falling bytes", Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
  ])("of %s", (_what, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  const bytes = randomFrom(1).bytes(NATIVE_FROM_BYTES * 2 + 40);

  it("is the same from tables and from native code, for every length around the crossover and every alignment", () => {
    const lengths = [...Array(80).keys(), ...Array.from({ length: 20 }, (_, i) => NATIVE_FROM_BYTES - 10 + i)];
    for (const length of lengths) {
      for (let at = 0; at < 8; at++) {
        const run = bytes.subarray(at, at + length);
        expect(crc32c(run)).toBe(nativeCrc32c(run));
        expect(~crcUpdateBytes(CRC_START, bytes, at, at + length) >>> 0).toBe(nativeCrc32c(run));
      }
    }
  });

  it("goes on from any cut, within and across the crossover", () => {
    const whole = nativeCrc32c(bytes);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(whole);
      const state = crcUpdate(crcUpdate(CRC_START, bytes, 0, cut), bytes, cut, bytes.length);
      expect(~state >>> 0).toBe(whole);
    }
  });

  it("takes words as the bytes they are made of", () => {
    const words = new Int32Array(bytes.slice(0, 84).buffer);
    const expected = crcUpdateBytes(CRC_START, bytes, 0, 84);
    expect(crcUpdateWord(crcUpdateWords(CRC_START, words, 0, 10), words[20] ?? 0)).toBe(expected);
    expect(crcUpdateWords(CRC_START, words, 3, 0)).toBe(CRC_START);
  });
});
