/** Words a cluster's most urgent problem. Pure; the overview of `status` and of the page share it. */
import { humanBytes, humanSeconds } from "./human.ts";
import type { ErrorDocument, StatusDocument } from "./document.ts";

/** Undefined when all is well: whatever was tried again and went well is no problem any more. */
export function problemOf(status: StatusDocument): string | undefined {
  const { state, errors, gaps, rivals, slot, jobs } = status;
  const latest = errors[0]?.message;
  if (state === "failed") return status.lastError?.message ?? latest ?? "failed";
  // Server and store were looked at: each may have its own.
  if (state === "unreachable") return errors.map(({ message }) => message).join("; ") || "no receiver answers";
  const storing = storingProblemOf(status);
  if (storing !== undefined) return storing;
  if (state !== "streaming" && state !== "starting" && latest !== undefined) return latest;
  if (gaps.length > 0) return gaps.length === 1 ? "WAL is missing: 1 gap" : `WAL is missing: ${gaps.length} gaps`;
  const rival = rivals?.find(({ isActive }) => isActive);
  if (rival !== undefined) return `another server writes into this archive: ${rival.text}`;
  if (slot !== null && !slot.exists) return `the slot ${slot.name} is missing`;
  if (slot !== null && (slot.walStatus === "lost" || slot.walStatus === "unreserved")) {
    return `the slot ${slot.name} is ${slot.walStatus}`;
  }
  const failed = jobs.find(({ last }) => last?.ok === false);
  return failed === undefined ? undefined : `${failed.job} failed: ${failed.last?.message ?? ""}`;
}

/**
 * WAL is received and not stored: the server waits for that to shut down, or the store has confirmed nothing for longer than
 * a healthy one needs. Probes, page, `status` and metrics ask this, so that all of them say the same. Pure.
 */
export function storingProblemOf(status: StatusDocument): string | undefined {
  const { at, storeWaitSeconds, storeWaitError, serverStoppingSince, lagBytes, errors } = status;
  if (serverStoppingSince !== null) {
    const seconds = Math.max(0, Date.parse(at) - Date.parse(serverStoppingSince)) / 1000;
    return `the server is shutting down and has waited ${humanSeconds(seconds)} for the store`;
  }
  if (!status.isStoreStalled) return undefined;
  const waiting = lagBytes === null || lagBytes === 0 ? "WAL waits" : `${humanBytes(lagBytes)} of WAL wait`;
  const waitSeconds = storeWaitSeconds ?? 0;
  // An error from before the wait is not its cause.
  const sinceMs = Date.parse(at) - waitSeconds * 1000;
  const isCause = ({ code, at: erredAt }: ErrorDocument): boolean =>
    code.startsWith("store-") && Date.parse(erredAt) >= sinceMs;
  const error = storeWaitError ?? errors.find(isCause);
  const why = error === undefined ? "" : ` (last error: ${error.message})`;
  const place = storeWaitError?.place ?? "store";
  return `the ${place} has confirmed nothing for ${humanSeconds(waitSeconds)}, ${waiting} for it${why}`;
}
