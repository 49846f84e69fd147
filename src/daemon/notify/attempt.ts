/** One try to deliver a message, and its result. */

export type Attempt =
  | { readonly outcome: "accepted"; readonly detail: string }
  /** Trying again may help; not before so long, where the other side said so. */
  | { readonly outcome: "again"; readonly detail: string; readonly notBeforeMs?: number }
  | { readonly outcome: "refused"; readonly detail: string };

export interface Message {
  /** For logs. */
  readonly event: string;
  readonly cluster: string;
  readonly severity: string;
  /** JSON. */
  readonly body: string;
  /** Called once for each channel that has delivered it. */
  readonly onDelivered?: () => void;
}

/** The beginning has the status; a program's reason for it is in its last words. */
const SHOWN_HEAD = 100;
const SHOWN_TAIL = 140;

/**
 * Makes the other side's answer fit for log and status: first without secrets, then shortened, so that no half of one is
 * left.
 */
export function shownAnswer(detail: string, scrub: (text: string) => string): string {
  const scrubbed = scrub(detail);
  if (scrubbed.length <= SHOWN_HEAD + SHOWN_TAIL) return scrubbed;
  return `${scrubbed.slice(0, SHOWN_HEAD)}…${scrubbed.slice(-SHOWN_TAIL)}`;
}

/** Resolves with the result, also after an abort. After a rejection the next try may succeed. */
export type Deliver = (message: Message, signal: AbortSignal) => Promise<Attempt>;
