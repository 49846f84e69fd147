/**
 * X.509 certificates and revocation lists made on the spot, so that TLS tests need neither a tool nor committed keys.
 * Just enough DER (ITU-T X.690) for RFC 5280: ECDSA P-256 with SHA-256.
 */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { isIP } from "node:net";

export interface Issued {
  readonly cert: string;
  readonly key: string;
  readonly serial: number;
}

export interface CertificateOptions {
  readonly commonName: string;
  /** Host names and addresses the certificate is for. */
  readonly names?: readonly string[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
}

const HOUR_MS = 3_600_000;

/** A certificate authority that lives as long as the test. */
export class TestAuthority {
  readonly cert: string;
  readonly #name: Buffer;
  readonly #key: KeyObject;
  #serial = 1;

  constructor(commonName: string) {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.#key = privateKey;
    this.#name = distinguishedName(commonName);
    const extensions = [
      extension("2.5.29.19", sequence(boolean(true)), true),
      extension("2.5.29.15", keyUsage(), true),
    ];
    this.cert = this.#certificate(this.#name, publicKey, { commonName }, extensions, this.#serial++);
  }

  issue(options: CertificateOptions): Issued {
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const serial = this.#serial++;
    const names = options.names ?? [];
    const extensions = names.length === 0 ? [] : [extension("2.5.29.17", alternativeNames(names))];
    const cert = this.#certificate(distinguishedName(options.commonName), publicKey, options, extensions, serial);
    return { cert, key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(), serial };
  }

  /** A revocation list with these serial numbers. */
  revoke(serials: readonly number[]): string {
    const now = new Date();
    const revoked = serials.map((serial) => sequence(integer(serial), utcTime(now)));
    const body = sequence(
      integer(1),
      SIGNATURE_ALGORITHM,
      this.#name,
      utcTime(new Date(now.getTime() - HOUR_MS)),
      utcTime(new Date(now.getTime() + 24 * HOUR_MS)),
      ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    );
    return this.#signed(body, "X509 CRL");
  }

  #certificate(
    subject: Buffer,
    publicKey: KeyObject,
    options: CertificateOptions,
    extensions: readonly Buffer[],
    serial: number,
  ): string {
    const notBefore = options.notBefore ?? new Date(Date.now() - HOUR_MS);
    const notAfter = options.notAfter ?? new Date(Date.now() + 24 * HOUR_MS);
    const body = sequence(
      tagged(0xa0, integer(2)),
      integer(serial),
      SIGNATURE_ALGORITHM,
      this.#name,
      sequence(utcTime(notBefore), utcTime(notAfter)),
      subject,
      publicKey.export({ type: "spki", format: "der" }),
      ...(extensions.length === 0 ? [] : [tagged(0xa3, sequence(...extensions))]),
    );
    return this.#signed(body, "CERTIFICATE");
  }

  #signed(body: Buffer, label: string): string {
    const signature = tagged(0x03, Buffer.from([0]), sign("sha256", body, this.#key));
    const base64 = sequence(body, SIGNATURE_ALGORITHM, signature).toString("base64");
    return `-----BEGIN ${label}-----\n${base64.replace(/(.{64})/g, "$1\n").trimEnd()}\n-----END ${label}-----\n`;
  }
}

function tagged(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const { length } = body;
  const head =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), body]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tagged(0x30, ...parts);
}

function integer(value: number): Buffer {
  return tagged(0x02, Buffer.from([0, value >> 8, value & 0xff].slice(value < 0x80 ? 2 : value < 0x8000 ? 1 : 0)));
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0]));
}

function objectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return tagged(0x06, Buffer.from(bytes));
}

function utcTime(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]/g, "").slice(2, 14);
  return tagged(0x17, Buffer.from(`${text}Z`));
}

function distinguishedName(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(objectIdentifier("2.5.4.3"), tagged(0x0c, Buffer.from(commonName)))));
}

function extension(oid: string, value: Buffer, critical = false): Buffer {
  return sequence(objectIdentifier(oid), ...(critical ? [boolean(true)] : []), tagged(0x04, value));
}

/** keyCertSign and cRLSign. */
function keyUsage(): Buffer {
  return tagged(0x03, Buffer.from([1, 0x06]));
}

function alternativeNames(names: readonly string[]): Buffer {
  return sequence(
    ...names.map((name) =>
      isIP(name) === 4 ? tagged(0x87, Buffer.from(name.split(".").map(Number))) : tagged(0x82, Buffer.from(name)),
    ),
  );
}

const SIGNATURE_ALGORITHM = sequence(objectIdentifier("1.2.840.10045.4.3.2"));
