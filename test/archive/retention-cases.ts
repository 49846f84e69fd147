/** Catalogs written down in a line or two, for tests of what expires. */
import type {
  RetentionCatalog,
  RetentionPlan,
  RetentionPolicy,
  BackupFacts,
} from "../../src/archive/retention/model.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { type Lsn, type SegmentNumber, type TimelineId, timelineOf } from "../../src/wal/lsn.ts";
import type { TimelineHistory } from "../../src/wal/timeline.ts";

export const SIZE = 1 << 20;
export const DAY = 86_400_000;
export const NOW = "2026-06-30T12:00:00.000Z";
export const segment = (number: number): SegmentNumber => number as SegmentNumber;

/** In the middle of a segment. */
export const lsn = (number: number): Lsn => BigInt(number * SIZE + 1000) as Lsn;

export interface Wish {
  readonly id: string;
  /** Begins and ends at noon of this day, UTC, or at a given time. */
  readonly at: string;
  /** The segment it begins and ends in. */
  readonly in: number;
  readonly on?: number;
  readonly parent?: string;
}

export function backup({ id, at, in: number, on = 1, parent }: Wish): BackupFacts {
  const time = at.includes("T") ? at : `${at}T12:00:00.000Z`;
  return {
    ...{ id, parent: parent ?? null, timeline: timelineOf(on), storedBytes: 100, startedAt: time, finishedAt: time },
    ...{ startLsn: lsn(number), stopLsn: (lsn(number) + 500n) as Lsn },
  };
}

/** `forks`: timeline → where it left which. `wal`: timeline → first and last sealed segment. */
export interface World {
  readonly backups: readonly Wish[];
  readonly forks?: Readonly<Record<number, { readonly from: number; readonly in: number }>>;
  readonly wal?: Readonly<Record<number, readonly [number, number]>>;
  readonly tip?: { readonly on: number; readonly in: number };
  readonly changes?: Partial<RetentionCatalog>;
}

export function catalogOf({ backups, forks = {}, wal = { 1: [1, 100] }, tip, changes }: World): RetentionCatalog {
  const histories = new Map<TimelineId, TimelineHistory>([[timelineOf(1), { timeline: timelineOf(1), entries: [] }]]);
  for (const [name, { from, in: at }] of Object.entries(forks)) {
    const timeline = timelineOf(Number(name));
    const before = histories.get(timelineOf(from))?.entries ?? [];
    const left = { timeline: timelineOf(from), switchLsn: lsn(at), reason: "" };
    histories.set(timeline, { timeline, entries: [...before, left] });
  }
  const newest = tip ?? { on: 1, in: 101 };
  return {
    segmentSize: SIZE,
    backups: backups.map(backup),
    pins: [],
    held: new Map(),
    unusable: new Set(),
    damaged: [],
    unfinished: [],
    wal: {
      runs: Object.entries(wal).map(([name, [first, last]]) => ({
        ...{ timeline: timelineOf(Number(name)), first: segment(first), last: segment(last), storedBytes: 1 },
      })),
      partials: [],
      tails: [],
    },
    tip: { timeline: timelineOf(newest.on), segment: segment(newest.in) },
    histories,
    newestWalMs: undefined,
    timelineEndsMs: new Map(),
    gaps: [],
    ...changes,
  };
}

export const plan = (world: World, policy: RetentionPolicy, now = NOW): RetentionPlan =>
  planRetention(catalogOf(world), policy, new Date(now));
export const stays = (found: RetentionPlan): string => found.keeps.map((kept) => kept.backup.id).join(" ");
export const why = (found: RetentionPlan, id: string): string[] =>
  found.keeps.find((kept) => kept.backup.id === id)?.reasons.map(({ kind }) => kind) ?? [];
export const goes = (found: RetentionPlan): string[] =>
  found.wal.goes.map(({ timeline, first, last }) => `${timeline}: ${first} to ${last}`);

/** One a day from 21 June on, in segments 10, 20 and so on. */
export const DAILY: readonly Wish[] = ["a", "b", "c", "d", "e", "f", "g", "h"].map((id, index) => ({
  ...{ id, at: `2026-06-${21 + index}`, in: 10 * (index + 1) },
}));

/** A recovery to an earlier point: timeline 2 left 1 in segment 30, and 1 was written on until `until`. */
export function left(until: string): World {
  return {
    backups: [
      { id: "base", at: "2026-06-10", in: 20 },
      { id: "beside", at: "2026-06-15", in: 40 },
      { id: "new", at: "2026-06-29", in: 45, on: 2 },
    ],
    forks: { 2: { from: 1, in: 30 } },
    wal: { 1: [1, 60], 2: [30, 50] },
    tip: { on: 2, in: 51 },
    changes: { timelineEndsMs: new Map([[timelineOf(1), Date.parse(until)]]) },
  };
}

export function pin(id: string, until?: string): RetentionCatalog["pins"][number] {
  const expiresAt = until === undefined ? null : `${until}T00:00:00.000Z`;
  return { backup: id, pinnedAt: "2026-06-01T00:00:00.000Z", expiresAt, note: "" };
}
