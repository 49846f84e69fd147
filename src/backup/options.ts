/** Options of a base backup, and its reports while it runs; the command line's table gives the defaults. */
import type { Recipients } from "../codec/age/recipients.ts";
import type { CompressLevel } from "../codec/level.ts";
import type { CodecPool } from "../codec/pool.ts";
import type { BaseBackupOptions } from "../replication/base-backup-command.ts";
import type { ConnectionSettings } from "../replication/settings.ts";
import type { Log } from "../log.ts";
import type { Store } from "../store/store.ts";
import type { Lsn, TimelineId } from "../wal/lsn.ts";

export interface BackupOptions extends BaseBackupOptions {
  readonly settings: ConnectionSettings;
  readonly store: Store;
  readonly cluster: string;
  readonly compressLevel: CompressLevel;
  readonly codecThreads: number;
  /** Threads that the backup shares with its receiver; without them it has its own. */
  readonly codecPool?: CodecPool | undefined;
  /** Everything is encrypted to these. */
  readonly recipients?: Recipients | undefined;
  /** Tar bytes that a part of several files is closed at. */
  readonly partBytes: number;
  /** The WAL comes from the backup's own receiver: no other one is needed. */
  readonly bringsWal: boolean;
  /** How long the WAL that the backup needs may take to arrive in the archive; 0: as long as it takes. */
  readonly walTimeoutMs: number;
  readonly log: Log;
  /** Aborted: what was written is removed, and nothing is left that looks like a backup. */
  readonly signal: AbortSignal;
  /** How long the removal may take after the abort; what it leaves is recognised and expired later. */
  readonly shutdownTimeoutMs: number;
  readonly now: () => Date;
  /** 32 random bits. */
  readonly randomBits: () => number;
  readonly progress: BackupProgress;
}

export type BackupNews =
  /** Connected and asking for the backup: its checkpoint may take minutes. */
  | { readonly kind: "checkpoint"; readonly id: string; readonly server: string; readonly fromStandby: boolean }
  /** The archive holds no WAL near the server's: no receiver seems to run. */
  | { readonly kind: "no-receiver"; readonly tipLsn: Lsn | undefined; readonly serverLsn: Lsn }
  | {
      readonly kind: "started";
      readonly id: string;
      readonly startLsn: Lsn;
      readonly timeline: TimelineId;
      readonly tablespaces: number;
      readonly totalBytes: number;
    }
  /** Every file is stored and is what the server's manifest says. */
  | { readonly kind: "verified"; readonly files: number; readonly bytes: number; readonly storedBytes: number }
  | { readonly kind: "wal-wait"; readonly storedLsn: Lsn; readonly stopLsn: Lsn }
  /** No WAL has arrived for a while. */
  | { readonly kind: "wal-stalled"; readonly storedLsn: Lsn; readonly stopLsn: Lsn }
  /** The server's own words. */
  | { readonly kind: "warning"; readonly message: string };

/** Where the backup is: counters to look at whenever one likes, and news as they happen. */
export class BackupProgress {
  phase: "connecting" | "checkpoint" | "copying" | "wal" | "done" = "connecting";
  /** Tar bytes received, and the server's estimate of all. */
  bytes = 0;
  totalBytes = 0;
  storedBytes = 0;
  files = 0;
  /** Where the files now coming belong; undefined: the data directory. */
  tablespace: string | undefined;
  readonly #tell: (news: BackupNews) => void;

  constructor(tell: (news: BackupNews) => void = () => undefined) {
    this.#tell = tell;
  }

  tell(news: BackupNews): void {
    this.#tell(news);
  }
}
