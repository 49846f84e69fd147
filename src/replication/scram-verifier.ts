/**
 * Makes the verifier that a server keeps of a password. `CREATE ROLE … PASSWORD` takes it in place of the password, so a script
 * with it holds no secret that logs in.
 *
 * Source: PostgreSQL: scram-common.c, scram_build_secret; RFC 5803.
 */
import { createHash, createHmac, pbkdf2Sync } from "node:crypto";

/** PostgreSQL's own default, SCRAM_SHA_256_DEFAULT_ITERATIONS. */
const ITERATIONS = 4096;
const KEY_BYTES = 32;

/** Undefined for a password that SASLprep may change: the server or psql must prepare it. */
export function scramVerifier(password: string, salt: Buffer): string | undefined {
  if (!/^[\x20-\x7e]+$/.test(password)) return undefined;
  const salted = pbkdf2Sync(password, salt, ITERATIONS, KEY_BYTES, "sha256");
  const key = (name: string): Buffer => createHmac("sha256", salted).update(name).digest();
  const storedKey = createHash("sha256").update(key("Client Key")).digest("base64");
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString("base64")}$${storedKey}:${key("Server Key").toString("base64")}`;
}
