/**
 * The life of a cluster, by chance: WAL, backups, failovers, recoveries to earlier points, clocks that are wrong. What
 * happened is remembered beside what the archive shows of it, for a checker that knows nothing of history files.
 */
import type {
  RetentionCatalog,
  RetentionPolicy,
  UnfinishedBackup,
  BackupFacts,
} from "../../src/archive/retention/model.ts";
import type { Gap } from "../../src/archive/documents.ts";
import type { Pin } from "../../src/archive/backups/pins.ts";
import { type WalSpot, mergeRuns } from "../../src/archive/wal/inventory.ts";
import { type Lsn, type SegmentNumber, type TimelineId, timelineOf } from "../../src/wal/lsn.ts";
import type { TimelineHistory, TimelineSwitch } from "../../src/wal/timeline.ts";
import type { Random } from "../harness/random.ts";

export const SEGMENT = 1 << 20;
const HOUR = 3_600_000;
const START_MS = Date.UTC(2026, 0, 1);

/** What really happened to a timeline. */
export interface TimelineLife {
  readonly timeline: TimelineId;
  readonly parent: TimelineLife | undefined;
  /** Where it left its parent; 0 for the first. */
  readonly fork: number;
  readonly entries: readonly TimelineSwitch[];
  /** How far it was written. */
  end: number;
  endedMs: number;
}

export interface World {
  readonly catalog: RetentionCatalog;
  readonly policy: RetentionPolicy;
  readonly now: Date;
  readonly lives: readonly TimelineLife[];
  readonly current: TimelineLife;
}

export const segmentAt = (position: number): number => Math.floor(position / SEGMENT);

export function randomWorld(random: Random): World {
  const life = new Life(random);
  const steps = random.between(1, 40);
  for (let step = 0; step < steps; step++) life.step();
  return life.world();
}

class Life {
  readonly #random: Random;
  readonly #lives: TimelineLife[] = [];
  readonly #backups: BackupFacts[] = [];
  readonly #gaps: Gap[] = [];
  readonly #missing = new Set<string>();
  #current: TimelineLife;
  #position: number;
  #trueMs = START_MS;
  #skewMs = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#position = random.between(1, 300) * SEGMENT + random.between(0, SEGMENT - 1);
    const timeline = timelineOf(random.between(1, 3));
    this.#current = {
      timeline,
      parent: undefined,
      fork: this.#position,
      entries: [],
      end: this.#position,
      endedMs: this.#trueMs,
    };
    this.#lives.push(this.#current);
  }

  step(): void {
    const random = this.#random;
    this.#trueMs += random.between(1, 40) * HOUR;
    const dice = random.next();
    if (dice < 0.4) this.#write(random.between(1, 12 * SEGMENT));
    else if (dice < 0.8) this.#backup();
    else if (dice < 0.88) this.#branch(this.#current, this.#position - random.between(0, SEGMENT));
    else if (dice < 0.94) this.#recoverEarlier();
    else if (dice < 0.97) this.#loseWal();
    else this.#skewMs = random.chance(0.5) ? 0 : random.between(-400, 400) * HOUR;
  }

  #write(bytes: number): void {
    this.#position += bytes;
    this.#current.end = this.#position;
    this.#current.endedMs = this.#trueMs;
  }

  #backup(): void {
    const random = this.#random;
    const start = this.#position;
    const startedMs = this.#trueMs;
    this.#write(random.between(100, random.chance(0.2) ? 5 * SEGMENT : 1000));
    this.#trueMs += random.between(0, 3) * HOUR;
    const full = this.#backups.filter((other) => other.timeline === this.#current.timeline);
    this.#backups.push({
      id: `${random.between(1e6, 9e6)}-${this.#backups.length}`,
      parent: full.length > 0 && random.chance(0.1) ? random.pick(full).id : null,
      timeline: this.#current.timeline,
      startLsn: BigInt(start) as Lsn,
      stopLsn: BigInt(this.#position) as Lsn,
      startedAt: new Date(startedMs + this.#skewMs).toISOString(),
      finishedAt: new Date(this.#trueMs + this.#skewMs).toISOString(),
      storedBytes: random.between(1, 1000),
    });
  }

  /** A new timeline, which leaves `along` at `fork`; where that lies before `along` began it leaves one of its ancestors. */
  #branch(along: TimelineLife, fork: number): void {
    let parent = along;
    while (fork < parent.fork && parent.parent !== undefined) parent = parent.parent;
    const at = Math.max(fork, parent.fork);
    const timeline = timelineOf(Math.max(...this.#lives.map((life) => life.timeline)) + this.#random.between(1, 2));
    // PostgreSQL names the timeline that was followed, also where recovery stopped before it began.
    const left = { timeline: along.timeline, switchLsn: BigInt(at) as Lsn, reason: "by chance" };
    this.#current = { timeline, parent, fork: at, entries: [...along.entries, left], end: at, endedMs: this.#trueMs };
    this.#lives.push(this.#current);
    this.#position = at;
    this.#write(this.#random.between(0, 3 * SEGMENT));
  }

  #recoverEarlier(): void {
    const along = this.#random.chance(0.8) ? this.#current : this.#random.pick(this.#lives);
    const first = this.#lives[0]?.fork ?? 0;
    this.#branch(along, this.#random.between(first, along.end));
  }

  #loseWal(): void {
    const from = segmentAt(this.#position) + 1;
    const to = from + this.#random.between(1, 5);
    for (let segment = from; segment < to; segment++) this.#missing.add(`${this.#current.timeline}:${segment}`);
    const [fromLsn, toLsn] = [BigInt(from * SEGMENT) as Lsn, BigInt(to * SEGMENT) as Lsn];
    const { timeline } = this.#current;
    this.#gaps.push({ timeline, fromLsn, toLsn, detectedAt: new Date(this.#trueMs).toISOString(), reason: "lost" });
    this.#write((to + 1) * SEGMENT - this.#position);
  }

  world(): World {
    const random = this.#random;
    this.#trueMs += random.between(0, 100) * HOUR;
    const now = new Date(this.#trueMs + (random.chance(0.2) ? random.between(-2000, 2000) * HOUR : 0));
    const current = this.#current;
    return {
      catalog: this.#catalog(),
      policy: randomPolicy(random),
      now,
      lives: this.#lives,
      current,
    };
  }

  #catalog(): RetentionCatalog {
    const random = this.#random;
    const sealed: WalSpot[] = [];
    const partials: WalSpot[] = [];
    const tails: WalSpot[] = [];
    for (const life of this.#lives) {
      const { timeline } = life;
      const last = segmentAt(life.end);
      for (let number = segmentAt(life.fork); number < last; number++) {
        const segment = number as SegmentNumber;
        if (!this.#missing.has(`${timeline}:${segment}`)) sealed.push({ timeline, segment });
      }
      const open = { timeline, segment: last as SegmentNumber };
      if (life.end % SEGMENT === 0) continue;
      if (life === this.#current) tails.push(open);
      else (random.chance(0.8) ? partials : tails).push(open);
    }
    const histories = new Map<TimelineId, TimelineHistory>(
      this.#lives.map(({ timeline, entries }) => [timeline, { timeline, entries }]),
    );
    const newestMs = Math.max(...this.#lives.map(({ endedMs }) => endedMs));
    return {
      segmentSize: SEGMENT,
      // In no order: neither names nor places in a list may count.
      backups: shuffled(random, this.#backups),
      pins: this.#pins(),
      held: new Map(),
      unusable: new Set(this.#backups.filter(() => random.chance(0.05)).map(({ id }) => id)),
      damaged: random.chance(0.02) ? ["backup x"] : [],
      unfinished: random.chance(0.1) ? [this.#unfinished()] : [],
      wal: {
        runs: mergeRuns(
          sealed.map(({ timeline, segment }) => ({ timeline, first: segment, last: segment, storedBytes: 1 })),
        ),
        partials,
        tails,
      },
      tip: { timeline: this.#current.timeline, segment: segmentAt(this.#current.end) as SegmentNumber },
      histories,
      newestWalMs: random.chance(0.8) ? newestMs : undefined,
      timelineEndsMs: new Map(
        this.#lives.filter((life) => life !== this.#current).map(({ timeline, endedMs }) => [timeline, endedMs]),
      ),
      gaps: this.#gaps,
    };
  }

  #pins(): Pin[] {
    const random = this.#random;
    return this.#backups
      .filter(() => random.chance(0.1))
      .map(({ id }) => {
        const end = new Date(this.#trueMs + random.between(-300, 300) * HOUR).toISOString();
        return {
          backup: id,
          pinnedAt: new Date(START_MS).toISOString(),
          expiresAt: random.chance(0.5) ? null : end,
          note: "",
        };
      });
  }

  #unfinished(): UnfinishedBackup {
    const random = this.#random;
    const startedAtMs = this.#trueMs - random.between(0, 60) * HOUR;
    const newestObjectMs = random.chance(0.2) ? undefined : startedAtMs + random.between(0, 10) * HOUR;
    return { id: "unfinished", startedAtMs, newestObjectMs, storedBytes: 10, isMarked: random.chance(0.2) };
  }
}

function randomPolicy(random: Random): RetentionPolicy {
  const maybe = (low: number, high: number): number | undefined =>
    random.chance(0.35) ? random.between(low, high) : undefined;
  const windowHours = maybe(1, 1000);
  const policy = {
    keepFull: maybe(1, 5),
    recoveryWindowMs: windowHours === undefined ? undefined : windowHours * HOUR,
    keepDaily: maybe(1, 5),
    keepWeekly: maybe(1, 4),
    keepMonthly: maybe(1, 3),
    keepYearly: maybe(1, 2),
  };
  return Object.values(policy).every((value) => value === undefined) ? { keepFull: 1 } : policy;
}

function shuffled<T>(random: Random, items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
