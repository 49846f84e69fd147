/**
 * A calendar for servers and commands under test: a week passes in a minute. libfaketime stands before the system's clock of
 * every process that is started with `env`; their clocks run on from where they were set, and timers, which ask another
 * clock, run as ever.
 *
 *     const calendar = await openCalendar();
 *     test.skipIf(!calendar.available)("…", async () => {
 *       using clock = calendar.begin(Date.parse("2031-03-01T00:00:00Z"));
 *       await using server = await startPostgres({ env: clock.env });
 *       clock.set(Date.parse("2031-03-02T00:00:00Z"));
 */
import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { installPackages } from "./apt.ts";
import { askRunServices } from "./run-services.ts";
import { makeTempDir, removeTree } from "./temp.ts";

export const CLOCK_PACKAGES = ["libfaketime"];

/** Where the library is; or why there is none. */
export type ClockAccess = { readonly library: string } | { readonly unavailable: string };

/** Finds the library or has it installed. Never throws for want of it: that is an answer. */
export async function provideClock(): Promise<ClockAccess> {
  try {
    if (findLibrary() === undefined) await installPackages(CLOCK_PACKAGES, "tests of a calendar", "libfaketime");
    const library = findLibrary();
    return library === undefined ? { unavailable: "libfaketime not found" } : { library };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

/** The one with a lock around what it counts: a server's commands have threads. */
function findLibrary(): string | undefined {
  const parents = readdirSync("/usr/lib").map((name) => join("/usr/lib", name, "faketime"));
  return [...parents, "/usr/lib/faketime", "/usr/local/lib/faketime"]
    .map((folder) => join(folder, "libfaketimeMT.so.1"))
    .find((path) => existsSync(path));
}

export interface Calendar {
  readonly available: boolean;
  /** A clock that shows this moment now. */
  begin(atMs: number): SimulatedClock;
}

/** The run's answer under vitest. */
export async function openCalendar(): Promise<Calendar> {
  const access = ((await askRunServices("clock")) ?? (await provideClock())) as ClockAccess;
  return {
    available: "library" in access,
    begin: (atMs) => {
      if ("unavailable" in access) throw new Error(`no simulated clock: ${access.unavailable}`);
      return new SimulatedClock(access.library, atMs);
    },
  };
}

export class SimulatedClock implements Disposable {
  /** For every process that is to live by this clock. */
  readonly env: Readonly<Record<string, string>>;
  readonly #folder: string;
  #offsetSeconds = 0;

  constructor(library: string, atMs: number) {
    this.#folder = makeTempDir("clock");
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: join(this.#folder, "offset"),
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      // No memory shared between processes: who is killed would leave it behind.
      FAKETIME_DISABLE_SHM: "1",
      NO_FAKE_STAT: "1",
    };
    this.set(atMs);
  }

  /** What processes read from their clock. */
  nowMs(): number {
    return Date.now() + this.#offsetSeconds * 1000;
  }

  set(atMs: number): void {
    this.#offsetSeconds = Math.round((atMs - Date.now()) / 1000);
    const path = this.env["FAKETIME_TIMESTAMP_FILE"] ?? "";
    // Whole or not at all: who reads half of it would see today.
    writeFileSync(`${path}.new`, `${this.#offsetSeconds < 0 ? "" : "+"}${this.#offsetSeconds}\n`, { mode: 0o644 });
    renameSync(`${path}.new`, path);
  }

  [Symbol.dispose](): void {
    removeTree(this.#folder);
  }
}
