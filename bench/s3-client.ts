/**
 * The S3 store beside the AWS SDK: a small PUT, a segment, an upload in parts, listings. Ways take turns in short rounds, so that
 * a busy moment of the machine hits all of them. SEAWALL_BENCH_BEFORE names the `dist` of another build, which takes
 * turns too; it must find its modules.
 */
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Worker, isMainThread, parentPort } from "node:worker_threads";
import { S3Client, paginateListObjectsV2 } from "@aws-sdk/client-s3";
import type { openStore as OpenStore } from "../src/store/open.ts";
import { openStore } from "../src/store/open.ts";
import type { BenchContext } from "./context.ts";
import { type Section, table } from "./results.ts";
import { quantile } from "./stats.ts";
import { type S3Target, sdkPut } from "./store-ways.ts";

const SMALL_BYTES = 8192;
const SEGMENT_BYTES = 16 * 1024 * 1024;
const STREAM_BYTES = 64 * 1024 * 1024;
const LISTED = 100_000;
const PAGE = 1000;

/** One piece of work; its argument counts. */
type Way = (number: number) => Promise<unknown>;

interface Load {
  readonly title: string;
  readonly ways: Readonly<Record<string, Way>>;
  /** Pieces of work in all, for each way, and in one turn. */
  readonly times: number;
  readonly perTurn: number;
}

export async function benchS3Client(context: BenchContext): Promise<Section> {
  const s3 = await context.s3();
  await using bucket = await s3.bucket();
  const target: S3Target = { endpoint: s3.endpoint, bucket: bucket.name, env: s3.env };
  const run = randomBytes(4).toString("hex");
  const builds = await storesOf((open, name) => open(bucket.urlFor(`${run}-${name}`), { env: s3.env }));
  const puts = (bytes: number, kind: string): Readonly<Record<string, Way>> => {
    const body = randomBytes(bytes);
    const sdk = sdkPut(target);
    const ours = builds.map(([name, store]) => [name, (n: number) => store.put(`${kind}/${n}`, body)] as const);
    return { "AWS SDK, its defaults": (n) => sdk(`${run}-sdk/${kind}/${n}`, body), ...Object.fromEntries(ours) };
  };
  const piece = randomBytes(1024 * 1024);
  const uploads = builds.map(
    ([name, store]) => [name, (n: number) => store.putStream(`parts/${n}`, repeated(piece))] as const,
  );
  const loads: Load[] = [
    { title: "PUT of 8 KiB", ways: puts(SMALL_BYTES, "small"), times: 200 * context.rounds, perTurn: 20 },
    { title: "PUT of 16 MiB", ways: puts(SEGMENT_BYTES, "segment"), times: 8 * context.rounds, perTurn: 2 },
    { title: "64 MiB in parts", ways: Object.fromEntries(uploads), times: 3 * context.rounds, perTurn: 1 },
  ];
  const rows: (readonly string[])[] = [];
  for (const load of loads) rows.push(...(await measure(load, context)));
  for (const [, store] of builds) await store.close();
  rows.push(...(await benchListing(context)));
  const head = ["work, one at a time", "way", "p50 ms", "p90 ms", "of the first", "CPU ms each"];
  return { name: "s3-client", title: "S3 client", estimate: ESTIMATE, body: table(head, rows) };
}

const ESTIMATE =
  "The SDK adds 0.6 to 0.9 ms of its own to a PUT of 2 ms, in middleware, and three times the CPU; a small put beside it " +
  "costs what a signature and a request cost. A segment's 16 MiB hide both. A listing is read at 16 µs an object by the SDK; " +
  "past the first 8192 objects a thread reads them at 2 µs, and a request through the SDK costs 1 ms for each thousand.";

async function benchListing(context: BenchContext): Promise<(readonly string[])[]> {
  const server = new Worker(new URL(import.meta.url));
  try {
    const port = await new Promise<number>((resolve, reject) => server.once("message", resolve).once("error", reject));
    const endpoint = `http://127.0.0.1:${port}`;
    const env = { AWS_ACCESS_KEY_ID: "bench", AWS_SECRET_ACCESS_KEY: "bench" };
    const stores = await storesOf((open) => open(`s3://bucket?endpoint=${endpoint}`, { env }));
    const client = new S3Client({
      endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: "bench", secretAccessKey: "bench" },
    });
    const bySdk = async (): Promise<number> => {
      let found = 0;
      for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket: "bucket" }))
        found += Contents.length;
      return found;
    };
    const byStore = (store: ReturnType<typeof OpenStore>) => async (): Promise<number> => {
      let found = 0;
      for await (const page of store.listPages("")) found += page.length;
      return found;
    };
    const checked =
      (list: () => Promise<number>): Way =>
      async () => {
        const found = await list();
        if (found !== LISTED) throw new Error(`listed ${found} objects of ${LISTED}`);
      };
    const ours = stores.map(([name, store]) => [name, checked(byStore(store))] as const);
    const ways = { "AWS SDK, its defaults": checked(bySdk), ...Object.fromEntries(ours) };
    const title = "list of 100,000 keys";
    const rows = await measure({ title, ways, times: 2 * context.rounds, perTurn: 1 }, context);
    for (const [, store] of stores) await store.close();
    return rows;
  } finally {
    await server.terminate();
  }
}

type Opening = (open: typeof OpenStore, name: string) => ReturnType<typeof OpenStore>;

/** A store of this build, and one of the other. */
async function storesOf(opening: Opening): Promise<(readonly [string, ReturnType<typeof OpenStore>])[]> {
  const stores: (readonly [string, ReturnType<typeof OpenStore>])[] = [["Seawall", opening(openStore, "now")]];
  const before = process.env["SEAWALL_BENCH_BEFORE"];
  if (before === undefined) return stores;
  // A cast: the other build's module has the same function.
  const other = (await import(join(before, "store", "open.js"))) as { readonly openStore: typeof OpenStore };
  return [...stores, ["Seawall, before", opening(other.openStore, "before")]];
}

async function measure({ title, ways, times, perTurn }: Load, context: BenchContext): Promise<(readonly string[])[]> {
  context.say(title);
  const measured = Object.entries(ways).map(([name, way]) => ({ name, way, latenciesMs: [] as number[], cpuMs: 0 }));
  let number = 0;
  // Connections, caches and compiled code first.
  for (const { way } of measured) for (let time = 0; time < perTurn; time += 1) await way((number += 1));
  for (let done = 0; done < times; done += perTurn) {
    for (const row of measured) {
      const cpu = process.cpuUsage();
      for (let time = 0; time < perTurn; time += 1) {
        const startedMs = performance.now();
        await row.way((number += 1));
        row.latenciesMs.push(performance.now() - startedMs);
      }
      const { user, system } = process.cpuUsage(cpu);
      row.cpuMs += (user + system) / 1000;
    }
  }
  const first = quantile(measured[0]?.latenciesMs ?? [], 0.5);
  return measured.map(({ name, latenciesMs, cpuMs }) => {
    const [p50, p90] = [quantile(latenciesMs, 0.5), quantile(latenciesMs, 0.9)];
    const cells = [
      p50.toFixed(2),
      p90.toFixed(2),
      `${(p50 / first).toFixed(2)}×`,
      (cpuMs / latenciesMs.length).toFixed(2),
    ];
    return [title, name, ...cells];
  });
}

async function* repeated(piece: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < STREAM_BYTES; at += piece.length) yield piece;
}

/** The thread: a bucket of generated keys, which answers listings only. Its CPU counts with everyone's. */
function serveListings(): void {
  const pages = Array.from({ length: LISTED / PAGE }, (_, page) => {
    const records = Array.from({ length: PAGE }, (_, at) => {
      const key = `main/wal/00000001/${(page * PAGE + at).toString(16).toUpperCase().padStart(24, "0")}.zst`;
      const facts = `<LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag>`;
      return `<Contents><Key>${key}</Key>${facts}<Size>1234567</Size><StorageClass>STANDARD</StorageClass></Contents>`;
    });
    const isTruncated = (page + 1) * PAGE < LISTED;
    const next = isTruncated ? `<NextContinuationToken>${page + 1}</NextContinuationToken>` : "";
    const head = `<KeyCount>${PAGE}</KeyCount><IsTruncated>${isTruncated}</IsTruncated>${next}`;
    return Buffer.from(`<ListBucketResult>${head}${records.join("")}</ListBucketResult>`);
  });
  const server = createServer((request, response) => {
    const token = new URL(request.url ?? "/", "http://localhost").searchParams.get("continuation-token") ?? "0";
    const body = pages[Number(token)] ?? Buffer.alloc(0);
    response.writeHead(200, { "content-length": body.length }).end(body);
  });
  // A cast: a TCP server's address is always an object.
  server.listen(0, "127.0.0.1", () => parentPort?.postMessage((server.address() as AddressInfo).port));
}

if (!isMainThread) serveListings();
