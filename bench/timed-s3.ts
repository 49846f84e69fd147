/**
 * An S3 server that answers from memory after a fixed time. It shows what a commit costs beside that time: a real server beside
 * PostgreSQL and the receiver on two cores measures itself. Signatures are not looked at. Prints its port; argument: milliseconds.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Entry, listPage } from "./s3-listing.ts";

interface Stored {
  readonly body: Buffer;
  readonly etag: string;
  readonly modifiedAt: Date;
  /** The client's own headers, which it gets back. */
  readonly kept: Readonly<Record<string, string>>;
}

const objects = new Map<string, Stored>();

function main(answerMs: number): void {
  const server = createServer({ noDelay: true }, (request, response) => {
    const startedMs = performance.now();
    void readBody(request).then(async (body) => {
      const left = answerMs - (performance.now() - startedMs);
      if (left > 0) await sleep(left);
      answer(request, response, body);
    });
  }).listen(0, "127.0.0.1", () => {
    // A cast: a TCP server's address is always an object.
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  });
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function answer(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
  const url = new URL(request.url ?? "/", "http://localhost");
  const key = decodeURIComponent(url.pathname).split("/").slice(2).join("/");
  if (request.method === "PUT") put(request, response, key, body);
  else if (request.method === "POST") deleteAll(response, body.toString("utf8"));
  else if (request.method === "DELETE") {
    objects.delete(key);
    response.writeHead(204).end();
  } else if (key === "") list(response, url.searchParams);
  else get(request, response, key);
}

function put(request: IncomingMessage, response: ServerResponse, key: string, body: Buffer): void {
  if (request.headers["if-none-match"] === "*" && objects.has(key)) return fail(response, 412, "PreconditionFailed");
  const etag = `"${createHash("md5").update(body).digest("hex")}"`;
  const headers = Object.entries(request.headers).filter(([name]) => /^(content-type$|x-amz-meta-)/.test(name));
  const kept = Object.fromEntries(headers.map(([name, value]) => [name, String(value)]));
  objects.set(key, { body, etag, modifiedAt: new Date(), kept });
  response.writeHead(200, { etag, "content-length": 0 }).end();
}

function get(request: IncomingMessage, response: ServerResponse, key: string): void {
  const found = objects.get(key);
  if (found === undefined) return fail(response, 404, "NoSuchKey", request.method === "HEAD");
  const { body, etag, modifiedAt, kept } = found;
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const first = Number(range?.[1] ?? 0);
  const end = range === null || range[2] === "" ? body.length : Math.min(body.length, Number(range[2]) + 1);
  const part = body.subarray(first, end);
  response.writeHead(range === null ? 200 : 206, {
    ...kept,
    etag,
    "content-length": part.length,
    "last-modified": modifiedAt.toUTCString(),
    ...(range === null ? {} : { "content-range": `bytes ${first}-${end - 1}/${body.length}` }),
  });
  response.end(request.method === "HEAD" ? undefined : part);
}

function list(response: ServerResponse, query: URLSearchParams): void {
  const entries: Entry[] = [...objects].map(([key, { body, modifiedAt }]) => ({
    key,
    bytes: body.length,
    modifiedAt: modifiedAt.toISOString(),
  }));
  entries.sort((a, b) => (a.key < b.key ? -1 : 1));
  const page = listPage(entries, query);
  response.writeHead(200, { "content-type": "application/xml", "content-length": Buffer.byteLength(page) }).end(page);
}

function deleteAll(response: ServerResponse, text: string): void {
  const keys = [...text.matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key = ""]) => key);
  for (const key of keys) objects.delete(key);
  const deleted = keys.map((key) => `<Deleted><Key>${key}</Key></Deleted>`).join("");
  const page = `<DeleteResult>${deleted}</DeleteResult>`;
  response.writeHead(200, { "content-type": "application/xml", "content-length": page.length }).end(page);
}

function fail(response: ServerResponse, status: number, code: string, isBare = false): void {
  const page = `<Error><Code>${code}</Code><Message>${code}</Message></Error>`;
  response.writeHead(status, { "content-type": "application/xml", "content-length": page.length });
  response.end(isBare ? undefined : page);
}

main(Number(process.argv[2] ?? 0));
