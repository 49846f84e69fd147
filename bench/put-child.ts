/**
 * The yardstick for S3: files of a directory (the first gigabyte), read before, PUT as fast as the store takes them, so many
 * at a time, and nothing else. Prints one JSON line. Arguments: store URL, directory, PUTs in flight.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openStore } from "../src/store/open.ts";

const BODIES_BYTES_MAX = 1e9;
const [url = "", directory = "", inFlight = "1"] = process.argv.slice(2);
const files = readdirSync(directory, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && /^[0-9A-F]{24}$|\.zst$/.test(entry.name))
  .map((entry) => join(entry.parentPath, entry.name));
const bodies: Buffer[] = [];
for (let bytes = 0, at = 0; at < files.length && bytes < BODIES_BYTES_MAX; at++) {
  const body = readFileSync(files[at] ?? "");
  bodies.push(body);
  bytes += body.byteLength;
}
const store = openStore(url, { env: process.env });
const queue = bodies.entries();
const startedMs = performance.now();
await Promise.all(
  Array.from({ length: Number(inFlight) }, async () => {
    for (const [index, body] of queue) await store.put(`bare/${index}`, body);
  }),
);
const seconds = (performance.now() - startedMs) / 1000;
const bytes = bodies.reduce((sum, body) => sum + body.byteLength, 0);
await store.close();
process.stdout.write(`${JSON.stringify({ seconds, bytes, objects: bodies.length })}\n`);
