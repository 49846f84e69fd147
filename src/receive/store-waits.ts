/** WAL that waits for the store, or for a spool and for the store behind it: for how long, and why. */
import { type ShownError, shownError } from "../log.ts";

/** The failure that WAL waits for, and where it happened. */
export interface StoreWaitError extends ShownError {
  readonly place: "store" | "spool";
}

export interface Failure {
  readonly atMs: number;
  readonly error: unknown;
}

/** A position moved; `isAll`: nothing waits behind it. */
interface Progress {
  readonly moved: boolean;
  readonly isAll: boolean;
}

export class StoreWaits {
  readonly #nowMs: () => number;
  /** Since when verified WAL has waited without `storedLsn` moving, or spooled WAL without `uploadedLsn` moving. */
  #unstoredSinceMs: number | undefined;
  #unuploadedSinceMs: number | undefined;
  /** The latest failure of the spool's upload, and of a write into the spool; undefined once one succeeded. */
  #uploadFailure: Failure | undefined;
  #spoolFailure: Failure | undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Verified WAL is not stored yet. */
  verified(): void {
    this.#unstoredSinceMs ??= this.#nowMs();
  }

  stored({ moved, isAll }: Progress): void {
    if (moved) this.#spoolFailure = undefined;
    if (isAll) this.#unstoredSinceMs = undefined;
    else if (moved) this.#unstoredSinceMs = this.#nowMs();
  }

  /** WAL in the spool is not uploaded yet. */
  spooled(): void {
    this.#unuploadedSinceMs ??= this.#nowMs();
  }

  uploaded({ moved, isAll }: Progress): void {
    if (isAll) this.#unuploadedSinceMs = undefined;
    else if (moved) this.#unuploadedSinceMs = this.#nowMs();
  }

  uploadFailed(error: unknown): void {
    this.#uploadFailure = { atMs: this.#nowMs(), error };
  }

  uploadsPass(): void {
    this.#uploadFailure = undefined;
  }

  spoolFailed(error: unknown): void {
    this.#spoolFailure = { atMs: this.#nowMs(), error };
  }

  get hasFailed(): boolean {
    return this.#uploadFailure !== undefined || this.#spoolFailure !== undefined;
  }

  /** A spool that is full drains once its store takes WAL, so the store's failure comes first. */
  error(): StoreWaitError | null {
    const place = this.#uploadFailure === undefined ? "spool" : "store";
    const failure = this.#uploadFailure ?? this.#spoolFailure;
    return failure === undefined ? null : { place, ...shownError(failure.error, failure.atMs) };
  }

  /** For how long WAL has waited for the store (with a spool: for the spool or the store) without any of it being taken. */
  seconds(): number {
    const now = this.#nowMs();
    const waits = [this.#unstoredSinceMs, this.#unuploadedSinceMs].map((since) => now - (since ?? now));
    return Math.max(0, ...waits) / 1000;
  }
}
