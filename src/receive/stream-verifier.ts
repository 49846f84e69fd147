/** Makes the verifier of one stream. Pure. */
import type { RecordCarry } from "../wal/record-carry.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import { WalVerifier } from "../wal/verifier.ts";
import type { ServerFacts } from "./server-facts.ts";
import type { StartPosition } from "./start-position.ts";

export interface StreamFacts {
  readonly server: Pick<ServerFacts, "segmentSize" | "systemIdentifier" | "major">;
  /** The server's history. */
  readonly history: TimelineHistory;
  readonly start: Pick<StartPosition, "timeline" | "startLsn">;
}

/** A page belongs to the timeline streamed or to one of its ancestors, never to a later one that the server has moved on to. */
export function historyUpTo({ entries }: TimelineHistory, timeline: StartPosition["timeline"]): TimelineHistory {
  return { timeline, entries: entries.filter((entry) => entry.timeline < timeline) };
}

/** `carry`: the verifier's state at the start; undefined where it is not known. */
export function verifierOf({ server, history, start }: StreamFacts, carry: RecordCarry | undefined): WalVerifier {
  return new WalVerifier({
    systemIdentifier: server.systemIdentifier,
    segmentSize: server.segmentSize,
    startLsn: start.startLsn,
    history: historyUpTo(history, start.timeline),
    majorVersion: server.major,
    carry,
  });
}
