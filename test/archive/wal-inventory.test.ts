/** The inventory of an archive's WAL: what listing alone tells, whatever lies beside it. */
import { describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { gapKey, partialKey, segmentKey } from "../../src/archive/keys.ts";
import { walkWal } from "../../src/archive/wal/folders.ts";
import { mergeRuns, readInventory, type WalRun } from "../../src/archive/wal/inventory.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import { announcedRandom } from "../harness/random.ts";

const MIB = 2 ** 20;

function emptyArchive(segmentSize = 16 * MIB): Archive & { readonly store: MemoryStore } {
  const identity = { systemIdentifier: 7n, segmentSize, pgMajor: 17, createdAt: "2026-01-01T00:00:00.000Z" };
  return { store: new MemoryStore(), cluster: "main", identity, codec: runCodec };
}

const place = (archive: Archive, timeline: number, segment: number) => ({
  timeline: timelineOf(timeline),
  segment: segment as SegmentNumber,
  segmentSize: archive.identity.segmentSize,
});

async function seal(archive: Archive, timeline: number, first: number, last = first, bytes = 10): Promise<void> {
  for (let segment = first; segment <= last; segment++) {
    await archive.store.put(segmentKey("main", place(archive, timeline, segment)), Buffer.alloc(bytes));
  }
}

const put = (archive: Archive, key: string, text = "x"): Promise<unknown> => archive.store.put(key, Buffer.from(text));

describe("an inventory", () => {
  test("of an archive without WAL is empty", async () => {
    const inventory = await readInventory(emptyArchive());
    expect(inventory).toMatchObject({ runs: [], partials: [], tails: [], gaps: [], segments: 0, storedBytes: 0 });
    expect(inventory.histories.size).toBe(0);
  });

  test("has the runs of each timeline, over the borders of folders, broken where a segment is missing", async () => {
    const archive = emptyArchive();
    await seal(archive, 1, 250, 600);
    await seal(archive, 1, 602, 610, 20);
    await seal(archive, 2, 608, 609);
    const { runs, segments, storedBytes } = await readInventory(archive);
    expect(runs).toEqual([
      { timeline: 1, first: 250, last: 600, storedBytes: 3510 },
      { timeline: 1, first: 602, last: 610, storedBytes: 180 },
      { timeline: 2, first: 608, last: 609, storedBytes: 20 },
    ]);
    expect([segments, storedBytes]).toEqual([362, 3710]);
  });

  test("has partials, tails, histories and gaps, also of timelines without a segment", async () => {
    const archive = emptyArchive();
    await seal(archive, 1, 3, 4);
    await put(archive, partialKey("main", place(archive, 1, 5)));
    await put(archive, "main/tail/000000020000000000000005/00000000-00002000.zst");
    await put(archive, "main/tail/000000020000000000000005/00001000-00003000.zst");
    await put(archive, "main/tail/000000020000000000000005/00004000-00005000.zst");
    await put(archive, "main/tail/000000020000000000000006/00004000-00005000.zst");
    await put(archive, "main/wal/00000002.history", "1\t0/5100000\tno recovery target specified\n");
    await put(archive, "main/wal/00000003.history", "1\t0/5100000\tx\n2\t0/5200000\ty\n");
    await seal(archive, 4, 5);
    await put(archive, "main/wal/00000009.history", "4\t0/6000000\tz\n");
    const gap = {
      timeline: timelineOf(1),
      fromLsn: parseLsn("0/2000000"),
      toLsn: parseLsn("0/3000000"),
      detectedAt: "2026-01-01T00:00:00.000Z",
      reason: "slot lost",
    };
    await archive.store.put(gapKey("main", gap.timeline, gap.fromLsn, gap.toLsn), encodeGap(gap));
    const { partials, tails, histories, gaps, damaged } = await readInventory(archive);
    expect(partials).toEqual([{ timeline: 1, segment: 5 }]);
    expect(tails).toEqual([{ timeline: 2, segment: 5, length: 0x3000, storedBytes: 2 }]);
    expect([...histories.keys()]).toEqual([1, 2, 3, 4, 9]);
    expect(histories.get(timelineOf(3))?.entries.map(({ timeline }) => timeline)).toEqual([1, 2]);
    expect(histories.get(timelineOf(4))?.entries).toEqual([]);
    const missing = "the history file of timeline 4 is missing: what leads there is unknown";
    expect(damaged.map(({ key, error }) => [key, error.message])).toEqual([["main/wal/00000004.history", missing]]);
    expect(gaps).toEqual([gap]);
  });

  test("passes over what is not where a restore would look for it, and names documents that cannot be read", async () => {
    const archive = emptyArchive();
    await seal(archive, 1, 3, 4);
    await put(archive, "main/wal/00000001/00000000/0/notes.txt");
    await put(archive, "main/wal/00000001/00000000/000000010000000000000005.zst.bak");
    await put(archive, "main/wal/00000001/00000007/000000010000000000000005.zst");
    await put(archive, "main/wal/00000001/00000000/000000020000000000000005.zst");
    await put(archive, "main/wal/00000001/00000000/000000010000000000000004.00000028.backup");
    await put(archive, "main/wal/00000001/README");
    await put(archive, "main/wal/lost/00000000/000000010000000000000005.zst");
    await put(archive, "main/wal/00000002.history", "nonsense");
    await put(archive, "main/gaps/torn.json", "{");
    await put(archive, "main/gaps/00000001-0000000000500000-0000000000600000.json", "{");
    const { runs, histories, damaged } = await readInventory(archive);
    expect(runs).toEqual([{ timeline: 1, first: 3, last: 4, storedBytes: 20 }]);
    expect(histories.get(timelineOf(2))?.entries).toEqual([]);
    expect(damaged.map(({ key, error }) => [key, error.code])).toEqual([
      ["main/wal/00000002.history", "timeline-history"],
      ["main/gaps/00000001-0000000000500000-0000000000600000.json", "object-corrupt"],
    ]);
  });

  test("ends when it is told to", async () => {
    const archive = emptyArchive();
    await seal(archive, 1, 200, 300);
    const stop = new AbortController();
    const visited = walkWal(archive, () => stop.abort(), { signal: stop.signal });
    await expect(visited).rejects.toMatchObject({ code: "aborted" });
  });
});

test.each([1, 16, 64, 1024])("a walk visits every folder once, with segments of %i MiB", async (mib) => {
  const archive = emptyArchive(mib * MIB);
  const random = announcedRandom(`walk ${mib}`);
  const stored = new Set<number>();
  for (let i = 0; i < 200; i++) stored.add(random.between(0, Math.floor((40 * 2 ** 32) / (mib * MIB))));
  for (const segment of stored) await seal(archive, 1, segment);
  const folders: string[] = [];
  const seen: number[] = [];
  await walkWal(archive, ({ prefix, segments }) => {
    folders.push(prefix);
    seen.push(...segments.map(({ segment }) => segment));
  });
  expect(folders.length).toBe(new Set(folders).size);
  expect(seen.sort((a, b) => a - b)).toEqual([...stored].sort((a, b) => a - b));
});

test("runs merge in any order", () => {
  const run = (timeline: number, first: number, last: number): WalRun => ({
    timeline: timelineOf(timeline),
    first: first as SegmentNumber,
    last: last as SegmentNumber,
    storedBytes: last - first + 1,
  });
  expect(mergeRuns([run(2, 4, 5), run(1, 7, 9), run(1, 4, 5), run(1, 6, 6), run(1, 11, 11)])).toEqual([
    run(1, 4, 9),
    run(1, 11, 11),
    run(2, 4, 5),
  ]);
});
