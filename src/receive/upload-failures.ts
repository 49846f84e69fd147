/**
 * Decides what a failed upload of the spool means. WAL in the spool is acknowledged and safe there, so a store that takes
 * nothing only delays the upload. An error that contradicts the archive ends the receiver. Pure.
 */
import type { ErrorCode } from "../error-kinds.ts";
import { hasCode, SeawallError } from "../errors.ts";

/** The store refuses until a person acts: expired credentials, a lost permission, a bucket or a mount that is not there. */
const REFUSALS: readonly ErrorCode[] = ["store-denied", "store-missing", "store-unsupported", "deletion-refused"];

/** A person must act before the upload can go on. */
export function isRefusedUpload(error: unknown): error is SeawallError {
  return hasCode(error, ...REFUSALS);
}

/** The upload is tried again, and the spool acknowledges meanwhile. All other errors end the receiver. */
export function delaysUpload(error: unknown): error is SeawallError {
  return error instanceof SeawallError && (error.retryable || REFUSALS.includes(error.code));
}
