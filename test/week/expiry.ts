/**
 * An expiry in the week: the plan is what then happens, and every rule has kept what it says, judged by a few lines that know
 * nothing of how the planner does it.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { TakenBackup } from "./model.ts";
import { flagsOf, type Rule } from "./plan.ts";
import { type Listed, type ListedWindow } from "./promises.ts";
import type { World } from "./world.ts";

interface Outcome {
  readonly goes: readonly { readonly id: string }[];
  readonly stays: readonly { readonly id: string; readonly reasons: readonly unknown[] }[];
  readonly windows: readonly ListedWindow[];
  readonly bytesToFree: number;
  readonly bytesFreed?: number;
  readonly spared?: readonly unknown[];
  readonly refused?: { readonly objects: number };
}

const DAY_MS = 86_400_000;
const idsOf = (backups: readonly { readonly id: string }[]): string[] => backups.map(({ id }) => id).sort();
const beginnings = (windows: readonly ListedWindow[]): unknown[] =>
  windows.map(({ timeline, fromLsn, fromTime, backup }) => ({ timeline, fromLsn, fromTime, backup }));

export async function expire(world: World, rules: readonly Rule[]): Promise<void> {
  const { model, clock } = world;
  const flags = flagsOf(rules);
  world.settle();
  const before = snapshot(world);
  const planned = await world.ask<Outcome>("expire", ...flags, "--dry-run");
  expect(idsOf((await world.ask<Listed>("list")).backups)).toEqual([...model.backups.keys()].sort());
  const nowMs = clock.nowMs();
  const done = await world.ask<Outcome>("expire", ...flags);
  expect(idsOf(done.goes)).toEqual(idsOf(planned.goes));
  expect(idsOf([...done.goes, ...done.stays])).toEqual([...model.backups.keys()].sort());
  expect(done.stays.filter(({ reasons }) => reasons.length === 0)).toEqual([]);
  expect({ spared: done.spared, refused: done.refused?.objects }).toEqual({ spared: [], refused: 0 });
  expect(beginnings(done.windows)).toEqual(beginnings(planned.windows));
  for (const { id } of done.goes) world.forget(id);
  const listed = await world.ask<Listed>("list");
  expect(beginnings(listed.windows)).toEqual(beginnings(planned.windows));
  const old = listed.leftovers.filter(({ startedAt }) => Date.parse(startedAt) < nowMs - 1.5 * DAY_MS);
  expect(old).toEqual([]);
  for (const rule of rules) expectKept(world, before, rule, nowMs);
  expect(model.pinned(nowMs).filter((id) => before.pinned.includes(id))).toEqual(before.pinned);
  expect(model.backups.has(before.lastGood?.id ?? "")).toBe(before.lastGood !== undefined);
}

/** Killed as soon as it has begun; what it has removed by then is gone, and nothing else is broken. */
export async function interruptExpire(world: World, rules: readonly Rule[]): Promise<void> {
  const planned = await world.ask<Outcome>("expire", ...flagsOf(rules), "--dry-run");
  await using child = world.start(["expire", ...flagsOf(rules)]);
  while (child.running && !existsSync(join(world.storeDir, "main", "expiring"))) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await child.end("SIGKILL");
  const left = idsOf((await world.ask<Listed>("list")).backups);
  const gone = [...world.model.backups.keys()].filter((id) => !left.includes(id));
  expect(idsOf(planned.goes)).toEqual(expect.arrayContaining(gone));
  for (const id of gone) world.forget(id);
}

interface Before {
  /** By timeline, oldest first. */
  readonly leading: ReadonlyMap<number, readonly TakenBackup[]>;
  readonly all: readonly TakenBackup[];
  readonly pinned: readonly string[];
  readonly lastGood: TakenBackup | undefined;
}

function snapshot({ model, timeline, clock }: World): Before {
  return {
    leading: new Map(model.reachable().map((each) => [each, model.backupsOn(each)])),
    all: [...model.backups.values()],
    pinned: model.pinned(clock.nowMs()),
    lastGood: model.backupsOn(timeline).at(-1),
  };
}

function expectKept(world: World, before: Before, { name, count }: Rule, nowMs: number): void {
  const { model, timeline } = world;
  const current = before.leading.get(timeline) ?? [];
  switch (name) {
    case "keep-full":
      expect([...model.backups.keys()]).toEqual(expect.arrayContaining(idsOf(current.slice(-count))));
      return;
    case "recovery-window":
      expectWindow(world, before, nowMs - count * DAY_MS);
      return;
    case "keep-daily":
      return expectBuckets(world, before, count, (at) => at.toISOString().slice(0, 10));
    case "keep-weekly":
      return expectBuckets(world, before, count, mondayOf);
    case "keep-monthly":
      return expectBuckets(world, before, count, (at) => at.toISOString().slice(0, 7));
  }
}

/** What was committed since, and the state that was then, can be recovered to as before, on whatever timeline. */
function expectWindow({ model, timeline: current }: World, { leading }: Before, sinceMs: number): void {
  for (const [timeline, backups] of leading) {
    const [was, is] = [backups[0], model.backupsOn(timeline)[0]];
    for (const { row, at, before } of model.commitsOn(timeline)) {
      if (was === undefined || at < sinceMs * 1000 || before < was.stopLsn) continue;
      expect({ timeline, row, reachable: is !== undefined && is.stopLsn <= before }).toMatchObject({ reachable: true });
    }
  }
  const [was, is] = [leading.get(current)?.[0], model.backupsOn(current)[0]];
  if (was === undefined || Date.parse(was.finishedAt) > sinceMs) return;
  expect(Date.parse(is?.finishedAt ?? "9999-01-01")).toBeLessThanOrEqual(sinceMs);
}

/** Each of the newest days (weeks, months) that have a backup still has one; the newest, unless timelines compete. */
function expectBuckets({ model, timeline }: World, before: Before, count: number, nameOf: (at: Date) => string): void {
  const buckets = new Map<string, TakenBackup[]>();
  for (const backup of before.all) {
    const name = nameOf(new Date(backup.startedAt));
    buckets.set(name, [...(buckets.get(name) ?? []), backup]);
  }
  for (const name of [...buckets.keys()].sort().slice(-count)) {
    const backups = (buckets.get(name) ?? []).sort((a, b) => (a.startedAt < b.startedAt ? -1 : 1));
    const current = before.leading.get(timeline) ?? [];
    const wanted = backups.every((backup) => current.includes(backup)) ? backups.slice(-1) : backups;
    expect({ name, kept: wanted.some(({ id }) => model.backups.has(id)) }).toEqual({ name, kept: true });
  }
}

function mondayOf(at: Date): string {
  return new Date(at.getTime() - ((at.getUTCDay() + 6) % 7) * DAY_MS).toISOString().slice(0, 10);
}
