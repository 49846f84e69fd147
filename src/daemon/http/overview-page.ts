/** The page of several clusters: a line for each, with a link to its own page. Pure. */
import { humanBytes, humanSeconds } from "../status/human.ts";
import { configurationBanner, escape, htmlPage, links, statePill, WORD_TONE } from "./page.ts";
import { HEALTH_WORDS, type HealthWord } from "../health/finding.ts";
import type { StatusDocument, StatusOverview } from "../status/document.ts";

export function renderOverview(overview: StatusOverview): string {
  const { clusters, configuration, version, at } = overview;
  const ok = clusters.filter(({ health }) => health.status === "ok").length;
  const headline = `${ok} of ${clusters.length} ok`;
  const head = ["Cluster", "Health", "Timeline", "Stored", "Lag", "Recovery point", "Slot", "Problem"];
  const main = [
    `<header>\n<h1>Seawall</h1>\n<span class="pill ${WORD_TONE[worstOf(clusters)]}">${headline}</span>\n</header>`,
    configurationBanner(configuration),
    `<div class="scroll"><table class="rows"><tr>${head.map((name) => `<th scope="col">${name}</th>`).join("")}</tr>${clusters.map(line).join("")}</table></div>`,
  ];
  return htmlPage({
    title: `${headline} (Seawall)`,
    main: main.filter((part) => part !== "").join("\n"),
    footer: `${escape(`Seawall ${version}, as of ${at}. Also here: `)}${links()}`,
  });
}

function worstOf(clusters: readonly StatusDocument[]): HealthWord {
  const words = clusters.map(({ health }) => health.status);
  return [...HEALTH_WORDS].reverse().find((word) => words.includes(word)) ?? "ok";
}

function line(status: StatusDocument): string {
  const { cluster, timeline, storedLsn, lagBytes, rpoSeconds, slot, health } = status;
  const problem = health.findings.find(({ severity }) => severity !== "note");
  const cells = [
    `<a href="?cluster=${encodeURIComponent(cluster)}">${escape(cluster)}</a>`,
    statePill(status),
    timeline === null ? "–" : String(timeline),
    `<code>${escape(storedLsn ?? "–")}</code>`,
    lagBytes === null ? "–" : humanBytes(lagBytes),
    rpoSeconds === null ? "–" : humanSeconds(rpoSeconds),
    slot === null ? "–" : escape(slot.exists ? (slot.walStatus ?? "–") : "missing"),
    problem === undefined ? "" : `<span class="${WORD_TONE[health.status]}">${escape(problem.what)}</span>`,
  ];
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
}
