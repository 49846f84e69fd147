/**
 * CRC-32C (Castagnoli), the checksum of every WAL record: tables in JavaScript for short runs, native code for long ones.
 *
 * Two forms of the same value: a `state` is the register while bytes go by (starts at -1, an int32); a `crc` is the finished,
 * complemented number that PostgreSQL stores (FIN_CRC32C) and others print. `state === ~crc`.
 *
 * Source: PostgreSQL `src/include/port/pg_crc32c.h`, `pg_crc32c_sb8.c`; RFC 3720 appendix B.4 for the polynomial.
 */
import { crc32c as nativeCrc32c } from "@node-rs/crc32";

/** The register before the first byte (INIT_CRC32C). */
export const CRC_START = -1;

/**
 * From this many bytes on the native call, with its fixed cost of a call and a view, wins over the tables. Measured by
 * `bench/crc32c.ts`.
 */
export const NATIVE_FROM_BYTES = 320;

const POLYNOMIAL = 0x82f63b78; // 0x1EDC6F41 with its bits reversed

// TABLES[k][b]: the effect of byte b followed by k zero bytes. Eight tables take eight bytes a step.
const T0 = new Int32Array(256);
const T1 = new Int32Array(256);
const T2 = new Int32Array(256);
const T3 = new Int32Array(256);
const T4 = new Int32Array(256);
const T5 = new Int32Array(256);
const T6 = new Int32Array(256);
const T7 = new Int32Array(256);

fillTables();

/** CRC-32C of `bytes`, continuing the finished value of the bytes before: `crc32c(ab) === crc32c(b, crc32c(a))`. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  return bytes.length >= NATIVE_FROM_BYTES
    ? nativeCrc32c(bytes, seed)
    : ~crcUpdateBytes(~seed, bytes, 0, bytes.length) >>> 0;
}

/** Takes `bytes[from, to)` into the register, in whichever way is faster. */
export function crcUpdate(state: number, bytes: Uint8Array, from: number, to: number): number {
  return to - from >= NATIVE_FROM_BYTES
    ? ~nativeCrc32c(bytes.subarray(from, to), ~state >>> 0)
    : crcUpdateBytes(state, bytes, from, to);
}

/** Takes `pairs` × 8 bytes, read as little-endian words from word index `at` on, into the register. */
export function crcUpdateWords(state: number, words: Int32Array, at: number, pairs: number): number {
  const end = at + pairs * 2;
  // The reads stay inside the arrays: `end` is the caller's promise, table indexes are masked to eight bits.
  for (let i = at; i < end; i += 2) {
    const low = state ^ (words[i] as number);
    const high = words[i + 1] as number;
    state =
      (T7[low & 255] as number) ^
      (T6[(low >>> 8) & 255] as number) ^
      (T5[(low >>> 16) & 255] as number) ^
      (T4[low >>> 24] as number) ^
      (T3[high & 255] as number) ^
      (T2[(high >>> 8) & 255] as number) ^
      (T1[(high >>> 16) & 255] as number) ^
      (T0[high >>> 24] as number);
  }
  return state;
}

/** Takes one word (four bytes, little-endian) into the register. */
export function crcUpdateWord(state: number, word: number): number {
  const low = state ^ word;
  return (
    (T3[low & 255] as number) ^
    (T2[(low >>> 8) & 255] as number) ^
    (T1[(low >>> 16) & 255] as number) ^
    (T0[low >>> 24] as number)
  );
}

/** Takes `bytes[from, to)` into the register one byte a step: for the few bytes that fill no word. */
export function crcUpdateBytes(state: number, bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    state = (T0[(state ^ (bytes[i] as number)) & 255] as number) ^ (state >>> 8);
  }
  return state;
}

function fillTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    T0[byte] = value;
  }
  const tables = [T0, T1, T2, T3, T4, T5, T6, T7];
  for (const [k, table] of tables.entries()) {
    const before = tables[k - 1];
    if (before === undefined) continue;
    for (let byte = 0; byte < 256; byte++) {
      const value = before[byte] as number;
      table[byte] = (T0[value & 255] as number) ^ (value >>> 8);
    }
  }
}
