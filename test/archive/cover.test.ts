/** Which backup makes a gap history: one that begins behind it, on the way to the archive's line, and can be restored. */
import { describe, expect, test } from "vitest";
import {
  backupsBehind,
  commitText,
  coverOf,
  type GapPlace,
  lastCommitBefore,
} from "../../src/archive/catalog/cover.ts";
import type { BackupSpan, RecoveryWindow } from "../../src/archive/catalog/windows.ts";
import { type Lsn, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory, type TimelineHistory } from "../../src/wal/timeline.ts";

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const gap = (timeline: number, from: number, to: number): GapPlace => ({
  ...{ timeline: timelineOf(timeline), fromLsn: lsn(from), toLsn: lsn(to) },
});
const backup = (id: string, timeline: number, start: number, stop: number): BackupSpan => ({
  ...{ id, timeline: timelineOf(timeline), startLsn: lsn(start), stopLsn: lsn(stop) },
  finishedAt: `2026-11-20T09:${id}:00.000Z`,
});

const one = rootHistory(timelineOf(1));
/** Timeline 1 up to 500, then timeline 2. */
const two: TimelineHistory = {
  timeline: timelineOf(2),
  entries: [{ timeline: timelineOf(1), switchLsn: lsn(500), reason: "failover" }],
};
const all = (): boolean => true;

describe("a gap from 300 to 400", () => {
  test.each([
    { title: "no backup", line: one, gap: gap(1, 300, 400), backups: [], covers: undefined },
    {
      title: "a backup before it",
      line: one,
      gap: gap(1, 300, 400),
      backups: [backup("10", 1, 100, 200)],
      covers: undefined,
    },
    {
      title: "a backup that began inside it",
      line: one,
      gap: gap(1, 300, 400),
      backups: [backup("20", 1, 399, 450)],
      covers: undefined,
    },
    {
      title: "a backup that began exactly at its end",
      line: one,
      gap: gap(1, 300, 400),
      backups: [backup("20", 1, 400, 450)],
      covers: "20",
    },
    {
      title: "several behind it: the oldest",
      line: one,
      gap: gap(1, 300, 400),
      backups: [backup("30", 1, 600, 700), backup("20", 1, 410, 450), backup("10", 1, 1, 9)],
      covers: "20",
    },
    {
      title: "a backup on the next timeline",
      line: two,
      gap: gap(1, 300, 400),
      backups: [backup("20", 2, 510, 600)],
      covers: "20",
    },
    {
      title: "a backup on the next timeline, in the segment that both share",
      line: two,
      gap: gap(1, 300, 600),
      backups: [backup("20", 2, 510, 590)],
      covers: "20",
    },
    {
      title: "a backup on the old timeline behind the switch",
      line: two,
      gap: gap(1, 300, 400),
      backups: [backup("20", 1, 510, 600)],
      covers: undefined,
    },
    {
      title: "a backup on a timeline that the line does not come from",
      line: two,
      gap: gap(1, 300, 400),
      backups: [backup("20", 3, 510, 600)],
      covers: undefined,
    },
    {
      title: "a gap on the new timeline, a backup on the old one",
      line: two,
      gap: gap(2, 600, 700),
      backups: [backup("20", 1, 100, 200)],
      covers: undefined,
    },
    {
      title: "a gap behind the point where the line left its timeline",
      line: two,
      gap: gap(1, 500, 700),
      backups: [backup("20", 1, 100, 200)],
      covers: "20",
    },
    {
      title: "a gap on a timeline beside the line",
      line: two,
      gap: gap(3, 300, 400),
      backups: [backup("20", 2, 510, 600)],
      covers: "20",
    },
  ])("$title", ({ line, gap: place, backups, covers }) => {
    expect(coverOf(place, { line, backups, isRestorable: all })?.backup).toBe(covers);
  });

  test("a backup that cannot be restored covers nothing, and the next one does", () => {
    const backups = [backup("20", 1, 410, 450), backup("30", 1, 600, 700)];
    const input = { line: one, backups, isRestorable: ({ id }: BackupSpan) => id === "30" };
    expect(backupsBehind(gap(1, 300, 400), input).map(({ id }) => id)).toEqual(["20", "30"]);
    expect(coverOf(gap(1, 300, 400), input)).toEqual({ backup: "30", finishedAt: "2026-11-20T09:30:00.000Z" });
    expect(coverOf(gap(1, 300, 400), { ...input, isRestorable: () => false })).toBeUndefined();
  });
});

describe("the last time before a gap", () => {
  const window = (toLsn: number, lastCommitAt: string | null, timeline = 1): RecoveryWindow => ({
    ...{ timeline: timelineOf(timeline), fromLsn: lsn(0), toLsn: lsn(toLsn), backup: "10" },
    ...{ fromTime: "", toTime: null, lastCommitAt },
  });
  const timeBefore = (place: GapPlace, windows: RecoveryWindow[]): string | undefined =>
    lastCommitBefore(place, { windows, histories: [one, two] })?.time;

  test("is that of the window that ends nearest before it", () => {
    const windows = [window(100, "a"), window(300, "b"), window(250, "c"), window(900, "d"), window(299, null)];
    expect(timeBefore(gap(1, 300, 400), windows)).toBe("b");
    expect(timeBefore(gap(1, 299, 400), windows)).toBe("c");
    expect(timeBefore(gap(1, 99, 400), windows)).toBeUndefined();
  });

  test("may be a later one where a window behind it was not read", () => {
    const before = (windows: RecoveryWindow[]): string | undefined => {
      const commit = lastCommitBefore(gap(1, 300, 400), { windows, histories: [one, two] });
      return commit && commitText(commit);
    };
    const unread = { isUnread: true } as const;
    expect(before([window(100, "a"), window(250, "b")])).toBe("b");
    expect(before([window(100, "a"), { ...window(250, "b"), ...unread }])).toBe("b or later");
    expect(before([window(100, "a"), { ...window(250, null), ...unread }])).toBe("a or later");
    expect(before([{ ...window(100, "a"), ...unread }, window(250, "b")])).toBe("b");
    expect(before([{ ...window(250, null), ...unread }])).toBeUndefined();
  });

  test("is never that of a timeline on whose way the gap does not lie", () => {
    const windows = [window(100, "a"), window(550, "b", 2)];
    expect(timeBefore(gap(1, 600, 700), windows)).toBe("a");
    expect(timeBefore(gap(2, 600, 700), windows)).toBe("b");
  });
});
