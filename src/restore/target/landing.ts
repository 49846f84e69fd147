/**
 * Where a recovery target lands on a route: up to which record PostgreSQL will replay. Segments say of themselves when they
 * commit first and last, so a time is found by bisecting their envelopes; only the segments around the target are read.
 *
 * Source: PostgreSQL `xlogrecovery.c` (recoveryStopsBefore, recoveryStopsAfter).
 */
import type { Archive } from "../../archive/archive.ts";
import { damageOf } from "../../archive/damage.ts";
import { mapBounded } from "../../archive/bounded.ts";
import { type CommitTimes, commitTimesIn, segmentSummary } from "../../archive/wal/commits.ts";
import type { SeawallError } from "../../errors.ts";
import { nearest } from "../../suggest.ts";
import type { RequestOptions } from "../../store/store.ts";
import { formatLsn, type Lsn, parseLsn, segmentOf, segmentStart } from "../../wal/lsn.ts";
import { formatPgTime, parsePgTime, type PgTime } from "../../wal/record-facts.ts";
import { RESTORE_POINTS_MAX } from "../../wal/summary.ts";
import { optionsIn, type RecoveryTarget, type TargetPoint } from "./target.ts";
import type { RouteItem, WalRoute } from "./route.ts";
import { type VisitRecord, type WalkedRecord, walkItems, walkSegment } from "../../archive/wal/walk.ts";

/** Restore points that a refusal names at most. */
const NAMES_SHOWN = 5;

/** A point that recovery can be told to stop at. */
export interface Landing {
  /** End of the last record that is replayed. */
  readonly lsn: Lsn;
  /** Time of the last commit that is replayed, where it was met. */
  readonly commitTime?: PgTime | undefined;
  /** End of the commit's record; set for a time target only. */
  readonly commitLsn?: Lsn | undefined;
  /** The target as PostgreSQL must be given it, which may differ in form from what was asked for. */
  readonly point: TargetPoint;
  readonly inclusive: boolean;
}

export interface Landings {
  /** In WAL order; several only for a name that was used again. Empty when the archived WAL has no such point. */
  readonly found: readonly Landing[];
  /** Why there is none: a sentence about the route's WAL, which it calls "it". */
  readonly missing: string;
  /** Other targets that may be meant, in sentences. */
  readonly instead?: string | undefined;
}

/** Where a backup begins and becomes consistent: how far back a search has to go. */
export interface Span {
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
}

const PEEKS_IN_FLIGHT = 16;
/** So many segments without a commit are passed on the way back to one, for the time of the last commit. */
const LOOK_BACK_MAX = 64;

export interface Wanted {
  readonly target: RecoveryTarget;
  /** The backups in question, newest first. */
  readonly spans: readonly Span[];
  /** The name of the archive's generation, for hints; undefined where the cluster has one alone. */
  readonly generation: string | undefined;
}

/** Reads what it must; throws what damaged WAL throws. */
export async function findLandings(
  archive: Archive,
  route: WalRoute,
  { target, spans, generation }: Wanted,
  options: RequestOptions = {},
): Promise<Landings> {
  const search = new Search(archive, route, { generation, options });
  const landings = await search.find(target, spans);
  // The target may lie in unreadable WAL, so report the damage instead of "not found".
  const damage = route.damage ?? search.damage;
  if (damage !== undefined && landings.found.length === 0) throw damage;
  if (route.damage !== undefined && target.point.kind === "latest") throw route.damage;
  return landings;
}

class Search {
  readonly #archive: Archive;
  readonly #route: WalRoute;
  readonly #options: RequestOptions;
  readonly #generation: string | undefined;
  readonly #times = new Map<RouteItem, Promise<CommitTimes | undefined>>();
  #damage: SeawallError | undefined;

  constructor(
    archive: Archive,
    route: WalRoute,
    { options, generation }: Pick<Wanted, "generation"> & { readonly options: RequestOptions },
  ) {
    this.#archive = archive;
    this.#route = route;
    this.#generation = generation;
    this.#options = options;
  }

  /** Why WAL could not be read. It may lie behind the target, where it does not matter. */
  get damage(): SeawallError | undefined {
    return this.#damage;
  }

  async find({ point, inclusive }: RecoveryTarget, spans: readonly Span[]): Promise<Landings> {
    switch (point.kind) {
      case "latest": {
        const commitTime = await this.lastCommitTime(this.#route.items.length - 1);
        return { found: [{ lsn: this.#route.endLsn, commitTime, point, inclusive }], missing: "" };
      }
      case "immediate": {
        const found = await Promise.all(spans.map(async ({ stopLsn }) => this.endOfBackup(stopLsn, inclusive)));
        return { found: found.reverse(), missing: "" };
      }
      case "time":
        return this.time(point.time, inclusive);
      case "lsn":
        return this.lsn(point.lsn, inclusive);
      case "xid":
        return this.xid(point.xid, inclusive);
      case "name":
        return this.name(point.name, spans);
    }
  }

  /** Once consistent, PostgreSQL stops at the next record; where none follows, the target is the backup's last one. */
  async endOfBackup(stopLsn: Lsn, inclusive: boolean): Promise<Landing> {
    const { barriers, endLsn } = this.#route;
    const isEnd = stopLsn === endLsn || barriers.some(({ fromLsn }) => fromLsn === stopLsn);
    const last = isEnd ? await this.#atLastRecord(stopLsn) : undefined;
    return last?.lsn === stopLsn ? last : { lsn: stopLsn, point: { kind: "immediate" }, inclusive };
  }

  async time(time: PgTime, inclusive: boolean): Promise<Landings> {
    const isPast = (at: PgTime): boolean => (inclusive ? at > time : at >= time);
    const index = await this.#bisect(async (item) => {
      const times = await this.#commitTimes(item);
      return times === undefined ? undefined : isPast(times.last);
    });
    const atEnd = inclusive ? await this.#atLastCommit(time, index) : undefined;
    if (atEnd !== undefined) return { found: [atEnd], missing: "" };
    if (index === undefined) {
      const last = await this.lastCommitTime(this.#route.items.length - 1);
      const known = last === undefined ? "" : `: the last one is of ${formatPgTime(last)}`;
      return {
        found: [],
        missing: `it holds no commit after ${formatPgTime(time)}${known}`,
        instead: `If nothing was committed in between, ${optionsIn(this.#generation, "--target latest")} restores the same state.`,
      };
    }
    // Concurrent commits are not strictly in order of their times: the one that stops recovery may lie a segment earlier.
    let landing: Landing | undefined;
    let commit: { readonly commitTime: PgTime; readonly commitLsn: Lsn } | undefined;
    const visit = (record: WalkedRecord): void => {
      if (landing !== undefined || record.time === undefined) return;
      if (record.kind !== "commit" && record.kind !== "abort") return;
      if (isPast(record.time)) {
        landing = { lsn: record.previousEnd, ...commit, point: { kind: "time", time }, inclusive };
      } else if (record.kind === "commit") commit = { commitTime: record.time, commitLsn: record.end };
    };
    await this.#walkUntil({ from: index - 1, to: index }, visit, () => landing !== undefined);
    return {
      found: landing === undefined ? [] : [landing],
      missing: "the envelopes of the WAL contradict its records",
    };
  }

  async lsn(lsn: Lsn, inclusive: boolean): Promise<Landings> {
    const { items, barriers, segmentSize, endLsn } = this.#route;
    // The end of a window in `list`: what lies before it can be recovered, and it cannot be passed.
    if (barriers.some(({ fromLsn }) => fromLsn === lsn)) {
      const atBarrier = await this.#atLastRecord(lsn);
      if (atBarrier !== undefined) return { found: [atBarrier], missing: "" };
    }
    if (lsn > endLsn) return { found: [], missing: `it ends at ${formatLsn(endLsn)}` };
    const segment = segmentOf(lsn, segmentSize);
    const index = items.findIndex((item) => item.segment >= segment);
    const point: TargetPoint = { kind: "lsn", lsn };
    // In a hole, or before everything: the plan says so.
    if (index >= 0 && items[index]?.segment !== segment) return { found: [{ lsn, point, inclusive }], missing: "" };
    let landing: Landing | undefined;
    let commitTime: PgTime | undefined;
    const visit = (record: WalkedRecord): void => {
      if (landing === undefined && record.lsn >= lsn) {
        if (inclusive && record.kind === "commit") commitTime = record.time;
        landing = { lsn: inclusive ? record.end : record.previousEnd, commitTime, point, inclusive };
      }
      if (record.kind === "commit") commitTime = record.time;
    };
    if (index >= 0) await this.#walkUntil({ from: index }, visit, () => landing !== undefined);
    landing ??= await this.#atLastRecord(endLsn);
    return { found: landing === undefined ? [] : [landing], missing: "it holds no record before this LSN" };
  }

  async xid(xid: number, inclusive: boolean): Promise<Landings> {
    const missing = `it holds no end of transaction ${xid}`;
    const index = await this.#bisect(async (item) => {
      let isReached: boolean | undefined;
      const visit = ({ xid: own }: WalkedRecord): void => {
        if (own !== 0) isReached = isReached === true || !precedes(own, xid);
      };
      return this.#asked(this.#walk(item, visit).then(() => isReached));
    });
    if (index === undefined) return { found: [], missing };
    let landing: Landing | undefined;
    let isOver = false;
    let commitTime: PgTime | undefined;
    const visit = (record: WalkedRecord): void => {
      if (landing !== undefined) return;
      const { kind, oldestRunningXid } = record;
      if (kind === "running" && oldestRunningXid !== undefined && precedes(xid, oldestRunningXid)) isOver = true;
      if (kind !== "commit" && kind !== "abort") return;
      const isIt = record.xid === xid;
      if (kind === "commit" && (!isIt || inclusive)) commitTime = record.time ?? commitTime;
      if (!isIt) return;
      landing = {
        lsn: inclusive ? record.end : record.previousEnd,
        commitTime,
        point: { kind: "xid", xid },
        inclusive,
      };
    };
    await this.#walkUntil({ from: index }, visit, () => landing !== undefined || isOver);
    return { found: landing === undefined ? [] : [landing], missing };
  }

  /** Looks for a restore point, from the newest backup back, until one has the name behind its end. */
  async name(name: string, spans: readonly Span[]): Promise<Landings> {
    const { items, segmentSize } = this.#route;
    const found: Landing[] = [];
    const seen: string[] = [];
    let until = items.length;
    for (const span of spans) {
      const first = items.findIndex((item) => item.segment >= segmentOf(span.startLsn, segmentSize));
      if (first < 0 || first >= until) continue;
      const points = await mapBounded(items.slice(first, until), PEEKS_IN_FLIGHT, (item) =>
        this.#asked(this.#restorePoints(item)),
      );
      const here = points.flatMap((point) => point ?? []);
      seen.unshift(...here.map((point) => point.name));
      const named = here.filter((point) => point.name === name);
      found.unshift(
        ...named.map(({ lsn, time }) => ({
          lsn,
          commitTime: time,
          point: { kind: "name" as const, name },
          inclusive: true,
        })),
      );
      until = first;
      if (found.some(({ lsn }) => lsn >= span.stopLsn)) break;
    }
    const instead = found.length > 0 ? undefined : otherNames(name, seen);
    return { found, missing: `it holds no restore point named "${name}"`, instead };
  }

  /** Finds the time of the last commit in or before the item at `index`, as far back as is reasonable to look. */
  async lastCommitTime(index: number): Promise<PgTime | undefined> {
    for (let at = index; at >= 0 && at > index - LOOK_BACK_MAX; at--) {
      const item = this.#route.items[at];
      const times = item === undefined ? undefined : await this.#commitTimes(item);
      if (times !== undefined) return times.last;
    }
    return undefined;
  }

  /**
   * The end of the archive, or of what lies before a gap, when the last commit there is of exactly this time: PostgreSQL
   * would look for a later one, and fail. `index`: the first item with a later commit.
   */
  async #atLastCommit(time: PgTime, index: number | undefined): Promise<Landing | undefined> {
    const { items, barriers, segmentSize, endLsn } = this.#route;
    const until = index ?? items.length;
    const startOf = (item: RouteItem): Lsn => segmentStart(item.segment, segmentSize);
    for (let at = until - 1; at >= 0 && at >= until - LOOK_BACK_MAX; at--) {
      const item = items[at];
      const times = item === undefined ? undefined : await this.#commitTimes(item);
      if (item === undefined || times === undefined) continue;
      if (times.last !== time) return undefined;
      const later = items[until];
      const gap = barriers.find(({ fromLsn }) => fromLsn > startOf(item));
      if (gap !== undefined && (later === undefined || gap.fromLsn <= startOf(later)))
        return this.#atLastRecord(gap.fromLsn, time);
      return later === undefined ? this.#atLastRecord(endLsn, time) : undefined;
    }
    return undefined;
  }

  /**
   * Behind the last record before `endLsn`. No record starts there or behind it, and PostgreSQL would stop with an error:
   * its target is that record instead, which is the same place.
   */
  async #atLastRecord(endLsn: Lsn, time?: PgTime): Promise<Landing | undefined> {
    const { items, segmentSize } = this.#route;
    let commitTime = time;
    let last: WalkedRecord | undefined;
    for (let at = items.length - 1; at >= 0 && last === undefined; at--) {
      const item = items[at];
      if (item === undefined || segmentStart(item.segment, segmentSize) >= endLsn) continue;
      await this.#walk(item, (record) => {
        if (record.end > endLsn) return;
        if (record.kind === "commit") commitTime = record.time ?? commitTime;
        last = record;
      });
    }
    if (last === undefined) return undefined;
    const { lsn, end } = last; // assigned in the visitor
    return { lsn: end, commitTime, point: { kind: "lsn", lsn }, inclusive: true };
  }

  /** The first item for which `isReached` holds; those that cannot tell (undefined) go with the next one that can. */
  async #bisect(isReached: (item: RouteItem) => Promise<boolean | undefined>): Promise<number | undefined> {
    const { items } = this.#route;
    let best: number | undefined;
    let low = 0;
    let high = items.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      let at = middle;
      let answer: boolean | undefined;
      for (; at <= high && answer === undefined; at++) {
        const item = items[at];
        if (item !== undefined) answer = await isReached(item);
      }
      if (answer === true) best = at - 1;
      if (answer === false) low = at;
      else high = middle - 1;
    }
    return best;
  }

  #commitTimes(item: RouteItem): Promise<CommitTimes | undefined> {
    const known = this.#times.get(item) ?? this.#asked(commitTimesIn(this.#archive, item, this.#options));
    this.#times.set(item, known);
    return known;
  }

  /** Undefined for WAL that is damaged. */
  async #asked<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (error) {
      this.#damage ??= damageOf(error);
      return undefined;
    }
  }

  async #restorePoints(item: RouteItem): Promise<{ name: string; lsn: Lsn; time: PgTime | undefined }[]> {
    const listed = (await segmentSummary(this.#archive, item, { ...this.#options, part: "full" }))?.["restorePoints"];
    if (Array.isArray(listed) && listed.length < RESTORE_POINTS_MAX) {
      return (listed as { name: string; lsn: string; at: string }[]).map(({ name, lsn, at }) => ({
        name,
        lsn: parseLsn(lsn),
        time: parsePgTime(at),
      }));
    }
    const points: { name: string; lsn: Lsn; time: PgTime | undefined }[] = [];
    await this.#walk(item, ({ kind, name, end, time }) => {
      if (kind === "restore-point" && name !== undefined) points.push({ name, lsn: end, time });
    });
    return points;
  }

  async #walk(item: RouteItem, visit: VisitRecord): Promise<void> {
    await walkSegment(this.#archive, item, visit, this.#options);
  }

  /** Walks the items `from` to `to`, no further than needed. */
  async #walkUntil(
    { from, to }: { readonly from: number; readonly to?: number },
    visit: VisitRecord,
    isDone: () => boolean,
  ): Promise<void> {
    const items = this.#route.items.slice(Math.max(from, 0), to === undefined ? undefined : to + 1);
    await walkItems(this.#archive, items, visit, { ...this.#options, isDone });
  }
}

/** PostgreSQL: transam.c, TransactionIdPrecedes. */
function precedes(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** For a name that no restore point has: the one that was meant, or the newest names. `seen` is in WAL order. */
function otherNames(name: string, seen: readonly string[]): string {
  const near = nearest(name, seen);
  if (near !== undefined) return `Did you mean "${near}"?`;
  const names = [...new Set(seen.toReversed())];
  if (names.length === 0) return "It has no restore points: pg_create_restore_point() makes one.";
  const more = names.length > NAMES_SHOWN ? ` and ${names.length - NAMES_SHOWN} more` : "";
  return `Its newest restore points: ${names
    .slice(0, NAMES_SHOWN)
    .map((one) => `"${one}"`)
    .join(", ")}${more}.`;
}
