/** What a person must know first of a cluster, in a few words. Pure; the overview of `status` and of the page share it. */
import type { StatusDocument } from "./status-document.ts";

/** Undefined when all is well: whatever was tried again and went well is no problem any more. */
export function problemOf(status: StatusDocument): string | undefined {
  const { state, errors, gaps, slot, jobs } = status;
  const latest = errors[0]?.message;
  if (state === "failed") return status.lastError?.message ?? latest ?? "failed";
  // Server and store were looked at: each may have its own.
  if (state === "unreachable") return errors.map(({ message }) => message).join("; ") || "no receiver answers";
  if (state !== "streaming" && state !== "starting" && latest !== undefined) return latest;
  if (gaps.length > 0) return gaps.length === 1 ? "WAL is missing: 1 gap" : `WAL is missing: ${gaps.length} gaps`;
  if (slot !== null && !slot.exists) return `the slot ${slot.name} is missing`;
  if (slot !== null && (slot.walStatus === "lost" || slot.walStatus === "unreserved")) {
    return `the slot ${slot.name} is ${slot.walStatus}`;
  }
  const failed = jobs.find(({ last }) => last?.ok === false);
  return failed === undefined ? undefined : `${failed.job} failed: ${failed.last?.message ?? ""}`;
}
