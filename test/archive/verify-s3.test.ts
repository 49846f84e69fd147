/** The catalog and a verification in a bucket say what they say of the same archive in memory. */
import { describe, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { segmentKey } from "../../src/archive/keys.ts";
import { verifyArchive, type VerifyReport } from "../../src/archive/verify/verify.ts";
import type { Archive } from "../../src/archive/archive.ts";
import { openStore } from "../../src/store/open.ts";
import { type SegmentNumber, segmentOf } from "../../src/wal/lsn.ts";
import { archiveOf } from "../backup/taking.ts";
import { startS3 } from "../harness/s3.ts";
import { copyOf, realArchive } from "./damaged.ts";

const s3 = await startS3();
const MIB = 1 << 20;

function verify(archive: Archive, deep: boolean): Promise<VerifyReport> {
  const progress = { begin: () => undefined, advance: () => undefined, detail: () => undefined };
  return verifyArchive(archive, { deep, full: false, jobs: 4, progress, random: 7, now: () => new Date() });
}

describe.skipIf(!s3.available)("in a bucket", () => {
  test("windows, findings and what need not be looked at again", async () => {
    const real = await realArchive();
    const inMemory = await copyOf(real.objects);
    await using bucket = await s3.bucket();
    const store = openStore(bucket.urlFor("prefix"), { env: s3.env });
    try {
      for (const [key, body] of real.objects) await store.put(key, body);
      const archive = await archiveOf(store);
      const [ours, theirs] = [await readCatalog(inMemory.archive), await readCatalog(archive)];
      expect(theirs.windows).toHaveLength(1);
      expect(theirs.windows).toEqual(ours.windows);
      expect(theirs.inventory).toEqual(ours.inventory);
      const [first] = real.backups;
      expect(await verify(archive, true)).toMatchObject({ ok: true, problems: [], notes: [] });
      expect((await verify(archive, true)).checked).toMatchObject({ segments: 0, backups: 0, unchangedBackups: 2 });
      const segment = (segmentOf(first.stopLsn, MIB) + 2) as SegmentNumber;
      await store.delete([segmentKey("main", { timeline: first.timeline, segment, segmentSize: MIB })]);
      expect((await verify(archive, false)).problems.map(({ kind }) => kind)).toEqual(["missing-wal"]);
    } finally {
      await store.close();
    }
  });
});
