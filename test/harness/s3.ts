/**
 * A real S3 server for tests, the first that can be had of: an endpoint named in the environment, an installed radosgw,
 * one installed by apt-get (as root on Debian). Otherwise `available` is false and says why.
 *
 *     const s3 = await startS3();
 *     describe.skipIf(!s3.available)("…", () => {
 *       test("…", async () => {
 *         await using bucket = await s3.bucket();      // s3.env holds the credentials, bucket.url the store URL
 *
 * Under vitest one server is shared by the whole run: the first `startS3` has the main process start it (run-services.ts).
 */
import { randomBytes } from "node:crypto";
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectsCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { askRunServices } from "./run-services.ts";
import { type OtherS3, provideOtherS3 } from "./s3-others.ts";
import { type LimitedAccount, type S3Access, provideS3 } from "./s3-provider.ts";

export interface S3Bucket extends AsyncDisposable {
  readonly name: string;
  /** `s3://bucket/?endpoint=…&region=…&pathStyle=true`; `prefix` goes before the question mark. */
  readonly url: string;
  urlFor(prefix: string): string;
}

/** A statement of a policy, without its principal. */
export interface PolicyStatement {
  readonly Effect: "Allow" | "Deny";
  readonly Action: readonly string[];
  readonly Resource: readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;
}

export class S3Server implements AsyncDisposable {
  readonly available: boolean;
  /** Why it is not available. */
  readonly reason: string;
  readonly endpoint: string;
  readonly region = "us-east-1";
  /** Credentials and region under the names the AWS SDK reads; pass it to `openStore` or to a child process. */
  readonly env: Readonly<Record<string, string>>;
  readonly #limited: LimitedAccount | undefined;
  readonly #stop: () => Promise<void>;
  readonly #buckets = new Set<S3Bucket>();
  #client: S3Client | undefined;

  constructor(access: S3Access, stop: () => Promise<void> = async () => undefined) {
    this.available = "endpoint" in access;
    this.reason = "unavailable" in access ? access.unavailable : "";
    this.endpoint = "endpoint" in access ? access.endpoint : "";
    this.env = "env" in access ? { AWS_REGION: this.region, ...access.env } : {};
    this.#limited = "limited" in access ? access.limited : undefined;
    this.#stop = stop;
  }

  /** Whether the server has an account for `allow`. */
  get enforcesPolicies(): boolean {
    return this.#limited !== undefined;
  }

  /** Lets the limited account do this in the bucket, and nothing else; returns its environment. */
  async allow(bucket: S3Bucket, statements: readonly PolicyStatement[]): Promise<Readonly<Record<string, string>>> {
    if (this.#limited === undefined) throw new Error("this S3 server has no limited account");
    const { principal, env } = this.#limited;
    const Statement = statements.map((statement) => ({ ...statement, Principal: { AWS: [principal] } }));
    const Policy = JSON.stringify({ Version: "2012-10-17", Statement });
    await this.client.send(new PutBucketPolicyCommand({ Bucket: bucket.name, Policy }));
    return { AWS_REGION: this.region, ...env };
  }

  /** A plain client, for a test that looks at the store from outside. */
  get client(): S3Client {
    if (!this.available) throw new Error(`no S3 server: ${this.reason}`);
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = this.env;
    this.#client ??= new S3Client({
      endpoint: this.endpoint,
      region: this.region,
      forcePathStyle: true,
      credentials: {
        accessKeyId: AWS_ACCESS_KEY_ID ?? "",
        secretAccessKey: AWS_SECRET_ACCESS_KEY ?? "",
        ...(AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: AWS_SESSION_TOKEN }),
      },
    });
    return this.#client;
  }

  /** A new, empty bucket; emptied and deleted when it is disposed of. */
  async bucket(): Promise<S3Bucket> {
    const name = `seawall-test-${randomBytes(6).toString("hex")}`;
    await this.client.send(new CreateBucketCommand({ Bucket: name }));
    const urlFor = (prefix: string) => this.urlOf(name, prefix);
    const bucket: S3Bucket = {
      name,
      url: urlFor(""),
      urlFor,
      [Symbol.asyncDispose]: async () => {
        if (this.#buckets.delete(bucket)) await removeBucket(this.client, name);
      },
    };
    this.#buckets.add(bucket);
    return bucket;
  }

  /** URL of a new bucket that lives as long as this object. */
  async bucketUrl(): Promise<string> {
    return (await this.bucket()).url;
  }

  /** Store URL of any bucket name on this server, existing or not. */
  urlOf(name: string, prefix = ""): string {
    const query = new URLSearchParams({ endpoint: this.endpoint, region: this.region, pathStyle: "true" });
    return `s3://${name}/${prefix}?${query.toString()}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bucket of [...this.#buckets]) await bucket[Symbol.asyncDispose]();
    this.#client?.destroy();
    await this.#stop();
  }
}

/**
 * Gives the run's shared server under vitest; outside of it (a bench, a demo) one of its own, stopped by disposing of it.
 * `other` names one of the servers beside it, for what servers understand differently.
 */
export async function startS3(other?: OtherS3): Promise<S3Server> {
  const shared = await askRunServices(other ?? "s3");
  if (shared !== undefined) return new S3Server(shared as S3Access);
  const { access, stop } = await (other === undefined ? provideS3() : provideOtherS3(other));
  return new S3Server(access, stop);
}

async function removeBucket(client: S3Client, name: string): Promise<void> {
  for (;;) {
    const page = await client.send(new ListObjectsV2Command({ Bucket: name }));
    const keys = (page.Contents ?? []).map(({ Key }) => ({ Key }));
    if (keys.length === 0) break;
    await client.send(new DeleteObjectsCommand({ Bucket: name, Delete: { Objects: keys, Quiet: true } }));
  }
  await client.send(new DeleteBucketCommand({ Bucket: name }));
}
