/** Reads the system identifier at the front of `global/pg_control` (PostgreSQL: pg_control.h, ControlFileData). Pure. */

/** So many first bytes hold it. */
export const SYSTEM_IDENTIFIER_SIZE = 8;

/** The server writes it in its machine's byte order. Undefined when the file is shorter. */
export function systemIdentifierIn(front: Buffer, order: "LE" | "BE"): bigint | undefined {
  if (front.byteLength < SYSTEM_IDENTIFIER_SIZE) return undefined;
  return order === "LE" ? front.readBigUInt64LE() : front.readBigUInt64BE();
}
