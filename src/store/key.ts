/**
 * The form of a key, checked at the entrance of every store: no key can leave the store's root, and every key means the
 * same on a file system and in a bucket.
 */
import { SeawallError } from "../errors.ts";

/** Characters in a key; a bucket takes 1024 bytes, and the prefix of the store's URL comes on top. */
export const KEY_CHARS_MAX = 512;
/** Characters between two slashes: NAME_MAX of every file system in use. */
const KEY_PART_CHARS_MAX = 255;

const PART = /^[A-Za-z0-9._=+@-]+$/;

/** Throws `internal` unless `key` is well-formed: keys are invented by `archive`, so a bad one is a bug, not bad input. */
export function checkKey(key: string): void {
  if (key.length > KEY_CHARS_MAX) throw malformed("key", key, `longer than ${KEY_CHARS_MAX} characters`);
  for (const part of key.split("/")) {
    if (!isKeyPart(part)) throw malformed("key", key, `"${part}" is not a key part`);
  }
}

/** For names found in a store that others may write to: what is no key of ours is passed over. */
export function isKey(key: string): boolean {
  return key.length <= KEY_CHARS_MAX && key.split("/").every(isKeyPart);
}

/** A prefix is the beginning of a key: whole parts, then an unfinished one, which may be empty. */
export function checkPrefix(prefix: string): void {
  if (prefix.length > KEY_CHARS_MAX) throw malformed("prefix", prefix, `longer than ${KEY_CHARS_MAX} characters`);
  const parts = prefix.split("/");
  const last = parts.pop() ?? "";
  for (const part of parts) {
    if (!isKeyPart(part)) throw malformed("prefix", prefix, `"${part}" is not a key part`);
  }
  if (last !== "" && !PART.test(last)) throw malformed("prefix", prefix, `"${last}" cannot begin a key part`);
}

/** For messages: the empty prefix is the whole store. */
export function listingOf(prefix: string): string {
  return prefix === "" ? "list the store" : `list ${prefix}`;
}

/** For `listPrefixes`: whole parts only. */
export function checkFolder(prefix: string): void {
  checkPrefix(prefix);
  if (prefix !== "" && !prefix.endsWith("/")) throw malformed("prefix", prefix, "it must end with a slash or be empty");
}

export function isKeyPart(part: string): boolean {
  return PART.test(part) && part !== "." && part !== ".." && part.length <= KEY_PART_CHARS_MAX;
}

/** Throws `internal` for a range that is no range: offsets and lengths are whole bytes from 0. */
export function checkRange(range: { readonly offset: number; readonly length: number }): void {
  const { offset, length } = range;
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
    throw new SeawallError("internal", `malformed range: offset ${offset}, length ${length}`);
  }
}

function malformed(kind: "key" | "prefix", text: string, why: string): SeawallError {
  return new SeawallError("internal", `malformed ${kind} ${JSON.stringify(text.slice(0, 80))}: ${why}`);
}
