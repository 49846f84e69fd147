/** A receiver's options; the command line's table (config/options.ts) gives the defaults. */
import type { Recipients } from "../codec/age/recipients.ts";
import type { CompressLevel } from "../codec/level.ts";
import type { CodecPool } from "../codec/pool.ts";
import type { Log } from "../log.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import type { Store } from "../store/store.ts";
import type { SlotBudget } from "./slot-budget.ts";
import type { ReceiverState } from "./status.ts";

export interface ReceiverOptions {
  readonly settings: ConnectionSettings;
  readonly store: Store;
  readonly cluster: string;
  /** Undefined: stream without a slot. */
  readonly slot: string | undefined;
  readonly createSlot: boolean;
  /** How much WAL the slot may keep; undefined without a limit. */
  readonly slotBudget?: SlotBudget | undefined;
  /** The slot lives as long as the connection: it is made anew for each. */
  readonly temporarySlot?: boolean | undefined;
  /** 0 for a synchronous standby: ship as soon as there is anything. */
  readonly shipIntervalMs: number;
  readonly statusIntervalMs: number;
  /** Silence after which the server is asked for a sign of life, and again that long until it is taken for dead. */
  readonly receiverTimeoutMs: number;
  readonly compressLevel: CompressLevel;
  readonly codecThreads: number;
  /** Threads that several receivers of one process share; without them it has its own. */
  readonly codecPool?: CodecPool | undefined;
  /** Everything is encrypted to these. */
  readonly recipients?: Recipients | undefined;
  readonly chunksInFlightMax: number;
  /** For a server that would be refused otherwise: number of the claim from which the line is taken. */
  readonly takeOver?: number | undefined;
  /** Write the first claim into an archive that has none; the default. */
  readonly claimsFirst?: boolean | undefined;
  readonly bufferSegments: number;
  readonly bufferBytesMax: number;
  readonly reconnectDelayMaxMs: number;
  /** Ask the store again about every chunk before acknowledging it. */
  readonly confirmChunks: boolean;
  /** How long a graceful stop waits for the tail to be stored. */
  readonly shutdownTimeoutMs: number;
  /** How long a server that shuts down is held up by a store that takes nothing. */
  readonly serverStopTimeoutMs: number;
  /** Archive a server that is newer than Seawall knows, without reading its records; undefined where no option allows it. */
  readonly allowNewerServer?: boolean | undefined;
  /** Give up at the first error instead of reconnecting. */
  readonly once: boolean;
  /** Told each failure of the store that is tried again within a stream. */
  readonly onStoreFailure?: ((error: unknown) => void) | undefined;
  readonly log: Log;
  readonly state: ReceiverState;
  /** Aborted once: store the tail, report it, end. */
  readonly stop: AbortSignal;
  /** Aborted: end at once. Nothing acknowledged is lost. */
  readonly kill: AbortSignal;
  readonly random: () => number;
}
