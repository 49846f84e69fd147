/**
 * Every error Seawall raises on purpose: one class, whose code comes from the table in error-kinds.ts. Retry asks
 * `retryable`, the command line takes its exit status from `exit`.
 */
import { ERROR_KINDS, type ErrorCode, type ErrorKind } from "./error-kinds.ts";

export interface SeawallErrorOptions {
  readonly cause?: unknown;
  /** A sentence that says what to try; the table's hint where none is given. */
  readonly hint?: string | undefined;
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
  /** The archive holds something damaged, contradictory or foreign. */
  readonly isDamage: boolean;
  readonly details: Readonly<Record<string, string | number | boolean>>;

  constructor(code: ErrorCode, message: string, options: SeawallErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    const entry: ErrorKind = ERROR_KINDS[code];
    this.code = code;
    this.hint = options.hint ?? entry.hint;
    this.retryable = entry.retryable;
    this.exit = entry.exit;
    this.isDamage = entry.isDamage === true;
    this.details = options.details ?? {};
  }
}

/** True for an error of ours with one of these codes. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is SeawallError {
  return error instanceof SeawallError && codes.includes(error.code);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Node's name for the failure of a system call, such as ENOENT, or of TLS; undefined for other errors. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** Proves a switch over a union complete; reaching it is a bug. */
export function assertNever(value: never): never {
  throw new SeawallError("internal", `unexpected value ${JSON.stringify(value)}`);
}

/** A check on our own logic: cheap enough to stay on in production. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new SeawallError("internal", message);
}

/** True for errors that mean "stop because we were told to", in every shape that Node.js gives them. */
export function isAbort(error: unknown): boolean {
  if (error instanceof SeawallError) return error.code === "aborted";
  return error instanceof Error && (error.name === "AbortError" || error.name === "TimeoutError");
}
