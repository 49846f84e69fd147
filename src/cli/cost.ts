/**
 * Estimates what an archive costs in a month: requests, storage, transfer. Pure. It follows the receiver's rules: a segment is one
 * PUT, an open segment one chunk an interval, chunks are merged by 32, deletions are free.
 */
import { FANOUT } from "../receive/tail-merge.ts";

export interface CostInput {
  /** Bytes a second. */
  readonly walRateBytes: number;
  readonly segmentSizeBytes: number;
  readonly shipIntervalMs: number;
  readonly compressionRatio: number;
  readonly recoveryWindowMs: number;
  readonly backupSizeBytes: number;
  readonly backupEveryMs: number;
  readonly restoresPerMonth: number;
  readonly priceStorage: number;
  readonly priceWrites: number;
  readonly priceReads: number;
  readonly priceTransfer: number;
}

export interface CostLine {
  readonly what: "segments" | "chunks" | "backups" | "status" | "stored WAL" | "stored backups" | "reads" | "transfer";
  /** Requests or bytes, a month. */
  readonly amount: number;
  readonly unit: "requests" | "bytes";
  readonly price: number;
}

/** An average month. */
export const MONTH_MS = (365.25 / 12) * 86_400_000;
const GB = 1e9;
/** With an interval of 0 a chunk follows the one before when that is stored: a PUT takes about so long. */
const PUT_MS = 50;
/** A base backup is stored in uploads of about this size (backup/parts.ts). */
const UPLOAD_BYTES = 8 * 2 ** 20;
/**
 * The watch over the archive looks every five minutes with about three listings, and every minute with one at the backups' folders.
 * The watch over rivals looks every ten minutes with two.
 */
const STATUS_LISTS = (MONTH_MS / 300_000) * 3 + MONTH_MS / 60_000 + (MONTH_MS / 600_000) * 2;

export function monthlyCost(input: CostInput): CostLine[] {
  const { walRateBytes, segmentSizeBytes, compressionRatio, backupSizeBytes, backupEveryMs, restoresPerMonth } = input;
  const walBytes = (walRateBytes * MONTH_MS) / 1000;
  const segments = walBytes / segmentSizeBytes;
  const backups = MONTH_MS / backupEveryMs;
  // The window begins somewhere between two backups: the one before it stays, and so does the WAL from there on.
  const keptMs = input.recoveryWindowMs + backupEveryMs;
  const storedWal = (walRateBytes * keptMs) / 1000 / compressionRatio;
  const storedBackups = Math.ceil(keptMs / backupEveryMs) * backupSizeBytes;
  // A restore reads one backup, and WAL from half an interval.
  const restoredWal = (walRateBytes * backupEveryMs) / 2000;
  const read = restoresPerMonth * (backupSizeBytes + restoredWal / compressionRatio);
  const reads = restoresPerMonth * (backupSizeBytes / UPLOAD_BYTES + restoredWal / segmentSizeBytes);
  const writes = (what: CostLine["what"], amount: number): CostLine => {
    return { what, amount, unit: "requests", price: (amount / 1000) * input.priceWrites };
  };
  const storage = (what: CostLine["what"], amount: number): CostLine => {
    return { what, amount, unit: "bytes", price: (amount / GB) * input.priceStorage };
  };
  return [
    writes("segments", segments),
    writes("chunks", segments * chunksPerSegment(input)),
    writes("backups", backups * Math.ceil(backupSizeBytes / UPLOAD_BYTES)),
    writes("status", STATUS_LISTS),
    storage("stored WAL", storedWal),
    storage("stored backups", storedBackups),
    { what: "reads", amount: reads, unit: "requests", price: (reads / 1000) * input.priceReads },
    { what: "transfer", amount: read, unit: "bytes", price: (read / GB) * input.priceTransfer },
  ];
}

/** None when a segment is full before its first chunk is due. Each 32 chunks are merged into one more. */
export function chunksPerSegment({ walRateBytes, segmentSizeBytes, shipIntervalMs }: CostInput): number {
  const segmentMs = (segmentSizeBytes / walRateBytes) * 1000;
  const shipped = Math.ceil(segmentMs / Math.max(shipIntervalMs, PUT_MS)) - 1;
  let merged = 0;
  for (let level = Math.floor(shipped / FANOUT); level > 0; level = Math.floor(level / FANOUT)) merged += level;
  return shipped + merged;
}
