/**
 * The receiver's state, as `status`, `/status.json` and the metrics show it. One mutable record that the receiver
 * writes. It may be read at any time, and decides nothing.
 */
import type { StoredWal } from "../archive/wal/objects.ts";
import { type ShownError, shownError } from "../log.ts";
import { isNewerServer } from "../replication/server-version.ts";
import { type Lsn, type TimelineId, bytesBetween, formatLsn, maxLsn, minLsn } from "../wal/lsn.ts";
import type { RestorePoint } from "../wal/summary.ts";
import { CommitAges } from "./commit-ages.ts";
import { isBehind, type Place } from "./journal/document.ts";
import { type Failure, type StoreWaitError, StoreWaits } from "./store-waits.ts";

export type ReceiverPhase = "starting" | "connecting" | "streaming" | "waiting" | "stopping" | "stopped" | "failed";

/** The server's facts on our slot, asked now and then over an ordinary connection. Null: not known, or no limit. */
export interface SlotStatus {
  readonly name: string;
  /** False: the server has no such slot. */
  readonly exists: boolean;
  readonly active: boolean | null;
  readonly restartLsn: string | null;
  /** `reserved`, `extended`, `unreserved` or `lost` (pg_replication_slots.wal_status). */
  readonly walStatus: string | null;
  /** WAL the server keeps because of the slot, in bytes. */
  readonly retainedBytes: number | null;
  /** WAL that may still be written before the slot is in danger (safe_wal_size). */
  readonly safeBytes: number | null;
}

/** `slot-budget`, and what became of it. */
export interface SlotBudgetStatus {
  readonly limitBytes: number;
  /** `on-slot-budget`. */
  readonly onBudget: "hold" | "release";
  /** Since when the slot keeps more than the limit; null while it does not. */
  readonly overSince: string | null;
  /** The WAL kept has not become less for `slot-budget-grace`. */
  readonly isGraceOver: boolean;
  /** Why the slot was not let go at the last try; null without a try. */
  readonly refusal: string | null;
  /** The last time that the slot was let go; null before. */
  readonly released: SlotRelease | null;
}

export interface SlotRelease {
  readonly at: string;
  /** The slot's position before and after. */
  readonly fromLsn: string;
  readonly toLsn: string;
  /** WAL kept at that time. */
  readonly retainedBytes: number;
}

const COUNTERS = {
  receivedBytes: 0,
  records: 0,
  commits: 0,
  segmentsSealed: 0,
  sealedRawBytes: 0,
  sealedStoredBytes: 0,
  chunksStored: 0,
  chunkStoredBytes: 0,
  chunksRetired: 0,
  reconnects: 0,
  gaps: 0,
  slotReleases: 0,
};

export type ReceiverCounters = typeof COUNTERS;

/** The JSON shape: stable, extended only. LSNs as text, times as ISO 8601, null for what is not known yet. */
export interface ReceiverStatus {
  readonly cluster: string;
  readonly systemIdentifier: string | null;
  readonly timeline: number | null;
  readonly state: ReceiverPhase;
  readonly synchronous: boolean;
  readonly durability: "store" | "spool";
  readonly serverLsn: string | null;
  readonly receivedLsn: string | null;
  readonly verifiedLsn: string | null;
  readonly storedLsn: string | null;
  /** The flush LSN last reported to the server. */
  readonly reportedLsn: string | null;
  /** Server end of WAL minus storedLsn. */
  readonly lagBytes: number | null;
  /** Upper bound of the age of the oldest commit that is not stored, in seconds; null until all that the server had was received once. */
  readonly rpoSeconds: number | null;
  /**
   * False: a commit of age `rpoSeconds` waits for the store. True: no commit is known to wait, and `rpoSeconds` counts from the
   * server's last message. Null when `rpoSeconds` is null.
   */
  readonly rpoIsAtMost: boolean | null;
  readonly slot: SlotStatus | null;
  /** Null without `slot-budget`. */
  readonly slotBudget: SlotBudgetStatus | null;
  readonly spoolBytes: number | null;
  /** With `durability: spool`: what the store holds of the server's history, behind `storedLsn` which is durable in the spool. */
  readonly uploadedLsn: string | null;
  /** With `durability: spool`: the store has all that the spool has acknowledged. Null before the spool was opened. */
  readonly isUploaded: boolean | null;
  /** zstd's level for the newest complete segment; null before the first. */
  readonly segmentLevel: number | null;
  readonly server: string | null;
  readonly serverVersion: number | null;
  /** The server is newer than Seawall knows (`--allow-newer-server`): its records are not read. Null before it is known. */
  readonly isServerNewer: boolean | null;
  readonly segmentSize: number | null;
  readonly startedAt: string;
  readonly streamingSince: string | null;
  /** Since when no WAL has been received; null while it streams. A stream that brings nothing does not end that time. */
  readonly notReceivingSince: string | null;
  readonly lastMessageAt: string | null;
  readonly bufferSegmentsInUse: number;
  readonly waitingForStore: boolean;
  /** For how long WAL has waited for the store without it confirming anything; 0 while none waits. */
  readonly storeWaitSeconds: number | null;
  /** Why WAL waits, when the store or the spool has refused it since it last took some. */
  readonly storeWaitError: StoreWaitError | null;
  /** Since when the server has been shutting down and waits for WAL that the store has not taken. */
  readonly serverStoppingSince: string | null;
  readonly counters: Readonly<ReceiverCounters>;
  readonly lastError: ShownError | null;
}

/** A spool, as far as its upload is judged by it. */
export interface SpoolView {
  /** End of the WAL that is acknowledged; undefined while there is none. */
  readonly tip: () => Place | undefined;
  /** Asks where the server's history leaves a timeline; undefined for the newest one. */
  readonly leavesAt: (timeline: TimelineId) => Lsn | undefined;
}

export interface ReceiverStateOptions {
  readonly cluster: string;
  readonly synchronous: boolean;
  readonly durability: "store" | "spool";
  /** Wall clock, milliseconds since 1970. */
  readonly nowMs: () => number;
}

export class ReceiverState {
  readonly #options: ReceiverStateOptions;
  readonly #startedMs: number;
  readonly counters: ReceiverCounters = { ...COUNTERS };
  #segmentLevel: number | undefined;
  #phase: ReceiverPhase = "starting";
  systemIdentifier: bigint | undefined;
  timeline: TimelineId | undefined;
  server: string | undefined;
  serverVersion: number | undefined;
  segmentSize: number | undefined;
  /** The highest that a server on `#serverTimeline` has reported: it repeats lower positions while it sends older WAL. */
  serverLsn: Lsn | undefined;
  #serverTimeline: TimelineId | undefined;
  receivedLsn: Lsn | undefined;
  verifiedLsn: Lsn | undefined;
  storedLsn: Lsn | undefined;
  reportedLsn: Lsn | undefined;
  /** End of what the last stream received and verified, when it ended before that was stored; never acknowledged. */
  unstoredLsn: Lsn | undefined;
  slot: SlotStatus | undefined;
  slotBudget: SlotBudgetStatus | undefined;
  spoolBytes: number | undefined;
  /** Set once the spool is open. */
  spool: SpoolView | undefined;
  /** With a spool: up to where the store has everything too. */
  #uploaded: Place | undefined;
  /** The server is shutting down and waits for what the store has not taken. */
  serverStoppingSinceMs: number | undefined;
  /** Asks the pool of segment buffers, once there is one. */
  buffersInUse: () => number = () => 0;
  /** Called for each named restore point of a segment, when the segment is complete. */
  onRestorePoint: (point: RestorePoint) => void = () => undefined;
  /** Every segment buffer holds WAL that is not stored: the socket is not being read. */
  waitingForStore = false;
  streamingSinceMs: number | undefined;
  lastMessageMs: number | undefined;
  /** The receive loop turned over: it read an event, waits for one, or for the store. For /healthz. */
  lastTurnMs: number;
  lastError: Failure | undefined;
  readonly #waits: StoreWaits;
  /** WAL was stored since the first stream began. */
  #hasStored = false;
  readonly #ages = new CommitAges();
  /** Since when nothing was received; undefined once a stream has brought WAL or has shown that there is none. */
  #notReceivingSinceMs: number | undefined;
  /** When all the server had was received; commits we have not received are younger than this. */
  #caughtUpMs: number | undefined;

  constructor(options: ReceiverStateOptions) {
    this.#options = options;
    this.#startedMs = options.nowMs();
    this.lastTurnMs = this.#startedMs;
    this.#notReceivingSinceMs = this.#startedMs;
    this.#waits = new StoreWaits(options.nowMs);
  }

  get phase(): ReceiverPhase {
    return this.#phase;
  }

  set phase(phase: ReceiverPhase) {
    if (phase !== "streaming") this.#notReceivingSinceMs ??= this.nowMs();
    this.#phase = phase;
  }

  nowMs(): number {
    return this.#options.nowMs();
  }

  get bufferSegmentsInUse(): number {
    return this.buffersInUse();
  }

  /** A stream began. */
  streaming(timeline: TimelineId, startLsn: Lsn, storedLsn: Lsn): void {
    this.phase = "streaming";
    this.timeline = timeline;
    this.streamingSinceMs = this.nowMs();
    this.waitingForStore = false;
    this.receivedLsn = startLsn;
    this.verifiedLsn = startLsn;
    this.unstoredLsn = undefined;
    this.stored(storedLsn);
  }

  /** A server was joined: it is on `timeline`, and its WAL ends at `flushLsn`. */
  joined({ timeline, flushLsn }: { readonly timeline: TimelineId; readonly flushLsn: Lsn }): void {
    const before = this.#serverTimeline;
    this.#serverTimeline = timeline;
    if (before !== undefined && before !== timeline) {
      // The old timeline's WAL may reach a higher LSN: it is no WAL of this server.
      this.serverLsn = undefined;
      this.receivedLsn = undefined;
    }
    this.heard(flushLsn);
  }

  /** The server was heard: its end of WAL is `serverLsn`. */
  heard(serverLsn: Lsn): void {
    const now = this.nowMs();
    this.lastMessageMs = now;
    this.lastTurnMs = now;
    this.serverLsn = this.serverLsn === undefined ? serverLsn : maxLsn(this.serverLsn, serverLsn);
    if (this.receivedLsn === undefined || this.receivedLsn < serverLsn) return;
    this.#caughtUpMs = now;
    this.#received();
  }

  /**
   * WAL was received and verified; `commits` of the records were commits. Undefined where records are not read: each may be
   * one, so that the age of the oldest is never shown too low.
   */
  verified(receivedLsn: Lsn, verifiedLsn: Lsn, bytes: number, commits: number | undefined): void {
    this.receivedLsn = receivedLsn;
    this.verifiedLsn = verifiedLsn;
    this.counters.receivedBytes += bytes;
    this.counters.commits += commits ?? 0;
    // After a restart the open segment is read again from its start: what is stored does not wait.
    if (this.storedLsn !== undefined && verifiedLsn <= this.storedLsn) return;
    this.#waits.verified();
    if (commits !== 0) this.#ages.arrived(verifiedLsn, this.nowMs());
  }

  stored(storedLsn: Lsn): void {
    const moved = storedLsn !== this.storedLsn;
    if (moved && this.storedLsn !== undefined) this.#hasStored = true;
    this.storedLsn = storedLsn;
    if (moved) this.#received();
    this.#ages.stored(storedLsn);
    this.#waits.stored({ moved, isAll: this.verifiedLsn === undefined || storedLsn >= this.verifiedLsn });
    if (this.#isBehindSpool()) this.#waits.spooled();
  }

  /** With a spool: the store has everything before `place`, on that timeline. */
  uploaded(place: Place): void {
    const moved = place.timeline !== this.#uploaded?.timeline || place.lsn !== this.#uploaded.lsn;
    this.#uploaded = place;
    this.#waits.uploaded({ moved, isAll: !this.#isBehindSpool() });
  }

  /** With a spool: the store has the server's history before this. WAL of an older timeline past its switch point does not count. */
  get uploadedLsn(): Lsn | undefined {
    const place = this.#uploaded;
    if (place === undefined) return undefined;
    return minLsn(place.lsn, this.spool?.leavesAt(place.timeline) ?? place.lsn);
  }

  /** An upload of the spool failed; it is tried again. */
  uploadFailed(error: unknown): void {
    this.#waits.uploadFailed(error);
    this.failed(error);
  }

  /** All that the spool held was uploaded. */
  uploadsPass(): void {
    this.#waits.uploadsPass();
  }

  /** The spool did not take WAL; it is tried again. */
  spoolFailed(error: unknown): void {
    this.#waits.spoolFailed(error);
    this.failed(error);
  }

  storeWaitError(): StoreWaitError | null {
    return this.#waits.error();
  }

  storeWaitSeconds(): number {
    return this.#waits.seconds();
  }

  /**
   * True for a spool that has taken no WAL since the start while the store has not answered yet: the store may have all that it
   * holds. A refused upload shows that it has not.
   */
  mayLackNothing(): boolean {
    const isUndecided = this.uploadedLsn === undefined && !this.#hasStored && !this.#waits.hasFailed;
    return this.#options.durability === "spool" && isUndecided;
  }

  #received(): void {
    if (this.phase === "streaming") this.#notReceivingSinceMs = undefined;
  }

  #isBehindSpool(): boolean {
    const tip = this.spool?.tip();
    return tip !== undefined && (this.#uploaded === undefined || isBehind(this.#uploaded, tip));
  }

  sealed(stored: StoredWal, rawBytes: number): void {
    this.counters.segmentsSealed++;
    this.#segmentLevel = stored.level ?? this.#segmentLevel;
    this.counters.sealedRawBytes += rawBytes;
    this.counters.sealedStoredBytes += stored.storedBytes;
  }

  chunk(stored: StoredWal): void {
    this.counters.chunksStored++;
    this.counters.chunkStoredBytes += stored.storedBytes;
  }

  retired(chunks: number): void {
    this.counters.chunksRetired += chunks;
  }

  gapRecorded(): void {
    this.counters.gaps++;
  }

  failed(error: unknown): void {
    this.lastError = { atMs: this.nowMs(), error };
  }

  /**
   * Age of the oldest commit that is not stored, in seconds: what is received but not stored by its arrival, what may not
   * have been received by when we last knew to have everything. Undefined before that: how old the server's WAL is, is unknown.
   */
  rpo(): { readonly seconds: number; readonly isAtMost: boolean } | undefined {
    const now = this.nowMs();
    if (this.#caughtUpMs === undefined && this.receivedLsn === undefined) return undefined;
    const unstored = this.#ages.oldestMs(now);
    const behind = this.receivedLsn !== undefined && this.serverLsn !== undefined && this.receivedLsn < this.serverLsn;
    // With all buffers full the socket is not read: what the server has written since then is unknown.
    const blind = this.phase !== "streaming" || behind || this.waitingForStore;
    if (blind && this.#caughtUpMs === undefined) return undefined;
    const unreceived = blind ? now - (this.#caughtUpMs ?? now) : 0;
    return { seconds: Math.max(unstored, unreceived) / 1000, isAtMost: unreceived > unstored };
  }

  snapshot(): ReceiverStatus {
    const { cluster, synchronous, durability } = this.#options;
    const { serverLsn, storedLsn, lastError } = this;
    const rpo = this.rpo();
    return {
      cluster,
      systemIdentifier: this.systemIdentifier?.toString() ?? null,
      timeline: this.timeline ?? null,
      state: this.phase,
      synchronous,
      durability,
      serverLsn: textOf(serverLsn),
      receivedLsn: textOf(this.receivedLsn),
      verifiedLsn: textOf(this.verifiedLsn),
      storedLsn: textOf(storedLsn),
      reportedLsn: textOf(this.reportedLsn),
      lagBytes:
        serverLsn === undefined || storedLsn === undefined ? null : Math.max(0, bytesBetween(storedLsn, serverLsn)),
      rpoSeconds: rpo?.seconds ?? null,
      rpoIsAtMost: rpo?.isAtMost ?? null,
      slot: this.slot ?? null,
      slotBudget: this.slotBudget ?? null,
      spoolBytes: this.spoolBytes ?? null,
      uploadedLsn: textOf(this.uploadedLsn),
      isUploaded: this.spool === undefined ? null : !this.#isBehindSpool(),
      server: this.server ?? null,
      serverVersion: this.serverVersion ?? null,
      isServerNewer: this.serverVersion === undefined ? null : isNewerServer(this.serverVersion),
      segmentSize: this.segmentSize ?? null,
      startedAt: new Date(this.#startedMs).toISOString(),
      streamingSince: timeOf(this.streamingSinceMs),
      notReceivingSince: this.phase === "streaming" ? null : timeOf(this.#notReceivingSinceMs),
      lastMessageAt: timeOf(this.lastMessageMs),
      bufferSegmentsInUse: this.bufferSegmentsInUse,
      waitingForStore: this.waitingForStore,
      storeWaitSeconds: this.storeWaitSeconds(),
      storeWaitError: this.storeWaitError(),
      serverStoppingSince: timeOf(this.serverStoppingSinceMs),
      segmentLevel: this.#segmentLevel ?? null,
      counters: { ...this.counters },
      lastError: lastError === undefined ? null : shownError(lastError.error, lastError.atMs),
    };
  }
}

function textOf(lsn: Lsn | undefined): string | null {
  return lsn === undefined ? null : formatLsn(lsn);
}

function timeOf(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
