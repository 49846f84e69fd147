/** An error code's properties, and how commands exit. The table of codes: error-kinds.ts. */

/** A row of the table of error codes. */
export interface ErrorKind {
  /** Whether trying the same thing again later can succeed without a person acting. */
  readonly retryable: boolean;
  /** Process exit status when this error ends a command: 1 the answer is no, 2 usage, 3 and up operational. */
  readonly exit: number;
  /** The archive holds something damaged, contradictory or foreign; readers name it and go on. Not set for all other codes. */
  readonly isDamage?: boolean;
  /** One sentence for docs/errors.md: when this is raised. */
  readonly when: string;
  /** One sentence for docs/errors.md and the default hint: what to do. */
  readonly hint: string;
}

export const kind = (exit: number, retryable: boolean, when: string, hint: string): ErrorKind => ({
  exit,
  retryable,
  when,
  hint,
});

/** Marks a code as damage of the archive. */
export const damage = (one: ErrorKind): ErrorKind => ({ ...one, isDamage: true });

/** Exit statuses, by what stands in the way. Documented in docs/errors.md. */
export const EXIT = {
  done: 0,
  no: 1,
  usage: 2,
  operational: 3,
  server: 4,
  store: 5,
  damage: 6,
  interrupted: 130,
  /** `wal-fetch` only: above 125 makes PostgreSQL abort recovery instead of promoting short of the tip. */
  abortRecovery: 200,
} as const;
