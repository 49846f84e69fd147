/**
 * A directory as a bucket that answers at once: what `list` and `status` cost the client on an archive of a million segments,
 * which no S3 server of a test could be filled with. Reads only, signatures are not looked at.
 */
import { openSync, readSync, readdirSync, statSync, closeSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type Entry, listPage, lowerBound } from "./s3-listing.ts";

/** Sorted by key, as all keys are ASCII. */
function indexOf(root: string): Entry[] {
  const entries: Entry[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const key = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) walk(key);
      else {
        const { size, mtime } = statSync(join(root, key));
        entries.push({ key, bytes: size, modifiedAt: mtime.toISOString() });
      }
    }
  };
  walk("");
  return entries.sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Says that every key is deleted: a verification removes its older state, which is not listed again. */
async function deleteAll(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let text = "";
  for await (const chunk of request as AsyncIterable<Buffer>) text += chunk.toString("latin1");
  const deleted = [...text.matchAll(/<Key>.*?<\/Key>/g)].map(([key]) => `<Deleted>${key}</Deleted>`);
  const body = `<DeleteResult>${deleted.join("")}</DeleteResult>`;
  response.writeHead(200, { "content-length": body.length }).end(body);
}

function main(root: string): void {
  const entries = indexOf(root);
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.method === "POST") {
      void deleteAll(request, response);
      return;
    }
    request.resume();
    if (request.method === "PUT") {
      // A verification stores what it has proven; it is not read again.
      response.writeHead(200, { "content-length": 0, etag: '"0"' }).end();
      return;
    }
    const url = new URL(request.url ?? "/", "http://localhost");
    const key = decodeURIComponent(url.pathname).split("/").slice(2).join("/");
    if (key === "") {
      const body = listPage(entries, url.searchParams);
      response
        .writeHead(200, { "content-type": "application/xml", "content-length": Buffer.byteLength(body) })
        .end(body);
      return;
    }
    const entry = entries[lowerBound(entries, key)];
    if (entry?.key !== key) {
      const body = "<Error><Code>NoSuchKey</Code></Error>";
      response.writeHead(404, { "content-length": body.length }).end(request.method === "HEAD" ? undefined : body);
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const first = Number(range?.[1] ?? 0);
    const end = Math.min(entry.bytes, Number(range?.[2] ?? entry.bytes - 1) + 1);
    const body = Buffer.alloc(end - first);
    const fd = openSync(join(root, key), "r");
    readSync(fd, body, 0, body.length, first);
    closeSync(fd);
    response.writeHead(range === null ? 200 : 206, {
      "content-length": body.length,
      etag: '"0"',
      "last-modified": new Date(entry.modifiedAt).toUTCString(),
      ...(range === null ? {} : { "content-range": `bytes ${first}-${end - 1}/${entry.bytes}` }),
    });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  const server = createServer(answer).listen(0, "127.0.0.1", () => {
    // A cast: a TCP server's address is always an object.
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  });
}

main(process.argv[2] ?? "");
