/**
 * A week in fast-forward: real clusters, the real command line, a simulated calendar. Backups, failovers, recoveries, crashes,
 * outages, pins, expiries and drills in an order drawn from a seed; and after every step what the catalog promises is
 * restored for real.
 */
import { describe, expect, test } from "vitest";
import { FULL, campaignRandom, minutes, report } from "../campaigns/campaign.ts";
import { openCalendar, type SimulatedClock } from "../harness/calendar.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import type { PostgresVersion } from "../harness/postgres-binaries.ts";
import { randomFrom, type Random } from "../harness/random.ts";
import { expire, interruptExpire } from "./expiry.ts";
import { describeStep, planWeek, type Step } from "./plan.ts";
import {
  drawTarget,
  expectCatalog,
  expectRefused,
  immediate,
  outside,
  restoreTo,
  type Target,
  TARGET_KINDS,
  type TargetKind,
} from "./promises.ts";
import { World } from "./world.ts";

const calendar = await openCalendar();
/** A short week has not room for everything. */
const DAYS = FULL ? 14 : 4;
/** Three short weeks take as long as two with nine. */
const INCIDENTS = FULL ? Infinity : versionsUnderTest().length > 2 ? 5 : 9;
const DAY_MS = 86_400_000;
/** A Monday, shortly before a month ends. */
const MONDAY_MS = Date.parse("2031-03-24T00:00:00Z");
/** Windows that are restored to after a step; the others have their turn after the next ones. */
const RESTORES = FULL ? 4 : 1;

/** A week by default, as many as these in a full run; a seed whose week once failed is added. */
const SEEDS = FULL ? [1, 2, 3, 4] : [1];

describe.skipIf(!calendar.available)("a week in fast-forward", () => {
  for (const version of versionsUnderTest()) {
    test.each(SEEDS)(
      `PostgreSQL ${version}, seed %i: whatever happens, what the catalog promises can be restored`,
      async (seed) => {
        const random = campaignRandom(`the week on PostgreSQL ${version}`, version * 1000 + seed);
        using clock = calendar.begin(MONDAY_MS);
        await new Week(version, clock, random).run();
      },
      minutes(20),
    );
  }
});

class Week {
  readonly #version: PostgresVersion;
  readonly #clock: SimulatedClock;
  readonly #random: Random;
  readonly #kinds = new Map<TargetKind, number>(TARGET_KINDS.map((kind) => [kind, 0]));
  #refusals = 0;

  constructor(version: PostgresVersion, clock: SimulatedClock, random: Random) {
    this.#version = version;
    this.#clock = clock;
    this.#random = random;
  }

  async run(): Promise<void> {
    // The plan is the same whatever the week makes of it.
    const plan = planWeek(randomFrom(this.#random.between(0, 2 ** 32 - 1)), { days: DAYS, incidents: INCIDENTS });
    console.log(plan.map(describeStep).join("\n"));
    await using world = await World.begin(this.#version, this.#clock);
    for (const step of plan) {
      try {
        this.#clock.set(MONDAY_MS + step.atMs);
        for (let i = 0; i < step.commits; i++) await world.commit();
        if (step.fill) await world.fill();
        await world.stored();
        await this.#happens(world, step);
        await world.stored();
        await this.#keepsPromises(world);
      } catch (error) {
        throw new Error(`seed ${this.#random.seed}, ${describeStep(step)}`, { cause: error });
      }
    }
    const { commits, branches, backups } = world.model;
    report("week", { version: this.#version, seed: this.#random.seed, steps: plan.length, commits: commits.length });
    const restores = Object.fromEntries([...this.#kinds].filter(([, count]) => count > 0));
    report("week", { timelines: branches.size, backups: backups.size, refusals: this.#refusals, ...restores });
    // Of every kind, as far as there were enough of them.
    expect(Object.keys(restores).length).toBeGreaterThanOrEqual(Math.min(plan.length, TARGET_KINDS.length) - 2);
  }

  async #happens(world: World, step: Step): Promise<void> {
    const { model } = world;
    const random = this.#random;
    const known = [...model.backups.keys()];
    switch (step.kind) {
      case "backup":
        await Promise.all([world.backup(), world.commit()]);
        return;
      case "broken backup": {
        await using child = world.start(["backup", "--dsn", world.primary.dsn, "--checkpoint", "fast"]);
        await new Promise((resolve) => setTimeout(resolve, random.between(200, 500)));
        await child.end("SIGKILL");
        await world.adopt();
        return;
      }
      case "restore point":
        return world.restorePoint();
      case "failover":
        return world.failover(step.how, step.standby);
      case "crash":
        await world.primary.kill9();
        await world.primary.start();
        await world.commit();
        return;
      case "receiver killed":
        await world.killReceiver();
        await world.commit();
        await world.receive();
        return;
      case "outage":
        await world.outage(async () => {
          await world.commit();
          const { code } = await world.seawall(["list", "--store-retry-for", "0s"]);
          expect(code).toBe(5);
          await world.commit();
        });
        return;
      case "pin": {
        const until = step.days === undefined ? [] : ["--until", `${step.days}d`];
        const id = random.pick(known);
        await world.ask("pin", id, "--note", "it's the week's", ...until);
        model.pins.set(id, step.days === undefined ? null : world.clock.nowMs() + step.days * DAY_MS);
        return;
      }
      case "unpin": {
        const id = random.pick(known);
        const { code } = await world.seawall(["unpin", id]);
        expect({ code, pinned: model.pins.has(id) }).toEqual({
          code: model.pins.has(id) ? 0 : 1,
          pinned: model.pins.has(id),
        });
        model.pins.delete(id);
        return;
      }
      case "delete": {
        const id = random.pick(known);
        const isHeld =
          model.pinned(world.clock.nowMs()).includes(id) || model.backupsOn(world.timeline).at(-1)?.id === id;
        const { code, stderr } = await world.seawall(["delete", id]);
        expect({ id, code, stderr: isHeld ? "" : stderr }).toEqual({ id, code: isHeld ? 1 : 0, stderr: "" });
        if (isHeld) expect(stderr).toMatch(/pinned|last good backup/);
        else world.forget(id);
        return;
      }
      case "drill":
        return this.#drill(world);
      case "recovery": {
        const kinds = this.#random.pick<TargetKind[]>([["time"], ["lsn"], ["xid"], ["between", "last time"]]);
        const target = kinds
          .map((kind) => drawTarget(world, random, world.timeline, kind))
          .find((found) => found !== undefined);
        if (target === undefined) return;
        console.log(`recovery: ${target.flags.join(" ")}`);
        await world.replaceBy(await restoreTo(world, target), new Set(target.must));
        await world.commit();
        return;
      }
      case "expire":
        if (step.interrupted) {
          await interruptExpire(world, step.rules);
          await this.#keepsPromises(world);
        }
        await expire(world, step.rules);
        return this.#pinnedIsThere(world);
    }
  }

  async #pinnedIsThere(world: World): Promise<void> {
    const pinned = world.model.pinned(world.clock.nowMs());
    const backup = pinned.length === 0 ? undefined : world.model.backups.get(this.#random.pick(pinned));
    if (backup !== undefined) await this.#reach(world, immediate(world, backup.timeline, backup));
  }

  async #reach(world: World, target: Target): Promise<void> {
    const restored = await restoreTo(world, target);
    await restored.stop("immediate");
    await restored[Symbol.asyncDispose]();
  }

  async #drill(world: World): Promise<void> {
    const target = this.#draw(world, world.timeline);
    const rows = target.may.length > 0 ? "true" : `(SELECT count(*) = ${target.must.length} FROM t)`;
    // A drill always follows the newest timeline.
    const at = target.flags.indexOf("--target-timeline");
    const flags = target.flags.filter((_, index) => index !== at && index !== at + 1);
    const result = await world.drill([...flags, "--sql", `SELECT ${rows}`]);
    expect(result).toMatchObject({ ok: true });
  }

  /** After every step: the catalog is right, points of its windows are reached, points outside are refused. */
  async #keepsPromises(world: World): Promise<void> {
    const { windows } = await expectCatalog(world);
    const shown = [...windows].sort(() => this.#random.next() - 0.5).slice(0, RESTORES);
    await Promise.all([
      ...shown.map(({ timeline }) => this.#reach(world, this.#draw(world, timeline))),
      ...shown.slice(0, FULL || this.#random.chance(0.4) ? 1 : 0).map(async (window) => {
        const wishes = outside(world, window);
        const wish = wishes[this.#refusals++ % wishes.length];
        if (wish !== undefined) await expectRefused(world, wish);
      }),
    ]);
  }

  /** Of the kind that was tried least. */
  #draw(world: World, timeline: number): Target {
    const kinds = [...this.#kinds].sort(([, a], [, b]) => a - b || this.#random.next() - 0.5);
    for (const [kind] of kinds) {
      const target = drawTarget(world, this.#random, timeline, kind);
      if (target === undefined) continue;
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
      return target;
    }
    throw new Error(`no target on timeline ${timeline}`);
  }
}
