/**
 * Reads the body of a putStream: a caller's iterable that may fail, hang or never end. Its errors are told apart from
 * the store's.
 */
import { abortedError, throwIfAborted } from "./signal.ts";
import { onAbort } from "../signals.ts";

/** Carries the error of the caller's own iterable through the store's error mapping; callers get the cause, untouched. */
export class SourceFailure extends Error {
  override readonly name = "SourceFailure";

  constructor(cause: unknown) {
    super("the body of a stream failed", { cause });
  }
}

/** The pieces of `body`. An abort is heeded also while the body has nothing to give; the body is told to end either way. */
export async function* readSource(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const piece = await nextPiece(iterator, signal);
      if (piece.done === true) {
        ended = true;
        return;
      }
      yield piece.value;
    }
  } catch (error) {
    ended = error instanceof SourceFailure;
    throw error;
  } finally {
    // Not awaited: an iterable that hangs in next() would hang here as well.
    if (!ended) void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}

function nextPiece(
  iterator: AsyncIterator<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<Uint8Array, unknown>> {
  throwIfAborted(signal);
  return new Promise((resolve, reject) => {
    const waiting = onAbort(signal, () => reject(abortedError(signal?.reason)));
    iterator
      .next()
      .then(resolve, (error: unknown) => reject(new SourceFailure(error)))
      .finally(() => waiting[Symbol.dispose]());
  });
}
