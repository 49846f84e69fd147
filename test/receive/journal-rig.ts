/** A journal on a disk in memory, filled through its intake with WAL that a test has written. */
import { silentLog } from "../../src/log.ts";
import type { JournalDisk } from "../../src/receive/journal/disk.ts";
import { Journal } from "../../src/receive/journal/journal.ts";
import { type JournalIntake, openJournalIntake } from "../../src/receive/journal/journal-intake.ts";
import type { ReceiverOptions } from "../../src/receive/options.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { addBytes, type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { SYSTEM_ID, type WalWriter } from "../wal/wal-writer.ts";

export const TIMELINE = timelineOf(1);

export function identityOf({ segmentSize, majorVersion }: WalWriter) {
  return { systemIdentifier: SYSTEM_ID, segmentSize, pgMajor: majorVersion, createdAt: "2026-01-01T00:00:00.000Z" };
}

export interface Rig {
  readonly journal: Journal;
  readonly intake: JournalIntake;
  readonly state: ReceiverState;
  /** Feeds the writer's bytes from the start of the open segment up to `to`, in pieces of at most `pieceBytes`. */
  feed(to: Lsn, pieceBytes: number): Promise<void>;
  /** Waits until all that was fed is durable. */
  settle(): Promise<boolean>;
  close(): Promise<void>;
}

/** Opens the journal as a start of the process does, and begins a stream where it ends. */
export async function openRig(disk: JournalDisk, writer: WalWriter, spoolBytesMax = Infinity): Promise<Rig> {
  const journal = await Journal.open(disk);
  await journal.adopt(identityOf(writer));
  return stream(journal, writer, spoolBytesMax);
}

/** Begins a stream into a journal that is open: a reconnect within one process. */
export async function stream(journal: Journal, writer: WalWriter, spoolBytesMax = Infinity): Promise<Rig> {
  const { segmentSize, majorVersion: major } = writer;
  const segment = journal.tip?.segment ?? segmentOf(writer.start, segmentSize);
  const startLsn = segmentStart(segment, segmentSize);
  const storedLsn = journal.tip?.lsn ?? startLsn;
  await journal.begin({ timeline: TIMELINE, segment, storedLsn });
  const state = new ReceiverState({ cluster: "main", synchronous: true, durability: "spool", nowMs: () => 0 });
  const never = new AbortController().signal;
  const options = { state, log: silentLog, kill: never, shipIntervalMs: 0 } as ReceiverOptions;
  const from = { unanchored: false, finish: undefined, from: "archive" } as const;
  const intake = openJournalIntake(
    options,
    {
      journal,
      server: { segmentSize, systemIdentifier: SYSTEM_ID, major },
      history: rootHistory(TIMELINE),
      start: { timeline: TIMELINE, segment, startLsn, storedLsn, ...from },
      room: { journal, spoolBytesMax, onFull: (error) => state.spoolFailed(error) },
    },
    { taking: never, opening: never, onStored: () => undefined, onKept: () => undefined, onBorder: () => undefined },
  );
  const { bytes } = writer;
  return {
    journal,
    intake,
    state,
    async feed(to, pieceBytes) {
      while (intake.position < to) {
        const at = Number(intake.position - writer.start);
        const piece = bytes.subarray(at, Math.min(at + pieceBytes, Number(to - writer.start)));
        await intake.take(addBytes(writer.start, at), piece);
      }
    },
    settle: async () => intake.drain(never),
    close: async () => intake.close(),
  };
}

/** End of the last record of the writer that lies before `lsn` as a whole. */
export function recordEndBefore({ records, start }: WalWriter, lsn: Lsn): Lsn {
  return records.findLast(({ end }) => end <= lsn)?.end ?? start;
}
