/**
 * Tries again: decides when, how long to wait, and when to give up. `withRetry` puts it around a store, `retrying`
 * around one operation.
 *
 * Every method of a store may be repeated: nothing is overwritten and an absent key is deleted successfully. A put whose
 * first answer was lost finds its own object the second time: equal content then counts as created.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, isAbort, SeawallError } from "../errors.ts";
import { deadline } from "../signals.ts";
import { listingOf } from "./key.ts";
import { throwIfAborted } from "./signal.ts";
import {
  type FrontReplacement,
  type GetStreamResult,
  objectsOf,
  type PutOptions,
  type PutResult,
  type ReplaceOptions,
  type ReplaceResult,
  type Store,
} from "./store.ts";

export interface RetryPolicy {
  /** The first try included; the time is the limit where this is Infinity. */
  readonly attemptsMax: number;
  /** No further try begins once so long has passed since the first one began; the last one begins at that moment. */
  readonly elapsedMsMax: number;
  /** The wait before the second try is below this, and the bound doubles from there … */
  readonly baseMs: number;
  /** … up to this one. */
  readonly capMs: number;
  /** A try is cut off after so long, plus the time its body would take at 64 KiB/s. */
  readonly attemptTimeoutMs: number;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  attemptsMax: Number.POSITIVE_INFINITY,
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
  /** The store has answered, if only with an error that trying again cannot help. */
  readonly onAnswer?: (() => void) | undefined;
  /** Gives numbers from 0 to 1, evenly; for tests. */
  readonly random?: () => number;
  /** Milliseconds on a clock that never goes back; for tests. */
  readonly nowMs?: () => number;
}

export type RetryDecision = { readonly kind: "wait"; readonly waitMs: number } | { readonly kind: "give-up" };

/** Full jitter: evenly from 0 to a bound that doubles, so that clients which failed together do not return together. */
export function backoffMs(attempt: number, policy: Pick<RetryPolicy, "baseMs" | "capMs">, random: number): number {
  return random * Math.min(policy.capMs, policy.baseMs * 2 ** (attempt - 1));
}

/**
 * Decides after try number `attempt` (from 1) failed, `elapsedMs` after the first one began. Where the store said how long
 * to wait, the next try begins no earlier. The time that was asked for is used up: a wait is cut so that a last try begins
 * at its end.
 */
export function decideRetry(
  failed: { readonly attempt: number; readonly elapsedMs: number; readonly error: unknown },
  policy: RetryPolicy,
  random: number,
): RetryDecision {
  const { attempt, elapsedMs, error } = failed;
  if (!(error instanceof SeawallError) || !error.retryable) return { kind: "give-up" };
  if (attempt >= policy.attemptsMax) return { kind: "give-up" };
  const leftMs = policy.elapsedMsMax - elapsedMs;
  if (leftMs <= 0) return { kind: "give-up" };
  const asked = error.details[RETRY_AFTER_MS];
  const leastMs = typeof asked === "number" ? Math.min(asked, RETRY_AFTER_MS_MAX) : 0;
  // A store that asks for more time than is left would refuse a try before that.
  if (leastMs > leftMs) return { kind: "give-up" };
  return { kind: "wait", waitMs: Math.min(leftMs, leastMs + backoffMs(attempt, policy, random)) };
}

/** The detail of an error that carries a store's `Retry-After`, in milliseconds. */
export const RETRY_AFTER_MS = "retryAfterMs";
/** A store that asks for more is not waited for any longer. */
const RETRY_AFTER_MS_MAX = 60_000;

export interface Attempt {
  readonly what: string;
  /** Size of the request's body or the expected answer: lengthens the deadline. */
  readonly bytes?: number;
  readonly signal: AbortSignal | undefined;
}

/** Runs `operation` until it succeeds or the policy gives up; the last error is the one that is thrown. */
export async function retrying<T>(
  attempt: Attempt,
  options: RetryOptions,
  operation: (signal: AbortSignal, attemptNumber: number) => Promise<T>,
): Promise<T> {
  const { policy = DEFAULT_RETRY_POLICY, onRetry, onAnswer, random = Math.random } = options;
  const { nowMs = () => performance.now() } = options;
  const startedMs = nowMs();
  for (let number = 1; ; number += 1) {
    throwIfAborted(attempt.signal);
    try {
      const result = await withDeadline(attempt, policy.attemptTimeoutMs, (signal) => operation(signal, number));
      onAnswer?.();
      return result;
    } catch (error) {
      throwIfAborted(attempt.signal);
      const decision = decideRetry({ attempt: number, elapsedMs: nowMs() - startedMs, error }, policy, random());
      if (error instanceof SeawallError && !error.retryable) onAnswer?.();
      if (decision.kind === "give-up" || !(error instanceof SeawallError)) throw error;
      onRetry?.({ what: attempt.what, attempt: number, error, waitMs: decision.waitMs });
      await pause(decision.waitMs, attempt.signal);
    }
  }
}

/**
 * One try of a put. After an earlier one of ours, an object of equal content is taken for what that one created: its answer
 * was lost, and no other writer would store the same bytes under this key.
 */
export async function putAgain(
  store: Pick<Store, "put" | "get">,
  key: string,
  body: Uint8Array,
  { options, attempt }: { readonly options: PutOptions; readonly attempt: number },
): Promise<PutResult> {
  const result = await store.put(key, body, options);
  if (result === "created" || attempt === 1) return result;
  const there = await store.get(key, { signal: options.signal });
  return there !== undefined && Buffer.compare(there.body, body) === 0 ? "created" : "exists";
}

/** One try of a replacement. After an earlier one of ours, an object that begins with our bytes is what that one made. */
async function replaceAgain(
  store: Store,
  key: string,
  replacement: FrontReplacement,
  { options, attempt }: { readonly options: ReplaceOptions; readonly attempt: number },
): Promise<ReplaceResult> {
  const result = await store.replaceFront(key, replacement, options);
  if (result !== "changed" || attempt === 1) return result;
  const { front } = replacement;
  const there = await store.get(key, { signal: options.signal, range: { offset: 0, length: front.length } });
  return there !== undefined && Buffer.compare(there.body, front) === 0 ? "replaced" : "changed";
}

const SLOWEST_BYTES_PER_MS = 64;
/** A broken read goes on in pieces of this size. */
const RESUME_BYTES = 8 * 1024 * 1024;

/**
 * The decorator. A putStream is passed through: its body can be read only once, and the s3 store retries each part by
 * itself. A streamed read that breaks off goes on where it was, with ranged reads.
 */
export function withRetry(store: Store, retry: RetryOptions = {}): Store {
  const get: Store["get"] = (key, options = {}) => {
    const attempt = { what: `get ${key}`, bytes: options.range?.length ?? 0, signal: options.signal };
    return retrying(attempt, retry, (signal) => store.get(key, { ...options, signal }));
  };
  const listPages: Store["listPages"] = async function* (prefix, options = {}) {
    const attempt = { what: listingOf(prefix), signal: options.signal };
    let position = options;
    let listing = store.listPages(prefix, position)[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await retrying(attempt, retry, async (_signal, number) => {
          // An iterator that threw is over: go on behind the last key it gave.
          if (number > 1) listing = store.listPages(prefix, position)[Symbol.asyncIterator]();
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
  };
  return {
    description: store.description,
    put: (key, body, options = {}) => {
      const attempt = { what: `put ${key}`, bytes: body.length, signal: options.signal };
      return retrying(attempt, retry, (signal, number) =>
        putAgain(store, key, body, { options: { ...options, signal }, attempt: number }),
      );
    },
    putStream: (key, body, options) => store.putStream(key, body, options),
    get,
    getStream: async (key, { signal } = {}) => {
      // Without the deadline of a try: it would go on running while the body is read.
      const opened = await retrying({ what: `get ${key}`, signal }, retry, () => store.getStream(key, { signal }));
      return opened && { ...opened, body: resumed(key, opened, { retry, get, signal }) };
    },
    head: (key, { signal: outer } = {}) =>
      retrying({ what: `head ${key}`, signal: outer }, retry, (signal) => store.head(key, { signal })),
    list: (prefix, options) => objectsOf(listPages(prefix, options)),
    listPages,
    listPrefixes: (prefix, options = {}) =>
      retrying({ what: listingOf(prefix), signal: options.signal }, retry, (signal) =>
        store.listPrefixes(prefix, { ...options, signal }),
      ),
    replaceFront: (key, replacement, options = {}) => {
      const attempt = { what: `replace ${key}`, bytes: replacement.objectBytes, signal: options.signal };
      return retrying(attempt, retry, (signal, number) =>
        replaceAgain(store, key, replacement, { options: { ...options, signal }, attempt: number }),
      );
    },
    delete: (keys, options = {}) =>
      retrying({ what: "delete", signal: options.signal }, retry, (signal) =>
        store.delete(keys, { ...options, signal }),
      ),
    close: () => store.close(),
  };
}

async function* resumed(
  key: string,
  { body, objectBytes }: GetStreamResult,
  { retry, get, signal }: { retry: RetryOptions; get: Store["get"]; signal: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  const { policy = DEFAULT_RETRY_POLICY, onRetry, random = Math.random } = retry;
  let at = 0;
  try {
    for await (const piece of body) {
      at += piece.length;
      yield piece;
    }
    return;
  } catch (error) {
    throwIfAborted(signal);
    // The bytes handed out already are not the object's: reading on would make them pass for it.
    if (hasCode(error, "store-checksum")) throw error;
    const decision = decideRetry({ attempt: 1, elapsedMs: 0, error }, policy, random());
    if (decision.kind === "give-up" || !(error instanceof SeawallError)) throw error;
    onRetry?.({ what: `get ${key}`, attempt: 1, error, waitMs: decision.waitMs });
    await pause(decision.waitMs, signal);
  }
  while (at < objectBytes) {
    const range = { offset: at, length: Math.min(RESUME_BYTES, objectBytes - at) };
    const got = await get(key, { range, signal });
    // Its beginning was replaced: the rest lies elsewhere now.
    if (got !== undefined && got.objectBytes !== objectBytes) {
      throw new SeawallError("store-unavailable", `get ${key}: the object was replaced while it was read`, {
        hint: "Run the command again: seawall rekey has given the object another header.",
      });
    }
    if (got === undefined || got.body.length !== range.length) {
      throw new SeawallError("object-corrupt", `${key} changed or vanished while it was read`);
    }
    at += got.body.length;
    yield got.body;
  }
}

/** Runs one try; its signal fires with the caller's or at the deadline, which makes the error `store-unavailable`. */
async function withDeadline<T>(
  { what, bytes = 0, signal: outer }: Attempt,
  timeoutMs: number,
  operation: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ms = timeoutMs + bytes / SLOWEST_BYTES_PER_MS;
  using limit = deadline(ms, outer);
  try {
    return await operation(limit.signal);
  } catch (error) {
    if (limit.isOverdue && isAbort(error)) {
      throw new SeawallError("store-unavailable", `${what}: no answer within ${Math.round(ms)} ms`);
    }
    throw error;
  }
}

/** Throws `aborted` when the signal fires first. */
async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
  throwIfAborted(signal);
}
