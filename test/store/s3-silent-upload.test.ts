/** A server that falls silent in the middle of a multipart upload, at each of its steps; and what is left when it is back. */
import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from "../../src/store/retry.ts";
import { startS3 } from "../harness/s3.ts";
import { pieces } from "./contract-bodies.ts";
import { startProxy } from "./scripted-s3.ts";

const MIB = 1024 * 1024;
const BODY = randomBytes(17 * MIB);
/** A server counts as silent after so long. */
const SILENT_MS = 400;
/** Tries again as it does by default, sooner. */
const PATIENT: RetryPolicy = { ...DEFAULT_RETRY_POLICY, capMs: 50 };
const ONE_TRY: RetryPolicy = { ...PATIENT, attemptsMax: 1 };

interface Request {
  readonly method: string;
  readonly url: string;
}

const STEPS: readonly { readonly step: string; readonly is: (request: Request) => boolean }[] = [
  { step: "at Create", is: ({ method, url }) => method === "POST" && url.includes("uploads=") },
  { step: "after Create, in the first part", is: ({ url }) => url.includes("partNumber=1&") },
  { step: "in a later part", is: ({ url }) => url.includes("partNumber=3&") },
  { step: "at Complete", is: ({ method, url }) => method === "POST" && url.includes("uploadId=") },
];
const isAbort = ({ method, url }: Request): boolean => method === "DELETE" && url.includes("uploadId=");

const s3 = await startS3();

describe.skipIf(!s3.available)("an upload to a server that falls silent", () => {
  /** A store behind a proxy that swallows requests as `isSilent` says, and a look at what the server itself holds. */
  async function upload(isSilent: (request: Request) => boolean, policy: RetryPolicy, signal?: AbortSignal) {
    const bucket = await s3.bucket();
    const proxy = await startProxy(s3.endpoint, (request) => (isSilent(request) ? { kind: "silence" } : undefined));
    const url = `s3://${bucket.name}/p?endpoint=${proxy.endpoint}&requestTimeoutMs=${SILENT_MS}`;
    const store = openStore(url, { env: s3.env, partRetry: { policy } });
    const storing = store.putStream("k", pieces([BODY]), { partBytes: 5 * MIB, partsInFlight: 2, signal });
    const direct = openStore(`s3://${bucket.name}/p?endpoint=${s3.endpoint}`, { env: s3.env });
    const left = async () => {
      const { Uploads = [] } = await s3.client.send(new ListMultipartUploadsCommand({ Bucket: bucket.name }));
      return { uploads: Uploads.length, object: (await direct.get("k"))?.body };
    };
    const end = async (): Promise<void> => {
      await Promise.all([store.close(), direct.close()]);
      await proxy[Symbol.asyncDispose]();
      await bucket[Symbol.asyncDispose]();
    };
    return { storing, left, [Symbol.asyncDispose]: end };
  }

  test.each(STEPS)("$step, and is back after two tries: stores the object, and leaves no upload", async ({ is }) => {
    let silences = 0;
    await using running = await upload((request) => is(request) && ++silences <= 2, PATIENT);
    expect(await running.storing).toBe("created");
    expect(silences).toBeGreaterThan(2);
    const { uploads, object } = await running.left();
    expect(uploads).toBe(0);
    expect(Buffer.compare(object ?? Buffer.alloc(0), BODY)).toBe(0);
  });

  test.each(STEPS)("$step, for good: fails in time, and leaves neither object nor upload", async ({ is }) => {
    await using running = await upload(is, ONE_TRY);
    await expect(running.storing).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining(`silent for ${SILENT_MS} ms`) as string,
    });
    expect(await running.left()).toEqual({ uploads: 0, object: undefined });
  });

  test.each(STEPS)("$step, and the caller stops: ends, and leaves neither object nor upload", async ({ is }) => {
    const stop = new AbortController();
    const isSilent = (request: Request): boolean => {
      if (!is(request)) return false;
      setTimeout(() => stop.abort(), 20);
      return true;
    };
    await using running = await upload(isSilent, PATIENT, stop.signal);
    await expect(running.storing).rejects.toMatchObject({ code: "aborted" });
    expect(await running.left()).toEqual({ uploads: 0, object: undefined });
  });

  test.each(STEPS.slice(1))("$step, then at Abort, and is back: leaves no upload", async ({ is }) => {
    let silentAborts = 0;
    const isSilent = (request: Request): boolean => is(request) || (isAbort(request) && ++silentAborts <= 2);
    await using running = await upload(isSilent, ONE_TRY);
    await expect(running.storing).rejects.toMatchObject({ code: "store-unavailable" });
    expect(silentAborts).toBe(3);
    expect(await running.left()).toEqual({ uploads: 0, object: undefined });
  });

  test("for good, at Abort too: ends all the same", async () => {
    await using running = await upload((request) => request.url.includes("uploadId="), ONE_TRY);
    await expect(running.storing).rejects.toMatchObject({ code: "store-unavailable" });
    // The one upload that is left is for the bucket's lifecycle rule.
    expect(await running.left()).toEqual({ uploads: 1, object: undefined });
  });
});
