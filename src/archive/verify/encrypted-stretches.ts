/** To whom WAL and backups are encrypted, as a verification saw it: neighbouring segments with the same recipients are one stretch. Pure. */
import { type Lsn, type SegmentNumber, segmentEnd, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import type { SegmentPlace } from "../keys.ts";

export interface Stretch {
  readonly timeline: TimelineId;
  readonly fromLsn: Lsn;
  readonly toLsn: Lsn;
  /** Recipients in short; none for plain WAL. */
  readonly to: readonly string[];
}

export class Stretches {
  /** By timeline and recipients. */
  readonly #seen = new Map<string, { place: SegmentPlace; to: readonly string[]; segments: SegmentNumber[] }>();

  /** `to`: undefined for plain WAL. */
  add(place: SegmentPlace, to: readonly string[] = []): void {
    const key = `${place.timeline} ${to.join(" ")}`;
    const known = this.#seen.get(key);
    if (known === undefined) this.#seen.set(key, { place, to, segments: [place.segment] });
    else known.segments.push(place.segment);
  }

  /** By timeline, then LSN. */
  list(): Stretch[] {
    const all = [...this.#seen.values()].flatMap(({ place: { timeline, segmentSize }, to, segments }) =>
      runsOf(segments).map(([first, last]) => {
        return { timeline, fromLsn: segmentStart(first, segmentSize), toLsn: segmentEnd(last, segmentSize), to };
      }),
    );
    return all.sort((a, b) => a.timeline - b.timeline || (a.fromLsn < b.fromLsn ? -1 : 1));
  }
}

function runsOf(segments: readonly SegmentNumber[]): [SegmentNumber, SegmentNumber][] {
  const runs: [SegmentNumber, SegmentNumber][] = [];
  for (const segment of [...segments].sort((a, b) => a - b)) {
    const last = runs.at(-1);
    if (last !== undefined && segment <= last[1] + 1) last[1] = segment;
    else runs.push([segment, segment]);
  }
  return runs;
}
