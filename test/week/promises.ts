/**
 * What the catalog promises, held against the model and kept by real restores: backups, windows, both ends of each and points
 * inside, and that nothing else is claimed.
 */
import { expect } from "vitest";
import { formatLsn, parseLsn, type Lsn } from "../../src/wal/lsn.ts";
import { formatPgTime, type PgTime } from "../../src/wal/record-facts.ts";
import { until } from "../campaigns/campaign.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";
import type { Commit, TakenBackup } from "./model.ts";
import type { World } from "./world.ts";

export interface ListedWindow {
  readonly timeline: number;
  readonly fromLsn: string;
  readonly toLsn: string;
  readonly fromTime: string;
  readonly toTime: string | null;
  readonly backup: string;
}

export interface Listed {
  readonly tip: { readonly timeline: number; readonly lsn: string };
  readonly backups: readonly {
    readonly id: string;
    readonly pinned: boolean;
    readonly restorable: boolean;
    readonly reaches: readonly { readonly timeline: number; readonly toLsn: string }[];
  }[];
  readonly windows: readonly ListedWindow[];
  readonly gaps: readonly unknown[];
  readonly damaged: readonly unknown[];
  readonly leftovers: readonly { readonly id: string; readonly startedAt: string }[];
}

/** A point that must be reached, and what the table must hold there. */
export interface Target {
  readonly timeline: number;
  readonly flags: readonly string[];
  readonly must: readonly number[];
  /** What may be there besides: was committed while the point was passed. */
  readonly may: readonly number[];
}

export const TARGET_KINDS = [
  ...(["latest", "last time", "first backup", "lsn", "time", "between", "exclusive time", "exclusive lsn"] as const),
  ...(["xid", "name", "immediate"] as const),
];
export type TargetKind = (typeof TARGET_KINDS)[number];

const text = (lsn: bigint): string => formatLsn(lsn as Lsn);
const time = (at: number): string => formatPgTime(at as PgTime);
const rowsOf = (commits: readonly Commit[]): number[] => commits.map(({ row }) => row);

/** What `list` says is what the model knows; and a verification finds nothing wrong with it. */
export async function expectCatalog(world: World): Promise<Listed> {
  const { model } = world;
  const [listed, verified] = await Promise.all([
    world.ask<Listed>("list"),
    world.ask<{ ok: boolean; problems: unknown[] }>("verify"),
  ]);
  expect({ ok: verified.ok, problems: verified.problems }).toEqual({ ok: true, problems: [] });
  expect({ gaps: listed.gaps, damaged: listed.damaged }).toEqual({ gaps: [], damaged: [] });
  expect(listed.tip.timeline).toBe(world.timeline);
  expect(listed.backups.map(({ id }) => id).sort()).toEqual([...model.backups.keys()].sort());
  const pinned = listed.backups.filter((backup) => backup.pinned).map(({ id }) => id);
  expect(pinned.sort()).toEqual(model.pinned(world.clock.nowMs()).sort());
  expect(listed.windows.map(({ timeline }) => timeline)).toEqual(model.reachable().sort((a, b) => a - b));
  for (const window of listed.windows) {
    const { timeline } = window;
    const first = model.backupsOn(timeline)[0] as TakenBackup; // reachable
    const last = model.commitsOn(timeline).at(-1);
    expect(window).toMatchObject({ backup: first.id, fromLsn: text(first.stopLsn) });
    // A commit that was made before the backup was finished is not in its window.
    const isIn = last !== undefined && Date.parse(time(last.at)) >= Date.parse(first.finishedAt);
    expect(window).toMatchObject({ fromTime: first.finishedAt, toTime: isIn ? time(last.at) : null });
    expect(parseLsn(window.toLsn)).toBeGreaterThanOrEqual(model.commitsOn(timeline).at(-1)?.before ?? 0n);
  }
  const reaches = listed.backups.flatMap(({ id, reaches: found }) => found.map((reach) => ({ id, ...reach })));
  for (const { id, timeline, toLsn } of reaches) {
    expect({ id, timeline, toLsn }).toEqual({
      ...{ id, timeline },
      toLsn: listed.windows.find((window) => window.timeline === timeline)?.toLsn,
    });
    expect(model.backupsOn(timeline).map((backup) => backup.id)).toContain(id);
  }
  expect(reaches.length).toBe(model.reachable().reduce((sum, timeline) => sum + model.backupsOn(timeline).length, 0));
  world.expectForeignObjects();
  return listed;
}

/** A target of this kind inside the window of `timeline`; undefined where it has none. */
export function drawTarget(world: World, random: Random, timeline: number, kind: TargetKind): Target | undefined {
  const { model } = world;
  const backups = model.backupsOn(timeline);
  const first = backups[0];
  const all = model.commitsOn(timeline);
  const last = all.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const upTo = (isIn: (commit: Commit) => boolean, ...flags: string[]): Target => ({
    ...{ timeline, must: rowsOf(all.filter(isIn)), may: [] },
    flags: ["--target-timeline", String(timeline), ...flags],
  });
  switch (kind) {
    case "latest":
      return upTo(() => true);
    case "last time":
      return last.after <= first.startLsn ? undefined : upTo(() => true, "--target-time", time(last.at));
    case "first backup":
      return immediate(world, timeline, first);
    case "immediate":
      return immediate(world, timeline, random.pick(backups));
    case "name": {
      const points = model.pointsOn(timeline).filter(({ lsn }) => lsn > first.stopLsn);
      const point = points.length === 0 ? undefined : random.pick(points);
      return point === undefined ? undefined : upTo(({ after }) => after <= point.lsn, "--target-name", point.name);
    }
    case "lsn":
    case "exclusive lsn":
    case "xid":
    case "time":
    case "exclusive time":
    case "between": {
      const inside = all.filter(({ before }) => before >= first.stopLsn);
      return inside.length === 0 ? undefined : atCommit(kind, random, { inside, first, upTo });
    }
  }
}

interface Inside {
  readonly first: TakenBackup;
  /** Behind the end of the first backup; at least one. */
  readonly inside: readonly Commit[];
  readonly upTo: (isIn: (commit: Commit) => boolean, ...flags: string[]) => Target;
}

type AtCommit = Exclude<TargetKind, "latest" | "last time" | "first backup" | "immediate" | "name">;

function atCommit(kind: AtCommit, random: Random, { first, inside, upTo }: Inside): Target | undefined {
  const commit = random.pick(inside);
  switch (kind) {
    case "lsn":
      return upTo(({ before }) => before <= commit.before, "--target-lsn", text(commit.after));
    case "exclusive lsn":
      return upTo(({ before }) => before < commit.before, "--target-lsn", text(commit.before), "--target-exclusive");
    case "xid":
      return upTo(({ before }) => before <= commit.before, "--target-xid", commit.xid);
    case "time":
      return upTo(({ at }) => at <= commit.at, "--target-time", time(commit.at));
    case "exclusive time":
      if (commit.at < Date.parse(first.finishedAt) * 1000) return undefined;
      return upTo(({ at }) => at < commit.at, "--target-time", time(commit.at), "--target-exclusive");
    case "between": {
      const next = inside[inside.indexOf(commit) + 1];
      if (next === undefined) return undefined;
      const at = commit.at + Math.floor(random.next() * (next.at - commit.at));
      return upTo((each) => each.at <= at, "--target-time", time(at));
    }
  }
}

/** Consistent, and not a record further; what was committed while the backup was taken may be there or not. */
export function immediate({ model }: World, timeline: number, backup: TakenBackup): Target {
  const all = model.commitsOn(timeline);
  const flags = ["--backup", backup.id, "--target", "immediate", "--target-timeline", String(timeline)];
  const must = all.filter(({ after }) => after <= backup.startLsn);
  const may = all.filter(({ before, after }) => after > backup.startLsn && before < backup.stopLsn);
  return { timeline, flags, must: rowsOf(must), may: rowsOf(may) };
}

/** Restores, starts, waits for the end of recovery, and compares what is there. The server is the caller's. */
export async function restoreTo(world: World, { flags, must, may }: Target): Promise<PostgresServer> {
  const restored = await world.first.fromDataDir(async (dataDir) => {
    await world.ask("restore", "--target-dir", dataDir, ...flags);
  });
  try {
    const inRecovery = "SELECT pg_is_in_recovery()::text";
    await until("the end of recovery", async () => (await restored.value(inRecovery)) === "false");
    const rows = (await restored.sql("SELECT i FROM t ORDER BY i")).map((row) => Number(row["i"]));
    const sure = rows.filter((row) => !may.includes(row));
    expect({ flags, rows: sure }).toEqual({ flags, rows: [...must].sort((a, b) => a - b) });
    return restored;
  } catch (error) {
    const log = restored.log().slice(-3000);
    await restored[Symbol.asyncDispose]();
    throw new Error(`restore ${flags.join(" ")}:\n${log}`, { cause: error });
  }
}

const MIB = 1n << 20n;

/** Points outside of the window of `timeline`, and what is said of them. */
export function outside(world: World, window: ListedWindow): { flags: string[]; says: RegExp }[] {
  const first = world.model.backupsOn(window.timeline)[0] as TakenBackup; // there is a window
  const on = ["--target-timeline", String(window.timeline)];
  const early = new Date(Date.parse(first.startedAt) - 1000).toISOString();
  const late = new Date(Date.parse(window.toTime ?? window.fromTime) + 1000).toISOString();
  return [
    { flags: [...on, "--target-lsn", text(first.startLsn)], says: /before the end of every backup/ },
    {
      flags: [...on, "--target-lsn", text(parseLsn(window.toLsn) + 64n * MIB)],
      says: /is beyond the archived WAL of timeline \d+: it ends at/,
    },
    { flags: [...on, "--target-time", early], says: /before the end of every backup/ },
    {
      flags: [...on, "--target-time", late],
      says: /is beyond the archived WAL of timeline \d+: it holds no commit after .*: the last one is of/,
    },
    { flags: [...on, "--target-name", "nowhere"], says: /no restore point named "nowhere"/ },
  ];
}

export async function expectRefused(world: World, { flags, says }: { flags: string[]; says: RegExp }): Promise<void> {
  const result = await world.seawall(["restore", "--target-dir", "/nowhere", "--dry-run", ...flags]);
  expect({ flags, code: result.code, said: result.stderr }).toMatchObject({ flags, code: 1 });
  expect(result.stderr).toMatch(says);
}
