/**
 * The line: the timeline that is streamed and acknowledged. Which one that is stands in immutable claim documents,
 * `line/<n>.json`; the newest names the line. An archive without claims follows the newest timeline with WAL.
 *
 * The tip, the catalog, restore's `latest`, retention, `status` and `check` ask here (docs/timelines.md).
 */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, formatLsn } from "../../wal/lsn.ts";
import { type TimelineHistory, parseHistory, rootHistory } from "../../wal/timeline.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { type Fields, decodeDocument, encodeDocument } from "../json-document.ts";
import { lineKey, linePrefix, parseLineKey } from "../keys.ts";
import { readHistory } from "../wal/objects.ts";

const CLAIM_REASONS = ["first", "failover", "take-over", "kept"] as const;
export type ClaimReason = (typeof CLAIM_REASONS)[number];

/** A place in WAL: where a timeline was left, or how far it was stored. */
export interface TimelinePoint {
  readonly timeline: TimelineId;
  readonly lsn: Lsn;
}

/** One claim document. */
export interface LineClaim {
  /** Counted from 1; the highest number counts. */
  readonly number: number;
  readonly timeline: TimelineId;
  /** Where the timeline left its parent; undefined for a timeline without ancestors. */
  readonly parent: TimelinePoint | undefined;
  /** ISO 8601, UTC. */
  readonly claimedAt: string;
  readonly why: ClaimReason;
  /** Address of the server for which the line was claimed, as the claimer reached it. */
  readonly server: string;
  /**
   * The line before this claim, and the end of its WAL at that moment, as far as the claimer knew it: in the store, and in its own
   * spool, which stores it later. Undefined for the first claim.
   */
  readonly over: TimelinePoint | undefined;
  /** The server's mark of a restored copy. Servers with the same mark belong to this claim. */
  readonly restoredFrom: string | undefined;
}

const READS_IN_FLIGHT = 8;

/** All claims, oldest first. Throws `object-corrupt` and `archive-version` for a claim that cannot be read. */
export async function readClaims(archive: Archive, options: RequestOptions = {}): Promise<LineClaim[]> {
  const found: { key: string; number: number }[] = [];
  for await (const { key } of archive.store.list(linePrefix(archive.cluster), options)) {
    const number = parseLineKey(key);
    if (number !== undefined) found.push({ key, number });
  }
  found.sort((a, b) => a.number - b.number);
  const read = await mapBounded(found, READS_IN_FLIGHT, async ({ key, number }) => {
    const stored = await archive.store.get(key, options);
    return stored === undefined ? undefined : decodeClaim(stored.body, { key, number });
  });
  return read.filter((claim) => claim !== undefined);
}

/**
 * Stores a claim. `exists`: another claim has this number, so the decision that led here is out of date. A claim that an
 * earlier try of this call stored counts as created.
 */
export async function putClaim(
  archive: Archive,
  claim: LineClaim,
  options: RequestOptions = {},
): Promise<"created" | "exists"> {
  const key = lineKey(archive.cluster, claim.number);
  const document = encodeClaim(claim);
  if ((await archive.store.put(key, document, options)) === "created") return "created";
  const there = await archive.store.get(key, options);
  return there !== undefined && Buffer.compare(there.body, document) === 0 ? "created" : "exists";
}

/** The timelines whose WAL leads to the line's end, newest first. */
export async function readLinePath(
  archive: Archive,
  claims: readonly LineClaim[],
  options: RequestOptions = {},
): Promise<TimelineId[]> {
  const claim = claims.at(-1);
  if (claim === undefined) return [];
  const { timeline, parent } = claim;
  const { entries } = await storedHistory(archive, timeline, options);
  const ancestors = entries.map((entry) => entry.timeline).reverse();
  // The claim itself names the parent, should the history file be missing.
  if (ancestors.length === 0 && parent !== undefined) ancestors.push(parent.timeline);
  return [timeline, ...ancestors];
}

/**
 * The timelines that belong to the archive: each one that was the line once, and the ancestors of these. WAL of any other
 * timeline is a stray.
 */
export async function readKnownTimelines(
  archive: Archive,
  claims: readonly LineClaim[],
  options: RequestOptions = {},
): Promise<Set<TimelineId>> {
  const known = new Set<TimelineId>();
  for (const { timeline, parent } of claims) {
    known.add(timeline);
    if (parent !== undefined) known.add(parent.timeline);
  }
  const histories = await mapBounded([...known], READS_IN_FLIGHT, (timeline) =>
    storedHistory(archive, timeline, options),
  );
  for (const { entries } of histories) for (const { timeline } of entries) known.add(timeline);
  return known;
}

async function storedHistory(
  archive: Archive,
  timeline: TimelineId,
  options: RequestOptions,
): Promise<TimelineHistory> {
  if (timeline === 1) return rootHistory(timeline);
  const content = await readHistory(archive, timeline, options);
  return content === undefined ? rootHistory(timeline) : parseHistory(timeline, content);
}

export function encodeClaim(claim: LineClaim): Uint8Array {
  const { timeline, parent, claimedAt, why, server, over, restoredFrom } = claim;
  const point = (at: TimelinePoint | undefined): object | null =>
    at === undefined ? null : { timeline: at.timeline, lsn: formatLsn(at.lsn) };
  return encodeDocument({
    timeline,
    parent: point(parent),
    claimedAt,
    why,
    server,
    over: point(over),
    restoredFrom: restoredFrom ?? null,
  });
}

export function decodeClaim(
  bytes: Uint8Array,
  { key, number }: { readonly key: string; readonly number: number },
): LineClaim {
  const fields = decodeDocument(bytes, key);
  const restoredFrom = fields.raw("restoredFrom");
  if (restoredFrom !== null && typeof restoredFrom !== "string") throw fields.wrong("restoredFrom");
  return {
    number,
    timeline: fields.timeline("timeline"),
    parent: pointIn(fields, "parent"),
    claimedAt: fields.time("claimedAt"),
    why: fields.oneOf("why", CLAIM_REASONS),
    server: fields.text("server"),
    over: pointIn(fields, "over"),
    restoredFrom: restoredFrom ?? undefined,
  };
}

function pointIn(fields: Fields, name: string): TimelinePoint | undefined {
  if (fields.raw(name) === null) return undefined;
  const point = fields.object(name);
  return { timeline: point.timeline("timeline"), lsn: point.lsn("lsn") };
}
