/**
 * Looks at what the archive holds, for status, page and metrics: its newest backup, verification and drill, those of other
 * processes too, its size, and what can be recovered. A look is made at the start, when streaming begins, and after a job of ours
 * or a gap. Later ones follow new WAL only: an idle cluster costs no requests. A cheap look each minute lists the backups' folders,
 * and everything is read again when a backup was added or removed. Failures are logged and never stop the receiver.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Archive, openArchive } from "../../archive/archive.ts";
import { listBackupIds, startOf } from "../../archive/backups/list.ts";
import { readCatalog } from "../../archive/catalog/catalog.ts";
import { readOlderReach } from "../../archive/catalog/older.ts";
import { recentDrills } from "../../archive/records/drills.ts";
import { type LastEvents, readLastEvents } from "../../archive/records/last-events.ts";
import { SettledEnds } from "../../archive/catalog/settled-ends.ts";
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
  /** Called when a change of the archive could not be read: what was seen before is out of date. */
  readonly onStale?: (() => void) | undefined;
  readonly log: Log;
  /** Time between two looks at the newest records. */
  readonly lookEveryMs?: number | undefined;
  /** Time between two cheap looks at the backups' folders. */
  readonly backupsEveryMs?: number | undefined;
  /** The same, until a backup is known. */
  readonly lookForBackupEveryMs?: number | undefined;
  /** Time between two listings of the whole archive. */
  readonly listEveryMs?: number | undefined;
}

const LOOK_EVERY_MS = 300_000;
/** A backup that another process took or removed is seen so soon. */
const BACKUPS_EVERY_MS = 60_000;
/** A backup that has not finished for so long has failed, or its end brings new WAL. */
const UNFINISHED_MS_MAX = 24 * 3_600_000;
/** Until a backup is known: its operator waits for the word. */
const LOOK_FOR_BACKUP_EVERY_MS = 15_000;
/** A stream that began is no reason to look again sooner: connections may come and go. */
const STREAM_LOOK_MS = 15_000;
const LIST_EVERY_MS = 3_600_000;
const LOOK_TIMEOUT_MS = 120_000;
/** A change that could not be read is tried again after this time. */
const RETRY_MS = 30_000;
/** A receiver that catches up uses its memory, and a look waits for its end; but no longer than that. */
const PUT_OFF_MS_MAX = 600_000;
/** The same, once the archive is known to have changed: its operator waits for the word. */
const CHANGE_PUT_OFF_MS_MAX = 60_000;
/** Ends of windows that were not read for want of memory are read this long after the look. */
const ENDS_LOOK_MS = 15_000;
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

/** The facts that are shown together: all come from one listing. */
interface Listing {
  readonly atMs: number;
  readonly contents: ArchiveContents;
  readonly recovery: RecoveryMap;
  /** Ids of the finished backups in it. */
  readonly backups: ReadonlySet<string>;
  readonly unfinished: readonly string[];
}

/** A look at the backups' folders. */
interface Glance {
  readonly atMs: number;
  readonly storedLsn: Lsn | undefined;
  /** WAL was stored since the one before. A backup is finished only after its WAL, so another one follows. */
  readonly followsWal: boolean;
  readonly unfinished: readonly string[];
}

export class ArchiveWatch {
  readonly #options: ArchiveWatchOptions;
  readonly #begunMs = performance.now();
  readonly #spare: SpareMemory;
  readonly #ends = new SettledEnds();
  /** An older generation has segments of the same names. */
  readonly #olderEnds = new SettledEnds();
  #looked: Look | undefined;
  #glanced: Glance | undefined;
  #listing: Listing | undefined;
  #archive: Archive | undefined;
  /** Since when the archive is known to be another than the one that was listed. */
  #changedMs: number | undefined;
  #retryMs = 0;
  #listings = 0;

  constructor(options: ArchiveWatchOptions) {
    this.#options = options;
    this.#spare = new SpareMemory(options.state);
  }

  /** How often the archive was listed. */
  get listings(): number {
    return this.#listings;
  }

  /** The archive has changed: list it again soon. */
  changed(): void {
    this.#changedMs ??= performance.now();
  }

  /** Runs until the signal; resolves always. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#isGlanceDue()) await this.#glance(signal);
      if (this.#isDue()) await this.#look(signal);
      await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  #isDue(): boolean {
    const { state, lookEveryMs = LOOK_EVERY_MS } = this.#options;
    const nowMs = performance.now();
    // Without a server, too, an operator must see what can be recovered.
    if (state.phase === "waiting" && this.#looked === undefined) return true;
    if (state.phase !== "streaming" || nowMs < this.#retryMs) return false;
    if (this.#needsMemory(nowMs)) return false;
    if (this.#looked === undefined || this.#looked.isEarly || this.#changedMs !== undefined) return true;
    const sinceMs = nowMs - this.#looked.atMs;
    // There is memory now for the WAL at the ends of windows.
    const isOwing = this.#ends.isOwing || this.#olderEnds.isOwing;
    if (isOwing && this.#spare.isThere(nowMs) && sinceMs >= ENDS_LOOK_MS) {
      this.changed();
      return true;
    }
    // The archive may have been removed and made anew, or another receiver may have written it.
    const isNewStream = state.streamingSinceMs !== this.#looked.streamingSinceMs;
    if (isNewStream && sinceMs >= STREAM_LOOK_MS) return true;
    return sinceMs >= lookEveryMs && (state.storedLsn !== this.#looked.storedLsn || this.#listing === undefined);
  }

  /** Whether the receiver catches up, or has only just done so and holds what it needed. */
  #needsMemory(nowMs: number): boolean {
    if (this.#spare.isThere(nowMs)) return false;
    if (this.#changedMs !== undefined && nowMs - this.#changedMs >= CHANGE_PUT_OFF_MS_MAX) return false;
    return nowMs - (this.#looked?.atMs ?? this.#begunMs) < PUT_OFF_MS_MAX;
  }

  #isGlanceDue(): boolean {
    const { state, backupsEveryMs = BACKUPS_EVERY_MS, lookForBackupEveryMs = LOOK_FOR_BACKUP_EVERY_MS } = this.#options;
    if (state.phase !== "streaming" || this.#listing === undefined || this.#changedMs !== undefined) return false;
    const glanced = this.#glanced;
    if (glanced === undefined) return true;
    const everyMs = this.#listing.backups.size === 0 ? lookForBackupEveryMs : backupsEveryMs;
    if (performance.now() - glanced.atMs < everyMs) return false;
    const oldestMs = state.nowMs() - UNFINISHED_MS_MAX;
    const isOneRunning = glanced.unfinished.some((id) => startOf(id).getTime() >= oldestMs);
    return state.storedLsn !== glanced.storedLsn || glanced.followsWal || isOneRunning;
  }

  /** Finds out whether a backup was finished or removed since the listing. */
  async #glance(outer: AbortSignal): Promise<void> {
    const { state, log } = this.#options;
    const [archive, listing] = [this.#archive, this.#listing];
    if (archive === undefined || listing === undefined) return;
    const { storedLsn } = state;
    let unfinished = this.#glanced?.unfinished ?? [];
    try {
      using limit = deadline(LOOK_TIMEOUT_MS, outer);
      const ids = await listBackupIds(archive, listing.backups, { signal: limit.signal });
      unfinished = ids.unfinished;
      if (!isSame(ids.finished, listing.backups)) this.changed();
    } catch (error) {
      if (!outer.aborted) log.warn("cannot look for new backups in the archive", { error });
    }
    this.#noteGlance(storedLsn, unfinished);
  }

  #noteGlance(storedLsn: Lsn | undefined, unfinished: readonly string[]): void {
    const followsWal = this.#glanced !== undefined && storedLsn !== this.#glanced.storedLsn;
    this.#glanced = { atMs: performance.now(), storedLsn, followsWal, unfinished };
  }

  async #look(outer: AbortSignal): Promise<void> {
    const { store, cluster, state, onSeen, onStale, log, listEveryMs = LIST_EVERY_MS } = this.#options;
    const nowMs = performance.now();
    const { storedLsn, streamingSinceMs } = state;
    this.#looked = { atMs: nowMs, storedLsn, streamingSinceMs, isEarly: state.phase !== "streaming" };
    const changedMs = this.#changedMs;
    this.#changedMs = undefined;
    try {
      using limit = deadline(LOOK_TIMEOUT_MS, outer);
      const { signal } = limit;
      const archive = await openArchive(store, cluster, { signal });
      const now = new Date(state.nowMs());
      let listing = this.#listing;
      const isStale = listing === undefined || nowMs - listing.atMs >= listEveryMs;
      if (listing === undefined || isStale || changedMs !== undefined || archive.cluster !== this.#archive?.cluster) {
        listing = await this.#list(archive, { now, nowMs }, signal);
        this.#noteGlance(storedLsn, listing.unfinished);
      }
      const last = await readLastEvents(archive, now, { signal });
      this.#archive = archive;
      this.#listing = listing;
      // A backup that was finished or removed meanwhile is shown after the next look, with its windows.
      if (last.backup !== null && !listing.backups.has(last.backup.id)) this.changed();
      else onSeen(last, listing.contents, listing.recovery);
    } catch (error) {
      if (changedMs !== undefined) {
        this.#changedMs ??= changedMs;
        this.#retryMs = performance.now() + RETRY_MS;
        onStale?.();
      }
      // Before streaming has begun there may be no archive yet.
      const level = this.#looked.isEarly ? "debug" : "warn";
      if (!outer.aborted) log[level]("cannot look at what the archive holds", { error });
    }
  }

  async #list(archive: Archive, { now, nowMs }: { now: Date; nowMs: number }, signal: AbortSignal): Promise<Listing> {
    const settledEnds = this.#ends;
    const mayRead = this.#spare.isThere(performance.now());
    settledEnds.begin({ mayRead });
    this.#olderEnds.begin({ mayRead });
    const options = { signal, listsInFlight: LISTS_IN_FLIGHT, summariesOnly: true, settledEnds };
    const catalog = await readCatalog(archive, options);
    // A later generation without a backup: only an older one can be restored.
    const olderOptions = { signal, listsInFlight: LISTS_IN_FLIGHT, settledEnds: this.#olderEnds };
    const older = catalog.backups.length > 0 ? undefined : await readOlderReach(archive, olderOptions);
    settledEnds.end();
    this.#olderEnds.end();
    const drills = await recentDrills(archive, now, DRILLS_SHOWN, { signal });
    const recovery = mapOf(catalog, drills, now);
    this.#listings++;
    const backups = new Set([...catalog.backups, ...catalog.damagedBackups].map(({ id }) => id));
    const unfinished = catalog.leftovers.map(({ id }) => id);
    return { atMs: nowMs, contents: contentsOf(catalog, recovery, older), recovery, backups, unfinished };
  }
}

function isSame(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((id) => b.has(id));
}
