/** The findings of the watchers beside a receiver (watches.ts), for its status. */
import type { DescribedRival } from "../../archive/line/rivals.ts";
import type { LastEvents } from "../../archive/records/last-events.ts";
import type { ArchiveContents, GapDocument, SlotHealth, StatusDocument } from "./document.ts";
import type { RecoveryMap } from "./recovery-map.ts";

/** The latest findings; null (or undefined) before the first look. */
export interface Seen {
  readonly gaps: readonly GapDocument[];
  readonly rivals: readonly DescribedRival[] | undefined;
  readonly archive: LastEvents | null;
  readonly contents: ArchiveContents | null;
  readonly recovery: RecoveryMap | null;
  readonly slotHealth: SlotHealth | null;
  readonly slotError: StatusDocument["slotError"];
}

export const NOTHING_SEEN: Seen = {
  gaps: [],
  rivals: undefined,
  archive: null,
  contents: null,
  recovery: null,
  slotHealth: null,
  slotError: null,
};
