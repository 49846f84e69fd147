/** Answers that are cut, empty or of another server: each is an error, never an empty list, a stored or a deleted object. */
import { createHash, randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { crc32cBase64, crc32cOf } from "../../src/store/crc.ts";
import { openStore } from "../../src/store/open.ts";
import { type Store } from "../../src/store/store.ts";
import { all, pieces } from "./contract-bodies.ts";
import { type Answer, TEST_ENV, UPLOAD_BEGUN, UPLOAD_COMPLETED, startAnswering, startTcp } from "./scripted-s3.ts";

const MIB = 1024 * 1024;
const ONCE = { attemptsMax: 1, elapsedMsMax: 60_000, baseMs: 1, capMs: 1, attemptTimeoutMs: 60_000 };
const HTML = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>";
const NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

const contents = (key: string): string =>
  `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>"e"</ETag><Size>7</Size></Contents>`;
const listing = (inner: string, root = `ListBucketResult xmlns="${NAMESPACE}"`): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<${root}><Name>bucket</Name>${inner}</${root.split(" ")[0] ?? ""}>`;
const WHOLE = listing(
  `<Prefix>p/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>${contents("p/a")}${contents("p/b")}`,
);
const DELETED = `<?xml version="1.0"?><DeleteResult xmlns="${NAMESPACE}"><Deleted><Key>p/a</Key></Deleted><Deleted><Key>p/b</Key></Deleted></DeleteResult>`;

describe("a listing", () => {
  test("that is whole is read", async () => {
    await using server = await startAnswering(() => ({ status: 200, body: WHOLE }));
    expect((await all(once(server.endpoint).list(""))).map(({ key, bytes }) => `${key} ${bytes}`)).toEqual([
      "a 7",
      "b 7",
    ]);
  });

  test("that is cut anywhere is an error, whatever its length says", async () => {
    let body = "";
    await using server = await startAnswering(() => ({ status: 200, body }));
    const store = once(server.endpoint);
    for (let at = 0; at < WHOLE.length; at += 1) {
      body = WHOLE.slice(0, at);
      await expect(all(store.list("")), `cut at ${at}`).rejects.toMatchObject({ code: "store-unavailable" });
    }
  });

  test("whose connection is closed in the middle is an error", async () => {
    for (const framing of ["", "transfer-encoding: chunked\r\n"]) {
      await using server = await startTcp((socket) =>
        socket.once("data", () => {
          const half = WHOLE.slice(0, WHOLE.length / 2);
          const body = framing === "" ? half : `${half.length.toString(16)}\r\n${half}\r\n`;
          socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\n${framing}\r\n${body}`);
        }),
      );
      await expect(all(once(server.endpoint).list(""))).rejects.toMatchObject({ code: "store-unavailable" });
    }
  });

  const two = contents("p/a") + contents("p/b");
  const rows: readonly { what: string; body: string }[] = [
    { what: "nothing", body: "" },
    { what: "a page of HTML", body: HTML },
    { what: "another document", body: DELETED },
    { what: "an error under status 200", body: "<Error><Code>InternalError</Code></Error>" },
    { what: "no IsTruncated", body: listing(`<KeyCount>2</KeyCount>${two}`) },
    { what: "no KeyCount", body: listing(`<IsTruncated>false</IsTruncated>${two}`) },
    { what: "a KeyCount of more", body: listing(`<KeyCount>3</KeyCount><IsTruncated>false</IsTruncated>${two}`) },
    { what: "a KeyCount of none", body: listing(`<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>${two}`) },
    { what: "no token to go on with", body: listing(`<KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>${two}`) },
    {
      what: "an object without a size",
      body: listing("<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key></Contents>"),
    },
    {
      what: "a key outside of what was asked for",
      body: listing(`<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated>${contents("q/a")}`),
    },
    { what: "something behind its end", body: `${WHOLE}<html></html>` },
  ];
  test.each(rows)("with $what is an error", async ({ body }) => {
    await using server = await startAnswering(() => ({ status: 200, body }));
    await expect(all(once(server.endpoint).list(""))).rejects.toMatchObject({ code: "store-unavailable" });
    await expect(once(server.endpoint).listPrefixes("")).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test.each([
    { what: "elements with a namespace's prefix", body: WHOLE.replace(/<(\/?)(?=[A-Z])/g, "<$1s3:") },
    { what: "keys as CDATA", body: WHOLE.replace(/<Key>(.*?)<\/Key>/g, "<Key><![CDATA[$1]]></Key>") },
  ])("with $what is read in full or is an error, never an empty list", async ({ body }) => {
    await using server = await startAnswering(() => ({ status: 200, body }));
    const found = await all(once(server.endpoint).list("")).then(
      (infos) => infos.map(({ key }) => key),
      (error: unknown) => error,
    );
    if (found instanceof Error) expect(found).toMatchObject({ code: "store-unavailable" });
    else expect(found).toEqual(["a", "b"]);
  });
});

describe("a deletion", () => {
  test("whose answer is cut anywhere is an error", async () => {
    let body = DELETED;
    await using server = await startAnswering(() => ({ status: 200, body }));
    const store = once(server.endpoint);
    await store.delete(["a", "b"]);
    for (let at = 0; at < DELETED.length; at += 1) {
      body = DELETED.slice(0, at);
      await expect(store.delete(["a", "b"]), `cut at ${at}`).rejects.toMatchObject({ code: "store-unavailable" });
    }
  });

  test.each([
    { what: "nothing", body: "" },
    { what: "a page of HTML", body: HTML },
    { what: "a listing", body: WHOLE },
    { what: "no key", body: "<DeleteResult></DeleteResult>" },
    { what: "one key of two", body: "<DeleteResult><Deleted><Key>p/a</Key></Deleted></DeleteResult>" },
  ])("whose answer has $what is an error", async ({ body }) => {
    await using server = await startAnswering(() => ({ status: 200, body }));
    await expect(once(server.endpoint).delete(["a", "b"])).rejects.toMatchObject({ code: "store-unavailable" });
  });
});

test("a deletion whose answer leaves keys out is asked for again, key by key", async () => {
  const body = "<DeleteResult><Deleted><Key>p/a</Key></Deleted></DeleteResult>";
  await using server = await startAnswering(({ method }) =>
    method === "POST" ? { status: 200, body } : { status: 204 },
  );
  await once(server.endpoint).delete(["a", "b", "c"]);
  expect(server.requests).toEqual(["POST /bucket/?delete=", "DELETE /bucket/p/b", "DELETE /bucket/p/c"]);
});

describe("a put", () => {
  test.each([
    { what: "a page of HTML", answer: { status: 200, body: HTML, isWithoutETag: true } },
    { what: "a page of HTML and an ETag", answer: { status: 200, body: HTML } },
    { what: "no ETag", answer: { status: 200, isWithoutETag: true } },
    { what: "status 204", answer: { status: 204, headers: { etag: '"e"' } } },
    { what: "status 202", answer: { status: 202 } },
  ] satisfies readonly { what: string; answer: Answer }[])(
    "answered with $what is not stored, small or large",
    async ({ answer }) => {
      await using server = await startAnswering(({ method }) => (method === "PUT" ? answer : absent(method)));
      const store = once(server.endpoint);
      await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({ code: "store-unavailable" });
      await expect(store.put("k", randomBytes(2 * MIB))).rejects.toMatchObject({ code: "store-unavailable" });
      await expect(store.putStream("k", pieces([Buffer.from("x")]))).rejects.toMatchObject({
        code: "store-unavailable",
      });
    },
  );

  test("in parts, of which one is answered with HTML, is not stored", async () => {
    await using server = await startUpload({ part: { status: 200, body: HTML } });
    await expect(large(server.endpoint)).rejects.toMatchObject({ code: "store-unavailable" });
  });
});

describe("an upload's completion", () => {
  const rows: readonly { what: string; body: string }[] = [
    { what: "nothing", body: "" },
    { what: "a page of HTML", body: HTML },
    { what: "an error", body: "<Error><Code>InternalError</Code></Error>" },
    { what: "no ETag", body: "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>" },
    { what: "half of its document", body: UPLOAD_COMPLETED.slice(0, -20) },
  ];
  test.each(rows)("answered 200 with $what is not stored", async ({ body }) => {
    await using server = await startUpload({ completion: { status: 200, body } });
    await expect(large(server.endpoint)).rejects.toMatchObject({ code: "store-unavailable" });
  });

  test("answered as it must be is stored", async () => {
    await using server = await startUpload({});
    expect(await large(server.endpoint)).toBe("created");
  });
});

describe("a replacement of an object's beginning", () => {
  const old = Buffer.from("old:");
  const checksums = { "x-amz-checksum-crc32c": crc32cBase64(crc32cOf(Buffer.from("old:content"))) };

  test("whose object changed on its way here stores nothing", async () => {
    await using server = await startAnswering(({ method }) =>
      method === "GET" ? { status: 200, headers: checksums, body: "old:cOntent" } : { status: 412 },
    );
    const replaced = once(server.endpoint).replaceFront("k", { old, front: Buffer.from("new:"), objectBytes: 11 });
    await expect(replaced).rejects.toMatchObject({ code: "store-checksum" });
    expect(server.requests).toEqual(["GET /bucket/p/k"]);
  });

  const BYTES = 33 * MIB;
  const object = Buffer.alloc(BYTES, "content ");
  old.copy(object);
  const md5 = (bytes: Uint8Array): string => `"${createHash("md5").update(bytes).digest("hex")}"`;
  const rangeOf = (text: unknown): Buffer => {
    const [, from = "0", last = ""] = /^bytes=(\d+)-(\d+)$/.exec(String(text)) ?? [];
    return object.subarray(Number(from), Number(last) + 1);
  };

  test.each([
    ["ignores the range of a copy replaces nothing", () => object, { code: "store-unsupported" }],
    ["copies the range that it is given is done", rangeOf, "replaced"],
  ] as const)("on a server that %s", async (_what, copied, expected) => {
    await using server = await startAnswering(({ method, url, headers, body }) => {
      if (method === "GET") {
        const found = rangeOf(headers.range);
        const from = /^bytes=(\d+)-/.exec(headers.range ?? "")?.[1] ?? "";
        const range = `bytes ${from}-${Number(from) + found.length - 1}/${BYTES}`;
        return { status: 206, headers: { "content-range": range }, body: found.toString("latin1") };
      }
      if (method === "PUT" && headers["x-amz-copy-source"] !== undefined) {
        const etag = md5(copied(headers["x-amz-copy-source-range"]));
        return { status: 200, body: `<CopyPartResult><ETag>${etag.replaceAll('"', "&quot;")}</ETag></CopyPartResult>` };
      }
      if (method === "PUT") return { status: 200, headers: { etag: md5(body) } };
      if (method === "HEAD") return { status: 200, headers: { "content-length": String(BYTES) } };
      if (method === "POST") return { status: 200, body: url.includes("uploadId=") ? UPLOAD_COMPLETED : UPLOAD_BEGUN };
      return { status: 204 };
    });
    const front = Buffer.from("a longer beginning:");
    const replaced = once(server.endpoint).replaceFront("k", { old, front, objectBytes: BYTES });
    const result = await replaced.catch(({ code }: { code: string }) => ({ code }));
    expect(result).toEqual(expected);
    const completions = server.requests.filter((line) => line.startsWith("POST") && line.includes("uploadId="));
    expect(completions).toHaveLength(expected === "replaced" ? 1 : 0);
  });
});

function absent(method: string): Answer {
  return method === "POST" || method === "DELETE"
    ? { status: 501, body: "<Error><Code>NotImplemented</Code></Error>" }
    : { status: 404, body: "<Error><Code>NoSuchKey</Code></Error>" };
}

/** A server that takes any upload; its answers to a part and to the completion are a test's. */
function startUpload({ part, completion }: { readonly part?: Answer; readonly completion?: Answer }) {
  return startAnswering(({ method, url }) => {
    if (method === "PUT" && url.includes("partNumber=")) return part ?? { status: 200 };
    if (method === "PUT") return { status: 200 };
    if (method === "POST" && url.includes("uploadId=")) return completion ?? { status: 200, body: UPLOAD_COMPLETED };
    if (method === "POST") return { status: 200, body: UPLOAD_BEGUN };
    return method === "DELETE" ? { status: 204 } : absent(method);
  });
}

function large(endpoint: string): Promise<string> {
  return once(endpoint).putStream("k", pieces([randomBytes(11 * MIB)]), { partBytes: 5 * MIB });
}

function once(endpoint: string): Store {
  return openStore(`s3://bucket/p?endpoint=${endpoint}`, { env: TEST_ENV, partRetry: { policy: ONCE } });
}
