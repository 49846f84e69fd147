/**
 * Decides where to begin: at the archive's tip on the server's history, then at the slot, then at the server's own
 * position. A server whose WAL does not continue the archive's is refused; line/decision.ts has decided before whether
 * its timeline may be archived. Pure.
 *
 * Source: PostgreSQL streamutil.c / receivelog.c (FindStreamingStart) for the order; ours puts the archive first.
 */
import type { Tip } from "../archive/wal/tip.ts";
import { SeawallError } from "../errors.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  formatLsn,
  maxLsn,
  segmentOf,
  segmentStart,
} from "../wal/lsn.ts";
import { type TimelineHistory, nextTimelineOf, ownerOf, switchPointOf } from "../wal/timeline.ts";

export interface StartFacts {
  readonly tip: Tip | undefined;
  readonly server: {
    readonly timeline: TimelineId;
    /** IDENTIFY_SYSTEM's xlogpos: the flush position, or on a standby the last position received. */
    readonly flushLsn: Lsn;
    readonly inRecovery: boolean;
  };
  /** The server's own history, up to its timeline. */
  readonly history: TimelineHistory;
  readonly slotRestartLsn: Lsn | undefined;
  /** The archive was asked for the segment the slot's restart LSN lies in (`segmentAtSlot`), and does not have it. */
  readonly lacksSegmentAtSlot: boolean;
  /** Where the source's WAL of the tip's timeline ends, which it has left; undefined: at the switch point. */
  readonly oldEndLsn?: Lsn | undefined;
  /** Timelines that this process has streamed to their end: there is no record between the tip and the switch point. */
  readonly ended: ReadonlySet<TimelineId>;
  readonly segmentSize: number;
}

export interface StartPosition {
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly startLsn: Lsn;
  /** All complete records before this are stored: what may be reported as flushed at once. */
  readonly storedLsn: Lsn;
  /** Nothing in the archive leads up to this segment on this timeline. */
  readonly unanchored: boolean;
  /** A finished timeline whose last segment is still a tail: to be stored as `.partial`. */
  readonly finish: { readonly timeline: TimelineId; readonly segment: SegmentNumber } | undefined;
  readonly from: "archive" | "slot" | "server";
}

/** Throws `timeline-unrelated`, `wal-diverged`, or the retryable `server-behind`. */
export function decideStart(facts: StartFacts): StartPosition {
  const { tip, server, history, slotRestartLsn, segmentSize } = facts;
  const at = (timeline: TimelineId, segment: SegmentNumber, rest: Partial<StartPosition>): StartPosition => {
    const startLsn = segmentStart(segment, segmentSize);
    return {
      timeline,
      segment,
      startLsn,
      storedLsn: startLsn,
      unanchored: false,
      finish: undefined,
      from: "archive",
      ...rest,
    };
  };
  const fromServer = (lsn: Lsn, from: "slot" | "server"): StartPosition =>
    at(ownerOf(history, lsn), segmentOf(lsn, segmentSize), { unanchored: true, from });
  if (tip === undefined) {
    return slotRestartLsn === undefined ? fromServer(server.flushLsn, "server") : fromServer(slotRestartLsn, "slot");
  }
  if (tip.timeline === server.timeline) {
    refuseShorterServer(tip, server);
    if (slotRestartLsn !== undefined && facts.lacksSegmentAtSlot) return fromServer(slotRestartLsn, "slot");
    return at(tip.timeline, tip.segment, { storedLsn: tip.lsn, unanchored: !tip.anchored });
  }
  const switchLsn = switchPointOf(history, tip.timeline);
  const next = nextTimelineOf(history, tip.timeline);
  if (switchLsn === undefined || next === undefined) {
    throw new SeawallError(
      "timeline-unrelated",
      `the server's timeline ${server.timeline} does not descend from the archive's timeline ${tip.timeline}`,
    );
  }
  const oldEndLsn = maxLsn(switchLsn, facts.oldEndLsn ?? switchLsn);
  if (tip.lsn < oldEndLsn && !facts.ended.has(tip.timeline)) {
    return at(tip.timeline, tip.segment, { storedLsn: tip.lsn, unanchored: !tip.anchored });
  }
  const finish = { timeline: tip.timeline, segment: tip.segment };
  const segment = segmentOf(switchLsn, segmentSize);
  // WAL of the old timeline past the switch point is no part of this history, so flush starts at the switch.
  return at(next, segment, { storedLsn: minOf(tip.lsn, switchLsn), unanchored: true, finish });
}

/**
 * Names the segment to look for before the tip is believed: the one in which the slot's restart LSN lies. The slot keeps WAL
 * from the LSN last reported as flushed, so a hole below the tip begins no earlier. A tip behind such a hole comes from a
 * listing that left objects out, or from archive_command far ahead of a receiver. Undefined when no segment needs a look.
 */
export function segmentAtSlot(
  facts: Pick<StartFacts, "tip" | "history" | "slotRestartLsn" | "segmentSize">,
): SegmentNumber | undefined {
  const { tip, history, slotRestartLsn, segmentSize } = facts;
  if (tip === undefined || slotRestartLsn === undefined || ownerOf(history, slotRestartLsn) !== tip.timeline)
    return undefined;
  const segment = segmentOf(slotRestartLsn, segmentSize);
  return segment < tip.segment ? segment : undefined;
}

function minOf(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

function refuseShorterServer(tip: Tip, server: StartFacts["server"]): void {
  if (server.flushLsn >= tip.lsn) return;
  const where = `the archive's tip ${formatLsn(tip.lsn)} lies past the server's ${formatLsn(server.flushLsn)} on timeline ${tip.timeline}`;
  if (server.inRecovery)
    throw new SeawallError("server-behind", `${where}, which is a standby that has yet to catch up`);
  throw new SeawallError("wal-diverged", where, {
    hint: "The server was rolled back in place without a new timeline (a restored snapshot, lost fsyncs): archive it under a new --cluster.",
  });
}
