/**
 * The stations between a stream and its acknowledgements: received bytes are verified and made durable. archive-intake.ts
 * stores them in the archive, journal/journal-intake.ts writes them into a spool's journal.
 */
import type { Lsn } from "../wal/lsn.ts";
import type { RecordCarry } from "../wal/record-carry.ts";

export interface Intake {
  /** End of the bytes received. */
  readonly position: Lsn;
  /** End of the last complete record received whose CRC is right. */
  readonly verifiedLsn: Lsn;
  /** End of the last complete record in the contiguous durable prefix (promise 1). */
  readonly storedLsn: Lsn;
  /** Aborted, with the error as reason, when something failed for good. */
  readonly failure: AbortSignal;
  /**
   * Takes WAL that begins at `startLsn`; it must continue `position`. `bytes` is borrowed until this resolves. Waits only for
   * room, which is the backpressure that the source feels. Throws `wal-noncontiguous`, `wal-corrupt`, `wal-diverged`.
   */
  take(startLsn: Lsn, bytes: Uint8Array): Promise<void>;
  /** Makes durable what is verified now, without waiting for an interval. */
  hurry(): void;
  /** No WAL came for a while: gives back memory that is not needed. */
  rest(): void;
  /** Waits until all before `lsn` is durable. False when that failed, or `overdue` was aborted, before. */
  storeUpTo(lsn: Lsn, overdue: AbortSignal): Promise<boolean>;
  /** Makes everything verified durable; resolves as `storeUpTo` does. */
  drain(overdue: AbortSignal): Promise<boolean>;
  /** Waits for what is under way to settle, and lets go of all memory and files. */
  close(): Promise<void>;
}

/** The stream's side: signals that end an intake's waits, and the call for news. */
export interface IntakeWiring {
  /** Ends waits for room: the stream is broken, or a stop has stored its WAL. */
  readonly taking: AbortSignal;
  /** Ends the look at what is stored before the first byte is taken: the stream is broken, or is to stop. */
  readonly opening: AbortSignal;
  /** `storedLsn` moved. */
  readonly onStored: () => void;
  /** All bytes before this are stored; it may lie within a record that is longer than a segment. */
  readonly onKept: (lsn: Lsn) => void;
  /** The verifier's state at a segment border that was verified. */
  readonly onBorder: (carry: RecordCarry) => void;
}

export type OpenIntake = (wiring: IntakeWiring) => Promise<Intake>;
