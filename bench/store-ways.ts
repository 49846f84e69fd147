/** The yardsticks of bench/store.ts: the same object stored by hand and by the AWS SDK, with nothing of ours in between. */
import { PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { crc32c } from "@node-rs/crc32";
import { createHash, createHmac } from "node:crypto";
import { close, fdatasync, open, write } from "node:fs";
import { Agent, request } from "node:http";
import { promisify } from "node:util";

export type PutWay = (key: string, body: Uint8Array) => Promise<unknown>;

export interface S3Target {
  readonly endpoint: string;
  readonly bucket: string;
  readonly env: Readonly<Record<string, string>>;
}

const file = {
  open: promisify(open),
  write: promisify(write),
  fdatasync: promisify(fdatasync),
  close: promisify(close),
};

/** One new file, written and flushed once: what the disk takes for it, without a promise about its name. */
export function bareFileWrite(folder: string): PutWay {
  return async (key, body) => {
    const fd = await file.open(`${folder}/${key.replaceAll("/", "_")}`, "wx");
    await file.write(fd, body);
    await file.fdatasync(fd);
    await file.close(fd);
  };
}

/** One PUT over node:http with a hand-made signature that covers the body, If-None-Match and a CRC-32C, as ours does. */
export function bareS3Put({ endpoint, bucket, env }: S3Target): PutWay {
  const { host, hostname, port } = new URL(endpoint);
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const hmac = (key: string | Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();
  const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");
  const keys = new Map<string, Buffer>();
  return (key, body) => {
    const time = new Date().toISOString().replace(/[:-]|\.\d{3}/g, "");
    const day = time.slice(0, 8);
    const checksum = Buffer.alloc(4);
    checksum.writeUInt32BE(crc32c(body));
    const headers: Record<string, string> = {
      host,
      "if-none-match": "*",
      "x-amz-checksum-crc32c": checksum.toString("base64"),
      "x-amz-content-sha256": sha256(body),
      "x-amz-date": time,
    };
    const names = Object.keys(headers).join(";");
    const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
    const canonical = `PUT\n/${bucket}/${key}\n\n${lines.join("")}\n${names}\n${headers["x-amz-content-sha256"] ?? ""}`;
    const scope = `${day}/us-east-1/s3/aws4_request`;
    let signingKey = keys.get(day);
    if (signingKey === undefined) {
      signingKey = ["us-east-1", "s3", "aws4_request"].reduce(
        (previous: Buffer, step) => hmac(previous, step),
        hmac(`AWS4${env["AWS_SECRET_ACCESS_KEY"] ?? ""}`, day),
      );
      keys.set(day, signingKey);
    }
    const signature = hmac(signingKey, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${sha256(canonical)}`).toString("hex");
    headers["authorization"] =
      `AWS4-HMAC-SHA256 Credential=${env["AWS_ACCESS_KEY_ID"] ?? ""}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
    headers["content-length"] = String(body.length);
    return new Promise<void>((resolve, reject) => {
      const sent = request({ hostname, port, agent, method: "PUT", path: `/${bucket}/${key}`, headers }, (response) => {
        response.resume().on("end", () => {
          if (response.statusCode === 200) resolve();
          else reject(new Error(`HTTP ${response.statusCode}`));
        });
      });
      sent.on("error", reject).end(body);
    });
  };
}

/** The AWS SDK with its defaults, which are what most programs use. */
export function sdkPut({ endpoint, bucket, env }: S3Target): PutWay {
  const client = new S3Client({
    endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: {
      accessKeyId: env["AWS_ACCESS_KEY_ID"] ?? "",
      secretAccessKey: env["AWS_SECRET_ACCESS_KEY"] ?? "",
    },
  });
  return (key, body) => client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, IfNoneMatch: "*" }));
}
