/**
 * Takes a base backup with its own WAL: a receiver runs beside it, through a temporary slot, into the archive's
 * ordinary layout. It follows the same rules as any receiver, so two receivers do no harm to one another.
 */
import type { BackupDocument } from "../../archive/backups/document.ts";
import type { BackupOptions } from "../../backup/options.ts";
import { takeBackup } from "../../backup/take-backup.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { CodecPool } from "../../codec/pool.ts";
import { hasCode } from "../../errors.ts";
import type { ReceiverOptions } from "../../receive/options.ts";
import { ReceiverState } from "../../receive/status.ts";
import { runReceiver } from "../../receive/walreceiver.ts";
import { joinSignals, onAbort } from "../../signals.ts";

export interface BackupWithWalOptions {
  readonly backup: BackupOptions;
  /** For the receiver: everything but what this function decides. */
  readonly receiver: Omit<
    ReceiverOptions,
    | "slot"
    | "createSlot"
    | "temporarySlot"
    | "once"
    | "claimsFirst"
    | "state"
    | "stop"
    | "kill"
    | "store"
    | "cluster"
    | "codecThreads"
    | "codecPool"
  >;
}

const LOOK_MS = 50;

/** WAL flows before the backup begins, and until it is complete. Throws what either of the two throws. */
export async function backupWithWal(options: BackupWithWalOptions): Promise<BackupDocument> {
  const { backup } = options;
  const { store, cluster, signal } = backup;
  const [stop, failed] = [new AbortController(), new AbortController()];
  // Told to stop, the receiver and the backup use the same time to end, not one after the other.
  using _stopping = onAbort(signal, () => stop.abort());
  const state = new ReceiverState({ cluster, synchronous: false, durability: "store", nowMs: Date.now });
  const { codecThreads } = backup;
  // Both sides share the threads: one more would cost as much processor time as 100 MB of data, for a few segments of WAL.
  const codecPool = new CodecPool({ threads: codecThreads });
  const slot = `seawall_backup_${(backup.randomBits() >>> 0).toString(16).padStart(8, "0")}`;
  const receiving = runReceiver({
    ...options.receiver,
    store,
    cluster,
    slot,
    createSlot: true,
    temporarySlot: true,
    // A temporary slot goes with its connection, and the WAL it kept may go with it.
    once: true,
    claimsFirst: false,
    state,
    stop: stop.signal,
    kill: new AbortController().signal,
    codecThreads,
    codecPool,
  }).catch((error: unknown) => failed.abort(error));
  try {
    while (state.phase !== "streaming" && !failed.signal.aborted && !signal.aborted) await sleep(LOOK_MS);
    using either = joinSignals(signal, failed.signal);
    return await takeBackup({ ...backup, codecPool, signal: either.signal });
  } catch (error) {
    // The receiver's failure ended the backup, so report it; an abort that the caller asked for is reported as such.
    if (failed.signal.aborted && !signal.aborted && hasCode(error, "aborted")) {
      throw failed.signal.reason;
    }
    throw error;
  } finally {
    stop.abort();
    await receiving;
    await codecPool.close();
  }
}
