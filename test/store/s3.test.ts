/** The store contract on a real S3 server, and what only a bucket can go wrong with. */
import { CreateMultipartUploadCommand, ListMultipartUploadsCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { openStore } from "../../src/store/open.ts";
import { startS3 } from "../harness/s3.ts";
import { type StoreUnderTest, describeStoreContract } from "./contract.ts";
import { all, describeBodies, pieces } from "./contract-bodies.ts";

const s3 = await startS3();
const MIB = 1024 * 1024;

describe.skipIf(!s3.available)("s3", () => {
  const bucket = s3.available ? s3.bucket() : undefined;
  afterAll(async () => (await bucket)?.[Symbol.asyncDispose]());
  const openAt = async (query: string): Promise<StoreUnderTest> => {
    // A prefix for each test: emptying a bucket costs more than all tests in it.
    const url = ((await bucket)?.urlFor(`some/${randomBytes(6).toString("hex")}`) ?? "") + query;
    const store = openStore(url, { env: s3.env });
    const other = openStore(url, { env: s3.env });
    const dispose = async (): Promise<void> => {
      await store.close();
      await other.close();
    };
    return { store, other, dispose };
  };

  describeStoreContract("s3", () => openAt(""), { manyObjects: 1005 });

  for (const query of ["&checksum=md5", "&checksum=sha256", "&checksum=none"]) {
    describe(query.slice(1), () => {
      let opened: StoreUnderTest;
      beforeEach(async () => {
        opened = await openAt(query);
      });
      afterEach(() => opened.dispose());
      describeBodies(() => opened.store);
    });
  }

  test("two stores with different prefixes in one bucket see nothing of each other", async () => {
    await using bucket = await s3.bucket();
    const a = openStore(bucket.urlFor("a"), { env: s3.env });
    const ab = openStore(bucket.urlFor("ab"), { env: s3.env });
    const root = openStore(bucket.url, { env: s3.env });
    await a.put("k", Buffer.from("a"));
    await ab.put("k", Buffer.from("ab"));
    expect((await all(a.list(""))).map(({ key }) => key)).toEqual(["k"]);
    expect((await all(root.list(""))).map(({ key }) => key)).toEqual(["a/k", "ab/k"]);
    expect(await root.listPrefixes("")).toEqual(["a/", "ab/"]);
  });

  test("objects of others under keys that are none of ours are passed over", async () => {
    await using bucket = await s3.bucket();
    const store = openStore(bucket.url, { env: s3.env });
    for (const Key of ["a b", "ours", "x<&>\"'/y", "folder/", "ü"]) {
      await s3.client.send(
        new PutObjectCommand({ Bucket: bucket.name, Key, Body: Buffer.from("1"), ContentLength: 1 }),
      );
    }
    expect((await all(store.list(""))).map(({ key }) => key)).toEqual(["ours"]);
    expect(await store.listPrefixes("")).toEqual(["folder/"]);
  });

  test("a bucket that does not exist is store-missing in every method, never an absent key", async () => {
    const store = openStore(s3.urlOf("seawall-no-such-bucket"), { env: s3.env });
    const calls: readonly (() => Promise<unknown>)[] = [
      () => store.put("k", Buffer.from("1")),
      () => store.putStream("k", pieces([randomBytes(6 * MIB)]), { partBytes: 5 * MIB }),
      () => store.get("k"),
      () => store.get("k", { range: { offset: 0, length: 0 } }),
      () => store.getStream("k"),
      () => store.head("k"),
      () => all(store.list("")),
      () => store.listPrefixes(""),
      () => store.delete(["k"]),
    ];
    for (const call of calls) {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "store-missing", retryable: false });
      expect(error).toMatchObject({ hint: expect.stringContaining("seawall-no-such-bucket") as string });
      expect(error).toMatchObject({ hint: expect.stringContaining(s3.endpoint) as string });
    }
  });

  test.each([
    { what: "an unknown access key", env: { AWS_ACCESS_KEY_ID: "AKIDNOBODY0000000000" } },
    { what: "a wrong secret", env: { AWS_SECRET_ACCESS_KEY: "a-wrong-secret-of-forty-characters-00000" } },
  ])("$what is store-denied, and the hint says so without the secret", async ({ env }) => {
    await using bucket = await s3.bucket();
    const used: Readonly<Record<string, string | undefined>> = { ...s3.env, ...env };
    const store = openStore(bucket.url, { env: used });
    for (const call of [() => store.put("k", Buffer.from("1")), () => store.head("k"), () => all(store.list(""))]) {
      const error = await call().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "store-denied", retryable: false });
      expect(error).toMatchObject({ hint: expect.stringContaining("does not know these credentials") as string });
      expect(JSON.stringify(error)).not.toContain(used["AWS_SECRET_ACCESS_KEY"]);
    }
  });

  test("a stream that was given up leaves no unfinished upload", async () => {
    await using bucket = await s3.bucket();
    const store = openStore(bucket.url, { env: s3.env });
    async function* failing(): AsyncGenerator<Uint8Array> {
      for (let i = 0; i < 12; i += 1) yield randomBytes(MIB);
      throw new Error("enough");
    }
    await expect(store.putStream("k", failing(), { partBytes: 5 * MIB })).rejects.toThrow("enough");
    const { Uploads } = await s3.client.send(new ListMultipartUploadsCommand({ Bucket: bucket.name }));
    expect(Uploads ?? []).toEqual([]);
  });

  test("another's unfinished upload is no object", async () => {
    await using bucket = await s3.bucket();
    const store = openStore(bucket.url, { env: s3.env });
    await s3.client.send(new CreateMultipartUploadCommand({ Bucket: bucket.name, Key: "k" }));
    expect(await store.head("k")).toBeUndefined();
    expect(await store.put("k", Buffer.from("1"))).toBe("created");
  });
});
