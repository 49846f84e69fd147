/** Decides the probes' answers from the status alone. Pure. */
import { storingProblemOf } from "./problem.ts";
import type { StatusDocument } from "./document.ts";

export interface Verdict {
  readonly ok: boolean;
  /** One line for the reader of the probe's failure. */
  readonly reason: string;
}

/**
 * Alive: the receive loop turned over lately. Neither an absent server nor a failing store makes it unhealthy, because a
 * restart would help with neither.
 */
export function decideHealth(status: StatusDocument, progressMaxSeconds: number): Verdict {
  if (status.state === "failed") return { ok: false, reason: `failed: ${status.errors[0]?.message ?? "see the log"}` };
  const age = Math.round(status.progressAgeSeconds ?? 0);
  if (age > progressMaxSeconds) {
    return {
      ok: false,
      reason: `no progress for ${age} s (${status.state}); at most ${progressMaxSeconds} s are normal`,
    };
  }
  return { ok: true, reason: status.state };
}

/** Ready: WAL is streaming and the store takes it, so that a synchronous standby by this name would answer. */
export function decideReadiness(status: StatusDocument): Verdict {
  const storing = storingProblemOf(status);
  if (storing !== undefined) return { ok: false, reason: storing };
  if (status.state === "streaming") return { ok: true, reason: "streaming" };
  const error = status.errors[0];
  return { ok: false, reason: error === undefined ? status.state : `${status.state}: ${error.message}` };
}
