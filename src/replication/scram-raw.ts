/**
 * Makes the SCRAM proof for a password without SASLprep. PostgreSQL uses the bytes of a password that SASLprep refuses
 * (unassigned code points, left-to-right letters beside right-to-left ones), while pg always prepares it.
 *
 * Source: RFC 5802, section 3; PostgreSQL: scram-common.c, saslprep.c.
 */
import { createHash, createHmac, pbkdf2 } from "node:crypto";
import { promisify } from "node:util";

/** pg's session after it has answered the server's first message with the proof for the prepared password. */
export interface ScramSession {
  readonly clientNonce: string;
  /** `c=…,r=…,p=…`: the client's final message. */
  response: string;
  /** The server's expected signature, in base64. */
  serverSignature: string;
}

const KEY_BYTES = 32;

/** Replaces what depends on the password: the proof, and the signature that is expected from the server. */
export async function proveRaw(session: ScramSession, password: string, serverFirst: string): Promise<void> {
  const withoutProof = session.response.slice(0, session.response.lastIndexOf(",p="));
  const salt = Buffer.from(/(?:^|,)s=([^,]*)/.exec(serverFirst)?.[1] ?? "", "base64");
  const iterations = Number(/(?:^|,)i=(\d+)/.exec(serverFirst)?.[1]);
  const authMessage = `n=*,r=${session.clientNonce},${serverFirst},${withoutProof}`;
  const salted = await promisify(pbkdf2)(password, salt, iterations, KEY_BYTES, "sha256");
  const clientKey = hmac(salted, "Client Key");
  const signature = hmac(createHash("sha256").update(clientKey).digest(), authMessage);
  const proof = clientKey.map((byte, at) => byte ^ (signature[at] ?? 0));
  session.response = `${withoutProof},p=${Buffer.from(proof).toString("base64")}`;
  session.serverSignature = hmac(hmac(salted, "Server Key"), authMessage).toString("base64");
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

/** Characters that SASLprep maps to a space or to nothing (RFC 3454, tables C.1.2 and B.1), and some more. */
const MAPPED = /[\p{Zs}\p{Default_Ignorable_Code_Point}\u1806]/u;

/** Whether SASLprep may change the password: then the server has stored one form or the other. */
export function hasTwoForms(password: string): boolean {
  const others = password.replaceAll(" ", "");
  return others.normalize("NFKC") !== others || MAPPED.test(others);
}
