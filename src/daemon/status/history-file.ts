/**
 * Keeps a cluster's history over restarts, in one small file of `state-dir`. The file is a convenience: one that is missing,
 * damaged or of another version counts as empty, and a failure to write it stops nothing.
 */
import { mkdir, open, rename, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Log } from "../../log.ts";
import {
  type History,
  HISTORY_POINTS_MAX,
  HISTORY_STEP_MS,
  type HistoryPoint,
  type HistoryRecord,
  RESTORE_POINTS_SHOWN,
  type ShownRestorePoint,
} from "./history.ts";

const VERSION = 1;
/** A full file has about 60 kB. */
const FILE_BYTES_MAX = 1 << 20;
const SAVE_INTERVAL_MS = 60_000;
const END_WAIT_MS = 2_000;
const NUMBERS = ["lagBytes", "rpoSeconds", "walBytesPerSecond", "putSeconds", "putSecondsMax"] as const;

export class HistoryFile {
  readonly #path: string | undefined;
  readonly #history: History;
  readonly #log: Log;
  #isAsked = false;
  #savedMs = Number.NEGATIVE_INFINITY;
  #hasFailed = false;
  /** Reading and writing, one after the other: nothing is written over what has not been read. */
  #last: Promise<void> = Promise.resolve();
  #isBusy = false;

  /** `stateDir`: undefined keeps the history in memory only. */
  constructor(stateDir: string | undefined, cluster: string, history: History, log: Log) {
    this.#path = stateDir === undefined ? undefined : join(resolve(stateDir), `${cluster}.history.json`);
    this.#history = history;
    this.#log = log;
  }

  /** Reads the file once in the life of this object. Never rejects. */
  async load(nowMs: number): Promise<void> {
    const path = this.#path;
    if (path === undefined || this.#isAsked) return;
    this.#isAsked = true;
    return this.#next(async () => {
      try {
        const text = await readBounded(path);
        if (text !== undefined) this.#history.restore(parseHistory(text, nowMs));
      } catch (error) {
        this.#log.warn("the history of the status page cannot be read; it begins anew", { file: path, error });
      }
    });
  }

  /** Writes at most once a minute, and not while the disk is still busy with the last time. */
  tick(nowMs: number): void {
    if (!this.#isBusy && Math.abs(nowMs - this.#savedMs) >= SAVE_INTERVAL_MS) void this.save(nowMs);
  }

  /** Resolves when the file is written; a failure is logged once. Never rejects. */
  async save(nowMs: number): Promise<void> {
    const path = this.#path;
    if (path === undefined || !this.#isAsked) return;
    this.#savedMs = nowMs;
    return this.#next(async () => this.#write(path, nowMs));
  }

  /** Saves; waits for a disk that does not answer only for a moment. Never rejects. */
  async end(nowMs: number): Promise<void> {
    await Promise.race([this.save(nowMs), sleep(END_WAIT_MS, undefined, { ref: false })]);
  }

  async #next(work: () => Promise<void>): Promise<void> {
    this.#isBusy = true;
    const own = this.#last.then(work);
    this.#last = own;
    await own;
    if (this.#last === own) this.#isBusy = false;
  }

  async #write(path: string, nowMs: number): Promise<void> {
    const points = this.#history.points(nowMs);
    const text = encodeHistory({ points, restorePoints: this.#history.restorePoints() });
    try {
      await mkdir(dirname(path), { recursive: true });
      // Whole or not at all: a reader never sees half of it.
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      await rename(`${path}.new`, path);
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) this.#log.warn("the history of the status page cannot be written", { file: path, error });
      this.#hasFailed = true;
    }
  }
}

/** Undefined without a file. Throws for one that is too long to be ours. */
async function readBounded(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    if (size > FILE_BYTES_MAX) throw new Error(`${path} has ${size} bytes, more than any history`);
    return await file.readFile("utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

export function encodeHistory({ points, restorePoints }: HistoryRecord): string {
  return `${JSON.stringify({ version: VERSION, points, restorePoints })}\n`;
}

/** Takes over what is valid and younger than 24 hours. Throws when the text is not such a document. Pure. */
export function parseHistory(text: string, nowMs: number): HistoryRecord {
  const json: unknown = JSON.parse(text);
  if (!isRecord(json) || json["version"] !== VERSION) throw new Error(`it is not a history of version ${VERSION}`);
  const { points, restorePoints } = json;
  if (!Array.isArray(points) || !Array.isArray(restorePoints)) throw new Error("its lists are missing");
  const begin = nowMs - HISTORY_POINTS_MAX * HISTORY_STEP_MS;
  const valid = points.filter(isPoint).filter(({ atMs }) => atMs > begin && atMs <= nowMs);
  return {
    points: [...new Map(valid.map((point) => [point.atMs, point])).values()]
      .sort((a, b) => a.atMs - b.atMs)
      .slice(-HISTORY_POINTS_MAX),
    restorePoints: restorePoints.filter(isRestorePoint).slice(-RESTORE_POINTS_SHOWN),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isPoint(value: unknown): value is HistoryPoint {
  if (!isRecord(value)) return false;
  const isNumber = (one: unknown): boolean => typeof one === "number" && Number.isFinite(one) && one >= 0;
  return isNumber(value["atMs"]) && NUMBERS.every((name) => value[name] === null || isNumber(value[name]));
}

function isRestorePoint(value: unknown): value is ShownRestorePoint {
  if (!isRecord(value)) return false;
  const { name, at, lsn } = value;
  return typeof name === "string" && typeof lsn === "string" && typeof at === "string" && !Number.isNaN(Date.parse(at));
}
