/** Deletions that a real S3 server refuses: what is left is named, and the command does not say that it is done. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { putMark } from "../../src/archive/retention/marks.ts";
import type { CommandName } from "../../src/config/option-spec.ts";
import { openStore } from "../../src/store/open.ts";
import { policyOf, S3_RIGHTS, type S3Right } from "../../src/cli/s3-rights.ts";
import { emptyArchive, putSegments, putWholeBackup } from "../archive/retained.ts";
import { type S3Bucket, startS3 } from "../harness/s3.ts";
import { keysBelow } from "../store/keys-below.ts";
import { inProcess, type Ran } from "./cli.ts";

const OLD = "20260101T000000Z-ffffffff";
const NEW = "20260202T000000Z-00000001";
const s3 = await startS3();

interface Said {
  readonly result: Readonly<Record<string, unknown>>;
  readonly error: Readonly<Record<string, unknown>>;
}

describe.skipIf(!s3.available || !s3.enforcesPolicies)("a store that refuses deletions", () => {
  let bucket: S3Bucket;
  let archive: Archive;
  let prefix = "";
  let runs = 0;
  beforeAll(async () => void (bucket = await s3.bucket()));
  afterAll(() => bucket[Symbol.asyncDispose]());

  beforeEach(async () => {
    prefix = `runs/${(runs += 1)}`;
    archive = await emptyArchive(openStore(bucket.urlFor(prefix), { env: s3.env }));
    const day = (date: string) => ({ startedAt: `${date}T00:00:00.000Z`, finishedAt: `${date}T01:00:00.000Z` });
    await putSegments(archive, 1, 1, 10);
    await putWholeBackup(archive, { id: OLD, startLsn: "0/400028", stopLsn: "0/400100", ...day("2026-01-01") });
    await putWholeBackup(archive, { id: NEW, startLsn: "0/800028", stopLsn: "0/800100", ...day("2026-02-02") });
    return () => archive.store.close();
  });

  /** Runs the command with its rights, but the only objects that it may delete are those of `places`. */
  async function seawall(command: CommandName, args: readonly string[], ...places: readonly string[]): Promise<Ran> {
    const rights: readonly S3Right[] = S3_RIGHTS[command] ?? [];
    const deletes = places.map((on): S3Right => ({ action: "s3:DeleteObject", on }));
    const own = [...rights.filter(({ action }) => action !== "s3:DeleteObject"), ...deletes];
    const env = await s3.allow(bucket, policyOf(own, { bucket: bucket.name, prefix, cluster: "main" }));
    return inProcess([command, ...args, "--store", bucket.urlFor(prefix), "--json"], env);
  }
  const said = ({ stdout, stderr }: Ran): Said => ({
    result: JSON.parse(stdout) as Said["result"],
    // Progress goes before it.
    error: (JSON.parse(stderr.trimEnd().split("\n").at(-1) ?? "") as { readonly error: Said["error"] }).error,
  });
  const pins = (): Promise<string[]> => keysBelow(archive.store, "main/pins/");
  const partsOf = async (id: string): Promise<string[]> => keysBelow(archive.store, `main/backups/${id}/`);

  test("expire ends with 5 when objects of a removed backup are left, names them and the right, and finishes later", async () => {
    const documents = "CLUSTER/backups/*/backup.json";
    const ran = await seawall("expire", ["--keep-full", "1"], documents, "CLUSTER/wal/*", "CLUSTER/expiring/*");
    expect(ran.code).toBe(5);
    const { result, error } = said(ran);
    const left = await partsOf(OLD);
    expect(left).toHaveLength(4);
    expect(result).toMatchObject({ removed: [OLD], remains: [OLD], refused: { objects: 4 } });
    expect(error).toMatchObject({ code: "deletion-refused", exit: 5, details: { objects: 4 } });
    expect(error["message"]).toBe(`the store refused to delete 4 objects, among them ${left[0] ?? ""}`);
    expect(error["hint"]).toMatch(/s3:DeleteObject.* The next expiry then removes what is left\.$/);

    const verified = await seawall("verify", []);
    expect(verified.code).toBe(0);
    expect(JSON.parse(verified.stdout)).toMatchObject({
      ok: true,
      notes: expect.arrayContaining([
        expect.objectContaining({
          kind: "unfinished-backup",
          object: OLD,
          message: expect.stringContaining("has begun to remove") as unknown,
        }),
      ]) as unknown,
    });

    const all = ["CLUSTER/backups/*", "CLUSTER/wal/*", "CLUSTER/expiring/*"];
    const again = await seawall("expire", ["--keep-full", "1"], ...all);
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout)).toMatchObject({ leftoversRemoved: [OLD], remains: [], refused: { objects: 0 } });
    expect(await keysBelow(archive.store, "main/expiring/")).toEqual([]);
  });

  test("expire that may delete nothing prints its result and ends with 5", async () => {
    const ran = await seawall("expire", ["--keep-full", "1"]);
    expect(ran.code).toBe(5);
    const { result, error } = said(ran);
    expect(result).toMatchObject({ removed: [], spared: [{ id: OLD, why: "the store refuses to delete it" }] });
    expect(error).toMatchObject({ code: "deletion-refused" });
  });

  test("expire ends with 0 when only its marks may not be removed", async () => {
    const ran = await seawall("expire", ["--keep-full", "1"], "CLUSTER/backups/*", "CLUSTER/wal/*");
    expect(ran.code, ran.stderr).toBe(0);
  });

  test("delete of a backup whose data is held does not call it gone", async () => {
    const ran = await seawall("delete", [OLD], "CLUSTER/backups/*/backup.json", "CLUSTER/expiring/*");
    expect(ran.code).toBe(5);
    expect(said(ran)).toMatchObject({
      result: { removed: [OLD], remains: [OLD] },
      error: { code: "deletion-refused", details: { objects: 4 } },
    });
  });

  test("delete of a backup whose document is held leaves it whole, and ends with 5", async () => {
    const ran = await seawall("delete", [OLD], "CLUSTER/expiring/*");
    expect(ran.code).toBe(5);
    expect(said(ran)).toMatchObject({ result: { removed: [] }, error: { code: "deletion-refused" } });
    expect(await partsOf(OLD)).toHaveLength(5);
    expect(await keysBelow(archive.store, "main/expiring/")).toEqual([]);
  });

  test("delete --force of an unfinished backup whose objects are held ends with 5", async () => {
    const unfinished = "20260301T000000Z-00000002";
    await archive.store.put(`main/backups/${unfinished}/parts/00001.tar.zst`, Buffer.alloc(10));
    const ran = await seawall("delete", [unfinished, "--force"], "CLUSTER/expiring/*");
    expect(ran.code).toBe(5);
    expect(said(ran)).toMatchObject({
      result: { leftoversRemoved: [], remains: [unfinished] },
      error: { code: "deletion-refused" },
    });
  });

  test("a backup is pinned anew although the older pin may not be removed", async () => {
    expect((await seawall("pin", [OLD, "--note", "first"])).code).toBe(0);
    expect(await seawall("pin", [OLD, "--note", "second"])).toMatchObject({ code: 0, stderr: "" });
    expect(await pins()).toEqual([`main/pins/${OLD}.1.json`, `main/pins/${OLD}.2.json`]);
    expect((await seawall("show", [OLD])).stdout).toContain('"note":"second"');
  });

  test("a pin that may not be removed is not called removed", async () => {
    await seawall("pin", [OLD]);
    expect(await seawall("unpin", [OLD])).toMatchObject({ code: 5, stdout: "" });
    expect(await pins()).toEqual([`main/pins/${OLD}.1.json`]);
  });

  test("marks of sixty removed backups that may not be removed stop no expiry", async () => {
    for (let i = 0; i < 60; i++)
      await putMark(archive, `20250101T0000${String(i).padStart(2, "0")}Z-00000000`, new Date());
    const ran = await seawall("expire", ["--keep-full", "1"], "CLUSTER/backups/*", "CLUSTER/wal/*");
    expect(ran.code, ran.stderr).toBe(0);
    expect(JSON.parse(ran.stdout)).toMatchObject({ removed: [OLD] });
  });
});
