/**
 * Finds in a cluster's status what to report. Each look states all current problems; already-reported.ts decides which
 * are new. Pure.
 */
import { bytesBetween, parseLsn } from "../../wal/lsn.ts";
import { humanBytes, humanSeconds } from "../status/human.ts";
import type { Notice } from "./notice.ts";
import type { JobView } from "../jobs/scheduler.ts";
import type { GapDocument, RivalDocument, StatusDocument } from "../status/document.ts";

export interface WatchOptions {
  readonly notifyAfterMs: number;
  readonly shipIntervalMs: number;
}

/** How far WAL had got, and when that was last in order: it moved on, or there was nothing to do. */
interface Track {
  readonly lsn: string | null;
  readonly okMs: number;
  /** Since when it has been in order without a longer pause. */
  readonly wellSinceMs: number | undefined;
}

type SlotHealth = "ok" | "endangered" | "lost";

export interface Watch {
  readonly startedMs: number;
  readonly stored: Track;
  readonly uploaded: Track;
  readonly slot: { readonly health: SlotHealth; readonly sinceMs: number };
}

/** Report recovery after this long without trouble. */
const WELL_MS = 30_000;
/** A slot is looked at every 15 seconds; what one look shows may be over at the next. */
const SLOT_SETTLED_MS = 20_000;
/** A pause between two signs of progress that is none of our business. */
const QUIET_MS = 5_000;
/** A gap found that long before this daemon's start may not have been told by the one before. */
const GAP_NEWS_MS = 3_600_000;
const MISSED_AFTER_MS = 15 * 60_000;
/** Warn when no more than this share of the WAL that the server may keep is left. */
const SAFE_SHARE_LITTLE = 0.2;
const SAFE_SHARE_ENOUGH = 0.4;

export function beginWatch(nowMs: number): Watch {
  const track = { lsn: null, okMs: nowMs, wellSinceMs: undefined };
  return { startedMs: nowMs, stored: track, uploaded: track, slot: { health: "ok", sinceMs: nowMs } };
}

export function decideNotices(
  before: Watch,
  status: StatusDocument,
  options: WatchOptions,
): { readonly watch: Watch; readonly notices: readonly Notice[] } {
  const nowMs = Date.parse(status.at);
  const watch: Watch = {
    startedMs: before.startedMs,
    stored: follow(before.stored, { lsn: status.storedLsn, isIdle: isIdle(status), nowMs }, options),
    uploaded: follow(before.uploaded, { lsn: status.uploadedLsn, isIdle: isUploaded(status), nowMs }, options),
    slot: followSlot(before.slot, status, nowMs),
  };
  // The process is ending: WAL that is not received then is no problem.
  const isLeaving = status.state === "stopping" || status.state === "stopped" || status.state === "failed";
  const notices = [
    ...(isLeaving ? [] : trackNotices(watch.stored, "receiver", status, options)),
    ...(isLeaving || status.durability !== "spool" ? [] : trackNotices(watch.uploaded, "uploads", status, options)),
    ...slotNotices(watch, status, options),
    ...status.gaps
      .filter((gap) => Date.parse(gap.detectedAt) >= watch.startedMs - GAP_NEWS_MS)
      .map((gap) => gapNotice(gap)),
    ...(status.rivals ?? []).filter(({ isActive }) => isActive).map((rival) => rivalNotice(rival, status)),
    ...status.jobs.flatMap((job) => missedNotice(job, watch, status)),
  ];
  return { watch, notices };
}

/** Streaming, and no commit waits to be stored. */
function isIdle({ state, rpoSeconds }: StatusDocument): boolean {
  return state === "streaming" && rpoSeconds === 0;
}

/** The store has all that is in the spool. Before it has anything, there may be nothing to have. */
function isUploaded({ uploadedLsn, storedLsn, counters }: StatusDocument): boolean {
  if (storedLsn === null) return true;
  if (uploadedLsn === null) return counters === null || counters.chunksStored + counters.segmentsSealed === 0;
  return bytesBetween(parseLsn(uploadedLsn), parseLsn(storedLsn)) <= 0;
}

function follow(
  before: Track,
  seen: { readonly lsn: string | null; readonly isIdle: boolean; readonly nowMs: number },
  { shipIntervalMs }: WatchOptions,
): Track {
  const { lsn, nowMs } = seen;
  const moved = lsn !== null && before.lsn !== null && lsn !== before.lsn;
  // A clock that was set back must not postpone the alarm by as much.
  const okMs = moved || seen.isIdle ? nowMs : Math.min(before.okMs, nowMs);
  const paused = nowMs - okMs > 2 * shipIntervalMs + QUIET_MS;
  const wellSinceMs = paused ? undefined : (before.wellSinceMs ?? (okMs === nowMs ? nowMs : undefined));
  return { lsn: lsn ?? before.lsn, okMs, wellSinceMs };
}

function trackNotices(
  { okMs, wellSinceMs }: Track,
  subject: "receiver" | "uploads",
  status: StatusDocument,
  { notifyAfterMs, shipIntervalMs }: WatchOptions,
): Notice[] {
  const nowMs = Date.parse(status.at);
  const at = new Date(nowMs);
  const { storedLsn, rpoSeconds } = status;
  const isReceiving = status.state === "streaming";
  // A chunk is stored only so often.
  const patienceMs = notifyAfterMs + (isReceiving ? 2 * shipIntervalMs : 0);
  if (nowMs - okMs >= patienceMs) {
    const kind = subject === "uploads" ? "not-uploading" : isReceiving ? "not-storing" : "not-receiving";
    // What failed since, if anything did.
    const error = status.errors.find((one) => Date.parse(one.at) >= okMs);
    const why = error === undefined ? "" : `: ${error.message} [${error.code}]`;
    const details = {
      kind,
      since: new Date(okMs).toISOString(),
      storedLsn,
      rpoSeconds,
      code: error?.code ?? null,
      message: error?.message ?? null,
      hint: error?.hint ?? null,
    };
    const text = `no WAL has been ${PARTICIPLE[kind]} for ${wholeSeconds(nowMs - okMs)}${why}`;
    return [{ event: "receiver-stalled", subject, kind: "state", state: kind, at, text, details }];
  }
  if (wellSinceMs === undefined || nowMs - wellSinceMs < Math.min(notifyAfterMs, WELL_MS)) return [];
  const done = subject === "uploads" ? "uploaded" : "received and stored";
  const text = `WAL is being ${done} again, up to ${storedLsn ?? "an unknown LSN"}`;
  return [{ event: "receiver-recovered", subject, kind: "end", state: "well", at, text, details: { storedLsn } }];
}

/** `95 s`, `2 min 10 s`. */
function wholeSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s` : humanSeconds(seconds);
}

const PARTICIPLE = { "not-receiving": "received", "not-storing": "stored", "not-uploading": "uploaded to the store" };

function followSlot(before: Watch["slot"], { slot }: StatusDocument, nowMs: number): Watch["slot"] {
  // The server could not be asked: the earlier answer stays.
  if (slot === null) return before;
  const health = slotHealth(slot, before.health);
  return { health, sinceMs: health === before.health ? Math.min(before.sinceMs, nowMs) : nowMs };
}

function slotHealth(slot: NonNullable<StatusDocument["slot"]>, before: SlotHealth): SlotHealth {
  const { exists, walStatus, safeBytes, retainedBytes } = slot;
  if (!exists || walStatus === "lost" || walStatus === null) return "lost";
  if (walStatus === "unreserved") return "endangered";
  if (safeBytes === null || retainedBytes === null) return "ok";
  const share = Math.max(0, safeBytes) / Math.max(1, retainedBytes + Math.max(0, safeBytes));
  return share < (before === "endangered" ? SAFE_SHARE_ENOUGH : SAFE_SHARE_LITTLE) ? "endangered" : "ok";
}

function slotNotices({ slot: { health, sinceMs } }: Watch, status: StatusDocument, options: WatchOptions): Notice[] {
  const nowMs = Date.parse(status.at);
  const { slot } = status;
  if (slot === null || nowMs - sinceMs < Math.min(options.notifyAfterMs, SLOT_SETTLED_MS)) return [];
  const { name, exists, walStatus, retainedBytes, safeBytes } = slot;
  const common = {
    subject: "slot",
    at: new Date(nowMs),
    details: { slot: name, exists, walStatus, retainedBytes, safeBytes },
  };
  const called = `the replication slot "${name}"`;
  if (health === "ok") {
    const text = `${called} is in order again: ${walStatus ?? "unknown"}`;
    return [{ ...common, event: "slot-recovered", kind: "end", state: "ok", text }];
  }
  if (health === "lost") {
    const what = !exists
      ? "is missing on the server"
      : walStatus === "lost"
        ? "was given up by the server"
        : "keeps no WAL";
    return [{ ...common, event: "slot-lost", kind: "state", state: "lost", text: `${called} ${what}` }];
  }
  const left = safeBytes === null ? "" : `, ${humanBytes(Math.max(0, safeBytes))} are left`;
  const text = `the server is about to give up ${called}: it is ${walStatus ?? "unknown"}${left}`;
  return [{ ...common, event: "slot-endangered", kind: "state", state: "endangered", text }];
}

function gapNotice({ timeline, fromLsn, toLsn, detectedAt, reason }: GapDocument): Notice {
  return {
    event: "gap-recorded",
    subject: `gap ${timeline} ${fromLsn} ${toLsn}`,
    kind: "once",
    state: "recorded",
    at: new Date(detectedAt),
    text: `WAL from ${fromLsn} to ${toLsn} on timeline ${timeline} was lost before it could be archived; take a base backup now`,
    details: { timeline, fromLsn, toLsn, detectedAt, reason },
  };
}

function rivalNotice({ timeline, kind, endLsn, text }: RivalDocument, status: StatusDocument): Notice {
  return {
    event: "rival-found",
    subject: `rival ${timeline}`,
    kind: "state",
    state: kind,
    at: new Date(status.at),
    text: `another server writes into this archive: ${text}`,
    details: { timeline, kind, endLsn },
  };
}

function missedNotice(view: JobView, { startedMs }: Watch, status: StatusDocument): Notice[] {
  const { job, schedule, timeZone, scheduledAt, runningSince, waitingSince } = view;
  // A daemon that does not receive leaves the jobs to the one that does, and looks again when its turn comes.
  if (scheduledAt === null || status.state !== "streaming") return [];
  const begunMs = runningSince === null ? Date.parse(status.at) : Date.parse(runningSince);
  const dueMs = Date.parse(scheduledAt);
  if (begunMs - dueMs < MISSED_AFTER_MS) return [];
  const other = status.jobs.find((one) => one.job !== job && one.runningSince !== null);
  const isBehind = other !== undefined || waitingSince !== null;
  const reason = dueMs < startedMs ? "daemon-away" : isBehind ? "job-in-the-way" : "not-receiving";
  const why = {
    "daemon-away": "the daemon was away",
    "job-in-the-way": `${other?.job ?? "a job of another cluster"} was in the way`,
    "not-receiving": "the receiver was not streaming",
  }[reason];
  return [
    {
      event: "schedule-missed",
      subject: `schedule ${job} ${scheduledAt}`,
      kind: "once",
      state: "missed",
      at: new Date(status.at),
      text: `the scheduled ${job} was due at ${scheduledAt} and did not begin: ${why}`,
      details: { job, schedule, timeZone, dueAt: scheduledAt, reason },
    },
  ];
}
