/** From a wish to a plan: which timelines and backups are tried, and that the archive is not read twice for one answer. */
import { describe, expect, test } from "vitest";
import { resolvePlan } from "../../src/restore/resolve.ts";
import { parseTarget, type TargetTexts } from "../../src/restore/target.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { parseLsn } from "../../src/wal/lsn.ts";
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
      name: "begins with an older one when WAL of the newest is missing",
      backups: [A, B],
      segments: [[2, 4]],
      backup: undefined,
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
