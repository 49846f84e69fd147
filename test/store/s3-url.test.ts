/** Store URLs: what they mean, and each way to get one wrong. */
import { describe, expect, test } from "vitest";
import { FileStore } from "../../src/store/file/store.ts";
import { openStore } from "../../src/store/open.ts";
import { type S3Settings, parseS3Url } from "../../src/store/s3/url.ts";

const DEFAULTS: Omit<S3Settings, "bucket"> = {
  prefix: "",
  endpoint: undefined,
  region: undefined,
  profile: undefined,
  pathStyle: undefined,
  sse: undefined,
  kmsKeyId: undefined,
  storageClass: undefined,
  checksum: "crc32c",
  requestTimeoutMs: 15_000,
};

describe("s3:// URLs", () => {
  const rows: readonly { url: string; settings: Partial<S3Settings> }[] = [
    { url: "s3://bucket", settings: {} },
    { url: "s3://bucket/", settings: {} },
    { url: "s3://bucket/a", settings: { prefix: "a/" } },
    { url: "s3://bucket/a/b=c+d/", settings: { prefix: "a/b=c+d/" } },
    { url: "s3://my.bucket_2-x/p", settings: { bucket: "my.bucket_2-x", prefix: "p/" } },
    { url: "s3://bucket?region=eu-north-1&profile=backup", settings: { region: "eu-north-1", profile: "backup" } },
    {
      url: "s3://bucket?endpoint=http://h:1/x&pathStyle=false",
      settings: { endpoint: new URL("http://h:1/x"), pathStyle: false },
    },
    {
      url: "s3://bucket?endpoint=https%3A%2F%2Fh&pathStyle=true",
      settings: { endpoint: new URL("https://h"), pathStyle: true },
    },
    {
      url: "s3://bucket?sse=AES256&storageClass=STANDARD_IA",
      settings: { sse: "AES256", storageClass: "STANDARD_IA" },
    },
    {
      url: "s3://bucket?sse=aws:kms&kmsKeyId=arn:aws:kms:eu-north-1:1:key/x",
      settings: { sse: "aws:kms", kmsKeyId: "arn:aws:kms:eu-north-1:1:key/x" },
    },
    { url: "s3://bucket?checksum=md5&requestTimeoutMs=2000", settings: { checksum: "md5", requestTimeoutMs: 2000 } },
  ];
  test.each(rows)("$url", ({ url, settings }) => {
    expect(parseS3Url(new URL(url))).toEqual({ ...DEFAULTS, bucket: "bucket", ...settings });
  });
});

describe("openStore", () => {
  test("opens what it knows, without touching anything", () => {
    expect(openStore("file:///does/not/exist", { env: {} })).toBeInstanceOf(FileStore);
    expect(openStore("file:///with%20space", { env: {} }).description).toBe("file:///with space");
    expect(openStore("file:///a//b/", { env: {} }).description).toBe("file:///a/b");
    expect(openStore("file:///", { env: {} }).description).toBe("file:///");
    expect(openStore("s3://bucket/prefix/?endpoint=http://h", { env: {} }).description).toBe("s3://bucket/prefix");
    expect(openStore("s3://bucket/prefix/?endpoint=http://h", { env: {} }).description).toBe("s3://bucket/prefix");
  });

  const SECRET = "hunter2";
  const wrong: readonly { url: string; says: string }[] = [
    { url: "", says: "not a URL" },
    { url: "/var/lib/archive", says: "not a URL" },
    { url: "file:relative", says: "no store for file:" },
    { url: "file://host/path", says: "path and nothing else" },
    { url: "file:///path?x=1", says: "path and nothing else" },
    { url: "file:///path#x", says: "path and nothing else" },
    { url: "file:///a%00b", says: "not a valid path" },
    { url: "file:///a%zz", says: "not a valid path" },
    { url: "gs://bucket", says: "no store for gs:" },
    { url: "https://bucket.s3.amazonaws.com", says: "no store for https:" },
    { url: "s3:bucket", says: "no store for s3:" },
    { url: "s3:///prefix", says: '"" is not a bucket name' },
    { url: "s3://b", says: "not a bucket name" },
    { url: "s3://-bucket-", says: "not a bucket name" },
    { url: "s3://bucket:80/p", says: "not a bucket name" },
    { url: "s3://bucket/a//b", says: "cannot be part of a prefix" },
    { url: "s3://bucket/a%20b", says: "cannot be part of a prefix" },
    { url: `s3://bucket/${"p".repeat(600)}`, says: "prefix is too long" },
    { url: "s3://bucket#x", says: "there is a #" },
    { url: `s3://AKIA:${SECRET}@bucket/p`, says: "credentials do not belong" },
    { url: "s3://bucket?regoin=x", says: 'no parameter "regoin"' },
    { url: `s3://bucket?secretKey=${SECRET}`, says: 'no parameter "secretKey"' },
    { url: "s3://bucket?region=a&region=b", says: '"region" is given twice' },
    { url: "s3://bucket?region=", says: '"region" is empty' },
    { url: "s3://bucket?endpoint=h:9000", says: "endpoint is not HTTP(S)" },
    { url: "s3://bucket?endpoint=h", says: "endpoint is not a URL" },
    { url: `s3://bucket?endpoint=http://u:${SECRET}@h`, says: "endpoint contains credentials" },
    { url: "s3://bucket?endpoint=http://h%3Fx=1", says: "endpoint has a query" },
    { url: "s3://bucket?pathStyle=yes", says: "pathStyle=yes is unknown" },
    { url: "s3://bucket?sse=aes256", says: "sse=aes256 is unknown" },
    { url: "s3://bucket?kmsKeyId=x", says: "without sse=aws:kms" },
    { url: "s3://bucket?storageClass=standard", says: "not a storage class" },
    { url: "s3://bucket?checksum=sha1", says: "checksum=sha1 is unknown" },
    { url: "s3://bucket?requestTimeoutMs=1s", says: "requestTimeoutMs is out of range" },
    { url: "s3://bucket?requestTimeoutMs=99", says: "requestTimeoutMs is out of range" },
  ];
  test.each(wrong)("$url: $says", ({ url, says }) => {
    let thrown: unknown;
    try {
      openStore(url, { env: {} });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "usage", message: expect.stringContaining(says) as string });
    const { message, hint, cause } = thrown as Error & { hint: string };
    expect(hint).not.toBe("Run the command with --help.");
    expect(`${message} ${hint} ${String(cause)}`).not.toContain(SECRET);
  });
});
