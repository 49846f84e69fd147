/**
 * The side of a stream that sends WAL. A server's replication connection is one; the journal of a spool is the other, and is
 * received like a server (journal/).
 */
import type { StandbyStatus, WalEvent } from "../replication/wal-messages.ts";
import type { Lsn, TimelineId } from "../wal/lsn.ts";
import type { RecordCarry } from "../wal/record-carry.ts";

/** A stream of WAL events: pulled, acknowledged, ended by either side. */
export interface SourceStream extends AsyncIterable<WalEvent> {
  /** Reports how far WAL was received and stored. Never waits. */
  sendStatus(status: StandbyStatus): void;
  /** Reports that all bytes before `lsn` are stored, also within a record: a source that keeps whole files may let them go. */
  kept?(lsn: Lsn): void;
  /** Reports the verifier's state at a segment border. */
  passed?(carry: RecordCarry): void;
  /** Ends the stream from this side. What is still on its way is dropped; the bytes of the last event stay as they are. */
  stop(): Promise<void>;
}

export interface WalSource {
  /** Host and port, for messages. */
  readonly server: string;
  /** The number that libpq's PQserverVersion gives. */
  readonly serverVersion: number;
  /** `xlogpos`: the end of the source's durable WAL. */
  identifySystem(): Promise<{ readonly xlogpos: Lsn }>;
  /** Throws `wal-removed` where the source has no more WAL of `startLsn`; it may come with the first pull instead. */
  startReplication(options: {
    readonly slot: string | undefined;
    readonly timeline: TimelineId;
    readonly startLsn: Lsn;
    /** All complete records before this are stored already. */
    readonly storedLsn: Lsn;
    readonly signal: AbortSignal;
  }): Promise<SourceStream>;
  isShuttingDown(signal: AbortSignal): Promise<boolean>;
}
