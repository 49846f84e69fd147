/**
 * Words what a loss of the primary now would cost, for page, `status`, findings and plug-in line: one number, and whether it is an
 * upper bound. It is one where no commit is known to wait: the server may have made some since its last word. Pure.
 */
import type { StatusFacts } from "../status/document.ts";
import { humanSeconds } from "../status/human.ts";

export type LossFacts = Pick<StatusFacts, "rpoSeconds" | "rpoIsAtMost">;

/** `412 ms`, `at most 21 s`; undefined where it is not known. */
export function rpoText({ rpoSeconds, rpoIsAtMost }: LossFacts): string | undefined {
  if (rpoSeconds === null) return undefined;
  return `${rpoIsAtMost === true ? "at most " : ""}${humanSeconds(rpoSeconds)}`;
}

/** Says which time `rpoText` counts. */
export function rpoMeaning({ rpoIsAtMost }: LossFacts): string {
  return rpoIsAtMost === true ? "time since the server's last word" : "age of the oldest commit not stored";
}

/** Completes "Losing the server now loses …". */
export function lossText(facts: LossFacts): string {
  const { rpoSeconds, rpoIsAtMost } = facts;
  if (rpoSeconds === null) return "what was not stored; how much that is, is not known";
  if (rpoSeconds === 0) return "no commit";
  return `${rpoIsAtMost === true ? "at most " : ""}the commits of the last ${humanSeconds(rpoSeconds)}`;
}
