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
 * For this many bytes or more the native call, with its fixed cost of a call and a view, wins over the tables: measured by
 * `bench/verifier.ts`, which finds them level at 450 to 550.
 */
export const NATIVE_FROM_BYTES = 512;

const POLYNOMIAL = 0x82f63b78; // 0x1EDC6F41 with its bits reversed

// Tk[b]: what byte b does to the register when k more bytes follow it. Eight tables take eight bytes in one step; sixteen
// were no faster here, nor was one large table. V8 reads them without looking whether their memory was taken away as long as
// no ArrayBuffer of the thread was ever transferred: after the first transfer all of this is a fifth slower (measured).
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
    : ~crcUpdateShort(~seed, bytes, 0, bytes.length) >>> 0;
}

/** Takes `bytes[from, to)` into the register, by the faster way for this length. */
export function crcUpdate(state: number, bytes: Uint8Array, from: number, to: number): number {
  return to - from >= NATIVE_FROM_BYTES
    ? ~nativeCrc32c(bytes.subarray(from, to), ~state >>> 0)
    : crcUpdateShort(state, bytes, from, to);
}

/** Takes `pairs` × 8 bytes into the register: little-endian words from word index `at` on, which the caller knows to be there. */
export function crcUpdateWords(state: number, words: Int32Array, at: number, pairs: number): number {
  const end = at + pairs * 2;
  for (let i = at; i < end; i += 2) state = eightBytes(state, words[i] as number, words[i + 1] as number);
  return state;
}

/** Takes one word, four bytes. */
export function crcUpdateWord(state: number, word: number): number {
  const low = state ^ word;
  // Indexes are masked to eight bits, here and below: each read is inside its table.
  return (
    (T3[low & 255] as number) ^
    (T2[(low >>> 8) & 255] as number) ^
    (T1[(low >>> 16) & 255] as number) ^
    (T0[low >>> 24] as number)
  );
}

/** Takes `bytes[from, to)` one byte a step: for the few that fill no word. */
export function crcUpdateBytes(state: number, bytes: Uint8Array, from: number, to: number): number {
  for (let i = from; i < to; i++) {
    state = (T0[(state ^ (bytes[i] as number)) & 255] as number) ^ (state >>> 8);
  }
  return state;
}

/** The four lookups that do not need the register come first: they need not wait for the step before. */
function eightBytes(state: number, first: number, second: number): number {
  const later =
    (T3[second & 255] as number) ^
    (T2[(second >>> 8) & 255] as number) ^
    (T1[(second >>> 16) & 255] as number) ^
    (T0[second >>> 24] as number);
  const low = state ^ first;
  return (
    (T7[low & 255] as number) ^
    (T6[(low >>> 8) & 255] as number) ^
    ((T5[(low >>> 16) & 255] as number) ^ (T4[low >>> 24] as number) ^ later)
  );
}

/** Any alignment, no native call. */
function crcUpdateShort(state: number, bytes: Uint8Array, from: number, to: number): number {
  const byte = (index: number): number => bytes[index] as number; // inside [from, to)
  let i = from;
  for (; i + 8 <= to; i += 8) {
    const low = byte(i) | (byte(i + 1) << 8) | (byte(i + 2) << 16) | (byte(i + 3) << 24);
    const high = byte(i + 4) | (byte(i + 5) << 8) | (byte(i + 6) << 16) | (byte(i + 7) << 24);
    state = eightBytes(state, low, high);
  }
  return crcUpdateBytes(state, bytes, i, to);
}

function fillTables(): void {
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
    T0[byte] = value;
  }
  let nearer = T0;
  for (const table of [T1, T2, T3, T4, T5, T6, T7]) {
    for (let byte = 0; byte < 256; byte++) {
      const value = nearer[byte] as number; // 256 entries each
      table[byte] = (T0[value & 255] as number) ^ (value >>> 8);
    }
    nearer = table;
  }
}
