/** The map of what can be recovered: its open window is the one that arriving WAL makes longer. */
import { cpSync, existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { putGap } from "../../src/archive/wal/put-gap.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { mapOf, type MappedWindow } from "../../src/daemon/status/recovery-map.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { type SegmentNumber, segmentStart } from "../../src/wal/lsn.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { ROOT } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

let dir: string;
beforeEach(() => {
  dir = makeTempDir("recovery-map");
  cpSync(join(ROOT, "test/fixtures/archive"), dir, { recursive: true });
});
afterEach(() => removeTree(dir));

async function lineWindows(store: FileStore): Promise<MappedWindow[]> {
  const catalog = await readCatalog(await openRunArchive(store, "main"));
  return mapOf(catalog, [], new Date()).windows.filter(({ isLine }) => isLine);
}

test("the window at the archive's end is open", async () => {
  expect((await lineWindows(new FileStore(dir))).map(({ isOpen }) => isOpen)).toEqual([true]);
});

test("it is open, too, when WAL is stored while the archive is listed", async () => {
  const chunk = join(dir, "main/tail/000000020000000000000015/00000000-000000D0.zst");
  const later = join(dir, "later");
  renameSync(chunk, later);
  /** Stores the chunk behind the first listing of chunks. */
  class GrowingStore extends FileStore {
    override async *list(...args: Parameters<FileStore["list"]>): ReturnType<FileStore["list"]> {
      yield* super.list(...args);
      if (args[0].includes("/tail/") && existsSync(later)) renameSync(later, chunk);
    }
  }
  expect((await lineWindows(new GrowingStore(dir))).map(({ isOpen }) => isOpen)).toEqual([true]);
  expect(existsSync(chunk)).toBe(true);
});

test("it is cut by a gap, before any WAL behind the gap is stored", async () => {
  const archive = await openRunArchive(new FileStore(dir), "main");
  const tip = await findTip(archive);
  if (tip === undefined) throw new Error("the archive has no WAL");
  const facts = { detectedAt: "2025-03-08T10:15:00.000Z", reason: "the slot was lost" };
  const toLsn = segmentStart((tip.segment + 3) as SegmentNumber, archive.identity.segmentSize);
  await putGap(archive, { timeline: tip.timeline, fromLsn: tip.lsn, toLsn, ...facts });
  expect((await lineWindows(new FileStore(dir))).map(({ isOpen }) => isOpen)).toEqual([false]);
});
