/** Parts of the page that cluster and overview share, and the small sections of a cluster: findings, jobs, WAL, errors. Pure. */
import { counted } from "../../../plural.ts";
import { bytesBetween, parseLsn } from "../../../wal/lsn.ts";
import { type Finding, type HealthWord, secondsBetween } from "../../health/finding.ts";
import { rpoMeaning, rpoText } from "../../health/loss.ts";
import type { JobView } from "../../jobs/scheduler.ts";
import type { NotificationsView, StatusDocument } from "../../status/document.ts";
import { HISTORY_STEP_MS, type HistoryPoint } from "../../status/history.ts";
import { humanBytes, humanSeconds } from "../../status/human.ts";
import { type Markup, markup, NOTHING, sentence, solid, table, timeTag, withTimes } from "./markup.ts";

type Tone = "good" | "warn" | "bad" | "dim" | "";

export const WORD_TONE: Readonly<Record<HealthWord, Tone>> = { ok: "good", warning: "warn", critical: "bad" };

/** The word of health, and the receiver's state beside it. */
export function statePill({ health, state }: StatusDocument): Markup {
  return markup`<span class="pill ${WORD_TONE[health.status]}">${health.status}</span> <span class="dim">${state}</span>`;
}

const GROUPS = [
  { severity: "critical", title: "Critical", tone: "bad" },
  { severity: "warning", title: "Warnings", tone: "warn" },
  { severity: "note", title: "In the past", tone: "dim" },
] as const;

export function findingsSection(findings: readonly Finding[]): Markup {
  const groups = GROUPS.map(({ severity, title, tone }) => {
    const own = findings.filter((one) => one.severity === severity);
    if (own.length === 0) return NOTHING;
    const items = own.map((one) => findingItem(one, tone));
    return markup`<section id="findings-${severity}"><h2>${title}</h2><ul class="findings">${items}</ul></section>`;
  });
  const isWell = findings.every(({ severity }) => severity === "note");
  return markup`${isWell ? markup`<p id="well" class="dim">Nothing is wrong.</p>` : NOTHING}${groups}`;
}

function findingItem({ kind, since, what, meaning, remedy }: Finding, tone: Tone): Markup {
  const when = since === null ? NOTHING : markup`<p class="dim small">Since ${timeTag(since, "second")}</p>`;
  return markup`<li class="${tone}" data-key="${kind} ${since ?? what}"><p class="what">${withTimes(sentence(what))}</p><p>${withTimes(sentence(meaning))}</p><p><strong>To do:</strong> ${withTimes(sentence(remedy))}</p>${when}</li>`;
}

export function jobsSection(jobs: readonly JobView[]): Markup {
  if (jobs.length === 0) {
    return markup`<section id="jobs"><h2>Jobs</h2><p class="dim">None is scheduled: backups, expiry, verification and drills run by hand only.</p></section>`;
  }
  const head = ["Job", "Last run", "Result", "Took", "Next run", "Schedule"];
  const rows = jobs.map((view) => {
    const { job, last, schedule, timeZone } = view;
    const took = last === null ? "–" : solid(humanSeconds(secondsBetween(last.startedAt, last.finishedAt)));
    const cells = [
      job,
      last === null ? "never" : timeTag(last.startedAt),
      jobResult(view),
      took,
      jobNext(view),
      markup`<code>${schedule}</code> <span class="dim">${timeZone}</span>`,
    ];
    return { key: job, cells };
  });
  return markup`<section id="jobs"><h2>Jobs</h2>${table({ caption: "Scheduled jobs", isNamedAbove: true, head, rows })}</section>`;
}

function jobResult({ last, lastSuccessAt }: JobView): Markup {
  if (last === null) return markup`–`;
  if (last.ok) return markup`<span class="good">passed</span>`;
  const success =
    lastSuccessAt === null ? NOTHING : markup` <span class="dim">Passed last ${timeTag(lastSuccessAt)}.</span>`;
  return markup`<span class="bad">failed</span>: <span class="long">${sentence(last.message)}</span>${success}`;
}

function jobNext({ runningSince, waitingSince, nextAt }: JobView): Markup {
  if (runningSince !== null) return markup`running since ${timeTag(runningSince)}`;
  if (waitingSince !== null) return markup`waiting for its turn since ${timeTag(waitingSince)}`;
  return nextAt === null ? markup`–` : timeTag(nextAt);
}

/** Server → received → verified → stored, each with its distance from the one before. */
export function flowSection(status: StatusDocument): Markup {
  const stages = [
    ["Server has written", status.serverLsn],
    ["Received", status.receivedLsn],
    ["Verified", status.verifiedLsn],
    [status.durability === "spool" ? "In the spool, acknowledged" : "Stored and acknowledged", status.storedLsn],
  ] as const;
  const isHeard = status.state === "streaming";
  const cards = stages.map(([name, lsn], i) => {
    const before = stages[i - 1]?.[1];
    return markup`<div class="card"><b>${name}</b><strong>${isHeard || i > 1 ? distance(before, lsn) : unheard(before, lsn)}</strong><small><code>${lsn ?? "–"}</code></small></div>`;
  });
  return markup`<section id="flow"><h2>The way of the WAL</h2><div class="flow">${cards}</div></section>`;
}

function distance(before: string | null | undefined, lsn: string | null): string {
  if (before === undefined) return lsn === null ? "not known now" : "end of its WAL";
  if (before === null || lsn === null) return "not known now";
  const bytes = bytesBetween(parseLsn(lsn), parseLsn(before));
  return bytes <= 0 ? "up to date" : `${humanBytes(bytes)} behind`;
}

/** Without a connection the server may have written more than is known. */
function unheard(before: string | null | undefined, lsn: string | null): string {
  const text = distance(before, lsn);
  if (before === undefined) return lsn === null ? text : "when last seen";
  return text === "up to date" ? "all that was seen" : text;
}

export function tilesSection(status: StatusDocument, points: readonly HistoryPoint[]): Markup {
  const latest = points.at(-1);
  const isNow =
    status.state === "streaming" && latest !== undefined && Date.parse(status.at) < latest.atMs + HISTORY_STEP_MS;
  const bytesPerSecond = isNow ? latest.walBytesPerSecond : null;
  const { lagBytes, counters, notifications } = status;
  const tiles = [
    tile("Recovery point", rpoText(status) ?? "–", rpoMeaning(status)),
    tile("Lag", lagBytes === null ? "–" : humanBytes(lagBytes), "written by the server, not stored"),
    tile(
      "Receiving",
      bytesPerSecond === null ? "–" : `${humanBytes(bytesPerSecond)}/s`,
      `${humanBytes(counters?.receivedBytes ?? 0)} since start`,
    ),
    tile(
      "Stored",
      counted(counters?.segmentsSealed ?? 0, "segment"),
      `and ${counted(counters?.chunksStored ?? 0, "chunk")}, since start`,
    ),
    slotTile(status),
    spoolTile(status),
    notificationsTile(notifications),
  ];
  return markup`<section id="tiles"><h2>Now</h2><div class="tiles">${tiles}</div></section>`;
}

function tile(name: string, value: string, note: string, tone: Tone = ""): Markup {
  return markup`<div class="card"><b>${name}</b><strong class="${tone}">${value}</strong><small>${note}</small></div>`;
}

function slotTile(status: StatusDocument): Markup {
  const { slot, slotError } = status;
  if (slotError !== null) return tile("Slot", "unknown", `cannot ask the server: ${slotError.message}`, "warn");
  // Unknown without a connection.
  if (slot === null && status.state !== "streaming") return tile("Slot", "–", "not known now");
  if (slot === null) return tile("Slot", "none", "the server may recycle WAL that is not stored");
  if (!slot.exists) return tile(`Slot ${slot.name}`, "missing", "the server has no such slot", "bad");
  const tone = slot.walStatus === "lost" ? "bad" : slot.walStatus === "unreserved" ? "warn" : "";
  const retained = slot.retainedBytes === null ? "–" : humanBytes(slot.retainedBytes);
  const room = slot.safeBytes === null ? "" : `, ${humanBytes(Math.max(0, slot.safeBytes))} left`;
  return tile(`Slot ${slot.name}`, `${retained} kept`, `${slot.walStatus ?? "state not known"}${room}`, tone);
}

/** With a spool "stored" is the spool's: how far the store itself is stands here. */
function spoolTile({ spoolBytes, spoolLimitBytes, uploadedLsn }: StatusDocument): Markup {
  if (spoolBytes === null || spoolLimitBytes === null) return NOTHING;
  const isFull = spoolBytes > spoolLimitBytes * 0.8;
  const note = `of ${humanBytes(spoolLimitBytes)}; the store has all before ${uploadedLsn ?? "–"}`;
  return tile("Spool", humanBytes(spoolBytes), note, isFull ? "warn" : "");
}

function notificationsTile(notifications: NotificationsView | null): Markup {
  if (notifications === null) return tile("Notifications", "none", "no webhook and no command is set");
  const tiles = notifications.channels.map(({ channel, delivered, failed, dropped, waiting }) => {
    const lostCount = failed + dropped;
    const value = lostCount === 0 ? `${delivered} delivered` : `${lostCount} not delivered`;
    const note = `${delivered} delivered, ${failed} failed, ${dropped} dropped, ${waiting} waiting`;
    return tile(`Notifications: ${channel}`, value, note, lostCount === 0 ? "" : "warn");
  });
  return markup`${tiles}`;
}

export function errorsSection({ errors }: StatusDocument): Markup {
  if (errors.length === 0) {
    return markup`<section id="errors"><h2>Errors</h2><p class="dim">None since the start.</p></section>`;
  }
  const rows = errors.map(({ at, code, message, hint, times }) => ({
    key: `${at} ${code}`,
    cells: [
      timeTag(at, "second"),
      markup`<code>${code}</code>`,
      markup`<span class="long">${sentence(message)}${times > 1 ? ` (${times} times)` : ""} <span class="dim">${hint}</span></span>`,
    ],
  }));
  const parts = {
    caption: "Newest first, with those that a later try has overcome",
    head: ["Time", "Code", "Error"],
  };
  return markup`<section id="errors"><h2>Errors</h2>${table({ ...parts, rows })}</section>`;
}

/** A whole document: what changes from one moment to the next is in `main` and `footer`. `news`: changes with what is said. */
export interface DocumentParts {
  readonly title: string;
  /** Changes when the word of health or a finding does; numbers in a sentence do not count. */
  readonly news: string;
  /** Told to a screen reader when `news` changes. */
  readonly say: string;
  readonly main: readonly Markup[];
  readonly footer: Markup;
}

export function newsOf({ cluster, health }: StatusDocument): string {
  return JSON.stringify([
    cluster,
    health.status,
    health.findings.map(({ kind, severity, since }) => [kind, severity, since]),
  ]);
}

export function links(cluster?: string): Markup {
  const query = cluster === undefined ? "" : `?cluster=${encodeURIComponent(cluster)}`;
  const paths = ["status.json", "metrics", "healthz", "readyz"];
  return markup`${paths.map((path) => markup`<a href="${path}${path === "metrics" ? "" : query}">/${path}</a> `)}`;
}
