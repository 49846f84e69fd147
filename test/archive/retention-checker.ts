/**
 * What no plan may break, said slowly: segment by segment and moment by moment, from what really happened to the cluster,
 * without history files and without the planner's own ideas. Each function returns what is wrong; nothing when all is well.
 */
import type { RetentionPlan, BackupFacts } from "../../src/archive/retention/model.ts";
import { segmentAt, type TimelineLife, type World } from "./random-catalog.ts";

/** Sealed segments, partials and open segments, as `kind:timeline:segment`. */
export function storedBefore({ catalog }: World): Set<string> {
  const stored = new Set<string>();
  for (const { timeline, first, last } of catalog.wal.runs) {
    for (let segment: number = first; segment <= last; segment++) stored.add(`sealed:${timeline}:${segment}`);
  }
  for (const { timeline, segment } of catalog.wal.partials) stored.add(`partial:${timeline}:${segment}`);
  for (const { timeline, segment } of catalog.wal.tails) stored.add(`tail:${timeline}:${segment}`);
  return stored;
}

export function storedAfter(world: World, plan: RetentionPlan): Set<string> {
  const stored = storedBefore(world);
  for (const { timeline, first, last } of plan.wal.goes) {
    for (let segment: number = first; segment <= last; segment++) {
      if (!stored.delete(`sealed:${timeline}:${segment}`)) throw new Error(`${timeline}:${segment} was not stored`);
    }
  }
  for (const { timeline, segment } of plan.wal.partials) stored.delete(`partial:${timeline}:${segment}`);
  for (const { timeline, segment } of plan.wal.tails) stored.delete(`tail:${timeline}:${segment}`);
  return stored;
}

/** Whether the backup's end lies on the way to `life`. */
export function leadsTo(backup: BackupFacts, life: TimelineLife): boolean {
  let limit = Number.POSITIVE_INFINITY;
  for (let at: TimelineLife | undefined = life; at !== undefined; at = at.parent) {
    if (at.timeline === backup.timeline) return Number(backup.stopLsn) <= limit;
    limit = Math.min(limit, at.fork);
  }
  return false;
}

/** Every object that recovery from `backup` along `life` reads until it finds none. */
export function readByRecovery(backup: BackupFacts, life: TimelineLife, stored: ReadonlySet<string>): string[] {
  const path: { timeline: number; from: number; to: number }[] = [];
  let to = Number.POSITIVE_INFINITY;
  for (let at: TimelineLife | undefined = life; at !== undefined; at = at.parent) {
    // The child is followed from the segment on in which it begins.
    path.push({ timeline: at.timeline, from: segmentAt(at.fork), to });
    to = Math.min(to, segmentAt(Math.max(0, at.fork - 1)));
  }
  const read: string[] = [];
  for (let segment = segmentAt(Number(backup.startLsn)); ; segment++) {
    const found = path
      .filter(({ from, to: last }) => segment >= from && segment <= last)
      .flatMap(({ timeline }) => ["sealed", "tail", "partial"].map((kind) => `${kind}:${timeline}:${segment}`))
      .find((object) => stored.has(object));
    if (found === undefined) return read;
    read.push(found);
  }
}

/** A surviving backup recovers everything that it recovered before, along every timeline it leads to. */
export function brokenRecoveries(world: World, plan: RetentionPlan): string[] {
  const [before, after] = [storedBefore(world), storedAfter(world, plan)];
  return plan.keeps.flatMap(({ backup }) =>
    world.lives
      .filter((life) => leadsTo(backup, life))
      .flatMap((life) => {
        const [was, is] = [readByRecovery(backup, life, before), readByRecovery(backup, life, after)];
        return was.join() === is.join()
          ? []
          : [`${backup.id} along ${life.timeline}: ${was.join(" ")} → ${is.join(" ")}`];
      }),
  );
}

/** The newest backup that leads to the tip stays; where none leads there, one of each timeline does. */
export function lostLastBackups({ catalog, current }: World, plan: RetentionPlan): string[] {
  const leading = catalog.backups.filter((backup) => leadsTo(backup, current));
  const newest = leading.reduce<bigint>((max, { stopLsn }) => (stopLsn > max ? stopLsn : max), 0n);
  if (leading.length > 0) {
    const stays = plan.keeps.some(({ backup }) => leading.includes(backup) && backup.stopLsn === newest);
    return stays ? [] : ["the last good backup went"];
  }
  const timelines = new Set(catalog.backups.map(({ timeline }) => timeline));
  return [...timelines]
    .filter((timeline) => !plan.keeps.some(({ backup }) => backup.timeline === timeline))
    .map((timeline) => `no backup of timeline ${timeline} is left, and none leads to the tip`);
}

export function brokenPins({ catalog, now }: World, plan: RetentionPlan): string[] {
  const settledMs = Math.min(now.getTime(), catalog.newestWalMs ?? Number.POSITIVE_INFINITY);
  return catalog.pins
    .filter(({ expiresAt }) => expiresAt === null || Date.parse(expiresAt) > settledMs)
    .filter(({ backup }) => !plan.keeps.some((kept) => kept.backup.id === backup))
    .map(({ backup }) => `${backup} was pinned`);
}

export function orphanedIncrements(_: World, plan: RetentionPlan): string[] {
  const gone = new Set(plan.goes.map(({ id }) => id));
  return plan.keeps
    .filter(({ backup }) => backup.parent !== null && gone.has(backup.parent))
    .map(({ backup }) => `${backup.id} lost what it builds on`);
}

/** Every moment of the window that a backup reached on a timeline that grew in the window, one still reaches. */
export function brokenWindow({ catalog, policy, now, lives, current }: World, plan: RetentionPlan): string[] {
  if (policy.recoveryWindowMs === undefined) return [];
  const fromMs = Math.min(now.getTime(), catalog.newestWalMs ?? Number.POSITIVE_INFINITY) - policy.recoveryWindowMs;
  const moments = [fromMs, ...catalog.backups.map(({ finishedAt }) => Date.parse(finishedAt))].filter(
    (at) => at >= fromMs,
  );
  const problems: string[] = [];
  for (const life of lives) {
    if (life !== current && life.endedMs < fromMs) continue;
    const reaching = (backups: readonly BackupFacts[], at: number): BackupFacts[] =>
      backups.filter((backup) => leadsTo(backup, life) && Date.parse(backup.finishedAt) <= at);
    for (const at of moments) {
      const [before, after] = [
        reaching(catalog.backups, at),
        reaching(
          plan.keeps.map(({ backup }) => backup),
          at,
        ),
      ];
      const best = (backups: readonly BackupFacts[]): bigint =>
        backups.reduce<bigint>((max, { stopLsn }) => (stopLsn > max ? stopLsn : max), -1n);
      if (best(before) !== best(after))
        problems.push(`${new Date(at).toISOString()} on ${life.timeline} is farther than it was`);
    }
  }
  return problems;
}

/** The newest so many that lead to the tip, by where they ended. */
export function missingFulls({ catalog, policy, current }: World, plan: RetentionPlan): string[] {
  const count = policy.keepFull ?? 0;
  const fulls = catalog.backups.filter((backup) => backup.parent === null && leadsTo(backup, current));
  return fulls
    .filter((backup) => fulls.filter(({ stopLsn }) => stopLsn > backup.stopLsn).length < count)
    .filter((backup) => !plan.keeps.some((kept) => kept.backup === backup))
    .map(({ id }) => `${id} is one of the ${count} newest`);
}

/** Each of the last so many days and so on that have a backup still has one, and it leads to the tip if one did. */
export function missingCalendar({ catalog, policy, now, current }: World, plan: RetentionPlan): string[] {
  const monday = (at: Date): string => {
    const day = new Date(at);
    while (day.getUTCDay() !== 1) day.setUTCDate(day.getUTCDate() - 1);
    return `week of ${day.toISOString().slice(0, 10)}`;
  };
  const rules = [
    [policy.keepDaily, (at: Date) => at.toISOString().slice(0, 10)],
    [policy.keepWeekly, monday],
    [policy.keepMonthly, (at: Date) => at.toISOString().slice(0, 7)],
    [policy.keepYearly, (at: Date) => at.toISOString().slice(0, 4)],
  ] as const;
  const past = catalog.backups.filter(
    ({ startedAt, finishedAt }) => new Date(startedAt) <= now && new Date(finishedAt) <= now,
  );
  return rules.flatMap(([count = 0, nameOf]) => {
    const name = (backup: BackupFacts): string => nameOf(new Date(backup.startedAt));
    const names = [...new Set(past.map(name))].sort().slice(-count || Number.POSITIVE_INFINITY);
    return names.filter((wanted) => {
      const [were, are] = [past, plan.keeps.map(({ backup }) => backup)].map((all) =>
        all.filter((one) => name(one) === wanted),
      );
      const leading = (backups: readonly BackupFacts[] = []): boolean => backups.some((one) => leadsTo(one, current));
      return are?.length === 0 || (leading(were) && !leading(are));
    });
  });
}

/** Of each timeline the newest WAL stays and nothing is torn out of it; the receiver finds its place. */
export function tornWal(world: World, plan: RetentionPlan): string[] {
  const [before, after] = [storedBefore(world), storedAfter(world, plan)];
  const problems: string[] = [];
  for (const { timeline } of world.lives) {
    const segmentsIn = (stored: ReadonlySet<string>): number[] =>
      [...stored]
        .filter((object) => object.split(":")[1] === String(timeline))
        .map((object) => Number(object.split(":")[2]));
    const lowest = Math.min(...segmentsIn(after));
    if (segmentsIn(before).filter((segment) => segment >= lowest).length !== segmentsIn(after).length) {
      problems.push(`timeline ${timeline} has a hole`);
    }
  }
  const { timeline, segment } = world.catalog.tip ?? { timeline: 0, segment: 0 };
  for (const object of [`sealed:${timeline}:${segment - 1}`, `tail:${timeline}:${segment}`]) {
    if (before.has(object) && !after.has(object)) problems.push(`the receiver needs ${object}`);
  }
  return problems;
}

/** Lists WAL that neither a surviving backup nor the tip reads, and that the plan keeps all the same. */
export function uselessWal(world: World, plan: RetentionPlan): string[] {
  if (plan.wal.staysBecause !== undefined) return [];
  const { current, catalog } = world;
  if (!plan.keeps.some(({ backup }) => leadsTo(backup, current))) return [];
  const tip = catalog.tip?.segment ?? 0;
  return [...storedAfter(world, plan)].filter((object) => {
    const [, timeline, segment] = object.split(":").map(Number);
    if (timeline === current.timeline && Number(segment) >= tip - 1) return false;
    const useful = plan.keeps.some(
      ({ backup }) =>
        segmentAt(Number(backup.startLsn)) <= Number(segment) &&
        world.lives.some((life) => leadsTo(backup, life) && isOnWay(Number(timeline), life)),
    );
    // The segment before the tip may lie on the timeline that the current one left.
    return !useful && !(Number(segment) >= tip - 1 && isOnWay(Number(timeline), current));
  });
}

function isOnWay(timeline: number, life: TimelineLife): boolean {
  for (let at: TimelineLife | undefined = life; at !== undefined; at = at.parent)
    if (at.timeline === timeline) return true;
  return false;
}

/** The same, had there never been a backup that is no good: what counts good ones must not count those. */
export function amongGood(world: World, plan: RetentionPlan): [World, RetentionPlan] {
  const isGood = ({ id }: BackupFacts): boolean => !world.catalog.unusable.has(id);
  return [
    { ...world, catalog: { ...world.catalog, backups: world.catalog.backups.filter(isGood) } },
    { ...plan, keeps: plan.keeps.filter(({ backup }) => isGood(backup)) },
  ];
}
