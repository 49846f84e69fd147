/** The page of several clusters: a line for each, with a link to its own page. Pure. */
import { humanBytes, humanSeconds } from "../status/human.ts";
import { configurationBanner, escape, htmlPage, links, statePill } from "./page.ts";
import { problemOf, storingProblemOf } from "../status/problem.ts";
import type { StatusDocument, StatusOverview } from "../status/document.ts";

export function renderOverview(overview: StatusOverview): string {
  const { clusters, configuration, version, at } = overview;
  const streaming = clusters.filter((one) => one.state === "streaming" && storingProblemOf(one) === undefined).length;
  const headline = `${streaming} of ${clusters.length} streaming`;
  const head = ["Cluster", "State", "Timeline", "Stored", "Lag", "Recovery point", "Slot", "Problem"];
  const main = [
    `<header>\n<h1>Seawall</h1>\n<span class="pill ${streaming === clusters.length ? "good" : "bad"}">${headline}</span>\n</header>`,
    configurationBanner(configuration),
    `<div class="scroll"><table class="rows"><tr>${head.map((name) => `<th scope="col">${name}</th>`).join("")}</tr>${clusters.map(line).join("")}</table></div>`,
  ];
  return htmlPage({
    title: `${headline} (Seawall)`,
    main: main.filter((part) => part !== "").join("\n"),
    footer: `${escape(`Seawall ${version}, as of ${at}. Also here: `)}${links()}`,
  });
}

function line(status: StatusDocument): string {
  const { cluster, timeline, storedLsn, lagBytes, rpoSeconds, slot } = status;
  const problem = problemOf(status);
  const cells = [
    `<a href="?cluster=${encodeURIComponent(cluster)}">${escape(cluster)}</a>`,
    statePill(status),
    timeline === null ? "–" : String(timeline),
    `<code>${escape(storedLsn ?? "–")}</code>`,
    lagBytes === null ? "–" : humanBytes(lagBytes),
    rpoSeconds === null ? "–" : humanSeconds(rpoSeconds),
    slot === null ? "–" : escape(slot.exists ? (slot.walStatus ?? "–") : "missing"),
    problem === undefined ? "" : `<span class="bad">${escape(problem)}</span>`,
  ];
  return `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
}
