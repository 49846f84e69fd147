/** The signature of a small put: the SDK's own signer, asked for the same request, is the oracle. */
import { Sha256 } from "@smithy/core/checksum";
import { HttpRequest } from "@smithy/core/protocols";
import { SignatureV4 } from "@smithy/signature-v4";
import { describe, expect, test } from "vitest";
import { PutSigner, type PutToSign, type SigningScope } from "../../src/store/s3/quick-sign.ts";

const SCOPE: SigningScope = { region: "eu-central-1", service: "s3" };
const HEADERS = {
  host: "bucket.s3.eu-central-1.amazonaws.com",
  "if-none-match": "*",
  "content-type": "application/octet-stream",
  "user-agent": "aws-sdk-js/3 seawall",
};
const PUT: PutToSign = {
  path: "/archive/main/tail/000000010000000000000001/00000000-00000100.zst",
  headers: HEADERS,
  payloadHash: "UNSIGNED-PAYLOAD",
  at: new Date("2026-12-01T09:30:00.123Z"),
  credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" },
};

async function signedBySdk(put: PutToSign, scope = SCOPE): Promise<Record<string, string>> {
  const { path, headers, payloadHash, at, credentials } = put;
  const signer = new SignatureV4({ ...scope, credentials, sha256: Sha256, uriEscapePath: false });
  const hashed = { ...headers, "x-amz-content-sha256": payloadHash };
  const request = new HttpRequest({ method: "PUT", hostname: HEADERS.host, path, headers: hashed });
  return (await signer.sign(request, { signingDate: at })).headers;
}

describe("a small put is signed as the SDK signs it", () => {
  const cases: Readonly<Record<string, Partial<PutToSign>>> = {
    "with a payload's hash": { payloadHash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    "without one": {},
    "with a session's token": { credentials: { ...PUT.credentials, sessionToken: "FwoGZXIvYXdzEJr//////////wEaD==" } },
    "with a key that was encoded": { path: "/p/a%3Db%2Bc/d_e-f.g%20h/%C3%A4" },
    "with spaces in a header": { headers: { ...HEADERS, "x-amz-meta-note": "  two   words\tand more " } },
    "on the first day of a year": { at: new Date("2027-01-01T00:00:00.000Z") },
    "a millisecond before": { at: new Date("2026-12-31T23:59:59.999Z") },
    "with checksums and encryption": {
      headers: {
        ...HEADERS,
        "x-amz-checksum-crc32c": "4waSgw==",
        "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-storage-class": "STANDARD_IA",
      },
    },
  };
  test.each(Object.entries(cases))("%s", async (_, given) => {
    const put = { ...PUT, ...given };
    expect(new PutSigner(SCOPE).sign(put)).toEqual(await signedBySdk(put));
  });

  test("in another region, for another service", async () => {
    const scope = { region: "us-gov-west-1", service: "s3-outposts" };
    expect(new PutSigner(scope).sign(PUT)).toEqual(await signedBySdk(PUT, scope));
  });

  test("after another day, another secret and back", async () => {
    const signer = new PutSigner(SCOPE);
    const tomorrow = new Date("2026-12-02T00:00:00Z");
    const other = { accessKeyId: "AKIDOTHER", secretAccessKey: "another/secret" };
    for (const put of [PUT, { ...PUT, at: tomorrow }, { ...PUT, credentials: other }, PUT]) {
      expect(signer.sign(put)).toEqual(await signedBySdk(put));
    }
  });
});
