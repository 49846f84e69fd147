/** What exactly is sent, where servers differ in what they take: lengths, conditions, checksums, encryption. */
import { randomBytes } from "node:crypto";
import { type IncomingHttpHeaders } from "node:http";
import { describe, expect, test } from "vitest";
import { pieces } from "./contract-bodies.ts";
import { UPLOAD_BEGUN, UPLOAD_COMPLETED, deletedAll, startAnswering } from "./scripted-s3.ts";

const MIB = 1024 * 1024;
const KMS = "&sse=aws:kms&kmsKeyId=key-1&storageClass=STANDARD_IA";

interface Sent {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

/** A server that takes an upload of any number of parts, and everything else. */
async function startTaking() {
  const sent: Sent[] = [];
  const server = await startAnswering(({ method, url, headers }) => {
    sent.push({ method, url, headers });
    if (method === "HEAD" || method === "GET") return { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
    if (url.endsWith("?uploads=")) return { status: 200, body: UPLOAD_BEGUN };
    if (url.includes("partNumber=")) return { status: 200, headers: { etag: `"etag-${url.slice(-1)}"` } };
    return method === "POST" ? { status: 200, body: UPLOAD_COMPLETED } : { status: 200 };
  });
  return { server, sent, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

describe("a put", () => {
  const rows: readonly { query: string; headers: Record<string, unknown> }[] = [
    {
      query: "",
      headers: {
        "x-amz-checksum-crc32c": "4waSgw==",
        "content-md5": undefined,
        // sha256sum of 123456789
        "x-amz-content-sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
      },
    },
    {
      query: "&checksum=sha256",
      headers: {
        "x-amz-checksum-crc32c": undefined,
        "content-md5": undefined,
        "x-amz-content-sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
      },
    },
    // md5sum of 123456789, in base64
    {
      query: "&checksum=md5",
      headers: { "x-amz-checksum-crc32c": undefined, "content-md5": "JfnnlDI7RTiF9RgfG2JNCw==" },
    },
    {
      query: "&checksum=none",
      headers: {
        "x-amz-checksum-crc32c": undefined,
        "content-md5": undefined,
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
      },
    },
    {
      query: KMS,
      headers: {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
        "x-amz-storage-class": "STANDARD_IA",
      },
    },
    { query: "&sse=AES256", headers: { "x-amz-server-side-encryption": "AES256" } },
  ];
  test.each(rows)("with $query", async ({ query, headers }) => {
    await using taking = await startTaking();
    await taking.server.store(query).put("k", Buffer.from("123456789"));
    const [put] = taking.sent;
    expect(put).toMatchObject({ method: "PUT", url: "/bucket/p/k" });
    expect(put?.headers["if-none-match"]).toBe("*");
    expect(put?.headers["content-length"]).toBe("9");
    expect(put?.headers["transfer-encoding"]).toBeUndefined();
    expect(put?.headers["content-encoding"]).toBeUndefined();
    for (const [name, value] of Object.entries(headers)) expect(put?.headers[name], name).toBe(value);
  });

  test("keys are encoded once, on the line and in the signature alike", async () => {
    await using taking = await startTaking();
    await taking.server.store().put("a=b+c/d_e-f.g", Buffer.from("x"));
    expect(taking.sent[0]?.url).toBe("/bucket/p/a%3Db%2Bc/d_e-f.g");
  });
});

describe("an upload in parts", () => {
  test.each(["", "&checksum=md5"])(
    "begins, sends parts and completes, each with what belongs to it%s",
    async (checksum) => {
      await using taking = await startTaking();
      const store = taking.server.store(checksum + KMS);
      expect(await store.putStream("k", pieces([randomBytes(12 * MIB)]), { partBytes: 5 * MIB })).toBe("created");
      const isCrc = checksum === "";
      const begin = taking.sent.find(({ url }) => url.endsWith("?uploads="));
      expect(begin?.headers["x-amz-storage-class"]).toBe("STANDARD_IA");
      expect(begin?.headers["x-amz-server-side-encryption-aws-kms-key-id"]).toBe("key-1");
      expect(begin?.headers["x-amz-checksum-algorithm"]).toBe(isCrc ? "CRC32C" : undefined);
      expect(begin?.headers["x-amz-checksum-type"]).toBe(isCrc ? "FULL_OBJECT" : undefined);
      // Parts travel side by side, so they may arrive in any order.
      const parts = taking.sent
        .filter(({ url }) => url.includes("partNumber="))
        .sort((a, b) => a.url.localeCompare(b.url));
      expect(parts.map(({ url }) => url)).toEqual(
        [1, 2, 3].map((number) => `/bucket/p/k?partNumber=${number}&uploadId=id%261`),
      );
      expect(parts.map(({ headers }) => headers["content-length"])).toEqual(
        [5, 5, 2].map((size) => String(size * MIB)),
      );
      for (const { headers } of parts) {
        expect(headers["x-amz-checksum-crc32c"] !== undefined).toBe(isCrc);
        expect(headers["content-md5"] !== undefined).toBe(!isCrc);
        expect(headers["x-amz-storage-class"]).toBeUndefined();
        expect(headers["x-amz-server-side-encryption"]).toBeUndefined();
      }
      const complete = taking.sent.findLast(({ url }) => url.endsWith("?uploadId=id%261"));
      expect(complete).toMatchObject({ method: "POST", url: "/bucket/p/k?uploadId=id%261" });
      expect(complete?.headers["if-none-match"]).toBe("*");
      expect(complete?.headers["x-amz-checksum-crc32c"] !== undefined).toBe(isCrc);
      for (const { headers } of taking.sent) expect(headers["transfer-encoding"]).toBeUndefined();
    },
  );

  test("never more parts on their way than asked for, and memory for no more", async () => {
    for (const partsInFlight of [1, 3]) {
      let inFlight = 0;
      let most = 0;
      await using server = await startAnswering(({ method, url }) => {
        if (url.endsWith("?uploads=")) return { status: 200, body: UPLOAD_BEGUN };
        if (url.includes("partNumber=") || method === "PUT") return { status: 200 };
        return url.includes("uploadId=")
          ? { status: 200, body: UPLOAD_COMPLETED }
          : { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
      });
      async function* counted(): AsyncGenerator<Uint8Array> {
        for (let i = 0; i < 12; i += 1) {
          // What was taken from us and is not stored yet, in parts of 5 MiB.
          inFlight = i + 1 - server.requests.filter((request) => request.includes("partNumber=")).length;
          most = Math.max(most, inFlight);
          yield randomBytes(5 * MIB);
        }
      }
      await server.store().putStream("k", counted(), { partBytes: 5 * MIB, partsInFlight });
      // One more than on their way: the piece that shows that the part before it is not the last.
      expect(most).toBeLessThanOrEqual(partsInFlight + 1);
    }
  });
});

describe("a delete", () => {
  test("goes out in thousands, in order, with a digest", async () => {
    await using taking = await startTaking();
    const answered = await startAnswering((request) => {
      taking.sent.push(request);
      return deletedAll(request);
    });
    await answered.store().delete(Array.from({ length: 2001 }, (_, i) => `k${i}`));
    expect(taking.sent.map(({ url }) => url)).toEqual(["/bucket/?delete=", "/bucket/?delete=", "/bucket/?delete="]);
    for (const { headers } of taking.sent) expect(headers["content-md5"]).toMatch(/^[A-Za-z0-9+/]{22}==$/);
    await answered[Symbol.asyncDispose]();
  });
});
