/** The plan as a pure function: which backup leads to a target, and what is said when none does. */
import { describe, expect, test } from "vitest";
import { type Barrier, findBarriers, stretchesOf } from "../../src/archive/wal/path.ts";
import { backupsOn } from "../../src/archive/catalog/windows.ts";
import type { Landing } from "../../src/restore/target/landing.ts";
import { describeLanding, planRestore, windowsOf } from "../../src/restore/target/plan.ts";
import { parseTarget } from "../../src/restore/target/target.ts";
import type { RouteItem, WalRoute } from "../../src/restore/target/route.ts";
import { formatLsn, type Lsn, parseLsn, type SegmentNumber, timelineOf } from "../../src/wal/lsn.ts";
import type { PgTime } from "../../src/wal/record-facts.ts";
import { parseHistory, rootHistory } from "../../src/wal/timeline.ts";

const MIB = 1 << 20;
const one = timelineOf(1);
const two = timelineOf(2);
const three = timelineOf(3);
/** Segments of 1 MiB: 0/100000 is the start of segment 1. */
const lsn = (text: string): Lsn => parseLsn(text);
const segment = (number: number): SegmentNumber => number as SegmentNumber;

function items(from: number, to: number, timeline = one): RouteItem[] {
  const numbers = Array.from({ length: to - from + 1 }, (_, i) => from + i);
  return numbers.map((number) => ({
    ...{ segment: segment(number), timeline, kind: "segment", storedBytes: 10, length: MIB },
  }));
}

function route(changes: Partial<WalRoute> = {}): WalRoute {
  return {
    ...{ history: rootHistory(one), segmentSize: MIB, items: items(1, 9), barriers: [], endLsn: lsn("0/9F0000") },
    ...changes,
  };
}

const backup = (id: string, startLsn: string, stopLsn: string, timeline = one) => ({
  ...{
    id,
    timeline,
    startLsn: lsn(startLsn),
    stopLsn: lsn(stopLsn),
    finishedAt: `2026-11-22T0${id.length}:00:00.000Z`,
  },
});
const A = backup("A", "0/100028", "0/180000");
const B = backup("BB", "0/500028", "0/580000");

const landing = (text: string): Landing => ({
  lsn: lsn(text),
  point: { kind: "lsn", lsn: lsn(text) },
  inclusive: true,
});
const target = parseTarget({ lsn: lsn("0/1") }, 0);

function plan(landings: string[], options: { barriers?: Barrier[]; backups?: (typeof A)[]; missing?: string } = {}) {
  const { barriers = [], backups = [B, A], missing = "" } = options;
  return planRestore({
    ...{ target, backups, route: route({ barriers }) },
    landings: { found: landings.map(landing), missing },
  });
}

function refusal(run: () => unknown): { code: string; message: string; hint: string } {
  try {
    run();
  } catch (error) {
    return error as { code: string; message: string; hint: string };
  }
  throw new Error("nothing was refused");
}

const gap = (from: string, to: string): Barrier => ({
  fromLsn: lsn(from),
  toLsn: lsn(to),
  reason: "a test",
  isRecorded: true,
});

describe("the backup", () => {
  test.each([
    ["0/600000", "BB"],
    ["0/580000", "BB"],
    ["0/57FFF8", "A"],
    ["0/180000", "A"],
  ])("for %s is %s", (at, id) => {
    expect(plan([at]).backup.id).toBe(id);
  });

  test("brings the WAL from its start to the landing", () => {
    expect(plan(["0/680000"]).wal).toEqual({
      ...{ from: "000000010000000000000005", to: "000000010000000000000006", segments: 2, storedBytes: 20 },
      bytes: 0x680000 - 0x500028,
    });
    // Ending at a border, the segment behind it is not needed.
    expect(plan(["0/600000"]).wal).toMatchObject({ to: "000000010000000000000005", segments: 1 });
  });

  test("of a name that was used twice leads to its next use, if it is consistent there", () => {
    expect(plan(["0/200000", "0/700000"])).toMatchObject({ backup: { id: "BB" }, landing: { lsn: lsn("0/700000") } });
    // Behind B's start but before its end: B would fail there.
    expect(plan(["0/200000", "0/540000"])).toMatchObject({ backup: { id: "A" }, landing: { lsn: lsn("0/200000") } });
  });

  test("of a moment ends before it, unless a commit before the moment is replayed as well", () => {
    const time = (text: string): PgTime => (Date.parse(text) * 1000) as PgTime;
    const at = (moment: string, commitLsn?: string): string => {
      const point = { kind: "time", time: time(moment) } as const;
      const commit = commitLsn === undefined ? {} : { commitTime: time(moment), commitLsn: lsn(commitLsn) };
      const found = [{ lsn: lsn("0/600000"), point, inclusive: true, ...commit }];
      const wish = parseTarget({ time: moment }, 0);
      return planRestore({ target: wish, backups: [B, A], route: route(), landings: { found, missing: "" } }).backup.id;
    };
    // A ended at 1 o'clock, BB at 2.
    expect(at("2026-11-22T03:00:00Z")).toBe("BB");
    expect(at("2026-11-22T01:30:00Z")).toBe("A");
    expect(at("2026-11-22T01:30:00Z", "0/590000")).toBe("BB");
    expect(at("2026-11-22T01:30:00Z", "0/400000")).toBe("A");
    expect(at("2026-11-22T02:00:00Z")).toBe("BB");
    expect(at("2026-11-22T01:59:59Z")).toBe("A");
    // The commit at the backup's start is in the backup, and not replayed.
    expect(at("2026-11-22T01:30:00Z", "0/500028")).toBe("A");
    expect(at("2026-11-22T01:30:00Z", "0/500029")).toBe("BB");
    const { message, hint } = refusal(() => at("2020-01-01T00:00:00Z"));
    expect(message).toMatch(/^time 2020-01-01T00:00:00.000000Z lies before the end of every backup/);
    expect(hint).toMatch(/: after it 0\/180000, the end of backup A at/);
  });

  test("for its own end is the newest one, though another backup ended while it was taken", () => {
    const found = ["0/180000", "0/540000", "0/580000"].map((at) => ({
      ...{ lsn: lsn(at), point: { kind: "immediate" } as const, inclusive: true },
    }));
    const between = backup("CCC", "0/200028", "0/540000");
    const input = { target: parseTarget({ target: "immediate" }, 0), backups: [B, between, A], route: route() };
    const planned = planRestore({ ...input, landings: { found, missing: "" } });
    expect([planned.backup.id, formatLsn(planned.landing.lsn)]).toEqual(["BB", "0/580000"]);
    const [first] = found;
    const earlier = planRestore({ ...input, landings: { found: first === undefined ? [] : [first], missing: "" } });
    expect(earlier.backup.id).toBe("A");
  });

  test("does not stop at a point that lies exactly where it began", () => {
    expect(plan(["0/500028", "0/700000"])).toMatchObject({ backup: { id: "BB" }, landing: { lsn: lsn("0/700000") } });
  });

  test("brings WAL of two timelines, each segment under the timeline that has it", () => {
    const history = parseHistory(two, "1\t0/600000\tno reason\n");
    const both = route({ history, items: [...items(1, 5), ...items(6, 9, two)] });
    const input = { target, backups: [B], landings: { found: [landing("0/780000")], missing: "" } };
    expect(planRestore({ ...input, route: both }).wal).toMatchObject({
      ...{ from: "000000010000000000000005", to: "000000020000000000000007", segments: 3, storedBytes: 30 },
    });
    // Segments that the route lacks are named for the backup's timeline.
    expect(planRestore({ ...input, route: route({ history, items: [] }) }).wal).toMatchObject({
      ...{ from: "000000010000000000000005", to: "000000010000000000000007", segments: 0 },
    });
  });

  test("lies on the way to the timeline", () => {
    const history = parseHistory(two, "1\t0/600000\tno reason\n");
    const late = backup("CCC", "0/610000", "0/620000");
    const young = backup("DDDD", "0/610000", "0/620000", two);
    expect(backupsOn([A, late, young, B], history).map(({ id }) => id)).toEqual(["DDDD", "BB", "A"]);
    expect(backupsOn([young], rootHistory(one))).toEqual([]);
  });
});

test("a gap at the archive's end, with nothing behind it yet, bars the way without a target and not to one before it", () => {
  const ended = route({ barriers: [gap("0/700000", "0/900000")] });
  const landing = { lsn: lsn("0/700000"), point: { kind: "latest" } as const, inclusive: true };
  const landings = { found: [landing], missing: "" };
  const { message } = refusal(() =>
    planRestore({ target: parseTarget({}, 0), backups: [B, A], route: ended, landings }),
  );
  expect(message).toMatch(/lies behind a gap: WAL from 0\/700000 to 0\/900000 is not in the archive/);
  const before = parseTarget({ lsn: lsn("0/700000") }, 0);
  expect(planRestore({ target: before, backups: [B, A], route: ended, landings })).toMatchObject({ gapAhead: true });
});

describe("a refusal names the nearest points:", () => {
  test("before every backup's end", () => {
    const { code, message, hint } = refusal(() => plan(["0/170000"]));
    expect(code).toBe("target-unreachable");
    expect(message).toMatch(/lies before the end of every backup/);
    expect(hint).toBe(
      "Nearest points on timeline 1 that can be reached: after it 0/180000, the end of backup A at 2026-11-22T01:00:00.000Z.",
    );
  });

  test("beyond the archive", () => {
    const { message, hint } = refusal(() => plan([], { missing: "it ends at 0/9F0000" }));
    expect(message).toBe("LSN 0/1 is beyond the archived WAL of timeline 1: it ends at 0/9F0000");
    expect(hint).toBe("Nearest points on timeline 1 that can be reached: before it 0/9F0000.");
  });

  test.each([
    ["before the end of the first backup", "2026-11-22T00:30:00Z", "after it 0/180000, the end of backup A"],
    ["between two windows", "2026-11-22T01:30:00Z", "before it 0/300000; after it 0/580000, the end of backup BB"],
    ["behind all of them", "2026-11-22T02:00:00Z", "before it 0/9F0000."],
  ])("a moment %s, though nothing was committed since", (_, time, near) => {
    const { code, hint } = refusal(() =>
      planRestore({
        ...{
          target: parseTarget({ time }, 0),
          backups: [B, A],
          route: route({ barriers: [gap("0/300000", "0/400000")] }),
        },
        landings: { found: [], missing: "it holds no later commit" },
      }),
    );
    expect(code).toBe("target-unreachable");
    expect(hint).toContain(`Nearest points on timeline 1 that can be reached: ${near}`);
  });

  test("in a gap", () => {
    const barriers = [gap("0/300000", "0/400000")];
    const { message, hint } = refusal(() => plan(["0/380000"], { barriers }));
    expect(message).toMatch(
      /lies behind a gap: WAL from 0\/300000 to 0\/400000 is not in the archive \(a test\), and backup A/,
    );
    expect(hint).toMatch(/before it 0\/300000; after it 0\/580000, the end of backup BB/);
    // Up to its edge it goes, and behind it from the next backup.
    expect(plan(["0/300000"], { barriers })).toMatchObject({ gapAhead: true });
    expect(plan(["0/590000"], { barriers })).toMatchObject({ gapAhead: false });
    expect(plan(["0/300000"], { barriers }).backup.id).toBe("A");
    expect(plan(["0/590000"], { barriers }).backup.id).toBe("BB");
    expect(windowsOf(route({ barriers }), [B, A]).map(({ fromLsn, toLsn }) => [fromLsn, toLsn].map(formatLsn))).toEqual(
      [
        ["0/180000", "0/300000"],
        ["0/580000", "0/9F0000"],
      ],
    );
  });

  test("when nothing at all can be reached", () => {
    const { hint } = refusal(() => plan(["0/600000"], { barriers: [gap("0/100000", "0/F00000")] }));
    expect(hint).toBe("Nothing on timeline 1 can be recovered: take a base backup.");
  });
});

describe("the route", () => {
  const history = parseHistory(three, "1\t0/250000\tx\n2\t0/400000\ty\n");

  test("has each timeline's segments, those of a switch point on both sides", () => {
    expect(stretchesOf(history, MIB)).toEqual([
      { timeline: one, first: 0, last: 2 },
      { timeline: two, first: 2, last: 3 },
      { timeline: three, first: 4, last: Number.MAX_SAFE_INTEGER },
    ]);
  });

  test("is barred by recorded gaps, by holes, and behind a tail", () => {
    const withHole = [...items(2, 3), ...items(5, 6)];
    const bars = (list: RouteItem[], gaps: Parameters<typeof findBarriers>[0]["gaps"] = []): string[][] =>
      findBarriers({
        ...{ history: rootHistory(one), gaps, from: segment(2), segmentSize: MIB },
        pieces: list.map((item) => ({ ...item, first: item.segment, last: item.segment })),
      }).map((barrier) => [formatLsn(barrier.fromLsn), formatLsn(barrier.toLsn), barrier.reason]);
    expect(bars(items(2, 6))).toEqual([]);
    expect(bars(withHole)).toEqual([["0/400000", "0/500000", "000000010000000000000004 is missing from the archive"]]);
    expect(bars(items(3, 4))).toEqual([
      ["0/200000", "0/300000", "000000010000000000000002 is missing from the archive"],
    ]);
    const recorded = {
      timeline: one,
      fromLsn: lsn("0/400000"),
      toLsn: lsn("0/500000"),
      detectedAt: "",
      reason: "slot lost",
    };
    expect(bars(withHole, [recorded])).toEqual([["0/400000", "0/500000", "recorded as lost: slot lost"]]);
    // Of another timeline's way, or behind where this one left it: not ours.
    expect(bars(items(2, 6), [{ ...recorded, timeline: two }])).toEqual([]);
    const tail: RouteItem = { segment: segment(3), timeline: one, kind: "tail", storedBytes: 1, length: 0x1000 };
    expect(bars([...items(2, 2), tail, ...items(4, 4)])).toEqual([
      ["0/301000", "0/400000", "000000010000000000000003 is missing from the archive"],
    ]);
    expect(bars([...items(2, 2), tail])).toEqual([]);
  });
});

test("WAL that PostgreSQL does not recover past is no gap: the refusal says where it lies", () => {
  const barrier = { ...gap("0/700000", "0/700040"), isStored: true, reason: "the server went on" };
  expect(refusal(() => plan(["0/800000"], { barriers: [barrier] })).message).toMatch(
    /lies behind WAL that PostgreSQL does not recover past: at 0\/700000 the server went on, and backup BB ends before it$/,
  );
});

test("a landing is described by its LSN, and by its last commit where that is known", () => {
  const at = landing("0/780000");
  expect(describeLanding(at)).toBe("0/780000");
  const commitTime = (Date.UTC(2026, 10, 22, 1, 2, 3) * 1000) as PgTime;
  expect(describeLanding({ ...at, commitTime })).toBe("0/780000, last commit at 2026-11-22T01:02:03.000000Z");
});
