/** Abort signals as every store reads them. */
import { SeawallError } from "../errors.ts";

/** The one shape in which stores report an abort. */
export function abortedError(cause?: unknown): SeawallError {
  return new SeawallError("aborted", "the store operation was cancelled", { cause });
}

/** Throws `aborted`, with the signal's reason as the cause. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortedError(signal.reason);
}
