/**
 * The status page: one self-contained HTML document, made from the status on every request. Pure. The script only
 * fetches it again; without scripts the page is right but does not refresh.
 */
import { bytesBetween, parseLsn } from "../../wal/lsn.ts";
import { humanBytes, humanSeconds, versionText } from "../status/human.ts";
import { PAGE_SCRIPT, PAGE_STYLE } from "./page-assets.ts";
import type { Finding, HealthWord } from "../health/finding.ts";
import type { ConfigurationView, StatusDocument } from "../status/document.ts";
import { rates, type Sample } from "../status/trend.ts";

type Tone = "good" | "warn" | "bad";

export const WORD_TONE: Readonly<Record<HealthWord, Tone>> = { ok: "good", warning: "warn", critical: "bad" };

export interface PageOptions {
  /** There is an overview above it. */
  readonly isOneOfSeveral?: boolean;
}

export function renderPage(status: StatusDocument, trend: readonly Sample[], options: PageOptions = {}): string {
  const main = [
    heading(status, options),
    findingsSection(status.health.findings),
    ...[flow(status), tiles(status, trend), charts(trend), errorTable(status)],
  ];
  return htmlPage({
    title: `${status.health.status}: ${status.cluster} (Seawall)`,
    main: main.filter((part) => part !== "").join("\n"),
    footer: footer(status, options),
  });
}

/** A whole document: what changes from one moment to the next is in `main` and `footer`. */
export function htmlPage({ title, main, footer: foot }: Readonly<Record<"title" | "main" | "footer", string>>): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
<p id="lost" class="banner lost bad" role="alert" hidden>The receiver does not answer: what is shown below is old.</p>
<main>
${main}
</main>
<footer>${foot}</footer>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

function heading(status: StatusDocument, { isOneOfSeveral }: PageOptions): string {
  const facts = [
    status.server ?? "server not known yet",
    status.serverVersion === null ? undefined : `PostgreSQL ${versionText(status.serverVersion)}`,
    status.systemIdentifier === null ? undefined : `system ${status.systemIdentifier}`,
    status.timeline === null ? undefined : `timeline ${status.timeline}`,
  ];
  const server = facts.filter((fact) => fact !== undefined).join(" · ");
  const back = isOneOfSeveral === true ? `<a class="sub" href=".">All clusters</a>\n` : "";
  return `<header>
${back}<h1>${escape(status.cluster)}</h1>
${statePill(status)}
<span class="sub">${escape(server)} → ${escape(status.store ?? "no store")}</span>
</header>`;
}

/** The word of health, and the receiver's state beside it. */
export function statePill({ health, state }: StatusDocument): string {
  return `<span class="pill ${WORD_TONE[health.status]}">${health.status}</span> <span class="dim">${state}</span>`;
}

function findingsSection(findings: readonly Finding[]): string {
  return findings.map((finding) => findingBanner(finding)).join("\n");
}

function findingBanner({ severity, since, what, meaning, remedy }: Finding): string {
  const tone = severity === "note" ? "dim" : WORD_TONE[severity];
  const when = since === null ? "" : ` <small class="dim">since <time>${escape(since)}</time></small>`;
  const heading = `<strong class="${tone}">${severity}:</strong> ${escape(what)}${when}`;
  return `<p class="banner ${tone}-line">${heading}<br>${escape(meaning)}<br><small class="dim">To do: ${escape(remedy)}</small></p>`;
}

export function configurationBanner(configuration: ConfigurationView | null): string {
  if (configuration === null || configuration.error === null) return "";
  const { at, message, hint } = configuration.error;
  return `<p class="banner"><strong class="bad">The configuration could not be reloaded:</strong> ${escape(message)}<br><small class="dim">${escape(hint)} Tried ${escape(at)}; what was loaded ${escape(configuration.loadedAt)} goes on.</small></p>`;
}

/** Server → received → verified → stored, each with its distance from the one before. */
function flow(status: StatusDocument): string {
  const stages = [
    ["Server has written", status.serverLsn],
    ["Received", status.receivedLsn],
    ["Verified", status.verifiedLsn],
    [status.durability === "spool" ? "In the spool, acknowledged" : "Stored and acknowledged", status.storedLsn],
  ] as const;
  const cards = stages.map(([name, lsn], i) => {
    const before = stages[i - 1]?.[1];
    return `<div class="card"><b>${name}</b><strong>${escape(lsn ?? "–")}</strong><small>${distance(before, lsn)}</small></div>`;
  });
  return `<section class="flow">${cards.join("")}</section>`;
}

function distance(before: string | null | undefined, lsn: string | null): string {
  if (before === undefined) return "end of its WAL";
  if (before === null || lsn === null) return "not known yet";
  const bytes = bytesBetween(parseLsn(lsn), parseLsn(before));
  return bytes <= 0 ? "up to date" : `${humanBytes(bytes)} behind`;
}

function tiles(status: StatusDocument, trend: readonly Sample[]): string {
  const rate = rates(trend).at(-1);
  const cards = [
    tile(
      "Recovery point",
      status.rpoSeconds === null ? "–" : humanSeconds(status.rpoSeconds),
      "age of the oldest commit not stored",
    ),
    tile("Lag", status.lagBytes === null ? "–" : humanBytes(status.lagBytes), "written by the server, not stored"),
    tile(
      "Receiving",
      rate === undefined ? "–" : `${humanBytes(rate)}/s`,
      `${humanBytes(status.counters?.receivedBytes ?? 0)} since start`,
    ),
    tile(
      "Segments sealed",
      String(status.counters?.segmentsSealed ?? 0),
      `${status.counters?.chunksStored ?? 0} chunks stored`,
    ),
    slotTile(status),
    spoolTile(status),
  ];
  return `<section class="tiles">${cards.join("")}</section>`;
}

function tile(name: string, value: string, note: string, tone = ""): string {
  return `<div class="card"><b>${escape(name)}</b><strong class="${tone}">${escape(value)}</strong><small>${escape(note)}</small></div>`;
}

function slotTile(status: StatusDocument): string {
  const { slot, slotError } = status;
  // Unknown without a connection.
  if (slotError !== null) return tile("Slot", "unknown", `cannot ask the server: ${slotError.message}`, "warn");
  if (slot === null && status.state !== "streaming") return tile("Slot", "–", "not known now");
  if (slot === null) return tile("Slot", "none", "the server may recycle WAL that is not stored");
  if (!slot.exists) return tile(`Slot ${slot.name}`, "missing", "the server has no such slot", "bad");
  const tone = slot.walStatus === "lost" ? "bad" : slot.walStatus === "unreserved" ? "warn" : "";
  const retained = slot.retainedBytes === null ? "–" : humanBytes(slot.retainedBytes);
  const room = slot.safeBytes === null ? "" : `, ${humanBytes(Math.max(0, slot.safeBytes))} left`;
  return tile(`Slot ${slot.name}`, `${retained} kept`, `${slot.walStatus ?? "state not known"}${room}`, tone);
}

/** With a spool "stored" is the spool's: how far the store itself is stands here. */
function spoolTile(status: StatusDocument): string {
  const { spoolBytes, spoolLimitBytes, uploadedLsn } = status;
  if (spoolBytes === null || spoolLimitBytes === null) return "";
  const full = spoolBytes > spoolLimitBytes * 0.8;
  const note = `of ${humanBytes(spoolLimitBytes)}; the store has all before ${uploadedLsn ?? "–"}`;
  return tile("Spool", humanBytes(spoolBytes), note, full ? "warn" : "");
}

function charts(trend: readonly Sample[]): string {
  const lag = trend.map((sample) => sample.lagBytes ?? 0);
  const received = rates(trend);
  if (received.length < 2) return "";
  return `<section class="charts">${chart("Lag", lag, humanBytes)}${chart("Receiving", received, (v) => `${humanBytes(v)}/s`)}</section>`;
}

function chart(name: string, values: readonly number[], label: (value: number) => string): string {
  const top = Math.max(...values, 1);
  const points = values.map((value, i) => `${i},${(60 - (value / top) * 56).toFixed(1)}`).join(" ");
  const summary = `${name}, last ten minutes: at most ${label(Math.max(...values))}`;
  return `<div class="card"><b>${escape(summary)}</b><svg role="img" aria-label="${escape(summary)}" viewBox="0 0 ${values.length - 1} 62" preserveAspectRatio="none"><polyline points="${points}"/></svg></div>`;
}

function errorTable(status: StatusDocument): string {
  if (status.errors.length === 0) return `<h2>Errors</h2><p class="dim">None since start.</p>`;
  const rows = status.errors.map(
    (error) =>
      `<tr><th scope="row"><time>${escape(error.at)}</time></th><td><code>${escape(error.code)}</code></td><td>${escape(error.message)}${error.times > 1 ? ` (${error.times} times)` : ""}<br><small class="dim">${escape(error.hint)}</small></td></tr>`,
  );
  return `<h2>Latest errors</h2><div class="scroll"><table>${rows.join("")}</table></div>`;
}

function footer(status: StatusDocument, { isOneOfSeveral }: PageOptions): string {
  const up = humanSeconds((Date.parse(status.at) - Date.parse(status.startedAt ?? status.at)) / 1000);
  return (
    escape(`Seawall ${status.version}, up ${up}, as of ${status.at}. Also here: `) +
    links(isOneOfSeveral === true ? status.cluster : undefined)
  );
}

export function links(cluster?: string): string {
  const query = cluster === undefined ? "" : `?cluster=${encodeURIComponent(cluster)}`;
  return ["status.json", "metrics", "healthz", "readyz"]
    .map((path) => `<a href="${path}${path === "metrics" ? "" : query}">/${path}</a>`)
    .join(" ");
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export function escape(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}
