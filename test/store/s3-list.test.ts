/**
 * Long listings: past the first pages a thread reads them, by a reader of its own. It must find what the SDK finds, refuse what the
 * SDK's checks refuse, and stop when the reader leaves.
 */
import { randomInt } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import type { HttpHandlerOptions } from "@smithy/types";
import { readPage } from "../../src/store/s3/list-page.ts";
import { pageOf } from "../../src/store/s3/list.ts";
import { all } from "./contract-bodies.ts";
import { type Answer, type ScriptedRequest, startAnswering } from "./scripted-s3.ts";

const PAGE = 1000;
const PREFIX = "p/";
const keyAt = (at: number): string => `wal/${String(at).padStart(9, "0")}.zst`;
const record = (key: string): string =>
  `<Contents><Key>${key}</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>`;

/** Lists `total` generated objects, a thousand a page. */
function listingOf(total: number, change: (page: string, at: number) => string = (page) => page) {
  return ({ url }: Pick<ScriptedRequest, "url">): Answer => {
    const { searchParams } = new URL(url, "http://h");
    const token = searchParams.get("continuation-token")?.replace("&next=", "");
    const after = searchParams.get("start-after");
    const from = token !== undefined ? Number(token) : after === null ? 0 : Number(/\d{9}/.exec(after)?.[0]) + 1;
    const count = Math.min(PAGE, total - from);
    const records = Array.from({ length: count }, (_, i) => record(PREFIX + keyAt(from + i))).join("");
    const isTruncated = from + count < total;
    // A token that must be decoded, as of S3 servers that put markup into it.
    const next = isTruncated ? `<NextContinuationToken>&amp;next=${from + count}</NextContinuationToken>` : "";
    const facts = `<KeyCount>${count}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>${next}`;
    return { status: 200, body: change(`<ListBucketResult>${facts}${records}</ListBucketResult>`, from) };
  };
}

describe("a listing of 40 pages", () => {
  const total = 39_500;

  test("gives every object once, in order, with its facts", async () => {
    await using server = await startAnswering(listingOf(total));
    const found = await all(server.store().list(""));
    expect(found.map(({ key }) => key)).toEqual(Array.from({ length: total }, (_, at) => keyAt(at)));
    expect(new Set(found.map(({ bytes, modifiedAt }) => `${bytes} ${modifiedAt.toISOString()}`))).toEqual(
      new Set(["7 2026-01-02T03:04:05.678Z"]),
    );
    expect(server.requests).toHaveLength(40);
  });

  test("starts behind the key that it is told", async () => {
    await using server = await startAnswering(listingOf(total));
    const found = await all(server.store().list("", { startAfter: keyAt(999) }));
    expect(found).toHaveLength(total - 1000);
    expect(found[0]?.key).toBe(keyAt(1000));
  });

  test.each([
    { what: "cut", change: (page: string) => page.slice(0, -30) },
    {
      what: "without its end, its last record whole",
      change: (page: string) => page.replace("</ListBucketResult>", ""),
    },
    { what: "with a KeyCount of more", change: (page: string) => page.replace("<KeyCount>1000", "<KeyCount>1001") },
    { what: "without one record", change: (page: string) => page.replace(/<Contents>.*?<\/Contents>/, "") },
    { what: "with a key outside of what was asked for", change: (page: string) => page.replace("<Key>p/", "<Key>q/") },
    { what: "a page of HTML", change: () => "<!DOCTYPE html><html><body>Sign in</body></html>" },
    { what: "an error under status 200", change: () => "<Error><Code>InternalError</Code></Error>" },
    { what: "another document", change: () => "<DeleteResult></DeleteResult>" },
    { what: "empty", change: () => "" },
    { what: "without IsTruncated", change: (page: string) => page.replace(/<IsTruncated>.*?<\/IsTruncated>/, "") },
  ])("whose page 30 is $what is an error after the pages before it, never a shorter list", async ({ change }) => {
    await using server = await startAnswering(listingOf(total, (page, at) => (at === 29_000 ? change(page) : page)));
    let seen = 0;
    const reading = (async () => {
      for await (const page of server.store().listPages("")) seen += page.length;
    })();
    await expect(reading).rejects.toMatchObject({ code: "store-unavailable", retryable: true });
    expect(seen).toBe(29_000);
  });

  test.each([
    { status: 503, body: "<Error><Code>SlowDown</Code></Error>", code: "store-unavailable" },
    { status: 403, body: "<Error><Code>AccessDenied</Code></Error>", code: "store-denied" },
  ])("whose page 30 is refused with $status is that error", async ({ status, body, code }) => {
    const list = listingOf(total);
    await using server = await startAnswering((request) =>
      request.url.includes("next%3D29000") ? { status, body } : list(request),
    );
    await expect(all(server.store().list(""))).rejects.toMatchObject({ code });
  });

  test("asks for no page before its reader wants it, and ends when the reader leaves or stops it", async () => {
    await using server = await startAnswering(listingOf(total));
    let pages = 0;
    for await (const { length } of server.store().listPages("")) if (length > 0 && (pages += 1) === 20) break;
    expect(server.requests.length).toBe(20);
    const stop = new AbortController();
    const stopped = (async () => {
      pages = 0;
      for await (const { length } of server.store().listPages("", { signal: stop.signal })) {
        if (length > 0 && (pages += 1) === 20) stop.abort();
      }
    })();
    await expect(stopped).rejects.toMatchObject({ code: "aborted" });
  });
});

describe("a page, read by the thread's reader and by the SDK", () => {
  const bodies = new S3Client({
    ...{ region: "us-east-1", credentials: { accessKeyId: "a", secretAccessKey: "b" } },
    requestHandler: {
      handle: (_request: unknown, { body }: { body?: Uint8Array } = {}) =>
        Promise.resolve({ response: { statusCode: 200, headers: {}, body } }),
    },
  });
  const bySdk = async (xml: string): Promise<unknown> => {
    const options: HttpHandlerOptions & { readonly body: Uint8Array } = { body: Buffer.from(xml) };
    return pageOf(await bodies.send(new ListObjectsV2Command({ Bucket: "b", Prefix: "p" }), options), "p");
  };

  test("is the same, for 300 random pages", async () => {
    const seed = randomInt(2 ** 31);
    console.log(`seed ${seed}`);
    let state = seed >>> 0;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const pick = <T>(values: readonly T[]): T => values[random(values.length)] as T;
    const letters = [
      "a",
      "Z",
      "0",
      ".",
      "/",
      "-",
      "&amp;",
      "&lt;",
      "&#x2F;",
      "&#47;",
      "&quot;",
      "ü",
      "&#252;",
      "~",
      " ",
    ];
    for (let round = 0; round < 300; round += 1) {
      const key = (): string => `p${Array.from({ length: 1 + random(9) }, () => pick(letters)).join("")}x`;
      const objects = Array.from({ length: random(5) }, () => {
        const owner = pick(["", "<Owner><ID>Key</ID><DisplayName>Size</DisplayName></Owner>"]);
        const modified = `<LastModified>2026-01-02T03:04:05${pick(["", ".5", ".678"])}Z</LastModified>`;
        return `<Contents><Key>${key()}</Key>${modified}<ETag>&quot;e&quot;</ETag><Size>${random(2 ** 31)}</Size>${owner}</Contents>`;
      });
      const prefixes = Array.from(
        { length: random(3) },
        () => `<CommonPrefixes><Prefix>${key()}</Prefix></CommonPrefixes>`,
      );
      const isTruncated = pick(["true", "false"]);
      const token = isTruncated === "true" ? `<NextContinuationToken>${key()}</NextContinuationToken>` : "";
      const count = objects.length + prefixes.length + pick([0, 0, 0, 0, 1]);
      const facts = `<Name>b</Name><Prefix>p</Prefix><KeyCount>${count}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>${token}`;
      const parts = pick([
        [facts, ...objects, ...prefixes],
        [...prefixes, ...objects, facts],
      ]);
      const root = pick(["ListBucketResult", 'ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"']);
      const gap = pick(["", "\n", "\n  "]);
      const xml = `<?xml version="1.0" encoding="UTF-8"?>\n<${root}>${gap}${parts.join(gap)}${gap}</ListBucketResult>`;
      expect(readPage(xml, "p"), `seed ${seed}, round ${round}\n${xml}`).toEqual(await bySdk(xml));
    }
  });
});
