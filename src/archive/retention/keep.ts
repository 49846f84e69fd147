/** Decides which backups stay, with the reasons of every rule. Pure. */
import type { TimelineId } from "../../wal/lsn.ts";
import { contains, rootHistory, type TimelineHistory } from "../../wal/timeline.ts";
import { isInForce } from "../backups/pins.ts";
import type { BackupFacts, KeepReason, RetentionCatalog, RetentionPolicy } from "./model.ts";

interface Rules {
  readonly catalog: RetentionCatalog;
  readonly now: Date;
  /** Backups that lead to the tip, oldest first by LSN. */
  readonly current: readonly BackupFacts[];
  readonly keep: (backup: BackupFacts, kind: KeepReason["kind"], text: string) => void;
}

/**
 * The reasons for each backup that stays; one that is not in it goes. Backups that are held stay, and count for no rule: who
 * holds them may let go.
 */
export function keepReasons(
  all: RetentionCatalog,
  policy: RetentionPolicy,
  now: Date,
): ReadonlyMap<string, readonly KeepReason[]> {
  const reasons = new Map<string, KeepReason[]>([...all.held].map(([id, text]) => [id, [{ kind: "held", text }]]));
  const keep: Rules["keep"] = (backup, kind, text) => {
    const known = reasons.get(backup.id);
    if (known === undefined) reasons.set(backup.id, [{ kind, text }]);
    else if (!known.some((reason) => reason.kind === kind)) known.push({ kind, text });
  };
  const catalog = { ...all, backups: all.backups.filter(({ id }) => !all.held.has(id)) };
  const usable = catalog.backups.filter(({ id }) => !catalog.unusable.has(id));
  // Counted among the good ones alone, and among all: a good backup is never lost to one that is not, and one whose WAL may
  // yet be found stays as long as its rules say.
  const counted = usable.length === catalog.backups.length ? [usable] : [usable, catalog.backups];
  const lastGoodOf = usable.length === 0 ? catalog.backups : usable;
  keepLastGood(rulesFor({ ...catalog, backups: lastGoodOf }, now, keep));
  for (const backups of counted) {
    const rules = rulesFor({ ...catalog, backups }, now, keep);
    keepFull(rules, policy.keepFull);
    keepWindow(rules, policy.recoveryWindowMs);
    keepCalendar(rules, policy);
  }
  const rules = rulesFor(catalog, now, keep);
  keepPinned(rules);
  for (const backup of catalog.backups) {
    if (isFuture(backup, now)) keep(backup, "future", "its time lies in the future: a clock is wrong");
  }
  keepParents({ ...rules, catalog: all }, reasons);
  return reasons;
}

function rulesFor(catalog: RetentionCatalog, now: Date, keep: Rules["keep"]): Rules {
  return { catalog, now, keep, current: leadingTo(currentHistory(catalog), catalog.backups) };
}

/** The history of the timeline that is archived now. */
function currentHistory({ tip, histories, backups }: RetentionCatalog): TimelineHistory | undefined {
  const timeline = tip?.timeline ?? backups.map((backup) => backup.timeline).sort((a, b) => b - a)[0];
  return timeline === undefined ? undefined : (histories.get(timeline) ?? rootHistory(timeline));
}

/** The good backups: finished, with the WAL that they need, on the way to the tip, and not being removed. Oldest first. */
export function goodBackups(catalog: RetentionCatalog): BackupFacts[] {
  const { held, unusable, backups } = catalog;
  const usable = backups.filter(({ id }) => !held.has(id) && !unusable.has(id));
  return leadingTo(currentHistory(catalog), usable);
}

/** Oldest first. On one history LSNs tell the order whatever clocks say. */
function leadingTo(history: TimelineHistory | undefined, backups: readonly BackupFacts[]): BackupFacts[] {
  if (history === undefined) return [];
  return backups
    .filter(({ timeline, stopLsn }) => contains(history, timeline, stopLsn))
    .sort((a, b) => byLsn(a, b) || byTime(a, b));
}

/** The newest that leads to the tip. Where none does, the newest of each timeline: which one will be needed is unknown. */
function keepLastGood({ catalog, current, keep }: Rules): void {
  if (catalog.newer?.hasGood === true) return;
  const last = current.at(-1);
  if (last !== undefined) return keep(last, "last-good", "it is the last good backup");
  const newest = new Map<TimelineId, BackupFacts>();
  for (const backup of [...catalog.backups].sort((a, b) => byLsn(a, b) || byTime(a, b))) {
    newest.set(backup.timeline, backup);
  }
  for (const backup of newest.values()) keep(backup, "last-good", `it is the last of timeline ${backup.timeline}`);
}

/**
 * The newest that lead to the tip. One that does not, on a timeline that was left, stays as long as it is newer than the
 * oldest of those. Backups of newer generations come first.
 */
function keepFull({ catalog, current, keep }: Rules, count: number | undefined): void {
  const before = catalog.newer?.full ?? 0;
  if (count === undefined || before >= count) return;
  const wanted = count - before;
  const newest = current.filter(({ parent }) => parent === null).slice(-wanted);
  for (const [index, backup] of [...newest].reverse().entries()) {
    keep(backup, "keep-full", `keep-full ${count}: it is number ${before + index + 1}`);
  }
  const oldestMs = newest.length < wanted ? undefined : Math.min(...newest.map(finishedMs));
  for (const backup of catalog.backups) {
    if (backup.parent !== null || current.includes(backup)) continue;
    if (oldestMs !== undefined && finishedMs(backup) < oldestMs) continue;
    keep(
      backup,
      "keep-full",
      `keep-full ${count}: timeline ${backup.timeline} was left, but it is newer than the last of them`,
    );
  }
}

/**
 * Backups that ended inside the window; and for each timeline that grew inside it the one from which the window's beginning
 * is reached. Where clocks and LSNs disagree on which that is, both stay.
 */
function keepWindow({ catalog, now, current, keep }: Rules, windowMs: number | undefined): void {
  if (windowMs === undefined) return;
  const fromMs = settledMs(catalog, now) - windowMs;
  const since = new Date(fromMs).toISOString();
  for (const backup of catalog.backups) {
    if (finishedMs(backup) > fromMs) keep(backup, "recovery-window", `recovery-window: it ended after ${since}`);
  }
  const keepBase = (leading: readonly BackupFacts[], timeline: TimelineId): void => {
    const before = leading.filter((backup) => finishedMs(backup) <= fromMs);
    const base = before.at(-1);
    if (base === undefined) return;
    const latest = before.reduce((a, b) => (finishedMs(b) > finishedMs(a) ? b : a));
    for (const backup of new Set([base, latest])) {
      keep(backup, "recovery-window", `recovery-window: ${since} is reached from it on timeline ${timeline}`);
    }
  };
  const tip = currentHistory(catalog);
  const tipEndMs = tip === undefined ? undefined : catalog.timelineEndsMs.get(tip.timeline);
  // A generation that ended before the window has no moment in it.
  const isOver = tipEndMs !== undefined && tipEndMs < fromMs;
  if (tip !== undefined && !isOver) keepBase(current, tip.timeline);
  for (const timeline of withWal(catalog)) {
    const endMs = catalog.timelineEndsMs.get(timeline);
    if (timeline === tip?.timeline || (endMs !== undefined && endMs < fromMs)) continue;
    keepBase(leadingTo(catalog.histories.get(timeline) ?? rootHistory(timeline), catalog.backups), timeline);
  }
}

function withWal({ wal }: RetentionCatalog): Set<TimelineId> {
  return new Set([...wal.runs, ...wal.partials, ...wal.tails].map(({ timeline }) => timeline));
}

export function timelinesOf({ histories, backups }: RetentionCatalog): TimelineId[] {
  return [...new Set([...histories.keys(), ...backups.map(({ timeline }) => timeline)])];
}

const DAY_MS = 86_400_000;

const CALENDAR = [
  { kind: "keep-daily", option: "keepDaily", unit: "day", bucket: (at: Date) => at.toISOString().slice(0, 10) },
  { kind: "keep-weekly", option: "keepWeekly", unit: "week", bucket: (at: Date) => mondayOf(at) },
  { kind: "keep-monthly", option: "keepMonthly", unit: "month", bucket: (at: Date) => at.toISOString().slice(0, 7) },
  { kind: "keep-yearly", option: "keepYearly", unit: "year", bucket: (at: Date) => at.toISOString().slice(0, 4) },
] as const;

/** The newest of each day (week, month, year) in which a backup began, for the last so many that have one. */
function keepCalendar({ catalog, now, current, keep }: Rules, policy: RetentionPolicy): void {
  // A time that has not come yet must not use up a place.
  const candidates = catalog.backups.filter((backup) => !isFuture(backup, now));
  const rank = new Map(current.map((backup, index) => [backup.id, index]));
  const isNewer = (a: BackupFacts, b: BackupFacts): boolean => {
    const [rankA, rankB] = [rank.get(a.id), rank.get(b.id)];
    // One that leads to the tip is worth more than one of a timeline that was left.
    if (rankA === undefined && rankB === undefined) return (byTime(a, b) || byLsn(a, b)) > 0;
    return (rankA ?? -1) > (rankB ?? -1);
  };
  for (const { kind, option, unit, bucket } of CALENDAR) {
    const count = policy[option];
    if (count === undefined) continue;
    const newest = new Map<string, BackupFacts>();
    for (const backup of candidates) {
      const name = bucket(new Date(backup.startedAt));
      const known = newest.get(name);
      if (known === undefined || isNewer(backup, known)) newest.set(name, backup);
    }
    // A newer generation has the newest backup of each of these.
    const taken = new Set((catalog.newer?.began ?? []).map((began) => bucket(new Date(began))));
    const names = [...new Set([...newest.keys(), ...taken])].sort().reverse().slice(0, count);
    for (const name of names) {
      const backup = taken.has(name) ? undefined : newest.get(name);
      if (backup !== undefined) keep(backup, kind, `${kind} ${count}: it is the newest of the ${unit} ${name}`);
    }
  }
}

/** Gives the date of the week's Monday: weeks are told apart by it, also across a change of the year. */
function mondayOf(at: Date): string {
  const sinceMonday = (at.getUTCDay() + 6) % 7;
  return new Date(at.getTime() - sinceMonday * DAY_MS).toISOString().slice(0, 10);
}

function keepPinned({ catalog, now, keep }: Rules): void {
  for (const pin of catalog.pins) {
    const backup = catalog.backups.find(({ id }) => id === pin.backup);
    if (backup === undefined || !isInForce(pin, new Date(settledMs(catalog, now)))) continue;
    const until = pin.expiresAt === null ? "" : ` until ${pin.expiresAt}`;
    keep(backup, "pinned", `it is pinned${until}${pin.note === "" ? "" : ` (${pin.note})`}`);
  }
}

/** An increment is worth nothing without what it is an increment of. */
function keepParents({ catalog, keep }: Rules, reasons: ReadonlyMap<string, readonly KeepReason[]>): void {
  const byId = new Map(catalog.backups.map((backup) => [backup.id, backup]));
  for (const backup of catalog.backups.filter(({ id }) => reasons.has(id))) {
    const seen = new Set([backup.id]);
    let parent = backup.parent;
    while (parent !== null && !seen.has(parent)) {
      seen.add(parent);
      const found = byId.get(parent);
      if (found === undefined) break;
      keep(found, "needed", `backup ${backup.id} builds on it`);
      parent = found.parent;
    }
  }
}

/**
 * The time that has certainly come: now, or when WAL was stored last by the store's clock when that is earlier. Deletion asks
 * only this time. So a clock of this machine that runs ahead ends no window and no pin, and takes no running backup for dead.
 */
export function settledMs({ newestWalMs }: Pick<RetentionCatalog, "newestWalMs">, now: Date): number {
  return Math.min(now.getTime(), newestWalMs ?? Number.POSITIVE_INFINITY);
}

function isFuture({ startedAt, finishedAt }: BackupFacts, now: Date): boolean {
  return Math.max(Date.parse(startedAt), Date.parse(finishedAt)) > now.getTime();
}

function finishedMs({ finishedAt }: BackupFacts): number {
  return Date.parse(finishedAt);
}

function byLsn(a: BackupFacts, b: BackupFacts): number {
  return a.stopLsn < b.stopLsn ? -1 : a.stopLsn > b.stopLsn ? 1 : 0;
}

function byTime(a: BackupFacts, b: BackupFacts): number {
  return finishedMs(a) - finishedMs(b);
}
