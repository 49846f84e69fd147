/**
 * What all campaigns share: how many rounds they run, and the words they leave in the log. By default a campaign runs a
 * tenth of its rounds from a fixed seed; SEAWALL_TEST_FULL=1 runs all of them, SEAWALL_TEST_SEED chooses another seed.
 */
import { pauseSince } from "../harness/patience.ts";
import { type Random, announcedRandom } from "../harness/random.ts";

export const FULL = process.env["SEAWALL_TEST_FULL"] === "1";

/** `full` rounds in a full run, a tenth of them otherwise. */
export function rounds(full: number): number {
  return FULL ? full : Math.ceil(full / 10);
}

/** Rounds on each of so many versions: all of them together run as many as two versions would. All of them in a full run. */
export function roundsOnEach(full: number, versions: number): number {
  return FULL ? full : Math.ceil((2 * rounds(full)) / Math.max(2, versions));
}

/** A time limit for a test that may run for `fullMinutes` in a full run on a busy machine. */
export function minutes(fullMinutes: number): number {
  return (FULL ? fullMinutes : Math.max(10, fullMinutes / 5)) * 60_000;
}

/** The campaign's own fixed seed, unless the environment names another. */
export function campaignRandom(label: string, seed: number): Random {
  return announcedRandom(label, process.env["SEAWALL_TEST_SEED"] === undefined ? seed : undefined);
}

/** One line about what a campaign did, for the log of a full run. */
export function report(label: string, facts: Record<string, unknown>): void {
  const text = Object.entries(facts).map(([name, value]) => `${name}=${String(value)}`);
  console.log(`${label}: ${text.join(" ")}`);
}

/** Waits until `condition` holds; fails with `what` when it takes too long. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const startedMs = Date.now();
  while (!(await condition())) {
    if (Date.now() > startedMs + timeoutMs) throw new Error(`still waiting after ${timeoutMs} ms: ${what}`);
    await pauseSince(startedMs);
  }
}
