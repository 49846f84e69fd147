/** From a wish to a plan: which timelines and backups are tried, and that the archive is not read twice for one answer. */
import { describe, expect, test } from "vitest";
import { resolvePlan } from "../../src/restore/target/resolve.ts";
import { parseTarget, type TargetTexts } from "../../src/restore/target/target.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Archive } from "../../src/archive/archive.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { backupDocumentKey, backupPartKey, gapKey, historyKey } from "../../src/archive/keys.ts";
import { SeawallError } from "../../src/errors.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { emptyArchive, putBackupDocument, putSegments, type BackupWish } from "../archive/retained.ts";

const A: BackupWish = { id: "20260201T000000Z-00000001", startLsn: "0/200028", stopLsn: "0/480000" };
const B: BackupWish = {
  ...{ id: "20260202T000000Z-00000002", startLsn: "0/500028", stopLsn: "0/580000" },
  startedAt: "2026-02-04T00:00:00.000Z",
};
const BEYOND = { lsn: parseLsn("1/0") };

interface Planned {
  readonly backup: string | undefined;
  readonly refusal: string | undefined;
  /** How often something of the archive was listed. */
  readonly lists: number;
}

/** `segments`: first and last of each run on timeline 1. */
async function planned(
  input: { readonly backups: readonly BackupWish[]; readonly segments: readonly (readonly [number, number])[] },
  texts: TargetTexts,
  backupId?: string,
): Promise<Planned> {
  const store = new MemoryStore();
  const archive = await emptyArchive(store);
  for (const wish of input.backups) await putBackupDocument(archive, wish);
  for (const [first, last] of input.segments) await putSegments(archive, 1, first, last);
  let lists = 0;
  const list = store.list.bind(store);
  store.list = (...args) => {
    lists++;
    return list(...args);
  };
  try {
    const { backup } = await resolvePlan(archive, { target: parseTarget(texts, 0), backupId });
    return { backup: backup.id, refusal: undefined, lists };
  } catch (error) {
    const { code } = error as { code: string };
    return { backup: undefined, refusal: code, lists };
  }
}

/** The error that planning ends with. */
async function refusalOf(planning: Promise<unknown>): Promise<SeawallError> {
  const error: unknown = await planning.catch((reason: unknown) => reason);
  if (error instanceof SeawallError) return error;
  throw new Error("was not refused");
}

const plan = (archive: Archive, texts: TargetTexts) => resolvePlan(archive, { target: parseTarget(texts, 0) });

/** A's own WAL has a hole, so nothing can be reached from it. */
const HOLE_IN_A = [
  [2, 2],
  [5, 6],
] as const;

describe("the plan for the end of the archive", () => {
  test.each<{
    name: string;
    backups: BackupWish[];
    segments: readonly (readonly [number, number])[];
    backup: string | undefined;
  }>([
    { name: "begins with the only backup", backups: [A], segments: [[2, 6]], backup: A.id },
    { name: "begins with the newest backup", backups: [A, B], segments: [[2, 6]], backup: B.id },
    {
      name: "begins with the newest though an older one is broken",
      backups: [A, B],
      segments: HOLE_IN_A,
      backup: B.id,
    },
    {
      name: "begins with an older one when all WAL of the newest is missing",
      backups: [A, B],
      segments: [[2, 4]],
      backup: A.id,
    },
    {
      name: "begins with an older one when WAL up to the end of the newest is missing",
      backups: [A, { ...B, stopLsn: "0/7F0000" }],
      segments: [[2, 6]],
      backup: A.id,
    },
    { name: "is refused when the only backup is broken", backups: [A], segments: HOLE_IN_A, backup: undefined },
  ])("$name", async ({ backups, segments, backup }) => {
    const found = await planned({ backups, segments }, {});
    expect([found.backup, found.refusal]).toEqual([backup, backup === undefined ? "target-unreachable" : undefined]);
  });

  test("is looked for once when there is one backup, as for any other target", async () => {
    const world = { backups: [A], segments: HOLE_IN_A };
    const [end, lsn] = [await planned(world, {}), await planned(world, BEYOND)];
    expect([end.refusal, lsn.refusal]).toEqual(["target-unreachable", "target-unreachable"]);
    expect(end.lists).toBe(lsn.lists);
  });

  test("is looked for behind the newest backup first, then behind all; any other target behind all at once", async () => {
    const broken = { ...B, stopLsn: "0/7F0000" };
    const world = { backups: [A, broken], segments: HOLE_IN_A };
    const [end, lsn] = [await planned(world, {}), await planned(world, BEYOND)];
    expect([end.refusal, lsn.refusal]).toEqual(["target-unreachable", "target-unreachable"]);
    expect(end.lists).toBeGreaterThan(lsn.lists);
  });
});

test.each<
  [name: string, backups: BackupWish[], texts: TargetTexts, id: string | undefined, answer: string | undefined]
>([
  ["a named backup is taken though a newer one would do", [A, B], {}, A.id, A.id],
  ["a backup that is not there is refused", [A], {}, B.id, "backup-absent"],
  ["an archive without backups is refused", [], {}, undefined, "backup-absent"],
  ["a timeline that no backup leads to is refused", [A], { timeline: "7" }, undefined, "target-unreachable"],
  ["the backup's own timeline is tried", [A], { timeline: "current" }, undefined, A.id],
  ["a timeline is taken by its number", [A], { timeline: "1" }, undefined, A.id],
])("%s", async (_, backups, texts, id, answer) => {
  const { backup, refusal } = await planned({ backups, segments: [[2, 6]] }, texts, id);
  expect(backup ?? refusal).toBe(answer);
});

test("an archive without WAL is refused with what to do", async () => {
  expect((await planned({ backups: [A], segments: [] }, {})).refusal).toBe("target-unreachable");
});

describe("a restore along each backup's own timeline", () => {
  const FORK = Buffer.from("1\t0/600000\tno recovery target specified\n");
  /** On timeline 2, which leaves timeline 1 in segment 6. */
  const C: BackupWish = {
    ...{ id: "20260203T000000Z-00000003", timeline: 2, startLsn: "0/700028", stopLsn: "0/780000" },
    startedAt: "2026-02-05T00:00:00.000Z",
  };
  /** Segments 2 to 9 on timeline 1, and 6 to `last` on timeline 2. */
  async function forked(backups: readonly BackupWish[], { history = FORK, last = 9 } = {}): Promise<Archive> {
    const archive = await emptyArchive(new MemoryStore());
    for (const wish of backups) await putBackupDocument(archive, wish);
    await archive.store.put(historyKey("main", timelineOf(2)), history);
    await putSegments(archive, 1, 2, 9);
    await putSegments(archive, 2, 6, last);
    return archive;
  }

  test.each([
    ["the newest backup comes first", [B, C], C.id, 2],
    [
      "the newest backup comes first, whichever timeline it is on",
      [B, { ...C, startedAt: "2026-02-02T00:00:00.000Z" }],
      B.id,
      1,
    ],
  ] as const)("%s", async (_, backups, id, timeline) => {
    const planned = await plan(await forked(backups), { timeline: "current" });
    expect([planned.backup.id, planned.timeline]).toEqual([id, timeline]);
  });

  test("goes on with an older backup's timeline where WAL of the newest is missing", async () => {
    // Past the fork, so only timeline 1 leads on from it.
    const past = { ...B, startLsn: "0/600028", stopLsn: "0/680000" };
    const planned = await plan(await forked([past, C], { last: 6 }), { timeline: "current" });
    expect([planned.backup.id, planned.timeline]).toEqual([past.id, 1]);
  });

  test("is refused with the reason of the newest backup's timeline where none reaches the target", async () => {
    const refusal = await refusalOf(plan(await forked([B, C]), { timeline: "current", ...BEYOND }));
    expect(refusal.code).toBe("target-unreachable");
    expect(refusal.hint).toContain("on timeline 2");
  });

  test("is refused for a damaged history, and does not fall back to another timeline", async () => {
    const archive = await forked([B, C], { history: Buffer.from("no history\n") });
    const refusal = await refusalOf(plan(archive, { timeline: "current" }));
    expect(refusal.code).toBe("timeline-history");
  });

  test("to an LSN of timeline 1 needs no history of timeline 2, and a refusal names what cannot be read", async () => {
    const archive = await forked([B], { history: Buffer.from("no history\n") });
    const planned = await plan(archive, { timeline: "1", target: "immediate" });
    expect([planned.backup.id, planned.otherTimelines]).toEqual([B.id, []]);
    const refusal = await refusalOf(plan(archive, { timeline: "1", ...BEYOND }));
    expect(refusal.code).toBe("target-unreachable");
    expect(refusal.hint).toContain("Timeline 2 cannot be read: history of timeline 2, line 1");
  });

  test("past the fork is refused with the reach of the other timeline, also where only its envelopes can be read", async () => {
    const refusal = await refusalOf(
      plan(await forked([B], { last: 12 }), { timeline: "1", lsn: parseLsn("0/C80000") }),
    );
    expect(refusal.message).toBe("LSN 0/C80000 is beyond the archived WAL of timeline 1: it ends at 0/A00000");
    expect(refusal.hint).toContain("Timeline 2 differs from timeline 1 from 0/600000 on and reaches 0/D00000, ");
    expect(refusal.hint).toContain("To restore along it: --target-timeline 2.");
  });

  test("does not fall back to another timeline while the store is away", async () => {
    const archive = await forked([B, C]);
    const get = archive.store.get.bind(archive.store);
    archive.store.get = (key, options) =>
      key.endsWith("00000002.history")
        ? Promise.reject(new SeawallError("store-unavailable", "away"))
        : get(key, options);
    expect((await refusalOf(plan(archive, { timeline: "current" }))).code).toBe("store-unavailable");
  });

  test("a timeline that no backup leads to is refused, with those that have backups, newest first", async () => {
    const one = await forked([C]);
    expect(await refusalOf(plan(one, { timeline: "1" }))).toMatchObject({
      message: "timeline 1 cannot be reached: no backup lies on the way to it",
      hint: `Backup ${C.id} is on timeline 2: try --target-timeline 2.`,
    });
    const other = await forked([B, { ...B, id: "20260201T120000Z-00000009" }, C]);
    expect((await refusalOf(plan(other, { timeline: "7" }))).hint).toBe(
      "There are backups on timeline 2, 1: try --target-timeline 2, or take a new base backup.",
    );
  });
});

test("a backup that began before the newest one and ended after it is restored from its own beginning", async () => {
  const archive = await emptyArchive(new MemoryStore());
  const long = { ...A, startLsn: "0/200028", stopLsn: "0/680000" };
  const short = { ...B, startLsn: "0/300028", stopLsn: "0/480000" };
  for (const wish of [long, short]) await putBackupDocument(archive, wish);
  await putSegments(archive, 1, 2, 8);
  const planned = await plan(archive, { target: "immediate" });
  expect([planned.backup.id, planned.wal.from, planned.wal.segments]).toEqual([long.id, "000000010000000000000002", 5]);
});

describe("WAL in which the server went on with wal_level=minimal", () => {
  const settings = {
    ...{ max_connections: 100, max_worker_processes: 8, max_wal_senders: 0 },
    ...{ max_prepared_transactions: 0, max_locks_per_transaction: 64 },
  };
  const minimal: WalChange = {
    ...{ kind: "parameters", lsn: parseLsn("0/680028"), end: parseLsn("0/680068"), walLevel: "minimal", settings },
  };
  async function broken(backups: readonly BackupWish[]): Promise<Archive> {
    const archive = await emptyArchive(new MemoryStore());
    for (const wish of backups) await putBackupDocument(archive, wish);
    await putSegments(archive, 1, 2, 9, [minimal]);
    return archive;
  }

  const over = { ...A, stopLsn: "0/780000" };

  test.each<[string, BackupWish[], TargetTexts]>([
    ["the end of the archive", [A, B], {}],
    ["the end of a backup that was taken over it", [over], { target: "immediate" }],
  ])("is not recovered through: %s is refused", async (_, backups, texts) => {
    const refusal = await refusalOf(plan(await broken(backups), texts));
    expect(refusal.code).toBe("target-unreachable");
    expect(refusal.message).toContain("WAL that PostgreSQL does not recover past: at 0/680028");
  });

  test("is no end of what can be reached before it: the refusal names that", async () => {
    expect((await refusalOf(plan(await broken([A, B]), {}))).hint).toContain("before it 0/680028");
  });

  test("is named also where a gap is recorded further on", async () => {
    const archive = await broken([over]);
    const [fromLsn, toLsn] = [parseLsn("0/800000"), parseLsn("0/900000")];
    const gap = { timeline: timelineOf(1), fromLsn, toLsn, detectedAt: "", reason: "lost" };
    await archive.store.put(gapKey("main", gap.timeline, fromLsn, toLsn), encodeGap(gap));
    const refusal = await refusalOf(plan(archive, { target: "immediate" }));
    expect(refusal.message).toContain("WAL that PostgreSQL does not recover past: at 0/680028");
  });

  test("is no matter before it, nor from a backup behind it", async () => {
    const before = await plan(await broken([A, B]), { target: "immediate" });
    expect([before.backup.id, before.changes.minimal]).toEqual([B.id, undefined]);
    const later = { ...B, startLsn: "0/700028", stopLsn: "0/780000" };
    expect((await plan(await broken([A, later]), {})).backup.id).toBe(later.id);
  });
});

test.each<[string, string[], string]>([
  ["nothing", [], "has no base backup"],
  ["an unfinished backup", [backupPartKey("main", A.id, "00001.tar.zst")], "has no base backup (but 1 unfinished)"],
  [
    "two unfinished backups and one with a damaged document",
    [
      backupPartKey("main", A.id, "00001.tar.zst"),
      backupPartKey("main", B.id, "00001.tar.zst"),
      backupDocumentKey("main", "20260203T000000Z-00000003"),
    ],
    "has no base backup (but 2 unfinished; main/backups/20260203T000000Z-00000003/backup.json is not JSON)",
  ],
])("an archive that holds %s says so", async (_, keys, message) => {
  const archive = await emptyArchive(new MemoryStore());
  for (const key of keys) await archive.store.put(key, Buffer.from("{"));
  const refusal = await refusalOf(plan(archive, {}));
  expect(refusal.code).toBe("backup-absent");
  expect(refusal.message).toBe(`"main" in ${archive.store.description} ${message}`);
});
