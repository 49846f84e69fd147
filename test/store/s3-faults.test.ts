/** What S3 servers and networks do wrong, and what the store makes of it. */
import { randomBytes } from "node:crypto";
import { type Socket } from "node:net";
import { afterAll, describe, expect, test } from "vitest";
import type { SeawallError } from "../../src/errors.ts";
import { openStore } from "../../src/store/open.ts";
import { type Store } from "../../src/store/store.ts";
import { startS3 } from "../harness/s3.ts";
import { all, collect, pieces } from "./contract-bodies.ts";
import { TEST_ENV, startAnswering, startProxy, startTcp } from "./scripted-s3.ts";

const MIB = 1024 * 1024;
const OK_HEAD = 'HTTP/1.1 200 OK\r\netag: "e"\r\n';
const errorOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error: unknown) => error,
  );

/** `right`: the one that is named when everything is refused. */
const METHODS: readonly { what: string; right: string; call: (store: Store) => Promise<unknown> }[] = [
  { what: "put", right: "s3:PutObject", call: (store) => store.put("k", Buffer.from("x")) },
  { what: "putStream", right: "s3:PutObject", call: (store) => store.putStream("k", pieces([Buffer.from("x")])) },
  { what: "get", right: "s3:ListBucket", call: (store) => store.get("k") },
  { what: "getStream", right: "s3:ListBucket", call: async (store) => collect((await store.getStream("k"))?.body) },
  { what: "head", right: "s3:ListBucket", call: (store) => store.head("k") },
  { what: "list", right: "s3:ListBucket", call: (store) => all(store.list("")) },
  { what: "listPrefixes", right: "s3:ListBucket", call: (store) => store.listPrefixes("") },
  { what: "delete", right: "s3:DeleteObject", call: (store) => store.delete(["k"]) },
];
/** putStream retries its parts by itself; here one try is enough. */
const ONCE = { attemptsMax: 1, elapsedMsMax: 60_000, baseMs: 1, capMs: 1, attemptTimeoutMs: 60_000 };

describe("a server that stalls", () => {
  test.each(METHODS)("$what: never answered", async ({ call }) => {
    await using server = await startTcp((socket) => socket.resume());
    await expect(call(impatient(server.endpoint))).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining("silent for 250 ms") as string,
    });
  });

  test.each(METHODS)("$what: the head of an answer, and then nothing", async ({ what, call }) => {
    await using server = await startTcp((socket) =>
      socket.once("data", () => socket.write(`${OK_HEAD}content-length: 9\r\n\r\nabc`)),
    );
    // A HEAD's answer has no body to wait for; without Last-Modified it is refused at once.
    const code = what === "head" ? "store-unsupported" : "store-unavailable";
    await expect(call(impatient(server.endpoint))).rejects.toMatchObject({ code });
  });

  test("an answer that drips is cut off as a whole, though no wait is long", async () => {
    await using server = await startTcp((socket) => {
      socket.once("data", () => {
        socket.write(`${OK_HEAD}content-length: 1000\r\n\r\n`);
        const drip = setInterval(() => socket.write("x"), 20);
        socket.on("close", () => clearInterval(drip));
      });
    });
    await expect(impatient(server.endpoint).get("k")).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test("a server that does not read a large body", async () => {
    await using server = await startTcp((socket) => socket.pause());
    await expect(impatient(server.endpoint).put("k", randomBytes(32 * MIB))).rejects.toMatchObject({
      code: "store-unavailable",
    });
  });

  test("an error that comes before the body was read: nothing is sent of the body once the put has ended", async () => {
    let answered: Socket | undefined;
    await using server = await startTcp((socket) =>
      socket.once("data", () => {
        answered = socket.pause();
        socket.write("HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n");
      }),
    );
    const body = Buffer.alloc(32 * MIB, "a");
    await expect(server.store().put("k", body)).rejects.toMatchObject({ code: "store-unavailable" });
    // As the codec does, which encodes the next object into the same memory.
    body.fill("b");
    let received = 0;
    let isChanged = false;
    await new Promise<void>((resolve) => {
      answered?.on("data", (chunk) => {
        received += chunk.length;
        isChanged ||= chunk.includes("b");
        if (received > 30 * MIB) resolve();
      });
      answered?.on("close", () => resolve());
      answered?.resume();
    });
    expect(isChanged).toBe(false);
    expect(received).toBeLessThan(30 * MIB);
  });

  test.each([
    { what: "get", call: (store: Store, signal: AbortSignal) => store.get("k", { signal }) },
    {
      what: "putStream",
      call: (store: Store, signal: AbortSignal) => store.putStream("k", pieces([Buffer.from("x")]), { signal }),
    },
  ])("$what: a caller's stop is heard at whatever point of the way to a request it comes", async ({ call }) => {
    await using server = await startTcp((socket) => socket.resume());
    const store = impatient(server.endpoint);
    await errorOf(store.get("k"));
    for (let turns = 0; turns < 40; turns++) {
      const stop = new AbortController();
      const ended = errorOf(call(store, stop.signal));
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      stop.abort();
      expect({ turns, error: await ended }).toMatchObject({ turns, error: { code: "aborted" } });
    }
  });

  test("a reader that takes its time is not a stalled server", async () => {
    const body = randomBytes(1000);
    await using server = await startTcp((socket) => {
      socket.once("data", () => {
        socket.write(`${OK_HEAD}content-length: 1000\r\n\r\n`);
        socket.write(body.subarray(0, 500));
        setTimeout(() => socket.write(body.subarray(500)), 50);
      });
    });
    const got = await impatient(server.endpoint).getStream("k");
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(Buffer.compare(await collect(got?.body), body)).toBe(0);
  });

  test("an abort ends a call that hangs, with `aborted`", async () => {
    await using server = await startTcp((socket) => socket.resume());
    for (const { call } of METHODS.filter(({ what }) => what === "put" || what === "get")) {
      const controller = new AbortController();
      const store = openStore(`s3://bucket?endpoint=${server.endpoint}`, { env: TEST_ENV });
      const hung = call(abortable(store, controller.signal));
      setTimeout(() => controller.abort(), 30);
      await expect(hung).rejects.toMatchObject({ code: "aborted" });
      await store.close();
    }
  });

  test("close ends a call that hangs, with `aborted`", async () => {
    await using server = await startTcp((socket) => socket.resume());
    const store = server.store();
    const hung = errorOf(store.get("k"));
    setTimeout(() => void store.close(), 30);
    expect(await hung).toMatchObject({ code: "aborted" });
  });
});

describe("a server that hangs up", () => {
  test.each(METHODS)("$what: without an answer", async ({ call }) => {
    await using server = await startTcp((socket) => socket.once("data", () => socket.destroy()));
    await expect(call(oneTry(server.endpoint))).rejects.toMatchObject({
      code: "store-unavailable",
      retryable: true,
    });
  });

  test.each(METHODS.filter(({ what }) => what === "get" || what === "getStream" || what === "list"))(
    "$what: in the middle of the body",
    async ({ call }) => {
      await using server = await startTcp((socket) =>
        socket.once("data", () => socket.end(`${OK_HEAD}content-length: 9\r\n\r\nabc`)),
      );
      await expect(call(server.store())).rejects.toMatchObject({ code: "store-unavailable" });
    },
  );

  test("a kept connection that was closed meanwhile is replaced, and no caller notices", async () => {
    const seen: number[] = [];
    await using server = await startTcp((socket, connection) => {
      let requests = 0;
      socket.on("data", () => {
        seen.push(connection);
        // The first connection serves one request and dies at the second.
        if (connection === 1 && (requests += 1) === 2) socket.destroy();
        else socket.write(`${OK_HEAD}content-length: 1\r\n\r\nx`);
      });
    });
    const store = server.store();
    expect((await store.get("k"))?.objectBytes).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await store.get("k"))?.objectBytes).toBe(1);
    expect(seen).toEqual([1, 1, 2]);
  });

  test("no server listens", async () => {
    const server = await startTcp(() => undefined);
    const { endpoint } = server;
    await server[Symbol.asyncDispose]();
    expect(await errorOf(oneTry(endpoint).put("k", Buffer.from("x")))).toMatchObject({
      code: "store-unavailable",
      hint: expect.stringContaining(`Nothing listens at ${endpoint}`) as string,
    });
  });

  test("https:// to a server that speaks plain HTTP", async () => {
    await using server = await startAnswering(() => ({ status: 200 }));
    const store = oneTry(server.endpoint.replace("http:", "https:"));
    expect(await errorOf(store.put("k", Buffer.from("x")))).toMatchObject({
      code: "store-unavailable",
      hint: expect.stringContaining("http://") as string,
    });
  });
});

describe("a server that refuses", () => {
  const xml = (code: string, more = ""): string => `<?xml version="1.0"?>\n<Error><Code>${code}</Code>${more}</Error>`;
  const rows: readonly {
    status: number;
    body: string;
    headers?: Record<string, string>;
    code: string;
    hint: string;
  }[] = [
    { status: 503, body: xml("SlowDown"), code: "store-unavailable", hint: "fewer requests" },
    { status: 503, body: "", code: "store-unavailable", hint: "Check http" },
    { status: 500, body: xml("InternalError"), code: "store-unavailable", hint: "Check http" },
    { status: 429, body: "too many", code: "store-unavailable", hint: "Check http" },
    { status: 409, body: xml("ConditionalRequestConflict"), code: "store-unavailable", hint: "Check http" },
    { status: 409, body: xml("ExistingObjectIsDirectory"), code: "store-unavailable", hint: "Check http" },
    { status: 404, body: "<html>no such page</html>", code: "store-unavailable", hint: "Check http" },
    { status: 404, body: xml("NoSuchBucket"), code: "store-missing", hint: "Create the bucket bucket at http" },
    { status: 403, body: xml("AccessDenied"), code: "store-denied", hint: "Allow these credentials s3:" },
    { status: 403, body: "", code: "store-denied", hint: "Allow these credentials s3:" },
    { status: 401, body: "", code: "store-denied", hint: "Allow these credentials s3:" },
    { status: 400, body: xml("ExpiredToken"), code: "store-denied", hint: "session token" },
    { status: 400, body: "<html>Bad request</html>", code: "store-unavailable", hint: "not an S3 server's" },
    { status: 403, body: "<html>Forbidden</html>", code: "store-unavailable", hint: "not an S3 server's" },
    { status: 413, body: "<html>Too large</html>", code: "store-unavailable", hint: "not an S3 server's" },
    { status: 400, body: xml("KMS.DisabledException"), code: "store-denied", hint: "kmsKeyId" },
    { status: 403, body: xml("InvalidObjectState"), code: "store-denied", hint: "Glacier" },
    { status: 400, body: xml("ObjectLocked"), code: "store-denied", hint: "legal hold" },
    { status: 400, body: xml("InvalidRequest"), code: "store-unsupported", hint: "Object Lock" },
    {
      status: 307,
      body: xml("TemporaryRedirect", "<Region>eu-north-1</Region>"),
      code: "store-unavailable",
      hint: "region=eu-north-1",
    },
    {
      status: 400,
      body: xml("InvalidRequest", "<Region>eu-north-1</Region>"),
      code: "store-unsupported",
      hint: "region=eu-north-1",
    },
    { status: 403, body: xml("QuotaExceeded"), code: "store-full", hint: "quota of bucket" },
    { status: 507, body: "", code: "store-full", hint: "Free space" },
    { status: 400, body: xml("BadDigest"), code: "store-checksum", hint: "alters data" },
    { status: 400, body: xml("XAmzContentSHA256Mismatch"), code: "store-checksum", hint: "alters data" },
    { status: 501, body: xml("NotImplemented"), code: "store-unsupported", hint: "checksum=sha256" },
    { status: 400, body: xml("InvalidArgument"), code: "store-unsupported", hint: "If-None-Match" },
    {
      status: 301,
      body: xml("PermanentRedirect"),
      headers: { "x-amz-bucket-region": "eu-north-1" },
      code: "store-missing",
      hint: "region=eu-north-1",
    },
    {
      status: 400,
      body: xml("AuthorizationHeaderMalformed", "<Region>eu-north-1</Region>"),
      code: "store-unsupported",
      hint: "region=eu-north-1",
    },
  ];
  test.each(rows)("$status $body is $code", async ({ status, body, headers, code, hint }) => {
    await using server = await startAnswering(() => ({ status, body, headers: headers ?? {} }));
    const store = oneTry(server.endpoint);
    for (const { call } of METHODS) {
      const error = await errorOf(call(store));
      expect(error).toMatchObject({ code, hint: expect.stringContaining(hint) as string });
      expect(error).toMatchObject({ message: expect.stringContaining(server.endpoint) as string });
      expect(JSON.stringify(error)).not.toContain(TEST_ENV.AWS_SECRET_ACCESS_KEY);
    }
  });

  test.each(METHODS)("$what is refused with 403: the hint names $right", async ({ call, right }) => {
    await using server = await startAnswering(() => ({ status: 403, body: xml("AccessDenied") }));
    const error = await errorOf(call(oneTry(server.endpoint)));
    const hint = expect.stringContaining(`${right} on arn:aws:s3:::bucket`) as string;
    expect(error).toMatchObject({ code: "store-denied", details: { right }, hint });
  });

  test("our clock is off: the next request is dated by the server's, and a server that refuses that too is an error", async () => {
    const dates: number[] = [];
    let refusals = 1;
    const ahead = new Date(Date.now() + 3 * 3_600_000);
    await using server = await startAnswering(({ headers }) => {
      const [, day = "", time = ""] = /^(\d{8})T(\d{6})Z$/.exec(String(headers["x-amz-date"])) ?? [];
      dates.push(Date.parse(`${day}T${time}Z`.replace(/(....)(..)(..)T(..)(..)(..)/, "$1-$2-$3T$4:$5:$6")));
      const date = { date: ahead.toUTCString() };
      if ((refusals -= 1) < 0) return { status: 200, headers: date };
      return { status: 403, headers: date, body: xml("RequestTimeTooSkewed") };
    });
    const store = oneTry(server.endpoint);
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({ code: "store-unavailable" });
    expect(await store.put("k", Buffer.from("x"))).toBe("created");
    expect(Math.abs((dates[1] ?? 0) - ahead.getTime())).toBeLessThan(120_000);
    // The small put is refused, and so is the SDK's after it.
    refusals = 2;
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({
      code: "store-denied",
      hint: expect.stringContaining("seconds: set the clock") as string,
    });
  });

  test.each([
    { given: "7", expected: 7000 },
    { given: "0", expected: 0 },
    { given: "Fri, 24 May 2013 00:00:00 GMT", expected: 0 },
    { given: "soon", expected: undefined },
  ])("a store that asks for time is heard: Retry-After $given", async ({ given, expected }) => {
    const headers = { "retry-after": given };
    await using server = await startAnswering(() => ({ status: 503, headers, body: xml("SlowDown") }));
    const error = (await errorOf(oneTry(server.endpoint).put("k", Buffer.from("x")))) as SeawallError;
    expect(error.details["retryAfterMs"]).toBe(expected);
  });

  test("what a server says is told without the secrets in it", async () => {
    const body = xml("AccessDenied", "<Message>for https://u:hidden@proxy and SecretAccessKey=hidden</Message>");
    await using server = await startAnswering(() => ({ status: 403, body }));
    const error = (await errorOf(oneTry(server.endpoint).put("k", Buffer.from("x")))) as SeawallError;
    expect(error.details["s3Message"]).toContain("for https://u:");
    expect(JSON.stringify(error.details)).not.toContain("hidden");
  });

  test("304 to a put means that the key is there", async () => {
    await using server = await startAnswering(() => ({ status: 304 }));
    expect(await server.store().put("k", Buffer.from("x"))).toBe("exists");
  });

  test.each([
    { status: 403, code: "AccessDenied" },
    { status: 501, code: "NotImplemented" },
    { status: 400, code: "BadDigest" },
  ])("a deletion of many that is refused with $status $code is done one by one", async ({ status, code }) => {
    await using server = await startAnswering(({ method }) =>
      method === "POST" ? { status, body: xml(code) } : { status: 204 },
    );
    await server.store().delete(["a", "b", "a"]);
    expect([...server.requests].sort()).toEqual(["DELETE /bucket/p/a", "DELETE /bucket/p/b", "POST /bucket/?delete="]);
  });

  test("a deletion that is refused both ways names the key and the reason", async () => {
    await using server = await startAnswering(() => ({ status: 403, body: xml("AccessDenied") }));
    await expect(server.store().delete(["a"])).rejects.toMatchObject({
      code: "store-denied",
      message: expect.stringContaining("delete a: AccessDenied") as string,
    });
  });

  const listing = (keys: readonly string[]): string => {
    const contents = keys.map(
      (key) => `<Contents><Key>${key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`,
    );
    return `<ListBucketResult><KeyCount>${keys.length}</KeyCount><IsTruncated>false</IsTruncated>${contents.join("")}</ListBucketResult>`;
  };
  test.each([
    { what: "the listing lacks it: absent", listed: [], head: 403, then: "absent" },
    { what: "a longer key alone: absent", listed: ["p/k2"], head: 403, then: "absent" },
    { what: "listed and still refused: a right is missing", listed: ["p/k"], head: 403, then: "s3:GetObject" },
    { what: "listed and readable now: it appeared meanwhile", listed: ["p/k"], head: 200, then: "absent" },
    { what: "listing is refused as well", listed: undefined, head: 403, then: "s3:ListBucket" },
  ])("403 to a get, where S3 tells absent from refused only by a listing: $what", async ({ listed, head, then }) => {
    await using server = await startAnswering(({ method, url }) => {
      if (method === "HEAD") return { status: head };
      if (url?.includes("list-type") === true && listed !== undefined) return { status: 200, body: listing(listed) };
      return { status: 403, body: xml("AccessDenied") };
    });
    const found = server.store().get("k");
    if (then === "absent") expect(await found).toBeUndefined();
    else await expect(found).rejects.toMatchObject({ code: "store-denied", details: { right: then } });
  });

  test("403 to a get, and a listing that fails for a while: tried again, never absent", async () => {
    let outages = 1;
    await using server = await startAnswering(({ url }) => {
      if (url?.includes("list-type") !== true) return { status: 403, body: xml("AccessDenied") };
      return (outages -= 1) < 0 ? { status: 200, body: listing([]) } : { status: 503, body: xml("SlowDown") };
    });
    await expect(oneTry(server.endpoint).get("k")).rejects.toMatchObject({ code: "store-unavailable" });
    expect(await oneTry(server.endpoint).get("k")).toBeUndefined();
  });

  test("412 to a put is `exists`, and the condition was sent and signed", async () => {
    let seen: Record<string, unknown> = {};
    await using server = await startAnswering(({ headers }) => {
      seen = headers;
      return { status: 412, body: xml("PreconditionFailed") };
    });
    expect(await server.store().put("k", Buffer.from("x"))).toBe("exists");
    expect(seen["if-none-match"]).toBe("*");
    expect(seen["authorization"]).toMatch(/SignedHeaders=[^,]*if-none-match/);
  });

  test("a key that could not be deleted is named, with the server's reason", async () => {
    const body = `<DeleteResult><Error><Key>p/b</Key><Code>AccessDenied</Code></Error></DeleteResult>`;
    await using server = await startAnswering(() => ({ status: 200, body }));
    await expect(server.store().delete(["a", "b"])).rejects.toMatchObject({
      code: "store-denied",
      message: expect.stringContaining("delete b: AccessDenied") as string,
    });
  });
});

describe("an object without a length", () => {
  const whole = "0123456789";
  /** Closes the connection where the body ends, without Content-Length or chunks. */
  const startWithoutLength = (body: string) =>
    startTcp((socket) =>
      socket.once("data", (data) => {
        const isHead = data.toString("latin1").startsWith("HEAD");
        const isRange = /range: bytes=0-0/i.test(data.toString("latin1"));
        const facts = "last-modified: Fri, 24 May 2013 00:00:00 GMT\r\n";
        if (isRange) {
          socket.end(
            `HTTP/1.1 206 Partial\r\netag: "e"\r\n${facts}content-range: bytes 0-0/10\r\ncontent-length: 1\r\n\r\n0`,
          );
        } else socket.end(`${OK_HEAD}${facts}connection: close\r\n\r\n${isHead ? "" : body}`);
      }),
    );

  test("has the size that the store names for it", async () => {
    await using server = await startWithoutLength(whole);
    const store = oneTry(server.endpoint);
    expect((await store.get("k"))?.objectBytes).toBe(10);
    const got = await store.getStream("k");
    expect(got?.objectBytes).toBe(10);
    expect((await collect(got?.body)).toString()).toBe(whole);
    expect((await store.head("k"))?.bytes).toBe(10);
  });

  test("and that is cut is an error, not a short object", async () => {
    await using server = await startWithoutLength(whole.slice(0, 4));
    const store = oneTry(server.endpoint);
    await expect(store.get("k")).rejects.toMatchObject({ code: "store-unavailable" });
    const got = await store.getStream("k");
    await expect(collect(got?.body)).rejects.toMatchObject({ code: "store-unavailable" });
  });
});

describe("a server that lies", () => {
  test("a page of HTML with status 200 is no object", async () => {
    await using server = await startAnswering(() => ({ status: 200, body: "<html></html>", isWithoutETag: true }));
    const store = oneTry(server.endpoint);
    await expect(store.get("k")).rejects.toMatchObject({ code: "store-unavailable" });
    await expect(store.getStream("k")).rejects.toMatchObject({ code: "store-unavailable" });
    await expect(store.head("k")).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test("a stream that is no object is not waited for: its connection ends", async () => {
    let onClose = (): void => undefined;
    const closed = new Promise<void>((resolve) => (onClose = resolve));
    await using server = await startTcp((socket) => {
      socket.once("data", () => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n<html>"));
      socket.once("close", () => onClose());
    });
    await expect(server.store().getStream("k")).rejects.toMatchObject({ code: "store-unavailable" });
    await closed;
  });

  test("another CRC-32C than ours, after a put and with a whole object", async () => {
    const headers = { "x-amz-checksum-crc32c": "AAAAAA==" };
    await using server = await startAnswering(({ method }) => ({
      status: 200,
      headers,
      body: method === "PUT" ? "" : "not that",
    }));
    const store = server.store();
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({ code: "store-checksum" });
    await expect(store.get("k")).rejects.toMatchObject({ code: "store-checksum" });
    const got = await store.getStream("k");
    await expect(collect(got?.body)).rejects.toMatchObject({ code: "store-checksum" });
  });

  test("the CRC-32C of an object is compared, and one of several parts says nothing about the whole", async () => {
    for (const value of ["4waSgw==", "AAAAAA==-3"]) {
      const headers = { "x-amz-checksum-crc32c": value };
      // CRC-32C of "123456789", the catalogue's check value: E3069283.
      await using server = await startAnswering(() => ({ status: 200, headers, body: "123456789" }));
      expect((await server.store().get("k"))?.objectBytes).toBe(9);
    }
  });

  test("a range is ignored: the part asked for is cut out of the whole", async () => {
    await using server = await startAnswering(() => ({ status: 200, body: "0123456789" }));
    const got = await server.store().get("k", { range: { offset: 3, length: 4 } });
    expect(Buffer.from(got?.body ?? []).toString()).toBe("3456");
    expect(got?.objectBytes).toBe(10);
  });

  test.each(["bytes 0-3/10", "bytes 3-7/10", "3-6/10", ""])(
    "another range comes than was asked for: %j",
    async (range) => {
      await using server = await startAnswering(() => ({
        status: 206,
        headers: { "content-range": range },
        body: "3456",
      }));
      const got = server.store().get("k", { range: { offset: 3, length: 4 } });
      await expect(got).rejects.toMatchObject({ code: "store-unsupported" });
    },
  );

  test("a listing that never ends, and one that is none", async () => {
    for (const body of ["<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "<html></html>"]) {
      await using server = await startAnswering(() => ({ status: 200, body }));
      await expect(all(server.store().list(""))).rejects.toMatchObject({ code: "store-unavailable" });
    }
  });

  test("a document larger than any real one is not read to its end", async () => {
    await using server = await startAnswering(() => ({ status: 200, body: "x".repeat(9 * MIB) }));
    await expect(all(server.store().list(""))).rejects.toMatchObject({ code: "store-unsupported" });
  });
});

const s3 = await startS3();
describe.skipIf(!s3.available)("between us and a real server", () => {
  const bucket = s3.available ? s3.bucket() : undefined;
  afterAll(async () => (await bucket)?.[Symbol.asyncDispose]());
  const openAt = async (endpoint: string, query = ""): Promise<Store> =>
    openStore(`s3://${(await bucket)?.name ?? ""}/${randomBytes(6).toString("hex")}?endpoint=${endpoint}${query}`, {
      env: s3.env,
    });

  for (const checksum of ["crc32c", "sha256", "md5"]) {
    test(`a bit flipped on the way is refused by the server as store-checksum (checksum=${checksum})`, async () => {
      await using proxy = await startProxy(s3.endpoint, ({ method }) =>
        method === "PUT" ? { kind: "flip-bit" } : undefined,
      );
      const store = await openAt(proxy.endpoint, `&checksum=${checksum}`);
      await expect(store.put("k", randomBytes(8192))).rejects.toMatchObject({
        code: "store-checksum",
        retryable: true,
      });
      expect(await store.head("k")).toBeUndefined();
      await store.close();
    });
  }

  test("a part that fails twice is sent a third time, and the object is whole", async () => {
    let failures = 0;
    await using proxy = await startProxy(s3.endpoint, ({ url }) => {
      if (!url.includes("partNumber=2") || (failures += 1) > 2) return undefined;
      return failures === 1 ? { kind: "answer", answer: { status: 503 } } : { kind: "flip-bit" };
    });
    const store = await openAt(proxy.endpoint);
    const body = randomBytes(12 * MIB);
    expect(await store.putStream("k", pieces([body]), { partBytes: 5 * MIB })).toBe("created");
    expect(failures).toBe(3);
    expect(Buffer.compare((await store.get("k"))?.body ?? Buffer.alloc(0), body)).toBe(0);
    await store.close();
  });

  test("a part that fails for good ends the upload, and the upload is discarded", async () => {
    await using proxy = await startProxy(s3.endpoint, ({ url }) =>
      url.includes("partNumber=2") ? { kind: "answer", answer: { status: 403 } } : undefined,
    );
    const store = await openAt(proxy.endpoint);
    const stream = store.putStream("k", pieces([randomBytes(30 * MIB)]), { partBytes: 5 * MIB, partsInFlight: 2 });
    await expect(stream).rejects.toMatchObject({ code: "store-denied" });
    expect(proxy.requests.filter((request) => /^DELETE .*uploadId=/.test(request))).toHaveLength(1);
    expect(proxy.requests.some((request) => request.includes("partNumber=6"))).toBe(false);
    expect(await store.head("k")).toBeUndefined();
    await store.close();
  });

  test("the answer to CompleteMultipartUpload is lost: the object is there, and the stream succeeds", async () => {
    let lost = 0;
    await using proxy = await startProxy(s3.endpoint, ({ method, url }) =>
      method === "POST" && url.includes("uploadId=") && (lost += 1) === 1 ? { kind: "lose-answer" } : undefined,
    );
    const store = await openAt(proxy.endpoint);
    const body = randomBytes(6 * MIB);
    expect(await store.putStream("k", pieces([body]), { partBytes: 5 * MIB })).toBe("created");
    expect(lost).toBeGreaterThan(0);
    expect(Buffer.compare((await store.get("k"))?.body ?? Buffer.alloc(0), body)).toBe(0);
    await store.close();
  });

  test("CompleteMultipartUpload fails with a document under status 200: the upload is tried again", async () => {
    let failed = 0;
    const body = "<Error><Code>InternalError</Code></Error>";
    await using proxy = await startProxy(s3.endpoint, ({ method, url }) =>
      method === "POST" && url.includes("uploadId=") && (failed += 1) === 1
        ? { kind: "answer", answer: { status: 200, body } }
        : undefined,
    );
    const store = await openAt(proxy.endpoint);
    expect(await store.putStream("k", pieces([randomBytes(6 * MIB)]), { partBytes: 5 * MIB })).toBe("created");
    expect(failed).toBe(2);
    expect((await store.head("k"))?.bytes).toBe(6 * MIB);
    await store.close();
  });
});

/** For servers that stall. */
function impatient(endpoint: string): Store {
  return oneTry(endpoint, 250);
}

function oneTry(endpoint: string, requestTimeoutMs = 10_000): Store {
  const url = `s3://bucket/p?endpoint=${endpoint}&requestTimeoutMs=${requestTimeoutMs}`;
  return openStore(url, { env: TEST_ENV, partRetry: { policy: ONCE } });
}

/** The store with a signal in every call. */
function abortable(store: Store, signal: AbortSignal): Store {
  return {
    ...METHODS,
    description: store.description,
    put: (key, body) => store.put(key, body, { signal }),
    putStream: (key, body) => store.putStream(key, body, { signal }),
    get: (key) => store.get(key, { signal }),
    getStream: (key) => store.getStream(key, { signal }),
    head: (key) => store.head(key, { signal }),
    list: (prefix) => store.list(prefix, { signal }),
    listPages: (prefix) => store.listPages(prefix, { signal }),
    listPrefixes: (prefix) => store.listPrefixes(prefix, { signal }),
    replaceFront: (key, replacement) => store.replaceFront(key, replacement, { signal }),
    delete: (keys) => store.delete(keys, { signal }),
    close: () => store.close(),
  };
}
