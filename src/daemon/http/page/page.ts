/**
 * The status page of a cluster: one self-contained HTML document, made from the status on every request. Pure. The script
 * fetches it again; without scripts it is a still page that says the same.
 */
import { versionText, humanSeconds } from "../../status/human.ts";
import type { HistoryRecord } from "../../status/history.ts";
import type { RecoveryMap } from "../../status/recovery-map.ts";
import type { StatusDocument } from "../../status/document.ts";
import { PAGE_STYLE } from "./assets.ts";
import { axisSection } from "./axis.ts";
import { chartsSection } from "./charts.ts";
import { type Markup, Markup as Raw, markup, NOTHING, sentence, timeTag } from "./markup.ts";
import {
  type DocumentParts,
  errorsSection,
  findingsSection,
  flowSection,
  jobsSection,
  links,
  newsOf,
  statePill,
  tilesSection,
} from "./parts.ts";
import { encryptionLine, openEnd, recoverable } from "./recoverable.ts";
import { PAGE_SCRIPT } from "./script.ts";

export interface PageFacts {
  readonly status: StatusDocument;
  readonly history: HistoryRecord;
  /** Null while the archive has not been read. */
  readonly recovery: RecoveryMap | null;
}

export interface PageOptions {
  /** There is an overview above it. */
  readonly isOneOfSeveral?: boolean;
}

export function renderPage({ status, history, recovery }: PageFacts, options: PageOptions = {}): string {
  const { health, cluster, jobs, at } = status;
  const first = health.findings[0];
  return htmlPage({
    title: `${health.status}: ${cluster} (Seawall)`,
    news: newsOf(status),
    say: `${cluster}: ${health.status}. ${first === undefined ? "Nothing is wrong." : sentence(first.what)}`,
    main: [
      heading(status, options),
      markup`<p class="lead" id="lead">${recoverable(status, recovery)}</p>`,
      encryptionLine(status),
      findingsSection(health.findings),
      axisSection({ map: recovery, restorePoints: history.restorePoints, now: at, openEnd: openEnd(status, recovery) }),
      jobsSection(jobs),
      chartsSection(history.points, at),
      flowSection(status),
      tilesSection(status, history.points),
      errorsSection(status),
    ],
    footer: footer(status, options),
  });
}

/** Made outside the template: bundlers rewrite a tagged template in which a script ends. */
const SCRIPT = new Raw(`<script>${PAGE_SCRIPT}</script>`);

export function htmlPage({ title, news, say, main, footer: foot }: DocumentParts): string {
  const parts = main.filter(({ text }) => text !== "");
  return markup`${new Raw("<!doctype html>")}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="data:,">
<style>${new Raw(PAGE_STYLE)}</style>
</head>
<body>
<p id="lost" class="lost bad" role="alert" hidden>The receiver does not answer. The page shows its last answer.</p>
<p id="news" class="unseen" aria-live="polite"></p>
<main data-news="${news}" data-say="${say}">
${parts}
</main>
<footer>${foot}</footer>
${SCRIPT}
</body>
</html>
`.text;
}

function heading(status: StatusDocument, { isOneOfSeveral }: PageOptions): Markup {
  const facts = [
    status.server ?? "server not known yet",
    status.serverVersion === null ? undefined : `PostgreSQL ${versionText(status.serverVersion)}`,
    status.systemIdentifier === null ? undefined : `system ${status.systemIdentifier}`,
    status.timeline === null ? undefined : `timeline ${status.timeline}`,
  ];
  const server = facts.filter((fact) => fact !== undefined).join(" · ");
  const back = isOneOfSeveral === true ? markup`<a class="sub" href=".">All clusters</a>` : NOTHING;
  return markup`<header>${back}<h1>${status.cluster}</h1>${statePill(status)}<span class="sub">${`${server} → ${status.store ?? "no store"}`}</span></header>`;
}

function footer(status: StatusDocument, { isOneOfSeveral }: PageOptions): Markup {
  const up = humanSeconds((Date.parse(status.at) - Date.parse(status.startedAt ?? status.at)) / 1000);
  const own = links(isOneOfSeveral === true ? status.cluster : undefined);
  return markup`Seawall ${status.version}, up ${up}, as of ${timeTag(status.at, "second")}. Also here: ${own}<noscript>Without JavaScript this page stays as it is: load it again for newer values.</noscript>`;
}
