/**
 * Expiries on a store that fails at random, beside a receiver, backups that are taken for dead, pins, and one another:
 * whatever has a document is whole, what is pinned is there, and there is a backup.
 */
import { expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { listBackups } from "../../src/archive/backups/list.ts";
import { expire } from "../../src/archive/retention/expire.ts";
import { type Decide, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { missingObject, refuseRemoved } from "../../src/archive/retention/marks.ts";
import { backupDocumentKey, backupIdOf, backupPrefix, segmentKey } from "../../src/archive/keys.ts";
import { putPin } from "../../src/archive/backups/pins.ts";
import { planDeletion, planRetention } from "../../src/archive/retention/plan.ts";
import { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { formatLsn, type Lsn, type SegmentNumber, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { keysBelow } from "../store/keys-below.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { announcedRandom, type Random } from "../harness/random.ts";
import { emptyArchive, MIB, putSegments, putWholeBackup } from "./retained.ts";

const ROUNDS = 60;
const FIRST_DAY = Date.UTC(2026, 0, 1);
/** A memory store stamps with the real time: so far ahead, whatever is unfinished looks dead. */
const now = (): Date => new Date(Date.now() + 3 * 86_400_000);

class Round {
  readonly #random: Random;
  readonly #inner = new MemoryStore();
  readonly #store = new FaultyStore(this.#inner);
  readonly #pinned = new Set<string>();
  /** Backups that failed, and removed themselves: their end was seen by a pin at most for a moment. */
  readonly #failed = new Set<string>();
  /** Made by `begin`, with nothing failing. */
  readonly #archive: Archive;
  #segments = 12;
  #backups = 0;

  private constructor(random: Random, archive: (store: FaultyStore) => Archive) {
    this.#random = random;
    this.#archive = archive(this.#store);
  }

  static async begin(random: Random): Promise<Round> {
    const template = await emptyArchive(new MemoryStore());
    const round = new Round(random, (store) => ({ ...template, store }));
    await emptyArchive(round.#inner);
    await putSegments({ ...template, store: round.#inner }, 1, 1, round.#segments);
    for (const at of [2, 5, 9]) await putWholeBackup({ ...template, store: round.#inner }, round.#next(at));
    return round;
  }

  #next(segment: number): { id: string; startLsn: string; stopLsn: string; startedAt: string } {
    const at = new Date(FIRST_DAY + this.#backups++ * 86_400_000);
    const startLsn = BigInt(segment * MIB + 40) as Lsn;
    return {
      id: backupIdOf(at, this.#random.between(0, 0xffffffff)),
      startedAt: at.toISOString(),
      startLsn: formatLsn(startLsn),
      stopLsn: formatLsn((startLsn + 200n) as Lsn),
    };
  }

  async live(): Promise<void> {
    const random = this.#random;
    const faults = ["fail-before", "fail-after", "late", "stall", "throttle"] as const;
    this.#store.chaos({ random, probability: random.pick([0, 0.02, 0.1]), faults, stallMsMax: 2 });
    const actors = [
      this.#expire(),
      this.#expire(),
      this.#receive(),
      this.#takeBackup(),
      this.#pin(),
      this.#deleteOne(),
    ];
    for (const outcome of await Promise.allSettled(actors)) {
      if (outcome.status === "rejected" && !(outcome.reason instanceof SeawallError)) throw outcome.reason;
    }
    this.#store.heal();
    await this.#expectSound();
    await this.#expire();
    await this.#expectSound();
  }

  async #expire(): Promise<void> {
    const policy = { keepFull: this.#random.between(1, 3) };
    const decide: Decide = (facts) => planRetention(facts, policy, now());
    await expire(this.#archive, await planExpiry(this.#archive, decide, { ignoreStandstill: true }), {
      now,
      decide,
      withWal: true,
    });
  }

  async #deleteOne(): Promise<void> {
    const { backups } = await listBackups(this.#archive);
    const { id } = this.#random.pick(backups);
    const decide: Decide = (facts) => planDeletion(facts, { id, force: false }, now());
    await expire(this.#archive, await planExpiry(this.#archive, decide, { ignoreStandstill: true }), {
      now,
      decide,
      withWal: false,
    });
  }

  /** The receiver tries again until its WAL is stored. */
  async #receive(): Promise<void> {
    for (let i = 0; i < 4; i++) {
      const segment = this.#segments + 1;
      await this.#patiently(() => putSegments(this.#archive, 1, segment, segment));
      this.#segments = segment;
    }
  }

  async #patiently(work: () => Promise<void>): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof SeawallError) || !error.retryable) throw error;
      }
    }
  }

  /** As take-backup.ts does: data, document, and a look whether it is still there. */
  async #takeBackup(): Promise<void> {
    const wish = this.#next(this.#segments);
    let document: BackupDocument;
    try {
      document = await putWholeBackup(this.#archive, wish);
      await refuseRemoved(this.#archive, document);
    } catch (error) {
      this.#failed.add(wish.id);
      const keys = (await keysBelow(this.#inner, backupPrefix("main", wish.id))).sort();
      await this.#inner.delete([backupDocumentKey("main", wish.id), ...keys]);
      throw error;
    }
    expect(await missingObject({ ...this.#archive, store: this.#inner }, document)).toBeUndefined();
  }

  async #pin(): Promise<void> {
    const { backups } = await listBackups(this.#archive);
    const { id } = this.#random.pick(backups);
    await putPin(
      this.#archive,
      { backup: id, pinnedAt: now().toISOString(), expiresAt: null, note: "" },
      { waitMs: 50 },
    );
    this.#pinned.add(id);
  }

  async #expectSound(): Promise<void> {
    const archive = { ...this.#archive, store: this.#inner };
    const { backups, damaged } = await listBackups(archive);
    expect(damaged).toEqual([]);
    expect(backups.length).toBeGreaterThan(0);
    for (const id of this.#pinned) {
      if (!this.#failed.has(id)) expect(backups.map((backup) => backup.id)).toContain(id);
    }
    for (const backup of backups) {
      expect(await missingObject(archive, backup)).toBeUndefined();
      for (let number: number = segmentOf(backup.startLsn, MIB); number <= this.#segments; number++) {
        const place = { timeline: timelineOf(1), segment: number as SegmentNumber, segmentSize: MIB };
        const key = segmentKey("main", place);
        expect({ backup: backup.id, key, there: (await this.#inner.head(key)) !== undefined }).toMatchObject({
          there: true,
        });
      }
    }
  }
}

test("nothing that counts is ever half there", async () => {
  const random = announcedRandom("expire chaos");
  for (let i = 0; i < ROUNDS; i++) await (await Round.begin(random)).live();
});
