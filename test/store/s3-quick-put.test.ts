/**
 * The small put beside the SDK: it sends what the SDK would send, and hands every answer but the plain ones to the SDK without
 * storing twice and without taking its own object for a conflict.
 */
import { randomBytes } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { startS3 } from "../harness/s3.ts";
import { type Answer, type ScriptedRequest, TEST_ENV, startAnswering, startProxy, startTcp } from "./scripted-s3.ts";

const MIB = 1024 * 1024;
/** Only the SDK numbers its sendings. */
const isFromSdk = ({ headers }: Pick<ScriptedRequest, "headers">): boolean => headers["amz-sdk-request"] !== undefined;

/** A server that answers `first` to the first small put, and keeps what is stored. */
async function startStoring(first: (request: ScriptedRequest) => Answer & { readonly isStored?: true }) {
  const objects = new Map<string, Buffer>();
  const seen: ScriptedRequest[] = [];
  let isFirst = true;
  const server = await startAnswering((request) => {
    const { method, url, body } = request;
    if (method === "GET") {
      const there = objects.get(url);
      if (there === undefined) return { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
      return { status: 200, body: there.toString() };
    }
    seen.push(request);
    if (isFirst && !isFromSdk(request)) {
      isFirst = false;
      const answer = first(request);
      if (answer.isStored === true) objects.set(url, body);
      return answer;
    }
    if (objects.has(url)) return { status: 412, body: "<Error><Code>PreconditionFailed</Code></Error>" };
    objects.set(url, body);
    return { status: 200 };
  });
  return { server, seen, objects, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

describe("a small put", () => {
  test.each(["", "&checksum=md5", "&checksum=sha256", "&checksum=none", "&sse=aws:kms&kmsKeyId=key-1&storageClass=X"])(
    "sends what the SDK sends, and signs it so that it holds: %s",
    async (query) => {
      const seen: ScriptedRequest[] = [];
      await using server = await startAnswering((request) => {
        seen.push(request);
        return { status: 200 };
      });
      const store = server.store(query);
      for (const key of ["first", "a=b+c/d_e-f.g"]) await store.put(key, Buffer.from("123456789"));
      const [sdk, small] = seen;
      expect(sdk !== undefined && isFromSdk(sdk)).toBe(true);
      expect(small !== undefined && isFromSdk(small)).toBe(false);
      expect(small?.url).toBe("/bucket/p/a%3Db%2Bc/d_e-f.g");
      const meant = (request: ScriptedRequest | undefined): Record<string, unknown> => {
        const { authorization, "x-amz-date": date, ...headers } = request?.headers ?? {};
        expect(authorization).toMatch(/^AWS4-HMAC-SHA256 Credential=AKIDTEST\/\d{8}\/us-east-1\/s3\/aws4_request, /);
        expect(date).toMatch(/^\d{8}T\d{6}Z$/);
        return { ...headers, "amz-sdk-invocation-id": undefined, "amz-sdk-request": undefined };
      };
      expect(meant(small)).toEqual(meant(sdk));
      const signed = /SignedHeaders=([^,]*)/.exec(String(small?.headers["authorization"]))?.[1]?.split(";") ?? [];
      expect(signed).toEqual(expect.arrayContaining(["host", "if-none-match", "x-amz-content-sha256", "x-amz-date"]));
    },
  );

  test("is left to the SDK when it is large", async () => {
    const seen: ScriptedRequest[] = [];
    await using server = await startAnswering((request) => {
      seen.push(request);
      return { status: 200 };
    });
    const store = server.store();
    for (const [key, bytes] of Object.entries({ first: 1, large: 2 * MIB, small: MIB })) {
      await store.put(key, randomBytes(bytes));
    }
    expect(seen.map(isFromSdk)).toEqual([true, true, false]);
  });

  test.each([412, 304])("that meets %d says that the key is there, without a second request", async (status) => {
    await using server = await startAnswering(({ number }) => ({ status: number === 1 ? 200 : status }));
    const store = server.store();
    await store.put("a", Buffer.from("x"));
    expect(await store.put("b", Buffer.from("x"))).toBe("exists");
    expect(server.requests).toHaveLength(2);
  });

  const odd: readonly { what: string; answer: Answer }[] = [
    { what: "a page of HTML", answer: { status: 200, body: "<html></html>" } },
    { what: "no ETag", answer: { status: 200, isWithoutETag: true } },
    { what: "204", answer: { status: 204 } },
    { what: "503", answer: { status: 503, body: "<Error><Code>SlowDown</Code></Error>" } },
    { what: "307", answer: { status: 307, body: "<Error><Code>TemporaryRedirect</Code></Error>" } },
    { what: "403", answer: { status: 403, body: "<Error><Code>RequestTimeTooSkewed</Code></Error>" } },
  ];
  test.each(odd)("answered with $what goes through the SDK, and the next one is small again", async ({ answer }) => {
    await using storing = await startStoring(() => answer);
    const store = storing.server.store();
    for (const key of ["a", "b", "c"]) expect(await store.put(key, Buffer.from(key))).toBe("created");
    expect(storing.seen.map(({ url }) => url.slice(-1))).toEqual(["a", "b", "b", "c"]);
    expect(storing.seen.map(isFromSdk)).toEqual([true, false, true, false]);
  });

  test.each(odd)("stored although it was answered with $what is ours, not a conflict", async ({ answer }) => {
    await using storing = await startStoring(() => ({ ...answer, isStored: true }));
    const store = storing.server.store();
    for (const key of ["a", "b"]) expect(await store.put(key, Buffer.from(key))).toBe("created");
    expect(storing.objects.get("/bucket/p/b")?.toString()).toBe("b");
  });

  test("that was answered with 503 while another writer stored the key finds that key taken", async () => {
    await using storing = await startStoring(({ url }) => {
      storing.objects.set(url, Buffer.from("another's"));
      return { status: 503 };
    });
    const store = storing.server.store();
    await store.put("a", Buffer.from("a"));
    expect(await store.put("b", Buffer.from("b"))).toBe("exists");
    expect(storing.objects.get("/bucket/p/b")?.toString()).toBe("another's");
  });

  test("refused by the SDK's way too is that error, and no further small put is tried until one is stored", async () => {
    let isDown = false;
    const seen: boolean[] = [];
    await using server = await startAnswering((request) => {
      seen.push(isFromSdk(request));
      return isDown ? { status: 503, body: "<Error><Code>SlowDown</Code></Error>" } : { status: 200 };
    });
    const store = server.store();
    await store.put("a", Buffer.from("x"));
    isDown = true;
    for (let time = 0; time < 3; time += 1) {
      await expect(store.put("b", Buffer.from("x"))).rejects.toMatchObject({ code: "store-unavailable" });
    }
    isDown = false;
    for (const key of ["b", "c"]) expect(await store.put(key, Buffer.from("x"))).toBe("created");
    expect(seen).toEqual([true, false, true, true, true, true, false]);
  });

  test("without an answer is an error of the store, for store/retry.ts to repeat", async () => {
    const OK = 'HTTP/1.1 200 OK\r\netag: "e"\r\ncontent-length: 0\r\n\r\n';
    for (const ending of ["silence", "drop"] as const) {
      let requests = 0;
      await using server = await startTcp((socket, connection) =>
        socket.on("data", () => {
          requests += 1;
          if (requests === 1 && connection === 1) socket.write(OK);
          else if (ending === "drop") socket.destroy();
        }),
      );
      const store = impatient(server.endpoint);
      await store.put("a", Buffer.from("x"));
      await expect(store.put("b", Buffer.from("x"))).rejects.toMatchObject({
        ...{ code: "store-unavailable", retryable: true },
      });
      await store.close();
    }
  });

  test("is ended by its signal and by the store's end", async () => {
    let isSilent = false;
    await using server = await startTcp((socket) =>
      socket.on("data", () => isSilent || socket.write('HTTP/1.1 200 OK\r\netag: "e"\r\ncontent-length: 0\r\n\r\n')),
    );
    const store = server.store();
    await store.put("a", Buffer.from("x"));
    isSilent = true;
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 30);
    await expect(store.put("b", Buffer.from("x"), { signal: stop.signal })).rejects.toMatchObject({ code: "aborted" });
    setTimeout(() => void store.close(), 30);
    await expect(store.put("c", Buffer.from("x"))).rejects.toMatchObject({ code: "aborted" });
  });

  test("whose checksum the server names differently is store-checksum", async () => {
    await using server = await startAnswering(({ number }) => ({
      status: 200,
      headers: number === 1 ? {} : { "x-amz-checksum-crc32c": "AAAAAA==" },
    }));
    const store = server.store();
    await store.put("a", Buffer.from("x"));
    await expect(store.put("b", Buffer.from("x"))).rejects.toMatchObject({ code: "store-checksum" });
  });
});

const s3 = await startS3();
describe.skipIf(!s3.available)("a small put to a real server", () => {
  const bucket = s3.available ? s3.bucket() : undefined;
  afterAll(async () => (await bucket)?.[Symbol.asyncDispose]());

  test.each(["", "&checksum=md5", "&checksum=sha256", "&checksum=none"])(
    "is stored, and read as it was%s",
    async (query) => {
      const store = openStore(((await bucket)?.urlFor(randomBytes(4).toString("hex")) ?? "") + query, { env: s3.env });
      for (const key of ["a", "b", "c", "d=e+f/g_h-i.j"]) {
        const body = randomBytes(8192);
        expect(await store.put(key, body)).toBe("created");
        expect(await store.put(key, body)).toBe("exists");
        expect(Buffer.compare((await store.get(key))?.body ?? Buffer.alloc(0), body)).toBe(0);
      }
      await store.close();
    },
  );

  test("whose answer is lost on the way is stored once, and is no conflict", async () => {
    let puts = 0;
    await using proxy = await startProxy(s3.endpoint, ({ method }) =>
      method === "PUT" && (puts += 1) === 2 ? { kind: "lose-answer" } : undefined,
    );
    const name = (await bucket)?.name ?? "";
    const store = openStore(`s3://${name}/${randomBytes(4).toString("hex")}?endpoint=${proxy.endpoint}`, {
      env: s3.env,
    });
    await store.put("a", Buffer.from("a"));
    // The kept connection ends without an answer, so the request is sent again, and finds its own object.
    expect(await store.put("b", Buffer.from("b"))).toBe("created");
    expect(proxy.requests.filter((request) => request.startsWith("PUT"))).toHaveLength(3);
    expect(Buffer.from((await store.get("b"))?.body ?? []).toString()).toBe("b");
    await store.close();
  });
});

function impatient(endpoint: string): Store {
  return openStore(`s3://bucket/p?endpoint=${endpoint}&requestTimeoutMs=250`, { env: TEST_ENV });
}
