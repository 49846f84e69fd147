/** The page of several clusters: those in trouble first, each with a link to its own page. Pure. */
import { HEALTH_WORDS, type HealthWord } from "../../health/finding.ts";
import { rpoText } from "../../health/loss.ts";
import { recoverableSince } from "../../status/contents.ts";
import type { ConfigurationView, StatusDocument, StatusOverview } from "../../status/document.ts";
import { humanBytes } from "../../status/human.ts";
import { type Markup, markup, NOTHING, sentence, solid, table, timeTag, withTimes } from "./markup.ts";
import { links, newsOf, statePill, WORD_TONE } from "./parts.ts";
import { htmlPage } from "./page.ts";

export function renderOverview({ clusters, configuration, version, at }: StatusOverview): string {
  const sorted = troubleFirst(clusters);
  const ok = clusters.filter(({ health }) => health.status === "ok").length;
  const headline = `${ok} of ${clusters.length} ok`;
  const worst = sorted[0]?.health.status ?? "ok";
  const ill = sorted
    .filter(({ health }) => health.status !== "ok")
    .map(({ cluster, health }) => `${cluster} ${health.status}`);
  const head = [
    "Cluster",
    "Health",
    "What is wrong",
    "Recoverable since",
    "Recovery point",
    "Lag",
    "Last backup",
    "Slot",
  ];
  return htmlPage({
    title: `${headline} (Seawall)`,
    news: sorted.map((one) => newsOf(one)).join(),
    say: `${headline}. ${ill.join(", ")}`,
    main: [
      markup`<header><h1>Seawall</h1><span class="pill ${WORD_TONE[worst]}">${headline}</span></header>`,
      markup`<p class="lead" id="lead">${leadOf(sorted)}</p>`,
      configurationNotice(configuration),
      markup`<section id="clusters">${table({ caption: "Clusters, trouble first", head, rows: sorted.map(row) })}</section>`,
    ],
    footer: markup`Seawall ${version}, as of ${timeTag(at, "second")}. Also here: ${links()}`,
  });
}

/** By the word of health, the gravest first; then by name. Pure. */
export function troubleFirst(clusters: readonly StatusDocument[]): StatusDocument[] {
  const rank = ({ health }: StatusDocument): number => HEALTH_WORDS.indexOf(health.status);
  return [...clusters].sort((a, b) => rank(b) - rank(a) || a.cluster.localeCompare(b.cluster, "en"));
}

function leadOf(sorted: readonly StatusDocument[]): string {
  const names = (word: HealthWord): string =>
    sorted
      .filter(({ health }) => health.status === word)
      .map(({ cluster }) => cluster)
      .join(", ");
  const [critical, warning] = [names("critical"), names("warning")];
  if (critical === "" && warning === "") return "All clusters are archived, and nothing is wrong.";
  return [critical === "" ? "" : `Critical: ${critical}.`, warning === "" ? "" : `Warning: ${warning}.`]
    .join(" ")
    .trim();
}

/** Each cluster has the same notice among its findings; without any cluster it stands only here. */
function configurationNotice(configuration: ConfigurationView | null): Markup {
  if (configuration === null || configuration.error === null) return NOTHING;
  const { at, message, hint } = configuration.error;
  return markup`<ul class="findings" id="configuration"><li class="warn"><p class="what">${sentence(`the configuration could not be reloaded: ${message}`)}</p><p>${hint}</p><p class="dim small">Tried ${timeTag(at, "second")}. The configuration that was loaded ${timeTag(configuration.loadedAt, "second")} stays in use.</p></li></ul>`;
}

function row(status: StatusDocument): { readonly key: string; readonly cells: readonly (Markup | string)[] } {
  const { cluster, lagBytes, slot, health, archive } = status;
  const problem = health.findings.find(({ severity }) => severity !== "note");
  const since = recoverableSince(status);
  const more = health.findings.filter(({ severity }) => severity !== "note").length - 1;
  const also = more > 0 ? ` (and ${more} more)` : "";
  return {
    key: cluster,
    cells: [
      markup`<a href="?cluster=${encodeURIComponent(cluster)}">${cluster}</a>`,
      statePill(status),
      problem === undefined
        ? markup`<span class="nothing">–</span>`
        : markup`<span class="long">${withTimes(sentence(problem.what))}${also}</span>`,
      since === null ? "–" : timeTag(since),
      solid(rpoText(status) ?? "–"),
      lagBytes === null ? "–" : solid(humanBytes(lagBytes)),
      archive?.backup ? timeTag(archive.backup.finishedAt) : "–",
      slot === null ? "–" : slot.exists ? (slot.walStatus ?? "–") : "missing",
    ],
  };
}
