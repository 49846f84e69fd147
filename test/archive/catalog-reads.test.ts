/** A catalog lists each folder once, and is one moment's view while a receiver goes on. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { sideBySide } from "../../src/archive/bounded.ts";
import { readCatalog } from "../../src/archive/catalog/catalog.ts";
import { chunkKey, gapKey } from "../../src/archive/keys.ts";
import { putSegment } from "../../src/archive/wal/objects.ts";
import { FileStore } from "../../src/store/file/store.ts";
import type { GetOptions, GetResult } from "../../src/store/store.ts";
import { addBytes, formatLsn, type SegmentNumber, segmentStart } from "../../src/wal/lsn.ts";
import { ROOT } from "../harness/build.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newArchive, place, SIZE, store } from "./tail-archive.ts";

test("a catalog lists each folder once", async () => {
  const counted = new FaultyStore(new FileStore(join(ROOT, "test", "fixtures", "archive")));
  const archive = await openRunArchive(counted, "main");
  counted.calls.length = 0;
  await readCatalog(archive);
  await counted.close();
  const times: Record<string, number> = {};
  for (const { operation, key } of counted.calls) {
    if (operation === "list" || operation === "listPrefixes") times[key] = (times[key] ?? 0) + 1;
  }
  expect(times).toEqual({
    "main/backups/": 1,
    "main/breaks/": 1,
    "main/gaps/": 1,
    "main/line/": 1,
    "main/pins/": 1,
    "main/tail/": 1,
    "main/wal/": 1,
    // The folders of segments; then the segments.
    "main/wal/00000001/": 2,
    "main/wal/00000002/": 2,
  });
});

/** Something happens once, when the first object is read: everything has been listed then. */
class ChangingStore extends MemoryStore {
  change: (() => Promise<void>) | undefined;

  override async get(key: string, options?: GetOptions): Promise<GetResult | undefined> {
    const { change } = this;
    this.change = undefined;
    await change?.();
    return super.get(key, options);
  }
}

/** Segment 4, sealed, and before each case what it stores of segment 5; `later` happens behind the listing. */
async function readWhile(before: string, later: (archive: Archive) => Promise<unknown>): Promise<string[]> {
  const changing = new ChangingStore();
  const archive = newArchive(changing);
  const startLsn = segmentStart(4 as SegmentNumber, SIZE);
  const facts = { startLsn, endLsn: addBytes(startLsn, SIZE), verifiedLsn: addBytes(startLsn, SIZE) };
  await putSegment(archive, { ...place, segment: 4 as SegmentNumber }, Buffer.alloc(SIZE), facts, { confirm: false });
  if (before !== "") await store(archive, 0, before);
  changing.change = async () => void (await later(archive));
  const { tip, ends, damaged } = await readCatalog(archive, { summariesOnly: true });
  expect([changing.change, damaged]).toEqual([undefined, []]);
  return [tip?.lsn, ...[...ends.values()].map(({ verifiedLsn }) => verifiedLsn)].map((lsn) =>
    lsn === undefined ? "none" : formatLsn(lsn),
  );
}

describe("behind the listing, the tip stays the end of the window", () => {
  const CASES: readonly [string, string, (archive: Archive) => Promise<unknown>, string][] = [
    ["when nothing happens", "abcd", () => Promise.resolve(), "0/500004"],
    ["when a chunk is added", "abcd", (archive) => store(archive, 4, "efgh"), "0/500004"],
    ["when the first chunk of a segment is stored", "", (archive) => store(archive, 0, "abcd"), "0/500000"],
    [
      "when the listed chunk is merged into a longer one",
      "abcd",
      async (archive) => {
        await store(archive, 0, "abcdefgh");
        await archive.store.delete([chunkKey("main", place, 0, 4)]);
      },
      "0/500008",
    ],
    [
      "when the segment is sealed and its chunk retired",
      "abcd",
      async (archive) => {
        const startLsn = segmentStart(place.segment, SIZE);
        const facts = { startLsn, endLsn: addBytes(startLsn, SIZE), verifiedLsn: addBytes(startLsn, SIZE - 16) };
        await putSegment(archive, place, Buffer.alloc(SIZE), facts, { confirm: false });
        await archive.store.delete([chunkKey("main", place, 0, 4)]);
      },
      "0/5FFFF0",
    ],
  ];
  test.each(CASES)("%s", async (_name, before, later, lsn) => {
    expect(await readWhile(before, later)).toEqual([lsn, lsn]);
  });
});

describe("work side by side", () => {
  test("gives each result at its place", async () => {
    expect(await sideBySide([() => Promise.resolve(1), () => Promise.resolve("a")])).toEqual([1, "a"]);
  });

  test("is aborted when some of it fails, and waited for", async () => {
    const ended: string[] = [];
    const untilAborted = (signal: AbortSignal): Promise<never> =>
      new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () =>
          setImmediate(() => {
            ended.push("the other");
            reject(new Error("aborted"));
          }),
        ),
      );
    await expect(sideBySide([untilAborted, () => Promise.reject(new Error("the first"))])).rejects.toThrow("the first");
    expect(ended).toEqual(["the other"]);
  });

  test("is aborted with the caller", async () => {
    const stop = new AbortController();
    const seen = sideBySide([(signal) => new Promise((_, reject) => signal.addEventListener("abort", reject))], stop);
    stop.abort();
    await expect(seen).rejects.toBeInstanceOf(Event);
  });
});

test("a catalog whose backups cannot be listed asks for nothing more", async () => {
  const faulty = new FaultyStore(new MemoryStore());
  await faulty.put("main/pins/20250303T080002Z-eb42d435.1.json", Buffer.from("{}"));
  const pins = faulty.failpoint({ operation: "list", key: "main/pins/", fault: "stall" });
  faulty.failpoint({ operation: "listPrefixes", key: "main/backups/", fault: "deny" });
  await expect(readCatalog(newArchive(faulty))).rejects.toMatchObject({ code: "store-denied" });
  faulty.calls.length = 0;
  pins.release();
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(faulty.calls).toEqual([]);
});

test("gaps of the listing lead the tip over lost WAL", async () => {
  const archive = newArchive();
  await store(archive, 0, "abcd");
  const toLsn = segmentStart(9 as SegmentNumber, SIZE);
  const gap = {
    timeline: 1,
    fromLsn: "0/500000",
    toLsn: "0/900000",
    detectedAt: "2026-01-01T00:00:00Z",
    reason: "lost",
  };
  await archive.store.put(
    gapKey("main", place.timeline, segmentStart(place.segment, SIZE), toLsn),
    Buffer.from(JSON.stringify({ version: 1, ...gap })),
  );
  expect((await readCatalog(archive, { summariesOnly: true })).tip).toMatchObject({ segment: 9, lsn: toLsn });
});
