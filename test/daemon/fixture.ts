/** A status to show: streaming, a little behind, one error in the past. */
import type { StatusDocument } from "../../src/daemon/status-document.ts";

export function statusFixture(changes: Partial<StatusDocument> = {}): StatusDocument {
  return {
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
    lastStoredCommitAt: "2026-11-20T10:00:00.000Z",
    slot: {
      name: "seawall",
      exists: true,
      active: true,
      restartLsn: "16/B3000000",
      walStatus: "reserved",
      retainedBytes: 7_657_544,
      safeBytes: null,
    },
    spool: null,
    server: { address: "db.internal:5432", version: "18.1" },
    store: "s3://wal-archive/prod",
    durability: "store",
    synchronous: false,
    counters: {
      receivedBytes: 123_456_789,
      records: 1_000_000,
      commits: 20_000,
      sealedSegments: 7,
      storedChunks: 99,
      reconnects: 1,
    },
    gaps: [],
    errors: [
      {
        at: "2026-11-20T09:59:00.000Z",
        code: "store-unavailable",
        message: "no answer from wal-archive",
        hint: "Check the endpoint.",
      },
    ],
    progressAgeSeconds: 0.2,
    version: "0.1.0",
    startedAt: "2026-11-20T09:00:00.000Z",
    at: "2026-11-20T10:00:00.500Z",
    ...changes,
  };
}
