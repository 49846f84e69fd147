/**
 * The pause between two looks at something that a test waits for. A look often costs a connection, a server process or a
 * command, and two cores are shared by all workers: many looks a second would slow down what they wait for.
 */
import { setTimeout as sleep } from "node:timers/promises";

const SHORTEST_MS = 10;
const LONGEST_MS = 100;
/** A pause is this part of the time waited so far, so little time is lost behind the event. */
const PART = 1 / 20;

/** `startedMs`: when the wait began, by Date.now(). */
export async function pauseSince(startedMs: number): Promise<void> {
  await sleep(Math.min(LONGEST_MS, Math.max(SHORTEST_MS, (Date.now() - startedMs) * PART)));
}
