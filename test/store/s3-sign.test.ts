/** Signatures: Amazon's own published examples, and the SDK's signer as the oracle for everything else. */
import { GetObjectCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  EMPTY_PAYLOAD_HASH,
  type S3Credentials,
  encodePath,
  encodeQuery,
  sha256Hex,
  signRequest,
} from "../../src/store/s3/sign.ts";

// Amazon S3 API Reference, "Signature Calculations for the Authorization Header", Examples.
const CREDENTIALS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
};
const SCOPE = { region: "us-east-1", service: "s3" };
const NOW = new Date("2013-05-24T00:00:00Z");
const HOST = "examplebucket.s3.amazonaws.com";

describe("signing", () => {
  test.each([
    {
      what: "GET Object",
      request: {
        method: "GET",
        path: "/test.txt",
        query: "",
        headers: { range: "bytes=0-9" },
        payloadHash: EMPTY_PAYLOAD_HASH,
      },
      signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    },
    {
      what: "PUT Object",
      request: {
        method: "PUT",
        path: encodePath("/test$file.text"),
        query: "",
        headers: { date: "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY" },
        payloadHash: sha256Hex("Welcome to Amazon S3."),
      },
      signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    },
    {
      what: "GET Bucket Lifecycle",
      request: {
        method: "GET",
        path: "/",
        query: encodeQuery({ lifecycle: "" }),
        headers: {},
        payloadHash: EMPTY_PAYLOAD_HASH,
      },
      signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    },
    {
      what: "GET Bucket (List Objects)",
      request: {
        method: "GET",
        path: "/",
        query: encodeQuery({ prefix: "J", "max-keys": "2" }),
        headers: {},
        payloadHash: EMPTY_PAYLOAD_HASH,
      },
      signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    },
  ])("$what of Amazon's documentation", ({ request, signature }) => {
    const headers = signRequest({ ...request, headers: { host: HOST, ...request.headers } }, CREDENTIALS, SCOPE, NOW);
    expect(headers["authorization"]?.split("Signature=")[1]).toBe(signature);
  });

  test("the SDK signs 200 random requests as we do", async () => {
    const seed = randomInt(2 ** 31);
    console.log(`seed ${seed}`);
    const random = randomSource(seed);
    const word = (characters: string): string =>
      Array.from({ length: 1 + random(12) }, () => characters[random(characters.length)]).join("");
    for (let round = 0; round < 200; round += 1) {
      const credentials = {
        accessKeyId: word("ABC123"),
        secretAccessKey: word(ODD),
        ...(random(2) === 0 ? {} : { sessionToken: word("abc/+=") }),
      };
      const scope = { region: `xx-${word("abc1")}`, service: "s3" };
      const command =
        random(2) === 0
          ? new GetObjectCommand({ Bucket: "bucket", Key: word(ODD), VersionId: word(ODD) })
          : new ListObjectsV2Command({
              Bucket: "bucket",
              Prefix: word(ODD),
              StartAfter: word(ODD),
              MaxKeys: random(9),
            });
      const sent = await signedBySdk(command, credentials, scope.region);
      const theirs = sent.headers["authorization"] ?? "";
      const { Key } = command.input as { Key?: string };
      if (Key !== undefined) expect(encodePath(`/bucket/${Key}`)).toBe(sent.path);
      const names = /SignedHeaders=([^,]+)/.exec(theirs)?.[1]?.split(";") ?? [];
      const timestamp = sent.headers["x-amz-date"] ?? "";
      const ours = signRequest(
        {
          method: sent.method,
          path: sent.path,
          query: encodeQuery(sent.query),
          headers: Object.fromEntries(names.map((name) => [name, sent.headers[name] ?? ""])),
          payloadHash: sent.headers["x-amz-content-sha256"] ?? "",
        },
        credentials,
        scope,
        new Date(timestamp.replace(/^(....)(..)(..T..)(..)(..Z)$/, "$1-$2-$3:$4:$5")),
      );
      expect(ours["authorization"], `seed ${seed}, round ${round}`).toBe(theirs);
    }
  });
});

const ODD = "aZ0 ~!*'()&%?#;:,@$+=/ü-_.";

interface SentRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
}

/** The request the SDK would have sent. */
async function signedBySdk(
  command: GetObjectCommand | ListObjectsV2Command,
  credentials: S3Credentials,
  region: string,
): Promise<SentRequest> {
  let sent: SentRequest | undefined;
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const client = new S3Client({
    endpoint: "http://h.example:8080",
    region,
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
    requestHandler: {
      handle: (request: SentRequest) => {
        sent = request;
        return Promise.reject(new Error("not sent"));
      },
    },
  });
  await expect(command instanceof GetObjectCommand ? client.send(command) : client.send(command)).rejects.toThrow();
  if (sent === undefined) throw new Error("the SDK signed nothing");
  return sent;
}

/** A small generator of its own, so that a seed says it all. */
function randomSource(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
