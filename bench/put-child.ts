/**
 * The yardstick for S3: objects read from a directory, PUT as fast as the store takes them, so many at a time, and nothing
 * else. Prints one JSON line. Arguments: store URL, directory, PUTs in flight.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { openStore } from "../src/store/open.ts";

const [url = "", directory = "", inFlight = "1"] = process.argv.slice(2);
const files = readdirSync(directory, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".zst"))
  .map((entry) => join(entry.parentPath, entry.name));
const bodies = files.map((file) => readFileSync(file));
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
