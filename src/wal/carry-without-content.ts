/** The part of a verifier's state that says nothing about the content of records, for what stands in the clear. Pure. */
import type { RecordCarry } from "./record-carry.ts";
import { wordAt } from "./record-facts.ts";

/**
 * Leaves out the record that crosses the border: its rest is then counted and not verified, as if its beginning had not been seen.
 * The links of the records behind it are verified as before.
 */
export function carryWithoutContent({ record, ...carry }: RecordCarry): RecordCarry {
  if (record === undefined) return carry;
  // Its first word is its length: a border cuts no record before that.
  const length = wordAt(Buffer.from(record.prefix, "base64"), 0);
  return { ...carry, prev: record.start, headLeft: length - record.got };
}
