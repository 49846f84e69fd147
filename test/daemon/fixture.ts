/** A status to show: streaming, a little behind, one error in the past. */
import { judged } from "../../src/daemon/health/health.ts";
import { renderPage } from "../../src/daemon/http/page/page.ts";
import type { SlotHealth, StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import { followSlot } from "../../src/daemon/status/slot-health.ts";

export function statusFixture(changes: Partial<StatusFacts> = {}): StatusDocument {
  return judged({
    cluster: "orders",
    systemIdentifier: "7301234567890123456",
    timeline: 3,
    state: "streaming",
    serverLsn: "16/B374D848",
    receivedLsn: "16/B374D848",
    verifiedLsn: "16/B374D000",
    storedLsn: "16/B364D000",
    lagBytes: 1_050_696,
    rpoSeconds: 0.412,
    rpoIsAtMost: false,
    reportedLsn: "16/B364D000",
    segmentSize: 16_777_216,
    streamingSince: "2026-11-20T09:00:01.000Z",
    notReceivingSince: null,
    lastMessageAt: "2026-11-20T10:00:00.400Z",
    bufferSegmentsInUse: 1,
    waitingForStore: false,
    storeWaitSeconds: 0.3,
    storeWaitError: null,
    isStoreStalled: false,
    slotHealth: { state: "ok", since: "2026-11-20T09:00:00.000Z" },
    limits: { criticalAfterSeconds: 120, storePatienceSeconds: 11, progressMaxSeconds: 60 },
    serverStoppingSince: null,
    spoolBytes: null,
    spoolLimitBytes: null,
    uploadedLsn: null,
    isUploaded: null,
    lastError: null,
    source: "receiver",
    slot: {
      name: "seawall",
      exists: true,
      active: true,
      restartLsn: "16/B3000000",
      walStatus: "reserved",
      retainedBytes: 7_657_544,
      safeBytes: null,
    },
    slotBudget: null,
    server: "db.internal:5432",
    serverVersion: 180001,
    isServerNewer: false,
    store: "s3://wal-archive/prod",
    durability: "store",
    synchronous: false,
    segmentLevel: 1,
    counters: {
      receivedBytes: 123_456_789,
      records: 1_000_000,
      commits: 20_000,
      segmentsSealed: 7,
      sealedRawBytes: 117_440_512,
      sealedStoredBytes: 20_000_000,
      chunksStored: 99,
      chunkStoredBytes: 1_000_000,
      chunksRetired: 90,
      reconnects: 1,
      gaps: 0,
      slotReleases: 0,
    },
    gaps: [],
    rivals: null,
    archive: null,
    contents: null,
    slotError: null,
    refusal: null,
    noReceiver: null,
    jobs: [],
    restart: null,
    configuration: null,
    notifications: null,
    errors: [
      {
        at: "2026-11-20T09:59:00.000Z",
        code: "store-unavailable",
        message: "no answer from wal-archive",
        hint: "Check the endpoint.",
        times: 1,
      },
    ],
    progressAgeSeconds: 0.2,
    version: "0.1.0",
    startedAt: "2026-11-20T09:00:00.000Z",
    at: "2026-11-20T10:00:00.500Z",
    ...changes,
  });
}

/** Adds to a story of states what the receiver remembers over time (receive/status.ts, status/slot-health.ts). */
export class StatusStory {
  #awaySinceMs: number | undefined;
  #slot: SlotHealth | null = null;
  readonly #moved = new Map<string, { readonly lsn: string | null; readonly atMs: number }>();

  at(nowMs: number, changes: Partial<StatusFacts>): StatusDocument {
    const told = statusFixture({ ...changes, at: new Date(nowMs).toISOString() });
    const { state, storedLsn, uploadedLsn, durability, rpoSeconds, counters } = told;
    const unstoredMs = nowMs - this.#lastMove("stored", storedLsn, nowMs);
    const unuploadedMs = nowMs - this.#lastMove("uploaded", uploadedLsn, nowMs);
    if (state !== "streaming") this.#awaySinceMs ??= nowMs;
    else if (unstoredMs === 0 || rpoSeconds === 0) this.#awaySinceMs = undefined;
    const hasStored = counters !== null && counters.chunksStored + counters.segmentsSealed > 0;
    const isSpooled = durability === "spool" && storedLsn !== uploadedLsn && (uploadedLsn !== null || hasStored);
    const isWaiting = state === "streaming" && rpoSeconds !== 0;
    const storeWaitSeconds = Math.max(isWaiting ? unstoredMs : 0, isSpooled ? unuploadedMs : 0) / 1000;
    if (state === "streaming") this.#slot = followSlot(this.#slot, told.slot, nowMs);
    const notReceivingSince =
      state === "streaming" || this.#awaySinceMs === undefined ? null : new Date(this.#awaySinceMs).toISOString();
    return judged({
      ...told,
      notReceivingSince,
      storeWaitSeconds,
      isStoreStalled: storeWaitSeconds > told.limits.storePatienceSeconds,
      slotHealth: this.#slot,
      ...changes,
    });
  }

  /** When the LSN last changed. */
  #lastMove(name: string, lsn: string | null, nowMs: number): number {
    const before = this.#moved.get(name);
    if (before?.lsn === lsn) return before.atMs;
    this.#moved.set(name, { lsn, atMs: nowMs });
    return nowMs;
  }
}

/** Its page, without a history and before the archive was read. */
export function pageOf(status: StatusDocument): string {
  return renderPage({ status, history: { points: [], restorePoints: [] }, recovery: null });
}
