/** Abort signals as every store reads them. */
import { SeawallError } from "../errors.ts";
import { JoinedSignal, onAbort } from "../signals.ts";

/** The one shape in which stores report an abort. */
export function abortedError(cause?: unknown): SeawallError {
  return new SeawallError("aborted", "the store operation was cancelled", { cause });
}

/** Throws `aborted`, with the signal's reason as the cause. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortedError(signal.reason);
}

/**
 * Waits for something that takes or heeds no signal itself, no longer than `timeoutMs` and until one of the signals fires. Rejects
 * with `late()` or `aborted`; what was waited for goes on.
 */
export async function waitFor<T>(
  wanted: Promise<T>,
  limits: {
    readonly signals: readonly (AbortSignal | undefined)[];
    readonly timeoutMs?: number;
    /** `aborted` where it is missing. */
    readonly late?: () => SeawallError;
  },
): Promise<T> {
  using limit = new JoinedSignal(limits.signals, limits.timeoutMs);
  const { signal } = limit;
  const ended = new Promise<never>((_, reject) => {
    onAbort(signal, () =>
      reject(limit.isOverdue && limits.late !== undefined ? limits.late() : abortedError(signal.reason)),
    );
  });
  return await Promise.race([wanted, ended]);
}
