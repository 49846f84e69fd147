/** The verifier's states at the starts of a journal's segments, as far as they are known. */
import { formatLsn, parseLsn, type SegmentNumber, segmentOf, segmentStart } from "../../wal/lsn.ts";
import type { RecordCarry } from "../../wal/record-carry.ts";
import { ownerBefore, type TimelineHistory } from "../../wal/timeline.ts";
import type { PlacedCarry } from "./document.ts";
import type { SegmentFile } from "./layout.ts";

type Start = Pick<SegmentFile, "timeline" | "segment">;

export class Carries {
  readonly #known = new Map<string, RecordCarry | undefined>();

  note(start: Start, carry: RecordCarry | undefined): void {
    this.#known.set(keyOf(start), carry);
  }

  /** Notes what the journal's document says. */
  recover({ timeline, carry }: PlacedCarry, segmentSize: number): void {
    this.note({ timeline, segment: segmentOf(parseLsn(carry.at), segmentSize) }, carry);
  }

  /** The state at the start of a segment, on the history's timeline or on the one that it continues there. */
  into(history: TimelineHistory, segment: SegmentNumber, segmentSize: number): RecordCarry | undefined {
    const own = this.#known.get(keyOf({ timeline: history.timeline, segment }));
    if (own !== undefined || segment === 0) return own;
    return this.#known.get(keyOf({ timeline: ownerBefore(history, segmentStart(segment, segmentSize)), segment }));
  }

  /** The state at the first of these files at which one is known. */
  oldestOf(files: readonly SegmentFile[]): PlacedCarry | undefined {
    for (const file of files) {
      const carry = this.#known.get(keyOf(file));
      if (carry !== undefined) return { timeline: file.timeline, carry };
    }
    return undefined;
  }

  forget(start: Start): void {
    this.#known.delete(keyOf(start));
  }

  clear(): void {
    this.#known.clear();
  }
}

/** The state at the start of a file, if `placed` is that. */
export function carryAt(
  placed: PlacedCarry | undefined,
  { timeline, segment }: Start,
  segmentSize: number,
): RecordCarry | undefined {
  const at = formatLsn(segmentStart(segment, segmentSize));
  return placed?.timeline === timeline && placed.carry.at === at ? placed.carry : undefined;
}

const keyOf = ({ timeline, segment }: Start): string => `${timeline} ${segment}`;
