/** What commit-stages.ts, inside the receiver, tells the bench. */

/** Names the file it writes. */
export const STAGES_ENV = "SEAWALL_BENCH_STAGES";

/** Medians over the commits of one client, in milliseconds. */
export interface CommitStages {
  /** From the first byte read to the call of the PUT: framed, assembled, verified, encoded, signed. */
  readonly beforePutMs: number;
  /** From the call of the PUT to the end of its answer. */
  readonly putMs: number;
  /** From there to the standby status update being written. */
  readonly afterPutMs: number;
}
