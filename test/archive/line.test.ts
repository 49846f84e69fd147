/** The line: claims decide which timeline an archive follows, what archive_command may store, and what recovery is shown. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { type Archive, openArchiveFor } from "../../src/archive/archive.ts";
import { decodeClaim, encodeClaim, type LineClaim, putClaim, readClaims } from "../../src/archive/line/claims.ts";
import { describeRivals, findRivals } from "../../src/archive/line/rivals.ts";
import { findLine, locateTip } from "../../src/archive/wal/tip.ts";
import { putHistory, putSegment } from "../../src/archive/wal/objects.ts";
import { walPush } from "../../src/receive/wal-push.ts";
import { findWal } from "../../src/restore/fetch/wal-fetch.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { addBytes, type Lsn, type SegmentNumber, segmentStart, type TimelineId } from "../../src/wal/lsn.ts";

const SIZE = 1 << 20;
const folder = await mkdtemp(join(tmpdir(), "seawall-line-"));
afterAll(() => rm(folder, { recursive: true }));

const timeline = (value: number): TimelineId => value as TimelineId;

async function store(archive: Archive, of: number, segment: number): Promise<void> {
  const place = { timeline: timeline(of), segment: segment as SegmentNumber, segmentSize: SIZE };
  const startLsn = segmentStart(place.segment, SIZE);
  const endLsn = addBytes(startLsn, SIZE);
  const facts = { startLsn, endLsn, verifiedLsn: endLsn };
  await putSegment(archive, place, Buffer.alloc(SIZE, of), facts, { confirm: false });
}

/** Segment 5 on timeline 1; timelines 2 and 3 fork from it, 2 with a segment of its own and 3 with one, too. */
async function forked(): Promise<Archive> {
  const identity = { systemIdentifier: 7n, segmentSize: SIZE, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  const archive = await openArchiveFor(new MemoryStore(), "main", identity, { codec: runCodec });
  await store(archive, 1, 5);
  await store(archive, 2, 6);
  await store(archive, 3, 6);
  await putHistory(archive, timeline(2), Buffer.from("1\t0/600000\tno recovery target specified\n"));
  await putHistory(archive, timeline(3), Buffer.from("1\t0/600000\tbefore a time\n"));
  return archive;
}

function claim(number: number, of: number, over?: number): LineClaim {
  return {
    ...{ number, timeline: timeline(of), claimedAt: "2026-03-02T10:15:00.000Z", server: "db:5432" },
    why: over === undefined ? "first" : "take-over",
    parent: of === 1 ? undefined : { timeline: timeline(1), lsn: 0x600000n as Lsn },
    over: over === undefined ? undefined : { timeline: timeline(over), lsn: 0x600000n as Lsn },
    restoredFrom: over === undefined ? undefined : "file:///backup 2026-03-02T10:00:00Z",
  };
}

test("a claim is read as it was written, and one of a later version is refused", () => {
  const at = { key: "main/line/00000002.json", number: 2 };
  for (const written of [claim(2, 1), claim(2, 3, 2)]) expect(decodeClaim(encodeClaim(written), at)).toEqual(written);
  const later = Buffer.from(JSON.stringify({ version: 2, timeline: 1 }));
  expect(() => decodeClaim(later, at)).toThrowError(expect.objectContaining({ code: "archive-version" }));
});

test("a number is claimed once: a retried claim is the same one, another claim comes too late", async () => {
  const archive = await forked();
  expect(await putClaim(archive, claim(1, 1))).toBe("created");
  expect(await putClaim(archive, claim(1, 1))).toBe("created");
  expect(await putClaim(archive, claim(1, 2))).toBe("exists");
  expect((await readClaims(archive)).map((found) => found.timeline)).toEqual([1]);
});

test("the newest claim names the line; keys that are no claims are passed over", async () => {
  const archive = await forked();
  expect((await findLine(archive))?.timeline).toBe(3);
  await putClaim(archive, claim(1, 1));
  await archive.store.put("main/line/README", Buffer.from("not a claim"));
  expect(await locateTip(archive)).toMatchObject({ timeline: 1, segment: 6 });
  await putClaim(archive, claim(2, 2, 1));
  expect(await locateTip(archive)).toMatchObject({ timeline: 2, segment: 7 });
  for (let number = 3; number <= 12; number++) await putClaim(archive, claim(number, number % 2 === 0 ? 2 : 3, 2));
  expect(await locateTip(archive)).toMatchObject({ timeline: 2, segment: 7 });
});

test("a claimed timeline without WAL has its tip on the ancestor that has some", async () => {
  const archive = await forked();
  await putHistory(archive, timeline(4), Buffer.from("1\t0/600000\tx\n\n2\t0/700000\ty\n"));
  await putClaim(archive, claim(1, 4));
  expect(await locateTip(archive)).toMatchObject({ timeline: 2, segment: 7 });
});

test("a recovering server is shown no history above the line, unless it recovers to one timeline", async () => {
  const archive = await forked();
  const given = async (file: string, anyTimeline = false): Promise<boolean> =>
    (await findWal(archive, file, { anyTimeline })) !== undefined;
  expect(await given("00000003.history")).toBe(true);
  await putClaim(archive, claim(1, 2));
  expect(await given("00000002.history")).toBe(true);
  expect(await given("00000003.history")).toBe(false);
  expect(await given("00000003.history", true)).toBe(true);
});

test("archive_command of a stray timeline is refused in an archive with claims, and claims the line with --take-over", async () => {
  const archive = await forked();
  const path = join(folder, "00000004.history");
  await writeFile(path, "1\t0/580000\tbefore a time\n");
  const { store: inner, cluster } = archive;
  const push = (takeOver?: number): Promise<string> =>
    walPush({ store: inner, cluster, path, codec: runCodec, now: new Date(0), server: "copy", takeOver });
  await putClaim(archive, claim(1, 2));
  await expect(push()).rejects.toMatchObject({
    code: "line-unclaimed",
    hint: expect.stringContaining("--take-over 1") as string,
  });
  await expect(push(0)).rejects.toMatchObject({ code: "line-unclaimed", retryable: true });
  expect(await inner.head("main/wal/00000004.history")).toBeUndefined();
  await push(1);
  await push(1);
  expect((await readClaims(archive)).map(({ timeline: of, why }) => [of, why])).toEqual([
    [2, "first"],
    [4, "take-over"],
  ]);
  // The timeline that was the line stays part of the archive.
  const old = join(folder, "00000002.history");
  await writeFile(old, "1\t0/600000\tno recovery target specified\n");
  expect(await walPush({ store: inner, cluster, path: old, codec: runCodec, now: new Date(0), server: "old" })).toBe(
    "exists",
  );
});

test("archive_command stores every timeline in an archive without claims", async () => {
  const archive = await forked();
  const path = join(folder, "00000004.history");
  await writeFile(path, "1\t0/580000\tbefore a time\n");
  const { store: inner, cluster } = archive;
  expect(await walPush({ store: inner, cluster, path, codec: runCodec, now: new Date(0), server: "any" })).toBe(
    "created",
  );
  expect(await readClaims(archive)).toEqual([]);
});

test("strays are named, and a timeline that is written on after the line was claimed over it", async () => {
  const archive = await forked();
  expect(await findRivals(archive)).toEqual([]);
  await putClaim(archive, claim(1, 1));
  const strays = [2, 3].map((of) => ({ timeline: of, kind: "stray", endLsn: 0x700000n, isActive: true }));
  expect(await findRivals(archive)).toEqual(strays);
  await putClaim(archive, claim(2, 2, 1));
  // Timeline 1 up to the fork belongs to the line.
  expect(await findRivals(archive)).toEqual([strays[1]]);
  await sleep(10);
  await store(archive, 1, 6);
  const written = { timeline: 1, kind: "written", endLsn: 0x700000n, isActive: true };
  expect(await findRivals(archive)).toEqual([written, strays[1]]);
  await putHistory(archive, timeline(9), Buffer.from("1\t0/500000\tx\n"));
  expect((await describeRivals(archive)).at(-1)).toMatchObject({
    isActive: false,
    text: "timeline 9 was never the archive's line: only its history file is stored",
  });
});
