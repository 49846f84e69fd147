/** The CRC-32C of a file whose pieces come in any order: some as bytes, some left out and filled in later. */
import { createHash } from "node:crypto";
import { crc32c } from "@node-rs/crc32";
import { expect, test } from "vitest";
import { ContentDigest } from "../../src/codec/age/digest.ts";
import { Crc32c } from "../../src/codec/checksum.ts";
import { crc32cOfBoth, joinerFor } from "../../src/codec/crc32c-pieces.ts";
import { announcedRandom } from "../harness/random.ts";

/** "123456789" is the check value of every table of CRCs: e3069283, as PostgreSQL writes its four bytes. */
test("a piece left out and filled in at once, later, or behind the last byte", () => {
  const text = Buffer.from("123456789");
  const piece = crc32c(text.subarray(2, 6));
  for (const behind of [0, 1, 3]) {
    const checksum = new Crc32c();
    checksum.update(text.subarray(0, 2));
    checksum.leaveOut(4);
    checksum.update(text.subarray(6, 6 + behind));
    checksum.fillIn(piece, behind);
    checksum.update(text.subarray(6 + behind));
    expect(checksum.hex()).toBe("839206e3");
  }
});

test("everything left out, filled in from the last piece to the first", () => {
  const text = Buffer.from("123456789");
  const checksum = new Crc32c();
  for (let at = 0; at < 9; at += 3) checksum.leaveOut(3);
  for (const at of [6, 3, 0]) checksum.fillIn(crc32c(text.subarray(at, at + 3)), 6 - at);
  expect(checksum.hex()).toBe("839206e3");
});

test("many pieces in any order are the checksum of the whole", () => {
  const random = announcedRandom("checksum pieces");
  for (let round = 0; round < 50; round++) {
    const bytes = random.bytes(random.between(1, 200_000));
    const checksum = new Crc32c();
    const whole = new Crc32c();
    whole.update(bytes);
    const left: { readonly at: number; readonly end: number }[] = [];
    for (let at = 0; at < bytes.length;) {
      const end = Math.min(bytes.length, at + random.between(1, 40_000));
      if (random.between(0, 1) === 0) checksum.update(bytes.subarray(at, end));
      else {
        checksum.leaveOut(end - at);
        left.push({ at, end });
      }
      at = end;
      if (left.length === 0 || random.between(0, 2) > 0) continue;
      const [piece] = left.splice(random.between(0, left.length - 1), 1);
      if (piece !== undefined) checksum.fillIn(crc32c(bytes.subarray(piece.at, piece.end)), at - piece.end);
    }
    for (const { at, end } of left) checksum.fillIn(crc32c(bytes.subarray(at, end)), bytes.length - end);
    expect(checksum.hex()).toBe(whole.hex());
  }
});

test("two pieces make the CRC-32C of both, whatever the length of the second one", () => {
  const text = Buffer.from("123456789");
  for (let cut = 0; cut <= 9; cut++) {
    const [a, b] = [crc32c(text.subarray(0, cut)), crc32c(text.subarray(cut))];
    expect(crc32cOfBoth(a, b, 9 - cut)).toBe(0xe3069283);
    expect(joinerFor(9 - cut)(a, b)).toBe(0xe3069283);
  }
});

/** By the description in docs/archive-format.md: the front of a SHA-256 over the CRC-32Cs of blocks of 8 KiB. */
test("a digest in any split is that of the whole, and tells the content's CRC-32C", () => {
  const random = announcedRandom("digest");
  // Blocks are hashed 512 at a time.
  for (const bytes of [0, 1, 8191, 8192, 8193, 512 * 8192 - 1, 512 * 8192, 512 * 8192 + 1, 1100 * 8192 + 5000]) {
    const content = random.bytes(bytes);
    const words = Buffer.alloc(4 * Math.ceil(bytes / 8192));
    for (let at = 0; at < bytes; at += 8192) words.writeUInt32LE(crc32c(content.subarray(at, at + 8192)), at / 2048);
    const digest = new ContentDigest();
    let soFar = 0;
    for (let at = 0; at < bytes;) {
      const piece = content.subarray(at, at + random.between(1, 100_000));
      digest.push(piece);
      soFar = crc32c(piece, soFar);
      // Asking changes nothing.
      expect(digest.crc32c).toBe(soFar);
      digest.hex();
      at += piece.byteLength;
    }
    expect(digest.hex()).toBe(createHash("sha256").update(words).digest("hex").slice(0, 16));
    expect(digest.crc32c).toBe(crc32c(content));
  }
});
