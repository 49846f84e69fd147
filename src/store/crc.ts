/** CRC-32C at the store's border: computed once, compared where the bytes are, and written the way S3 wants it. */
import { crc32c } from "@node-rs/crc32";
import { SeawallError } from "../errors.ts";

export function crc32cOf(body: Uint8Array, initial?: number): number {
  return crc32c(body, initial);
}

/** S3's form of a checksum: base64 of the four bytes, most significant first. */
export function crc32cBase64(value: number): string {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes.toString("base64");
}

/**
 * Throws `internal` when the body is not what the caller's CRC-32C was taken of: a buffer reused too early, or bad
 * memory. Not `store-checksum`: that is retried, and no store can repair this.
 */
export function checkCrc32c(key: string, body: Uint8Array, expected: number): void {
  const actual = crc32cOf(body);
  if (actual !== expected >>> 0) {
    throw new SeawallError(
      "internal",
      `${key}: the ${body.length} bytes to store have CRC-32C ${crcText(actual)}, announced was ${crcText(expected)}`,
      { details: { key, bytes: body.length } },
    );
  }
}

/** Eight lower-case hexadecimal digits. */
export function crcText(value: number): string {
  return (value >>> 0).toString(16).padStart(8, "0");
}
