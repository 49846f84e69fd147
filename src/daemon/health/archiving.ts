/** Findings about the way of the WAL: from the server to the receiver, into the store or the spool. Pure. */
import type { ErrorDocument, StatusFacts } from "../status/document.ts";
import { humanBytes, humanSeconds } from "../status/human.ts";
import { type Finding, secondsBetween } from "./finding.ts";
import { lossText } from "./loss.ts";

/** A server that shuts down waits so long for a store in order. */
const SERVER_STOP_PATIENCE_SECONDS = 10;
/** A recovery point is old when it is this much older than the store's patience allows. */
const RECOVERY_POINT_SECONDS = 60;
/** Warn when the spool is fuller than this share of its limit. */
const SPOOL_SHARE_MAX = 0.8;

export function archivingFindings(status: StatusFacts): Finding[] {
  const flow = [
    ...stuckFindings(status),
    ...receivingFindings(status),
    ...serverStoppingFindings(status),
    ...storingFindings(status),
  ];
  const isFlowing = !flow.some(({ stopsArchiving }) => stopsArchiving);
  return [...flow, ...(isFlowing ? recoveryPointFindings(status) : []), ...spoolFindings(status)];
}

/** The receive loop stands still: only here can a restart of the process help. */
function stuckFindings({ state, progressAgeSeconds, limits, at }: StatusFacts): Finding[] {
  const seconds = progressAgeSeconds ?? 0;
  if (state === "failed" || seconds <= limits.progressMaxSeconds) return [];
  return [
    {
      kind: "receiver-stuck",
      severity: "critical",
      stopsArchiving: true,
      since: new Date(Date.parse(at) - seconds * 1000).toISOString(),
      what: `no progress for ${Math.round(seconds)} s (${state}); at most ${limits.progressMaxSeconds} s are normal`,
      meaning: "The receiver stands still, and new WAL does not reach the archive.",
      remedy: "Restart the receiver, and report its log: this is a bug in Seawall.",
    },
  ];
}

function receivingFindings(status: StatusFacts): Finding[] {
  const { state, at, errors, lastError, restart, storedLsn } = status;
  const common = { stopsArchiving: true } as const;
  // After a restart what earlier runs have stored is not known before the connection.
  const lost =
    storedLsn === null
      ? "WAL that the server has written meanwhile is not in the archive. Losing the server now loses it."
      : `Nothing after ${storedLsn} is in the archive. Losing the server now loses ${lossText(status)}.`;
  switch (state) {
    case "streaming":
      return [];
    case "failed": {
      const error = lastError ?? errors[0];
      const again = restart === null ? "" : `; it is started again at ${restart.at}`;
      const what = `the receiver has failed: ${error?.message ?? "see its log"}${again}`;
      const remedy = error === undefined || error.hint === "" ? "Read the receiver's log." : error.hint;
      const since = error?.at ?? null;
      return [{ ...common, kind: "receiver-failed", severity: "critical", since, what, meaning: lost, remedy }];
    }
    case "unreachable":
      return unansweredFindings(status);
    case "stopping":
    case "stopped": {
      const what = `the receiver ${state === "stopping" ? "is stopping" : "has stopped"}`;
      const meaning = "New WAL stays on the server until a receiver runs again.";
      const remedy = "Start seawall receive again.";
      return [{ ...common, kind: "receiver-stopping", severity: "warning", since: null, what, meaning, remedy }];
    }
    case "starting":
    case "connecting":
    case "waiting": {
      const since = status.notReceivingSince;
      const seconds = since === null ? 0 : secondsBetween(since, at);
      const isLasting = seconds >= status.limits.criticalAfterSeconds;
      const severity = isLasting ? "critical" : "warning";
      const found = troublesSince(since, status);
      const why = found.map(({ message }) => message).join("; ");
      const what = `no WAL has been received for ${wholeSeconds(seconds)} (${state})${why === "" ? "" : `: ${why}`}`;
      const hints = found.map(({ hint }) => hint).filter((hint) => hint !== "");
      const remedy = hints.length === 0 ? "Wait for the connection to the server." : hints.join(" ");
      return [{ ...common, kind: "not-receiving", severity, since, what, meaning: lost, remedy }];
    }
  }
}

/**
 * The newest error since then. A receiver that fails at the store does not get as far as the server: the watch over the slot asks
 * the server on its own, so its error comes first.
 */
function troublesSince(
  since: string | null,
  { errors, slotHealth, slotError }: StatusFacts,
): readonly Pick<ErrorDocument, "message" | "hint">[] {
  const newest = errors.find((one) => since === null || Date.parse(one.at) >= Date.parse(since));
  if (newest === undefined) return [];
  const isServerAway = newest.code.startsWith("store-") && slotHealth?.state === "unseen" && slotError !== null;
  return isServerAway ? [slotError, newest] : [newest];
}

/** No receiver of this cluster and store answered, so `status` has looked at the server and the store itself. */
function unansweredFindings({ errors, slot, refusal, noReceiver }: StatusFacts): Finding[] {
  const common = { severity: "critical", stopsArchiving: true, since: null } as const;
  const meaning = "As far as can be seen, no new WAL reaches the archive.";
  // A receiver that is started now ends with this.
  if (refusal !== null) {
    const kind = refusal.code === "generation-ended" ? "generation-ended" : "foreign-cluster";
    const what = `receive refuses this server: ${refusal.message}`;
    return [{ ...common, kind, what, meaning, remedy: refusal.hint }];
  }
  // Server and store may each have an error of their own.
  const told = errors.map(({ message }) => message);
  if (noReceiver?.kind === "other-store") {
    const what = [noReceiver.message, ...told].join("; ");
    const remedy =
      "Give the --store of that receiver. If another receiver stores into this archive, give its --listen address.";
    return [{ ...common, kind: "stores-elsewhere", what, meaning, remedy }];
  }
  const why = [...(noReceiver === null ? [] : [noReceiver.message]), ...told].join("; ");
  const what = `no receiver answers${why === "" ? "" : `: ${why}`}`;
  const remedy =
    slot?.active === true
      ? `A process uses the replication slot "${slot.name}": a receiver that runs and does not answer, or answers at another --listen address. Do not start a second one beside it.`
      : "Start seawall receive, or give the --listen address it was started with.";
  return [{ ...common, kind: "receiver-unreachable", what, meaning, remedy }];
}

function serverStoppingFindings({ serverStoppingSince: since, at }: StatusFacts): Finding[] {
  if (since === null) return [];
  const seconds = secondsBetween(since, at);
  return [
    {
      kind: "server-stopping",
      severity: seconds > SERVER_STOP_PATIENCE_SECONDS ? "critical" : "warning",
      stopsArchiving: true,
      since,
      what: `the server is shutting down and has waited ${humanSeconds(seconds)} for the store`,
      meaning: "The server's last WAL is not in the archive yet.",
      remedy:
        "Bring the store back. After server-stop-timeout the server ends without it, and its slot keeps that WAL.",
    },
  ];
}

/** WAL is received, and the store has confirmed nothing for longer than a healthy one needs. */
function storingFindings(status: StatusFacts): Finding[] {
  if (!status.isStoreStalled) return [];
  const { at, storeWaitError, lagBytes, errors, durability, synchronous, limits } = status;
  const waiting = lagBytes === null || lagBytes === 0 ? "WAL waits" : `${humanBytes(lagBytes)} of WAL wait`;
  const waitSeconds = status.storeWaitSeconds ?? 0;
  // An error from before the wait is not its cause.
  const sinceMs = Date.parse(at) - waitSeconds * 1000;
  const isCause = ({ code, at: erredAt }: ErrorDocument): boolean =>
    code.startsWith("store-") && Date.parse(erredAt) >= sinceMs;
  const error = storeWaitError ?? errors.find(isCause);
  const why = error === undefined ? "" : ` (last error: ${error.message})`;
  const place = storeWaitError?.place ?? "store";
  const isUpload = durability === "spool" && place === "store";
  const holdsUpCommits = place === "spool" || (synchronous && durability === "store");
  const isLasting = waitSeconds >= Math.max(limits.criticalAfterSeconds, limits.storePatienceSeconds);
  const spooled = "New WAL is on the server and in the spool alone. Losing both loses it.";
  const unstored = `New WAL is on the server alone. Losing the server now loses ${lossText(status)}.`;
  return [
    {
      kind: isUpload ? "not-uploading" : "not-storing",
      severity: holdsUpCommits || isLasting ? "critical" : "warning",
      stopsArchiving: true,
      since: new Date(sinceMs).toISOString(),
      what: `the ${place} has confirmed nothing for ${humanSeconds(waitSeconds)}, ${waiting} for it${why}`,
      meaning: `${isUpload ? spooled : unstored}${holdsUpCommits ? " Commits that wait for Seawall hang." : ""}`,
      remedy: error === undefined || error.hint === "" ? `Find out why the ${place} does not answer.` : error.hint,
    },
  ];
}

function recoveryPointFindings(status: StatusFacts): Finding[] {
  const { rpoSeconds, rpoIsAtMost, limits } = status;
  if (rpoSeconds === null || rpoSeconds <= RECOVERY_POINT_SECONDS + limits.storePatienceSeconds) return [];
  return [
    {
      kind: "recovery-point",
      severity: "warning",
      stopsArchiving: false,
      since: null,
      what:
        rpoIsAtMost === true
          ? `commits of the last ${humanSeconds(rpoSeconds)} may not be stored`
          : `the oldest commit that is not stored is ${humanSeconds(rpoSeconds)} old`,
      meaning: `WAL is being stored, but losing the server now loses ${lossText(status)}.`,
      remedy: "Wait for the receiver to catch up. If the lag grows, the store or this machine is too slow.",
    },
  ];
}

function spoolFindings({ spoolBytes, spoolLimitBytes }: StatusFacts): Finding[] {
  if (spoolBytes === null || spoolLimitBytes === null || spoolBytes <= SPOOL_SHARE_MAX * spoolLimitBytes) return [];
  return [
    {
      kind: "spool-filling",
      severity: "warning",
      stopsArchiving: false,
      since: null,
      what: `the spool holds ${humanBytes(spoolBytes)} of at most ${humanBytes(spoolLimitBytes)}`,
      meaning: "At its limit the receiver stops reading, and commits that wait for Seawall hang.",
      remedy: "Bring the store back, or raise spool-max if the disk has room.",
    },
  ];
}

/** `95 s`, `2 min 10 s`. */
function wholeSeconds(seconds: number): string {
  const rounded = Math.round(seconds);
  return rounded < 120 ? `${rounded} s` : humanSeconds(rounded);
}
