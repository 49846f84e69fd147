/** The probe passes stores that keep their promises, and finds the one promise that a server can break unseen. */
import { describe, expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { probeStore } from "../../src/store/probe.ts";
import { startS3 } from "../harness/s3.ts";
import { openStore } from "../../src/store/open.ts";
import { all } from "./contract-bodies.ts";
import { flaky } from "./flaky.ts";

const s3 = await startS3();
const outcome = (steps: Awaited<ReturnType<typeof probeStore>>) => steps.map(({ what, error }) => [what, error?.code]);
const FINE = [
  ["create", undefined],
  ["create only if absent", undefined],
  ["read", undefined],
  ["list", undefined],
  ["delete", undefined],
];

describe("probeStore", () => {
  test("finds nothing wrong with a store that is right, and leaves nothing in it", async () => {
    const store = new MemoryStore();
    expect(outcome(await probeStore(store, "probe/1"))).toEqual(FINE);
    expect(await all(store.list(""))).toEqual([]);
  });

  test.skipIf(!s3.available)("nor with a real S3 server", async () => {
    await using bucket = await s3.bucket();
    const store = openStore(bucket.url, { env: s3.env });
    expect(outcome(await probeStore(store, "probe/1"))).toEqual(FINE);
  });

  test("finds out a store that overwrites", async () => {
    const store = new MemoryStore();
    const overwriting = flaky(store, { fails: () => false });
    overwriting.put = async (key, body) => {
      await store.delete([key]);
      return store.put(key, body);
    };
    const steps = await probeStore(overwriting, "probe/1");
    expect(outcome(steps)[1]).toEqual(["create only if absent", "store-unsupported"]);
    expect(steps[1]?.error?.message).toContain("it overwrites");
    expect(await all(store.list(""))).toEqual([]);
  });

  test("without the right to write it still says whether listing and deleting work", async () => {
    const store = new MemoryStore();
    store.put = () => Promise.reject(new SeawallError("store-denied", "no"));
    expect(outcome(await probeStore(store, "probe/1"))).toEqual([
      ["create", "store-denied"],
      ["list", undefined],
      ["delete", undefined],
    ]);
  });

  test("an abort is an abort", async () => {
    const call = probeStore(new MemoryStore(), "probe/1", { signal: AbortSignal.abort() });
    await expect(call).rejects.toMatchObject({ code: "aborted" });
  });
});
