/**
 * Trying again: when, how long to wait, when to give up. `withRetry` puts it around any store; `retrying` around one
 * operation.
 *
 * Every method of a store may be repeated: nothing is overwritten, an absent key is deleted successfully, and a put whose
 * first answer was lost says `exists` the second time.
 */
import { SeawallError } from "../errors.ts";
import { abortedError, throwIfAborted } from "./signal.ts";
import { objectsOf } from "./pages.ts";
import {
  type DeleteOptions,
  type GetOptions,
  type GetResult,
  type GetStreamResult,
  type ListOptions,
  type ObjectInfo,
  type PutOptions,
  type PutResult,
  type PutStreamOptions,
  type RequestOptions,
  type Store,
} from "./store.ts";

export interface RetryPolicy {
  /** The first try included. */
  readonly attemptsMax: number;
  /** No further try begins once so long has passed since the first one began. */
  readonly elapsedMsMax: number;
  /** The wait before the second try is below this, and the bound doubles from there … */
  readonly baseMs: number;
  /** … up to this one. */
  readonly capMs: number;
  /** A try is cut off after so long, plus the time its body would take at 64 KiB/s. */
  readonly attemptTimeoutMs: number;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  attemptsMax: 10,
  elapsedMsMax: 120_000,
  baseMs: 50,
  capMs: 5_000,
  attemptTimeoutMs: 90_000,
};

export interface RetryEvent {
  /** For messages: `put wal/x`. */
  readonly what: string;
  /** The try that failed, from 1. */
  readonly attempt: number;
  readonly error: SeawallError;
  readonly waitMs: number;
}

export interface RetryOptions {
  readonly policy?: RetryPolicy;
  readonly onRetry?: ((event: RetryEvent) => void) | undefined;
  /** From 0 to 1, evenly; for tests. */
  readonly random?: () => number;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly nowMs?: () => number;
}

export type RetryDecision = { readonly kind: "wait"; readonly waitMs: number } | { readonly kind: "give-up" };

/** Full jitter: evenly from 0 to a bound that doubles, so that clients which failed together do not return together. */
export function backoffMs(attempt: number, policy: Pick<RetryPolicy, "baseMs" | "capMs">, random: number): number {
  return random * Math.min(policy.capMs, policy.baseMs * 2 ** (attempt - 1));
}

/** After try number `attempt` (from 1) failed, `elapsedMs` after the first one began. */
export function decideRetry(
  failed: { readonly attempt: number; readonly elapsedMs: number; readonly error: unknown },
  policy: RetryPolicy,
  random: number,
): RetryDecision {
  const { attempt, elapsedMs, error } = failed;
  if (!(error instanceof SeawallError) || !error.retryable) return { kind: "give-up" };
  if (attempt >= policy.attemptsMax) return { kind: "give-up" };
  const waitMs = backoffMs(attempt, policy, random);
  return elapsedMs + waitMs > policy.elapsedMsMax ? { kind: "give-up" } : { kind: "wait", waitMs };
}

export interface Attempt {
  readonly what: string;
  /** Of the request's body or the expected answer: lengthens the deadline. */
  readonly bytes?: number;
  readonly signal: AbortSignal | undefined;
}

/** Runs `operation` until it succeeds or the policy gives up; the last error is the one that is thrown. */
export async function retrying<T>(
  attempt: Attempt,
  options: RetryOptions,
  operation: (signal: AbortSignal, attemptNumber: number) => Promise<T>,
): Promise<T> {
  const { policy = DEFAULT_RETRY_POLICY, onRetry, random = Math.random, nowMs = () => performance.now() } = options;
  const startedMs = nowMs();
  for (let number = 1; ; number += 1) {
    throwIfAborted(attempt.signal);
    try {
      return await withDeadline(attempt, policy.attemptTimeoutMs, (signal) => operation(signal, number));
    } catch (error) {
      throwIfAborted(attempt.signal);
      const decision = decideRetry({ attempt: number, elapsedMs: nowMs() - startedMs, error }, policy, random());
      if (decision.kind === "give-up" || !(error instanceof SeawallError)) throw error;
      onRetry?.({ what: attempt.what, attempt: number, error, waitMs: decision.waitMs });
      await sleep(decision.waitMs, attempt.signal);
    }
  }
}

/**
 * The decorator. A putStream is passed through: its body can be read only once, and the s3 store retries each part by
 * itself. A streamed read that breaks off goes on where it was, with ranged reads.
 */
export function withRetry(store: Store, options: RetryOptions = {}): Store {
  return new RetryingStore(store, options);
}

const SLOWEST_BYTES_PER_MS = 64;
/** A broken read goes on in pieces of this size. */
const RESUME_BYTES = 8 * 1024 * 1024;

class RetryingStore implements Store {
  readonly description: string;
  readonly #store: Store;
  readonly #options: RetryOptions;

  constructor(store: Store, options: RetryOptions) {
    this.description = store.description;
    this.#store = store;
    this.#options = options;
  }

  put(key: string, body: Uint8Array, options: PutOptions = {}): Promise<PutResult> {
    return this.#retry(
      `put ${key}`,
      options,
      (signal) => this.#store.put(key, body, { ...options, signal }),
      body.length,
    );
  }

  putStream(key: string, body: AsyncIterable<Uint8Array>, options?: PutStreamOptions): Promise<PutResult> {
    return this.#store.putStream(key, body, options);
  }

  get(key: string, options: GetOptions = {}): Promise<GetResult | undefined> {
    return this.#retry(
      `get ${key}`,
      options,
      (signal) => this.#store.get(key, { ...options, signal }),
      options.range?.length,
    );
  }

  async getStream(key: string, options: RequestOptions = {}): Promise<GetStreamResult | undefined> {
    // Without the deadline of a try: it would go on running while the body is read.
    const opened = await this.#retry(`get ${key}`, options, () => this.#store.getStream(key, options));
    if (opened === undefined) return undefined;
    return { body: this.#resumed(key, opened, options.signal), objectBytes: opened.objectBytes };
  }

  head(key: string, options: RequestOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#retry(`head ${key}`, options, (signal) => this.#store.head(key, { ...options, signal }));
  }

  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo> {
    return objectsOf(this.listPages(prefix, options));
  }

  async *listPages(prefix: string, options: ListOptions = {}): AsyncIterable<readonly ObjectInfo[]> {
    let position = options;
    let listing = this.#store.listPages(prefix, position)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#retry(`list ${prefix}`, options, async (_signal, attempt) => {
          // An iterator that threw is over: go on behind the last key it gave.
          if (attempt > 1) listing = this.#store.listPages(prefix, position)[Symbol.asyncIterator]();
          return listing.next();
        });
        if (next.done === true) return;
        const last = next.value.at(-1);
        if (last !== undefined) position = { ...options, startAfter: last.key };
        yield next.value;
      }
    } finally {
      await listing.return?.();
    }
  }

  listPrefixes(prefix: string, options: RequestOptions = {}): Promise<string[]> {
    return this.#retry(`list ${prefix}`, options, (signal) => this.#store.listPrefixes(prefix, { ...options, signal }));
  }

  delete(keys: readonly string[], options: DeleteOptions = {}): Promise<void> {
    return this.#retry("delete", options, (signal) => this.#store.delete(keys, { ...options, signal }));
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  #retry<T>(
    what: string,
    options: RequestOptions,
    operation: (signal: AbortSignal, attempt: number) => Promise<T>,
    bytes = 0,
  ): Promise<T> {
    return retrying({ what, bytes, signal: options.signal }, this.#options, operation);
  }

  async *#resumed(key: string, opened: GetStreamResult, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
    const { body, objectBytes } = opened;
    const { policy = DEFAULT_RETRY_POLICY, onRetry, random = Math.random } = this.#options;
    let at = 0;
    try {
      for await (const piece of body) {
        at += piece.length;
        yield piece;
      }
      return;
    } catch (error) {
      throwIfAborted(signal);
      const decision = decideRetry({ attempt: 1, elapsedMs: 0, error }, policy, random());
      if (decision.kind === "give-up" || !(error instanceof SeawallError)) throw error;
      onRetry?.({ what: `get ${key}`, attempt: 1, error, waitMs: decision.waitMs });
      await sleep(decision.waitMs, signal);
    }
    while (at < objectBytes) {
      const range = { offset: at, length: Math.min(RESUME_BYTES, objectBytes - at) };
      const got = await this.get(key, { range, signal });
      if (got === undefined || got.body.length !== range.length) {
        throw new SeawallError("object-corrupt", `${key} changed or vanished while it was read`);
      }
      at += got.body.length;
      yield got.body;
    }
  }
}

/** Runs one try; its signal fires with the caller's or at the deadline, which makes the error `store-unavailable`. */
async function withDeadline<T>(
  attempt: Attempt,
  timeoutMs: number,
  operation: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const { what, bytes = 0, signal: outer } = attempt;
  const ms = timeoutMs + bytes / SLOWEST_BYTES_PER_MS;
  let late: SeawallError | undefined;
  const timer = setTimeout(() => {
    late = new SeawallError("store-unavailable", `${what}: no answer within ${Math.round(ms)} ms`);
    controller.abort(late);
  }, ms);
  const onAbort = (): void => controller.abort(outer?.reason);
  outer?.addEventListener("abort", onAbort, { once: true });
  try {
    return await operation(controller.signal);
  } catch (error) {
    if (late !== undefined && error instanceof SeawallError && error.code === "aborted") throw late;
    throw error;
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener("abort", onAbort);
  }
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortedError(signal?.reason));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
