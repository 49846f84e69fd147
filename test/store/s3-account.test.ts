/** Endpoint, region and credentials: where requests go and who signs them, by the rules of the SDK. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { openAccount } from "../../src/store/s3/account.ts";
import { parseS3Url } from "../../src/store/s3/url.ts";
import { startAnswering, startTcp } from "./scripted-s3.ts";

const KEYS = { AWS_ACCESS_KEY_ID: "AKID", AWS_SECRET_ACCESS_KEY: "secret" };
let home = "";
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "seawall-account-"));
});
afterAll(() => rm(home, { recursive: true }));

// The SDK reads the process's own environment, so these tests set it; nothing of this machine's may shine through.
beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith("AWS_")) Reflect.deleteProperty(process.env, name);
  process.env["AWS_CONFIG_FILE"] = join(home, "config");
  process.env["AWS_SHARED_CREDENTIALS_FILE"] = join(home, "credentials");
  process.env["AWS_EC2_METADATA_DISABLED"] = "true";
});

interface Sent {
  readonly place: string;
  readonly region: string;
  readonly accessKey: string;
}

/** Where a GET of the key `k` would go, and as whom. Nothing is sent. */
async function wouldSend(url: string, env: Readonly<Record<string, string | undefined>>): Promise<Sent> {
  const account = await openAccount(parseS3Url(new URL(url)), env);
  let sent: Sent | undefined;
  account.client.middlewareStack.add(
    () => (args) => {
      const { protocol, headers, path } = args.request as {
        protocol: string;
        headers: Record<string, string>;
        path: string;
      };
      const [, accessKey = "", region = ""] =
        /Credential=([^/]+)\/\d{8}\/([^/]+)\/s3\//.exec(headers["authorization"] ?? "") ?? [];
      sent = { place: `${protocol}//${headers["host"] ?? ""}${path}`, region, accessKey };
      return Promise.reject(new Error("not sent"));
    },
    { step: "deserialize", priority: "low" },
  );
  const { bucket } = parseS3Url(new URL(url));
  const error: unknown = await account.client
    .send(new GetObjectCommand({ Bucket: bucket, Key: "k" }))
    .catch((thrown: unknown) => thrown);
  account.close();
  if (sent === undefined) throw error;
  return sent;
}

describe("a request goes to", () => {
  const rows: readonly { url: string; env?: Record<string, string>; place: string; region: string }[] = [
    { url: "s3://bucket?endpoint=http://h:9000", place: "http://h:9000/bucket/k", region: "us-east-1" },
    { url: "s3://bucket?endpoint=http://h/base/", place: "http://h/base/bucket/k", region: "us-east-1" },
    { url: "s3://bucket?endpoint=http://[::1]:8", place: "http://[::1]:8/bucket/k", region: "us-east-1" },
    { url: "s3://bucket?endpoint=https://h&pathStyle=false", place: "https://bucket.h/k", region: "us-east-1" },
    { url: "s3://bucket?endpoint=http://h&region=x", place: "http://h/bucket/k", region: "x" },
    {
      url: "s3://bucket",
      env: { AWS_ENDPOINT_URL: "http://h" },
      place: "http://h/bucket/k",
      region: "us-east-1",
    },
    {
      url: "s3://bucket",
      env: { AWS_ENDPOINT_URL: "http://h", AWS_ENDPOINT_URL_S3: "http://s", AWS_REGION: "r" },
      place: "http://s/bucket/k",
      region: "r",
    },
    {
      url: "s3://bucket?region=eu-north-1",
      place: "https://bucket.s3.eu-north-1.amazonaws.com/k",
      region: "eu-north-1",
    },
    {
      url: "s3://with.dots?region=eu-north-1",
      place: "https://s3.eu-north-1.amazonaws.com/with.dots/k",
      region: "eu-north-1",
    },
    {
      url: "s3://bucket?region=cn-north-1",
      place: "https://bucket.s3.cn-north-1.amazonaws.com.cn/k",
      region: "cn-north-1",
    },
  ];
  test.each(rows)("$place for $url $env", async ({ url, env = {}, place, region }) => {
    expect(await wouldSend(url, { ...KEYS, ...env })).toEqual({ place, region, accessKey: "AKID" });
  });
});

test("a directory bucket, which lists without order, is refused", async () => {
  await expect(wouldSend("s3://wal--use1-az4--x-s3?region=us-east-1", KEYS)).rejects.toMatchObject({
    code: "store-unsupported",
    hint: "Use a general purpose bucket.",
  });
});

describe("credentials and settings of the SDK", () => {
  test("FIPS and dual stack have hosts of their own", async () => {
    Object.assign(process.env, KEYS);
    process.env["AWS_USE_FIPS_ENDPOINT"] = "true";
    const fips = await wouldSend("s3://bucket?region=us-gov-west-1", process.env);
    expect(fips.place).toBe("https://bucket.s3-fips.us-gov-west-1.amazonaws.com/k");
    process.env["AWS_USE_FIPS_ENDPOINT"] = "false";
    process.env["AWS_USE_DUALSTACK_ENDPOINT"] = "true";
    const dual = await wouldSend("s3://bucket?region=eu-north-1", process.env);
    expect(dual.place).toBe("https://bucket.s3.dualstack.eu-north-1.amazonaws.com/k");
  });

  test("a profile gives credentials and region, and the environment's profile the endpoint too, as in the SDK", async () => {
    // Under new names: the SDK reads a file once in a process.
    process.env["AWS_CONFIG_FILE"] = join(home, "config-with-profile");
    process.env["AWS_SHARED_CREDENTIALS_FILE"] = join(home, "credentials-with-profile");
    await writeFile(
      join(home, "credentials-with-profile"),
      "[backup]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = s\n",
    );
    await writeFile(
      join(home, "config-with-profile"),
      "[profile backup]\nregion = eu-north-1\nendpoint_url = http://h:7\n",
    );
    const account = { region: "eu-north-1", accessKey: "AKIDPROFILE" };
    const named = await wouldSend("s3://bucket?profile=backup", process.env);
    expect(named).toEqual({ place: "https://bucket.s3.eu-north-1.amazonaws.com/k", ...account });
    process.env["AWS_PROFILE"] = "backup";
    const current = await wouldSend("s3://bucket?pathStyle=true", process.env);
    expect(current).toEqual({ place: "http://h:7/bucket/k", ...account });
  });

  test("web identity: the token is traded for credentials, requests are signed with those, and run-out ones renewed", async () => {
    const expiration = new Date(Date.now() + 3_600_000).toISOString();
    const given =
      "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>" +
      "<AccessKeyId>AKIDTRADED</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>the-session</SessionToken>" +
      `<Expiration>${expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
    await using sts = await startAnswering(() => ({
      status: 200,
      headers: { "content-type": "text/xml" },
      body: given,
    }));
    const seen: Record<string, unknown>[] = [];
    await using server = await startAnswering(({ headers }) => {
      seen.push(headers);
      return [3, 4].includes(seen.length)
        ? { status: 400, body: "<Error><Code>ExpiredToken</Code></Error>" }
        : { status: 200 };
    });
    await writeFile(join(home, "token"), "the-token");
    Object.assign(process.env, {
      AWS_WEB_IDENTITY_TOKEN_FILE: join(home, "token"),
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/seawall",
      AWS_REGION: "eu-north-1",
      AWS_ENDPOINT_URL_STS: sts.endpoint,
    });
    const store = openStore(`s3://bucket?endpoint=${server.endpoint}`, { env: process.env });
    for (const key of ["a", "b"]) expect(await store.put(key, Buffer.from("x"))).toBe("created");
    expect(sts.requests).toHaveLength(1);
    await expect(store.put("c", Buffer.from("x"))).rejects.toMatchObject({
      code: "store-unavailable",
      retryable: true,
    });
    expect(await store.put("c", Buffer.from("x"))).toBe("created");
    expect(await store.put("d", Buffer.from("x"))).toBe("created");
    expect(sts.requests).toHaveLength(2);
    await store.close();
    expect(new Set(seen.map((headers) => headers["x-amz-security-token"]))).toEqual(new Set(["the-session"]));
    expect(seen[0]?.["authorization"]).toContain("Credential=AKIDTRADED/");
  });

  test("no credentials anywhere is store-denied, and says where to put them", async () => {
    const store = openStore("s3://bucket?endpoint=http://127.0.0.1:9", { env: {} });
    process.env["AWS_CONFIG_FILE"] = "/nonexistent";
    process.env["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent";
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({
      code: "store-denied",
      hint: expect.stringContaining("AWS_ACCESS_KEY_ID") as string,
    });
  });

  test("no region anywhere is a usage error", async () => {
    process.env["AWS_CONFIG_FILE"] = "/nonexistent";
    const store = openStore("s3://bucket", { env: KEYS });
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({
      code: "usage",
      hint: expect.stringContaining("region=") as string,
    });
  });

  test("a source that hangs ends with its deadline, with the caller's signal, and with the store", async () => {
    await using source = await startTcp((socket) => socket.resume());
    process.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = `${source.endpoint}/credentials`;
    process.env["AWS_REGION"] = "eu-north-1";
    const open = (requestTimeoutMs: number) =>
      openStore(`s3://bucket?endpoint=http://127.0.0.1:9&requestTimeoutMs=${requestTimeoutMs}`, { env: process.env });
    const late = open(150);
    await expect(late.put("k", Buffer.from("x"))).rejects.toMatchObject({
      code: "store-unavailable",
      message: expect.stringContaining("the source of credentials is silent for 300 ms") as string,
    });
    const patient = open(60_000);
    const controller = new AbortController();
    const aborted = patient.put("k", Buffer.from("x"), { signal: controller.signal });
    setTimeout(() => controller.abort(), 30);
    await expect(aborted).rejects.toMatchObject({ code: "aborted" });
    const closed = patient.put("k", Buffer.from("x"));
    setTimeout(() => void patient.close(), 30);
    await expect(closed).rejects.toMatchObject({ code: "aborted" });
    await late.close();
  });

  test("a source that fails for a while is tried again, and then works", async () => {
    const expiration = new Date(Date.now() + 3_600_000).toISOString();
    const given = JSON.stringify({ AccessKeyId: "AKIDBOX", SecretAccessKey: "s", Token: "t", Expiration: expiration });
    let isDown = true;
    await using source = await startAnswering(() =>
      isDown ? { status: 503 } : { status: 200, headers: { "content-type": "application/json" }, body: given },
    );
    const seen: (string | undefined)[] = [];
    await using server = await startAnswering(({ headers }) => {
      seen.push(headers.authorization);
      return { status: 200 };
    });
    process.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = `${source.endpoint}/credentials`;
    process.env["AWS_REGION"] = "eu-north-1";
    const store = openStore(`s3://bucket?endpoint=${server.endpoint}`, { env: process.env });
    await expect(store.put("k", Buffer.from("x"))).rejects.toMatchObject({
      code: "store-unavailable",
      retryable: true,
    });
    isDown = false;
    expect(await store.put("k", Buffer.from("x"))).toBe("created");
    expect(seen[0]).toContain("Credential=AKIDBOX/");
    await store.close();
  });

  test("a credentials file that is written anew is read again when the old token has expired", async () => {
    const file = join(home, "rotated");
    process.env["AWS_SHARED_CREDENTIALS_FILE"] = file;
    process.env["AWS_REGION"] = "eu-north-1";
    const write = (token: string) =>
      writeFile(
        file,
        `[rotated]\naws_access_key_id = AKIDR\naws_secret_access_key = s\naws_session_token = ${token}\n`,
      );
    await write("old");
    let valid = "old";
    await using server = await startAnswering(({ headers }) =>
      headers["x-amz-security-token"] === valid
        ? { status: 200 }
        : { status: 400, body: "<Error><Code>ExpiredToken</Code></Error>" },
    );
    const store = openStore(`s3://bucket?endpoint=${server.endpoint}&profile=rotated`, { env: process.env });
    expect(await store.put("a", Buffer.from("x"))).toBe("created");
    valid = "new";
    await expect(store.put("b", Buffer.from("x"))).rejects.toMatchObject({ code: "store-unavailable" });
    await write("new");
    expect(await store.put("b", Buffer.from("x"))).toBe("created");
    await store.close();
  });

  test.each(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])(
    "a line break in %s is a usage error that names the variable and not its value",
    async (name) => {
      const env = { ...KEYS, [name]: "hidden-value\n" };
      const store = openStore("s3://bucket?endpoint=http://127.0.0.1:9", { env });
      const error: unknown = await store.put("k", Buffer.from("x")).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "usage", message: expect.stringContaining(name) as string });
      expect(JSON.stringify([error, (error as Error).message])).not.toContain("hidden-value");
    },
  );
});
