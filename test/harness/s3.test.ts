/** The S3 half of the harness: the same server for the whole run, a bucket for each test, conditional writes that hold. */
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand } from "@aws-sdk/client-s3";
import { describe, expect, test } from "vitest";
import { startS3 } from "./s3.ts";

const s3 = await startS3();

describe.skipIf(!s3.available)("the S3 server of this run", () => {
  test("stores and returns an object", async () => {
    await using bucket = await s3.bucket();
    const Body = Buffer.from("tide");
    await s3.client.send(new PutObjectCommand({ Bucket: bucket.name, Key: "a/b", Body, ContentLength: 4 }));
    const { Body: stored } = await s3.client.send(new GetObjectCommand({ Bucket: bucket.name, Key: "a/b" }));
    expect(await stored?.transformToString()).toBe("tide");
  });

  test("answers 412 to a conditional write of a key that is there", async () => {
    await using bucket = await s3.bucket();
    const put = { Bucket: bucket.name, Key: "once", Body: Buffer.from("1"), ContentLength: 1, IfNoneMatch: "*" };
    await s3.client.send(new PutObjectCommand(put));
    await expect(s3.client.send(new PutObjectCommand(put))).rejects.toMatchObject({
      $metadata: { httpStatusCode: 412 },
    });
  });

  test("is the same for everybody who asks in one run, and buckets are apart", async () => {
    const other = await startS3();
    expect(other.endpoint).toBe(s3.endpoint);
    await using a = await s3.bucket();
    await using b = await other.bucket();
    await s3.client.send(new PutObjectCommand({ Bucket: a.name, Key: "k", Body: Buffer.from("1"), ContentLength: 1 }));
    const { KeyCount } = await s3.client.send(new ListObjectsV2Command({ Bucket: b.name }));
    expect(KeyCount).toBe(0);
    expect(a.urlFor("p")).toMatch(new RegExp(`^s3://${a.name}/p\\?endpoint=http`));
  });

  test("a disposed bucket is gone with its objects", async () => {
    const bucket = await s3.bucket();
    const put = { Bucket: bucket.name, Key: "k", Body: Buffer.from("1"), ContentLength: 1 };
    await s3.client.send(new PutObjectCommand(put));
    await bucket[Symbol.asyncDispose]();
    await expect(s3.client.send(new ListObjectsV2Command({ Bucket: bucket.name }))).rejects.toMatchObject({
      name: "NoSuchBucket",
    });
  });
});
