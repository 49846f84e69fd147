/**
 * Every error Seawall raises on purpose: one table of codes, one class. `docs/errors.md` is made from the table.
 *
 * A code is stable: users match on it, retry asks `retryable`, the command line takes its exit status from `exit`.
 */

/** What the table says about one code. */
export interface ErrorKind {
  /** Whether trying the same thing again later can succeed without anybody acting. */
  readonly retryable: boolean;
  /** Process exit status when this error ends a command: 1 the answer is no, 2 usage, 3 and up operational. */
  readonly exit: number;
  /** One sentence for docs/errors.md: when this is raised. */
  readonly when: string;
  /** One sentence for docs/errors.md and the default hint: what to do. */
  readonly hint: string;
}

const kind = (exit: number, retryable: boolean, when: string, hint: string): ErrorKind => ({
  exit,
  retryable,
  when,
  hint,
});

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

export const ERROR_KINDS = {
  // Usage
  usage: kind(
    EXIT.usage,
    false,
    "The command line, the environment or the configuration file is wrong.",
    "Run the command with --help.",
  ),
  internal: kind(
    EXIT.operational,
    false,
    "A check on Seawall's own logic failed.",
    "This is a bug in Seawall: please report it with the log.",
  ),
  aborted: kind(
    EXIT.interrupted,
    false,
    "The operation was cancelled by a signal or by its caller.",
    "Run it again when you are ready.",
  ),

  // WAL content
  "wal-corrupt": kind(
    EXIT.damage,
    false,
    "WAL from the server or the archive does not verify: page header, record header or CRC-32C.",
    "Compare the named LSN with pg_waldump on the server; nothing past it was acknowledged.",
  ),
  "wal-noncontiguous": kind(
    EXIT.damage,
    true,
    "The server sent WAL that does not continue the last byte received.",
    "The receiver reconnects at the start of the segment; report it if it repeats.",
  ),
  "wal-diverged": kind(
    EXIT.damage,
    false,
    "The server's WAL differs from what is already stored for the same timeline.",
    "An old primary may have been resurrected or the cluster rolled back in place: promote it to a new timeline, or use a new --cluster.",
  ),

  // Archive
  "segment-conflict": kind(
    EXIT.damage,
    false,
    "An object is already stored under this key with different content.",
    "Two clusters may share this prefix: compare their system identifiers.",
  ),
  "object-corrupt": kind(
    EXIT.damage,
    false,
    "A stored object cannot be decoded or its checksum is wrong.",
    "Run seawall verify and look at who else writes to this prefix.",
  ),
  "foreign-cluster": kind(
    EXIT.damage,
    false,
    "The archive belongs to a cluster with another system identifier.",
    "Choose another --cluster or --store for this server.",
  ),
  "archive-absent": kind(
    EXIT.no,
    false,
    "There is no archive under this store and cluster name.",
    "Check --store and --cluster, or start seawall receive to create it.",
  ),
  "archive-version": kind(
    EXIT.operational,
    false,
    "A document in the archive has a version this Seawall does not know.",
    "Upgrade Seawall to at least the version that wrote it.",
  ),
  "timeline-behind": kind(
    EXIT.damage,
    false,
    "The server is on an older timeline than the archive's tip.",
    "Connect to the current primary; an old primary must be rebuilt before it is archived again.",
  ),
  "timeline-unrelated": kind(
    EXIT.damage,
    false,
    "The server's timeline history does not contain the archive's tip.",
    "The server was forked from a point before or beside the archive: use a new --cluster for it.",
  ),
  "timeline-history": kind(
    EXIT.damage,
    false,
    "A timeline history file cannot be parsed, or contradicts itself.",
    "Compare it with the file of the same name in the server's pg_wal.",
  ),

  // Store
  "store-unavailable": kind(
    EXIT.store,
    true,
    "The object store did not answer, or answered with a passing fault.",
    "Check the endpoint and the network; Seawall keeps trying within its limits.",
  ),
  "store-denied": kind(
    EXIT.store,
    false,
    "The object store refused the credentials or the operation.",
    "Check the credentials and that they allow s3:PutObject, GetObject, ListBucket and DeleteObject (or file permissions).",
  ),
  "store-missing": kind(
    EXIT.store,
    false,
    "The bucket or the directory does not exist.",
    "Create it first, or correct --store.",
  ),
  "store-full": kind(
    EXIT.store,
    true,
    "The store has no room left.",
    "Free space; nothing is acknowledged until it fits.",
  ),
  "store-checksum": kind(
    EXIT.store,
    true,
    "The store reports that the bytes which arrived are not the bytes that were sent.",
    "Something between here and the store alters data; the write is repeated.",
  ),
  "store-unsupported": kind(
    EXIT.store,
    false,
    "The object store lacks something Seawall needs, such as conditional writes.",
    "Use a store that supports If-None-Match on PUT.",
  ),
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

export interface SeawallErrorOptions {
  readonly cause?: unknown;
  /** A sentence that says what to try; the table's hint where none is given. */
  readonly hint?: string;
  /** Facts for machines and logs (LSNs as text, keys, names); never secrets. */
  readonly details?: Readonly<Record<string, string | number | boolean>>;
}

/** An error a person can act on: stable code, short message, the cause kept, a hint. */
export class SeawallError extends Error {
  override readonly name = "SeawallError";
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;
  readonly exit: number;
  readonly details: Readonly<Record<string, string | number | boolean>>;

  constructor(code: ErrorCode, message: string, options: SeawallErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const entry: ErrorKind = ERROR_KINDS[code];
    this.code = code;
    this.hint = options.hint ?? entry.hint;
    this.retryable = entry.retryable;
    this.exit = entry.exit;
    this.details = options.details ?? {};
  }
}

/** Proves a switch over a union complete; reaching it is a bug. */
export function assertNever(value: never): never {
  throw new SeawallError("internal", `unexpected value ${JSON.stringify(value)}`);
}

/** A check on our own logic: cheap enough to stay on in production. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new SeawallError("internal", message);
}

/** True for errors that mean "stop because we were told to", in whichever shape Node.js gives them. */
export function isAbort(error: unknown): boolean {
  if (error instanceof SeawallError) return error.code === "aborted";
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}
