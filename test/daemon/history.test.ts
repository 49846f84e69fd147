/** The 24 hours of the status page: steps, bounds, clocks that are set, and the file that keeps them over a restart. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { History, HISTORY_POINTS_MAX, HISTORY_STEP_MS, RESTORE_POINTS_SHOWN } from "../../src/daemon/status/history.ts";
import { encodeHistory, HistoryFile, parseHistory } from "../../src/daemon/status/history-file.ts";
import { silentLog } from "../../src/log.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { statusFixture } from "./fixture.ts";

const BEGIN = 1_800_000_000_000;
const numbers = (receivedBytes: number, lagBytes: number | null = 0, rpoSeconds: number | null = 0) => {
  const { counters } = statusFixture();
  return { counters: counters === null ? null : { ...counters, receivedBytes }, lagBytes, rpoSeconds };
};

describe("steps of five minutes", () => {
  test("lag and age keep their largest value, the rate its mean, PUTs both", () => {
    const history = new History();
    history.sample(numbers(1000, 5, 0.1), BEGIN);
    history.sample(numbers(3000, 900, null), BEGIN + 2000);
    history.sample(numbers(7000, null, 0.3), BEGIN + 4000);
    for (const ms of [10, 20, 60]) history.notePut(ms, BEGIN + 4000);
    expect(history.points(BEGIN + 5000)).toEqual([
      {
        atMs: BEGIN,
        ...{ lagBytes: 900, rpoSeconds: 0.3, walBytesPerSecond: 1500, putSeconds: 0.03, putSecondsMax: 0.06 },
      },
    ]);
  });

  test("a receiver that was started again, and a pause, count as no WAL and no time", () => {
    const history = new History();
    history.sample(numbers(9000), BEGIN);
    history.sample(numbers(100), BEGIN + 2000);
    history.sample(numbers(2100), BEGIN + 4000);
    history.sample(numbers(900_000), BEGIN + 200_000);
    expect(history.points(BEGIN)[0]?.walBytesPerSecond).toBe(500);
  });

  test("nothing happened is not zero", () => {
    const history = new History();
    history.sample(numbers(0, null, null), BEGIN);
    expect(history.points(BEGIN)[0]).toEqual({
      atMs: BEGIN,
      ...{ lagBytes: null, rpoSeconds: null, walBytesPerSecond: null, putSeconds: null, putSecondsMax: null },
    });
  });

  test("two days leave the last 24 hours, oldest first", () => {
    const history = new History();
    for (let i = 0; i < 2 * HISTORY_POINTS_MAX; i++) history.sample(numbers(i), BEGIN + i * HISTORY_STEP_MS);
    const now = BEGIN + (2 * HISTORY_POINTS_MAX - 1) * HISTORY_STEP_MS;
    const points = history.points(now);
    expect([points.length, points[0]?.atMs, points.at(-1)?.atMs]).toEqual([
      ...[HISTORY_POINTS_MAX, BEGIN + HISTORY_POINTS_MAX * HISTORY_STEP_MS, now],
    ]);
  });

  test("a clock that was set back leaves no point in the future", () => {
    const history = new History();
    for (const step of [0, 1, 2, 3]) history.sample(numbers(1), BEGIN + step * HISTORY_STEP_MS);
    history.sample(numbers(1), BEGIN + HISTORY_STEP_MS);
    const times = history.points(BEGIN + HISTORY_STEP_MS).map(({ atMs }) => (atMs - BEGIN) / HISTORY_STEP_MS);
    expect(times).toEqual([0, 1]);
  });

  test("the newest restore points are kept, each once", () => {
    const history = new History();
    for (let i = 0; i < 100; i++)
      history.noteRestorePoint({ name: `p${i}`, at: "2026-11-20T10:00:00Z", lsn: `0/${i}` });
    history.noteRestorePoint({ name: "p99", at: "2026-11-20T10:00:00Z", lsn: "0/99" });
    const names = history.restorePoints().map(({ name }) => name);
    expect([names.length, names[0], names.at(-1)]).toEqual([RESTORE_POINTS_SHOWN, "p68", "p99"]);
  });
});

describe("the file", () => {
  const folders: string[] = [];
  afterEach(() => folders.splice(0).forEach(removeTree));
  const folder = (): string => {
    const made = makeTempDir("history");
    folders.push(made);
    return made;
  };
  async function opened(stateDir: string): Promise<{ history: History; file: HistoryFile }> {
    const history = new History();
    const file = new HistoryFile(stateDir, "orders", history, silentLog);
    await file.load(BEGIN + HISTORY_STEP_MS);
    return { history, file };
  }

  test("a restart goes on where the last process ended, in one file of its owner's", async () => {
    const stateDir = join(folder(), "state");
    const first = await opened(stateDir);
    first.history.sample(numbers(1, 42), BEGIN);
    first.history.noteRestorePoint({ name: "a <b>", at: "2026-11-20T10:00:00.000000Z", lsn: "0/1" });
    await first.file.end(BEGIN);
    expect(readdirSync(stateDir)).toEqual(["orders.history.json"]);
    const second = await opened(stateDir);
    second.history.sample(numbers(1, 7), BEGIN + HISTORY_STEP_MS);
    expect(second.history.points(BEGIN + HISTORY_STEP_MS).map(({ lagBytes }) => lagBytes)).toEqual([42, 7]);
    expect(second.history.restorePoints().map(({ name }) => name)).toEqual(["a <b>"]);
  });

  const damaged: readonly (readonly [string, string])[] = [
    ["empty", ""],
    ["cut off", '{"version":1,"points":[{"atMs":18000'],
    ["of another version", '{"version":2,"points":[],"restorePoints":[]}'],
    ["a list", "[]"],
    ["too long", " ".repeat((1 << 20) + 1)],
  ];
  test.each(damaged)("one that is %s counts as empty, and is replaced", async (_, text) => {
    const stateDir = folder();
    const path = join(stateDir, "orders.history.json");
    writeFileSync(path, text);
    const { history, file } = await opened(stateDir);
    expect(history.points(BEGIN)).toEqual([]);
    history.sample(numbers(1, 3), BEGIN);
    await file.save(BEGIN);
    expect(parseHistory(readFileSync(path, "utf8"), BEGIN).points).toHaveLength(1);
  });

  test("points that are no points, are old, or lie in the future are left out", () => {
    const history = new History();
    history.sample(numbers(1), BEGIN);
    const [good] = history.points(BEGIN);
    const bad = [
      null,
      {},
      { ...good, lagBytes: "1" },
      { ...good, rpoSeconds: -1 },
      { ...good, atMs: BEGIN - 90_000_000 },
    ];
    const points = [...bad, { ...good, atMs: BEGIN + 1 }, good, good];
    const restorePoints = [
      { name: 1 },
      { name: "a", at: "when", lsn: "0/1" },
      { name: "b", at: "2026-11-20", lsn: "0/2" },
    ];
    const text = JSON.stringify({ version: 1, points, restorePoints });
    expect(parseHistory(text, BEGIN)).toEqual({ points: [good], restorePoints: [restorePoints[2]] });
  });

  test("a full one is small", () => {
    const history = new History();
    for (let i = 0; i < HISTORY_POINTS_MAX; i++) {
      const atMs = BEGIN + i * HISTORY_STEP_MS;
      history.sample(numbers(i * 1e9, 123_456_789_012, 1234.567), atMs);
      history.sample(numbers(i * 1e9 + 1e8, 123_456_789_012, 1234.567), atMs + 2000);
      history.notePut(1234.5678, atMs);
    }
    for (let i = 0; i < 99; i++) history.noteRestorePoint({ name: "n".repeat(63), at: "2026-11-20", lsn: `0/${i}` });
    const points = history.points(BEGIN + (HISTORY_POINTS_MAX - 1) * HISTORY_STEP_MS);
    expect(points).toHaveLength(HISTORY_POINTS_MAX);
    expect(encodeHistory({ points, restorePoints: history.restorePoints() }).length).toBeLessThan(100_000);
  });

  test("a folder that cannot be written stops nothing and is said once", async () => {
    const stateDir = folder();
    // A directory in the file's place: no account can read or replace it.
    mkdirSync(join(stateDir, "orders.history.json"));
    chmodSync(stateDir, 0o755);
    const said: string[] = [];
    const log = { ...silentLog, warn: (message: string) => void said.push(message) };
    const history = new History();
    const file = new HistoryFile(stateDir, "orders", history, log);
    await file.load(BEGIN);
    await file.save(BEGIN);
    await file.save(BEGIN);
    expect(said).toEqual([
      "the history of the status page cannot be read; it begins anew",
      "the history of the status page cannot be written",
    ]);
  });

  test("nothing is written over a file that is still being read", async () => {
    const stateDir = folder();
    const first = await opened(stateDir);
    first.history.sample(numbers(1, 42), BEGIN);
    await first.file.save(BEGIN);
    const history = new History();
    const file = new HistoryFile(stateDir, "orders", history, silentLog);
    const loading = file.load(BEGIN + HISTORY_STEP_MS);
    file.tick(BEGIN + HISTORY_STEP_MS);
    await file.save(BEGIN + HISTORY_STEP_MS);
    await loading;
    const kept = parseHistory(readFileSync(join(stateDir, "orders.history.json"), "utf8"), BEGIN + HISTORY_STEP_MS);
    expect(kept.points.map(({ lagBytes }) => lagBytes)).toEqual([42]);
  });

  test("without a folder it is kept in memory only", async () => {
    const history = new History();
    const file = new HistoryFile(undefined, "orders", history, silentLog);
    await file.load(BEGIN);
    await file.end(BEGIN);
    expect(history.points(BEGIN)).toEqual([]);
  });
});
