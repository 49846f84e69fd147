/**
 * The public test vectors of the age format (C2SP, Community Cryptography Test Vectors), which come from npm. Each is a file that a
 * reader must open, or refuse for the reason it names.
 */
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { inflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { parseHeader } from "../../../src/codec/age/header.ts";
import { Identities } from "../../../src/codec/age/identities.ts";
import { NONCE_BYTES, payloadKey, StreamOpener } from "../../../src/codec/age/payload.ts";

interface Vector {
  readonly name: string;
  readonly expect: string;
  readonly payload: string | undefined;
  readonly identities: readonly string[];
  readonly isOther: boolean;
  readonly file: Buffer;
}

function parse(name: string, bytes: Uint8Array): Vector {
  const all = Buffer.from(bytes);
  const border = all.indexOf("\n\n");
  const fields = all
    .toString("latin1", 0, border)
    .split("\n")
    .map((line) => line.split(": ", 2) as [string, string]);
  const of = (key: string): string[] => fields.filter(([found]) => found === key).map(([, value]) => value);
  const file = all.subarray(border + 2);
  return {
    name,
    expect: of("expect")[0] ?? "",
    payload: of("payload")[0],
    identities: of("identity"),
    // Objects have neither armor nor a passphrase.
    isOther: of("armored").length + of("passphrase").length > 0,
    file: of("compressed").length > 0 ? inflateSync(file) : file,
  };
}

/** How reading ends, in the words of the vectors. */
async function outcome({ file, identities }: Vector): Promise<{ readonly end: string; readonly payload: string }> {
  const hash = createHash("sha256");
  const ended = (end: string): { end: string; payload: string } => ({ end, payload: hash.digest("hex") });
  let header;
  try {
    header = parseHeader(file);
  } catch {
    return ended("header failure");
  }
  if (header === undefined) return ended("header failure");
  let fileKey: Uint8Array | undefined;
  try {
    fileKey = await new Identities(identities).open(file.subarray(0, header.byteLength));
  } catch {
    return ended("header or HMAC failure");
  }
  if (fileKey === undefined) return ended("no match");
  const nonce = file.subarray(header.byteLength, header.byteLength + NONCE_BYTES);
  // A file that is cut there has no payload to fail.
  if (nonce.byteLength < NONCE_BYTES) return ended("header failure");
  const opener = new StreamOpener(payloadKey(fileKey, nonce));
  const take = (content: Uint8Array): void => void hash.update(content);
  try {
    opener.push(file.subarray(header.byteLength + NONCE_BYTES), take);
    opener.end(take);
  } catch {
    return ended("payload failure");
  }
  return ended("success");
}

/** A CommonJS package without types of its own names. */
const vectors = createRequire(import.meta.url)("cctv-age") as Readonly<Record<string, Uint8Array>>;
const all = Object.entries(vectors).map(([name, bytes]) => parse(name, bytes));
const ours = all.filter(({ isOther }) => !isOther);

describe("of the public vectors", () => {
  test("those without armor and passphrase are for us", () => {
    expect(all.length).toBeGreaterThanOrEqual(143);
    expect(ours.length).toBeGreaterThanOrEqual(80);
  });

  test.each(ours)("$name ends as it must: $expect", async (vector) => {
    const { end, payload } = await outcome(vector);
    // The library checks stanzas and the MAC in one call.
    if (end === "header or HMAC failure") expect(["header failure", "HMAC failure"]).toContain(vector.expect);
    else expect(end).toBe(vector.expect);
    if (vector.expect === "success") expect(payload).toBe(vector.payload);
  });
});
