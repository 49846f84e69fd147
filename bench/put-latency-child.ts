/**
 * The yardstick for a synchronous commit: one small object after the other, and nothing else. Prints one JSON line of
 * latencies in milliseconds. Arguments: kind (store, http, fdatasync), store URL or file, bytes, count.
 */
import { createHash, createHmac, randomBytes } from "node:crypto";
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { Agent, request } from "node:http";
import { openStore } from "../src/store/open.ts";

const [kind = "", target = "", bytesText = "8192", countText = "300"] = process.argv.slice(2);
const body = randomBytes(Number(bytesText));
const times: number[] = [];

async function measure(once: (index: number) => Promise<void> | void): Promise<void> {
  const warmUp = 20;
  for (let index = 0; index < Number(countText) + warmUp; index++) {
    const startedMs = performance.now();
    await once(index);
    if (index >= warmUp) times.push(performance.now() - startedMs);
  }
}

if (kind === "store") {
  const store = openStore(target, { env: process.env });
  const run = randomBytes(4).toString("hex");
  await measure(async (index) => void (await store.put(`bare-${run}/${index}`, body)));
  await store.close();
} else if (kind === "http") {
  await measure(rawPut(new URL(target)));
} else {
  const file = openSync(target, "w");
  await measure(() => {
    writeSync(file, body);
    fdatasyncSync(file);
  });
  closeSync(file);
}
process.stdout.write(`${JSON.stringify(times)}\n`);

/** A PUT with the least that S3 asks for: Signature Version 4 over an unsigned payload, on one kept connection. */
function rawPut(url: URL): (index: number) => Promise<void> {
  const endpoint = new URL(url.searchParams.get("endpoint") ?? "");
  const region = url.searchParams.get("region") ?? "us-east-1";
  const agent = new Agent({ keepAlive: true, maxSockets: 1, noDelay: true });
  const run = randomBytes(4).toString("hex");
  return async (index) => {
    const path = `/${url.host}/raw-${run}-${index}`;
    const headers = sign(path, endpoint.host, region);
    const options = { host: endpoint.hostname, port: endpoint.port, method: "PUT", path, agent, headers };
    await new Promise<void>((resolve, reject) => {
      const put = request(options, (response) => {
        response.resume();
        response.once("end", () =>
          response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode ?? 0}`)),
        );
      });
      put.once("error", reject);
      put.end(body);
    });
  };
}

/** AWS: "Authenticating Requests (AWS Signature Version 4)", with nothing but the headers that must be signed. */
function sign(path: string, host: string, region: string): Record<string, string> {
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const day = date.slice(0, 8);
  const payload = "UNSIGNED-PAYLOAD";
  const signed = "host;x-amz-content-sha256;x-amz-date";
  const canonical = `PUT\n${path}\n\nhost:${host}\nx-amz-content-sha256:${payload}\nx-amz-date:${date}\n\n${signed}\n${payload}`;
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = `AWS4-HMAC-SHA256\n${date}\n${scope}\n${createHash("sha256").update(canonical).digest("hex")}`;
  const hmac = (key: string | Buffer, part: string): Buffer => createHmac("sha256", key).update(part).digest();
  const secret = `AWS4${process.env["AWS_SECRET_ACCESS_KEY"] ?? ""}`;
  const key = [day, region, "s3", "aws4_request"].reduce<string | Buffer>(hmac, secret);
  const signature = hmac(key, text).toString("hex");
  const credential = `${process.env["AWS_ACCESS_KEY_ID"] ?? ""}/${scope}`;
  return {
    host,
    "content-length": String(body.length),
    "x-amz-content-sha256": payload,
    "x-amz-date": date,
    authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signed}, Signature=${signature}`,
  };
}
