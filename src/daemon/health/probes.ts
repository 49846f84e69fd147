/**
 * The probes' answers, from the judgement of health. Pure.
 *
 * /healthz asks whether a restart of the process can help: the receive loop stands still, or a cluster failed with an error that
 * neither the server nor the store nor the archive has caused. /readyz asks whether new WAL reaches the archive now.
 */
import { ERROR_KINDS, EXIT } from "../../error-kinds.ts";
import type { StatusDocument } from "../status/document.ts";

export interface Verdict {
  readonly ok: boolean;
  /** One line for the reader of the probe's answer. */
  readonly reason: string;
}

export function decideLiveness({ state, health, lastError, errors }: StatusDocument): Verdict {
  if (state === "failed") {
    const error = lastError ?? errors[0];
    return { ok: isOutside(error?.code), reason: `failed: ${error?.message ?? "see the log"}` };
  }
  const stuck = health.findings.find(({ kind }) => kind === "receiver-stuck");
  return stuck === undefined ? { ok: true, reason: state } : { ok: false, reason: stuck.what };
}

/** Whether the cause lies outside the process, so that a restart changes nothing: the process tries again by itself. */
function isOutside(code: string | undefined): boolean {
  const kind = Object.entries(ERROR_KINDS).find(([known]) => known === code)?.[1];
  return kind !== undefined && (kind.exit === EXIT.server || kind.exit === EXIT.store || kind.exit === EXIT.damage);
}

export function decideReadiness({ state, health }: StatusDocument): Verdict {
  const stopping = health.findings.find(({ stopsArchiving }) => stopsArchiving);
  return stopping === undefined ? { ok: true, reason: state } : { ok: false, reason: stopping.what };
}
