/**
 * Looks at what the archive holds, for status, page and metrics: its newest backup, verification and drill, those of other
 * processes too, its size, and what can be recovered. A look is made at the start, when streaming begins, after a job of ours or
 * a gap, and later only after new WAL was stored: an idle cluster costs no requests. Failures are logged and never stop the receiver.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { openArchive } from "../../archive/archive.ts";
import { readCatalog } from "../../archive/catalog/catalog.ts";
import { recentDrills } from "../../archive/records/drills.ts";
import { type LastEvents, readLastEvents } from "../../archive/records/last-events.ts";
import type { Log } from "../../log.ts";
import type { ReceiverState } from "../../receive/status.ts";
import { deadline } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { Lsn } from "../../wal/lsn.ts";
import { contentsOf } from "./contents.ts";
import type { ArchiveContents } from "./document.ts";
import { mapOf, type RecoveryMap } from "./recovery-map.ts";
import { SpareMemory } from "./spare-memory.ts";

export interface ArchiveWatchOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly state: ReceiverState;
  readonly onSeen: (last: LastEvents, contents: ArchiveContents, recovery: RecoveryMap) => void;
  readonly log: Log;
  /** Time between two looks at the newest records. */
  readonly lookEveryMs?: number | undefined;
  /** The same, until a backup is known. */
  readonly lookForBackupEveryMs?: number | undefined;
  /** Time between two listings of the whole archive. */
  readonly listEveryMs?: number | undefined;
}

const LOOK_EVERY_MS = 300_000;
/** Until a backup is known: its operator waits for the word. */
const LOOK_FOR_BACKUP_EVERY_MS = 15_000;
/** A stream that began is no reason to look again sooner: connections may come and go. */
const STREAM_LOOK_MS = 15_000;
const LIST_EVERY_MS = 3_600_000;
const LOOK_TIMEOUT_MS = 120_000;
/** A receiver that catches up uses its memory, and a look waits for its end; but no longer than that. */
const PUT_OFF_MS_MAX = 600_000;
/** Between looks at the receiver's own state, which cost nothing. */
const POLL_MS = 500;
/** The listing is in no hurry, and the receiver needs the memory. */
const LISTS_IN_FLIGHT = 2;
const DRILLS_SHOWN = 10;

interface Look {
  readonly atMs: number;
  readonly storedLsn: Lsn | undefined;
  /** It was made before streaming began, which may make the archive. */
  readonly isEarly: boolean;
  readonly streamingSinceMs: number | undefined;
}

export class ArchiveWatch {
  readonly #options: ArchiveWatchOptions;
  readonly #begunMs = performance.now();
  readonly #spare: SpareMemory;
  #looked: Look | undefined;
  #listedMs: number | undefined;
  #listing: { readonly contents: ArchiveContents; readonly recovery: RecoveryMap } | undefined;
  #newestBackup: string | undefined;
  /** A job of ours has changed the archive. */
  #isChanged = false;

  constructor(options: ArchiveWatchOptions) {
    this.#options = options;
    this.#spare = new SpareMemory(options.state);
  }

  /** The archive has changed: list it again soon. */
  changed(): void {
    this.#isChanged = true;
  }

  /** Runs until the signal; resolves always. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#isDue()) await this.#look(signal);
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #isDue(): boolean {
    const { state, lookEveryMs = LOOK_EVERY_MS, lookForBackupEveryMs = LOOK_FOR_BACKUP_EVERY_MS } = this.#options;
    // Without a server, too, an operator must see what can be recovered.
    if (state.phase === "waiting" && this.#looked === undefined) return true;
    if (state.phase !== "streaming") return false;
    if (this.#needsMemory()) return false;
    if (this.#looked === undefined || this.#looked.isEarly || this.#isChanged) return true;
    // The archive may have been removed and made anew, or another receiver may have written it.
    const isNewStream = state.streamingSinceMs !== this.#looked.streamingSinceMs;
    if (isNewStream && performance.now() - this.#looked.atMs >= STREAM_LOOK_MS) return true;
    const everyMs = this.#newestBackup === undefined ? lookForBackupEveryMs : lookEveryMs;
    const isTime = performance.now() - this.#looked.atMs >= everyMs;
    return isTime && (state.storedLsn !== this.#looked.storedLsn || this.#listing === undefined);
  }

  /** Whether the receiver catches up, or has only just done so and holds what it needed. */
  #needsMemory(): boolean {
    const nowMs = performance.now();
    if (this.#spare.isThere(nowMs)) return false;
    return nowMs - (this.#looked?.atMs ?? this.#begunMs) < PUT_OFF_MS_MAX;
  }

  async #look(outer: AbortSignal): Promise<void> {
    const { store, cluster, state, onSeen, log, listEveryMs = LIST_EVERY_MS } = this.#options;
    const nowMs = performance.now();
    const { storedLsn, streamingSinceMs } = state;
    this.#looked = { atMs: nowMs, storedLsn, streamingSinceMs, isEarly: state.phase !== "streaming" };
    const isChanged = this.#isChanged;
    this.#isChanged = false;
    try {
      using limit = deadline(LOOK_TIMEOUT_MS, outer);
      const { signal } = limit;
      const archive = await openArchive(store, cluster, { signal });
      const now = new Date(state.nowMs());
      const last = await readLastEvents(archive, now, { signal });
      const isStale = this.#listedMs === undefined || nowMs - this.#listedMs >= listEveryMs;
      if (isStale || isChanged || last.backup?.id !== this.#newestBackup || this.#listing === undefined) {
        const catalog = await readCatalog(archive, { signal, listsInFlight: LISTS_IN_FLIGHT, summariesOnly: true });
        const drills = await recentDrills(archive, now, DRILLS_SHOWN, { signal });
        const recovery = mapOf(catalog, drills, now);
        this.#listing = { contents: contentsOf(catalog, recovery), recovery };
        this.#listedMs = nowMs;
        this.#newestBackup = last.backup?.id;
      }
      onSeen(last, this.#listing.contents, this.#listing.recovery);
    } catch (error) {
      // The change has not been seen: the next look lists again.
      if (isChanged) this.#listedMs = undefined;
      // Before streaming has begun there may be no archive yet.
      const level = this.#looked.isEarly ? "debug" : "warn";
      if (!outer.aborted) log[level]("cannot look at what the archive holds", { error });
    }
  }
}
