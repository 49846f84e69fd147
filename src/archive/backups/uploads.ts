/**
 * Stores the objects of one backup: streamed, several at a time, each looked at again once it is stored. The first that fails
 * ends the backup, and what was written is removed.
 */
import { SeawallError } from "../../errors.ts";
import { deadline, onAbort, sharedController } from "../../signals.ts";
import { waitFor } from "../../store/signal.ts";
import type { Store } from "../../store/store.ts";

/** Streamed objects at the same time: the file index, the parts under way, and those that are ending. */
const UPLOADS_IN_FLIGHT_MAX = 5;
/** Memory of an upload to S3 is the product of these two. */
const PART_BYTES = 8 << 20;
const PARTS_IN_FLIGHT = 3;

/** How long a backup that failed by itself may remove what it wrote; the rest is recognised and expired later. */
const DISCARD_MS = 60_000;

export interface WithUploadsOptions {
  readonly store: Store;
  /** Aborted: what was written is removed. */
  readonly signal: AbortSignal;
  /** How long the removal may take after the abort; an expiry removes what is left. */
  readonly shutdownTimeoutMs: number;
  /** The message of `aborted`. */
  readonly cancelled: string;
  /** Told when not all of it could be removed. */
  readonly onLeft: (cause: unknown) => void;
}

/** Work that stores a backup. `broken` is aborted when the caller cancels, or with the error of the first upload that fails. */
export type UploadingWork<T> = (uploads: Uploads, broken: AbortController) => Promise<T>;

/** Runs the work. When it fails, removes what it has stored and throws the first cause. */
export async function withUploads<T>(options: WithUploadsOptions, work: UploadingWork<T>): Promise<T> {
  const { store, signal } = options;
  const broken = sharedController();
  const overdue = sharedController();
  let overtime: NodeJS.Timeout | undefined;
  using _cancelling = onAbort(signal, () => {
    broken.abort(cancellation(signal, options.cancelled));
    overtime = setTimeout(() => overdue.abort(), options.shutdownTimeoutMs);
  });
  const uploads = new Uploads(store, broken);
  try {
    return await work(uploads, broken);
  } catch (error) {
    if (!broken.signal.aborted) broken.abort(error);
    using limit = deadline(DISCARD_MS, overdue.signal);
    await uploads.discard(limit.signal).catch(options.onLeft);
    // The first cause counts, not how it reached us.
    throw broken.signal.reason;
  } finally {
    clearTimeout(overtime);
  }
}

function cancellation(signal: AbortSignal, message: string): SeawallError {
  const { reason } = signal as { readonly reason: unknown };
  return reason instanceof SeawallError ? reason : new SeawallError("aborted", message, { cause: reason });
}

export class Uploads {
  readonly #store: Store;
  readonly #broken: AbortController;
  readonly #inFlight = new Set<Promise<void>>();
  readonly #keys: string[] = [];

  /** `broken` is aborted with the error of the first upload that fails. */
  constructor(store: Store, broken: AbortController) {
    this.#store = store;
    this.#broken = broken;
  }

  /**
   * Begins to store `body` under `key` once few enough others are under way. `storedBytes` is asked for when the body has
   * ended. Resolves when the upload has begun; throws why an earlier one failed.
   */
  async begin(key: string, body: AsyncIterable<Uint8Array>, storedBytes: () => number): Promise<void> {
    while (this.#inFlight.size >= UPLOADS_IN_FLIGHT_MAX) await this.#unlessBroken(Promise.race(this.#inFlight));
    this.#broken.signal.throwIfAborted();
    this.#keys.push(key);
    const upload = this.#storeStream(key, body, storedBytes)
      .catch((error: unknown) => this.#broken.abort(error))
      .finally(() => this.#inFlight.delete(upload));
    this.#inFlight.add(upload);
  }

  /** A document: small, in one piece. */
  async put(key: string, bytes: Uint8Array): Promise<void> {
    this.#broken.signal.throwIfAborted();
    this.#keys.push(key);
    const result = await this.#store.put(key, bytes, { signal: this.#broken.signal });
    if (result === "exists") throw conflict(key);
    await this.#confirm(key, bytes.length);
  }

  /** Everything begun is stored; throws why one was not. */
  async settle(): Promise<void> {
    await this.#unlessBroken(Promise.all(this.#inFlight));
    this.#broken.signal.throwIfAborted();
  }

  /**
   * Removes what was stored, last written first: the document, if it was reached, goes before what it speaks of. Rejects with
   * `aborted` at the signal, also where the store heeds none: a file system may answer no call.
   */
  async discard(signal: AbortSignal): Promise<void> {
    const limit = { signals: [signal] };
    await waitFor(Promise.all(this.#inFlight), limit);
    const keys = [...this.#keys].reverse();
    for (const part of [keys.slice(0, 1), keys.slice(1)]) await waitFor(this.#store.delete(part, { signal }), limit);
  }

  async #unlessBroken(settled: Promise<unknown>): Promise<void> {
    await waitFor(settled, { signals: [this.#broken.signal] });
  }

  async #storeStream(key: string, body: AsyncIterable<Uint8Array>, storedBytes: () => number): Promise<void> {
    const { signal } = this.#broken;
    const options = { signal, partBytes: PART_BYTES, partsInFlight: PARTS_IN_FLIGHT };
    if ((await this.#store.putStream(key, body, options)) === "exists") throw conflict(key);
    await this.#confirm(key, storedBytes());
  }

  async #confirm(key: string, bytes: number): Promise<void> {
    const seen = await this.#store.head(key, { signal: this.#broken.signal });
    if (seen?.bytes === bytes) return;
    throw new SeawallError(
      "store-lied",
      `${this.#store.description} confirmed ${key} with ${bytes} bytes but has ${seen?.bytes ?? "none"}`,
    );
  }
}

/** The id of a backup is random: no other process writes below it. */
function conflict(key: string): SeawallError {
  return new SeawallError("segment-conflict", `${key} is there already, although its backup has just begun`);
}
