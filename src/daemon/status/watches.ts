/**
 * The watchers beside a receiver: gaps, rivals, the archive's contents, and the slot. Each asks the store or the server on its
 * own, and reports to the status; none of them stops the receiver.
 */
import { type Log, shownError } from "../../log.ts";
import type { ReceiverState } from "../../receive/status.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import type { Store } from "../../store/store.ts";
import type { ArchiveWatch } from "./archive-watch.ts";
import type { GapDocument, SlotHealth } from "./document.ts";
import { watchGaps } from "./gap-watch.ts";
import { watchRivals } from "./rival-watch.ts";
import type { Findings } from "./seen.ts";
import { followSlot } from "./slot-health.ts";
import { monitorSlot, SLOT_INTERVAL_MS } from "./slot-monitor.ts";

export interface WatchesOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly state: ReceiverState;
  readonly connection: ConnectionSettings;
  /** Undefined without a slot. */
  readonly slot: string | undefined;
  readonly createSlot: boolean;
  readonly archiveWatch: ArchiveWatch;
  /** How many jobs have ended. */
  readonly runs: () => number;
  readonly see: (change: Partial<Findings>) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Starts all of them; each resolves after the signal. */
export function startWatches(options: WatchesOptions): Promise<void>[] {
  const { store, cluster, state, connection, slot, createSlot, archiveWatch, runs, see, log, signal } = options;
  const common = { store, cluster, state, signal };
  let before = "";
  const onGaps = (foundGaps: readonly GapDocument[]): void => {
    see({ foundGaps });
    const now = foundGaps.map(outlineOf).join();
    if (now !== before) archiveWatch.changed();
    before = now;
  };
  const running = [
    watchGaps({ ...common, runs, listings: () => archiveWatch.listings, onGaps, log: log.child("gaps") }),
    watchRivals({ ...common, onRivals: (rivals) => see({ rivals }), log: log.child("line") }),
    archiveWatch.run(signal),
  ];
  if (slot === undefined) return running;
  let slotHealth: SlotHealth | null = null;
  const monitor = {
    settings: connection,
    slot,
    createSlot,
    log: log.child("slot"),
    intervalMs: SLOT_INTERVAL_MS,
    connected: () => state.phase === "streaming",
    streamSinceMs: () => state.streamingSinceMs,
    onStatus: (found: ReceiverState["slot"], error?: unknown): void => {
      const nowMs = state.nowMs();
      state.slot = found;
      slotHealth = followSlot(slotHealth, found ?? null, nowMs);
      see({ slotHealth, slotError: found === undefined ? shownError(error, nowMs) : null });
    },
  };
  return [...running, monitorSlot(monitor, signal)];
}

/** The part of a gap that windows and the map show as well. */
function outlineOf({ timeline, fromLsn, toLsn, coveredBy }: GapDocument): string {
  return `${timeline} ${fromLsn} ${toLsn} ${coveredBy?.backup ?? "open"}`;
}
