/** The CRC-32C of a file whose pieces come in any order: some as bytes, some left out and filled in later. */
import { crc32c } from "@node-rs/crc32";
import { expect, test } from "vitest";
import { Crc32c } from "../../src/codec/checksum.ts";
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
