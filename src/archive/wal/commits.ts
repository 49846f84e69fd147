/** Finds when WAL was committed: from what objects say of themselves, and from records where they do not. */
import type { Lsn } from "../../wal/lsn.ts";
import { parsePgTime, type PgTime } from "../../wal/record-facts.ts";
import type { Archive } from "../archive.ts";
import { type PeekOptions, peekWal } from "./objects.ts";
import type { WalItem } from "./path.ts";
import type { TailOptions } from "./tail.ts";
import { type WalkedRecord, walkSegment } from "./walk.ts";

/** Segments without a commit that are passed on the way back to one. */
export const COMMIT_LOOK_BACK_MAX = 64;

/** Times of the first and the last commit in WAL order. */
export interface CommitTimes {
  readonly first: PgTime;
  readonly last: PgTime;
}

export interface CommitTimesOptions extends TailOptions {
  /** Only records that end here or earlier count. */
  readonly limit?: Lsn | undefined;
  /** Reads no WAL: what does not say its commits in its envelope has none. A whole segment may be held in memory otherwise. */
  readonly summariesOnly?: boolean | undefined;
}

/**
 * Undefined for WAL without a commit, or without one that ends at or before `limit`. Tails, partials, and items with a limit
 * inside are read whole: they do not say it of themselves.
 */
export async function commitTimesIn(
  archive: Archive,
  item: WalItem,
  options: CommitTimesOptions = {},
): Promise<CommitTimes | undefined> {
  const { limit, summariesOnly = false } = options;
  const meta = limit === undefined ? await segmentSummary(archive, item, options) : undefined;
  if (meta !== undefined) {
    const { firstCommitAt, lastCommitAt } = meta;
    if (typeof firstCommitAt !== "string" || typeof lastCommitAt !== "string") return undefined;
    return { first: parsePgTime(firstCommitAt), last: parsePgTime(lastCommitAt) };
  }
  if (summariesOnly) return undefined;
  let times: CommitTimes | undefined;
  const visit = ({ kind, time, end }: WalkedRecord): void => {
    if (limit !== undefined && end > limit) return;
    if (kind === "commit" && time !== undefined) times = { first: times?.first ?? time, last: time };
  };
  await walkSegment(archive, item, visit, options);
  return times;
}

/** Reads a sealed segment's own summary of its records; undefined for tails and partials, which have none. */
export async function segmentSummary(
  archive: Archive,
  item: WalItem,
  options: PeekOptions = {},
): Promise<Readonly<Record<string, unknown>> | undefined> {
  if (item.kind !== "segment") return undefined;
  const place = { ...item, segmentSize: archive.identity.segmentSize };
  const facts = await peekWal(archive, "segment", place, options);
  return typeof facts?.envelope.meta["commits"] === "number" ? facts.envelope.meta : undefined;
}
