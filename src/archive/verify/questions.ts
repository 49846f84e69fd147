/**
 * The questions of a deep verification to its threads, and their answers. Each thread is lent to a piece of WAL or a part of
 * a backup at a time.
 */
import { ThreadCrew, type WorkerThread } from "../../worker-thread.ts";
import type { BackupFile, BackupPart } from "../backups/document.ts";
import type { Lsn } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import type { RecordCarry } from "../../wal/verifier.ts";
import type { MinimalRecord } from "../wal/breaks.ts";
import type { SegmentPlace } from "../keys.ts";

export interface PartToCheck {
  readonly key: string;
  readonly part: BackupPart;
  /** The entries that the index lists for it. */
  readonly entries: readonly BackupFile[];
  /** Private keys for an encrypted part. */
  readonly identities: readonly string[] | undefined;
}

export type VerifyQuestion =
  /** The segments that follow, one after the other; ends with the first one that is damaged. */
  | {
      readonly kind: "chain";
      readonly systemIdentifier: bigint;
      readonly segmentSize: number;
      /** For WAL of a version that Seawall does not know. */
      readonly majorVersion: number | undefined;
      readonly history: TimelineHistory;
      readonly carry: RecordCarry | undefined;
      readonly startLsn: Lsn;
      /** Private keys for encrypted segments. */
      readonly identities: readonly string[] | undefined;
    }
  | {
      readonly kind: "segment";
      readonly key: string;
      readonly place: SegmentPlace;
      readonly stored: Uint8Array<ArrayBuffer>;
    }
  /** The next messages hold stored bytes of this part. */
  | { readonly kind: "part"; readonly input: PartToCheck }
  | { readonly kind: "data"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end" };

export interface VerifyAnswer {
  /** Records of a segment; files of a part, at its end. */
  readonly count: number;
  /** For a segment, the records that no recovery passes. */
  readonly minimal?: readonly MinimalRecord[];
  /** For a segment that is encrypted, without an identity for it: its recipients. Its records were not read. */
  readonly lockedTo?: string | undefined;
}

export type VerifyThread = WorkerThread<VerifyQuestion, VerifyAnswer>;
export type VerifyCrew = ThreadCrew<VerifyQuestion, VerifyAnswer>;

export function verifyCrew(threadsMax: number): VerifyCrew {
  return new ThreadCrew({ kind: "verify", name: "a verification thread" }, threadsMax);
}
