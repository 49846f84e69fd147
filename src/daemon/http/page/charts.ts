/**
 * Four charts of the last 24 hours: commits not stored, lag, WAL rate, PUT time. Each is a picture without a script; with it, a
 * slider over its points. Pure.
 */
import { HISTORY_POINTS_MAX, HISTORY_STEP_MS, type HistoryPoint } from "../../status/history.ts";
import { humanBytes, humanSeconds } from "../../status/human.ts";
import { type Markup, markup, timeLabel } from "./markup.ts";
import { niceTicks, niceTop, type Unit } from "./scale.ts";

const TOP = 6;
const HEIGHT = 100;
const WIDTH = 1000;

interface Chart {
  readonly id: string;
  readonly title: string;
  readonly unit: Unit;
  readonly value: (point: HistoryPoint) => number | null;
  readonly peak?: (point: HistoryPoint) => number | null;
}

const CHARTS: readonly Chart[] = [
  {
    id: "rpo",
    title: "Age of the oldest commit not stored",
    unit: "seconds",
    value: ({ rpoSeconds }) => rpoSeconds,
  },
  { id: "lag", title: "Lag: WAL not stored", unit: "bytes", value: ({ lagBytes }) => lagBytes },
  { id: "rate", title: "WAL received per second", unit: "rate", value: ({ walBytesPerSecond }) => walBytesPerSecond },
  {
    id: "put",
    title: "Time of a PUT: mean, and slowest (thin)",
    unit: "seconds",
    value: ({ putSeconds }) => putSeconds,
    peak: ({ putSecondsMax }) => putSecondsMax,
  },
];

export function chartsSection(points: readonly HistoryPoint[], now: string): Markup {
  const toMs = Date.parse(now);
  if (points.length === 0) {
    return markup`<section id="charts"><h2>The last 24 hours</h2><p class="dim">No numbers yet.</p></section>`;
  }
  const first = points[0]?.atMs ?? toMs;
  const fromMs = Math.max(toMs - HISTORY_POINTS_MAX * HISTORY_STEP_MS, Math.min(first, toMs - 3_600_000));
  const cards = CHARTS.map((chart) => card(chart, points, { fromMs, toMs }));
  return markup`<section id="charts"><h2>The last 24 hours</h2><div class="charts">${cards}</div>
<p class="dim small">One point is five minutes; times in <span data-zone>UTC</span>. With the keyboard: Tab to a chart, then the arrow keys.</p></section>`;
}

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

function card(chart: Chart, points: readonly HistoryPoint[], span: Span): Markup {
  const { id, title, unit, value, peak } = chart;
  const values = points.flatMap((point) => value(point) ?? []);
  const largest = Math.max(0, ...values, ...points.flatMap((point) => peak?.(point) ?? []));
  const top = niceTop(largest, unit);
  const last = values.at(-1);
  const summary = last === undefined ? "No values." : `Latest ${inUnit(last, unit)}; largest ${inUnit(largest, unit)}.`;
  const lines = [
    ...(peak === undefined ? [] : pathsOf(points, { value: peak, top, span, kind: "peak" })),
    ...pathsOf(points, { value, top, span, kind: "line" }),
  ];
  const levels = [1, 0.5, 0];
  const grid = levels.map((share) => {
    const y = TOP + HEIGHT * (1 - share);
    return markup`<line class="rule" x1="0" x2="100%" y1="${y}" y2="${y}"/>`;
  });
  const units = levels.map((share) => markup`<span>${roundText(top * share, unit)}</span>`);
  const ticks = niceTicks(span.fromMs, span.toMs, 4).map(({ ms, style }) => {
    const at = ((ms - span.fromMs) / (span.toMs - span.fromMs)) * 100;
    const anchor = at < 8 ? "start" : at > 92 ? "end" : "middle";
    const x = `${at.toFixed(2)}%`;
    const place = markup`x="${x}" y="${TOP + HEIGHT + 18}" text-anchor="${anchor}"`;
    return markup`<line class="rule" x1="${x}" x2="${x}" y1="${TOP + HEIGHT}" y2="${TOP + HEIGHT + 4}"/>${timeLabel(ms, style, place)}`;
  });
  const drawn = markup`<svg class="plot" height="${TOP + HEIGHT + 24}" aria-hidden="true">${grid}${ticks}<svg y="${TOP}" width="100%" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none">${lines}</svg><line class="cursor" visibility="hidden" x1="0" x2="0" y1="${TOP}" y2="${TOP + HEIGHT}"/></svg>`;
  return markup`<div class="card" data-key="${id}"><h3 id="${id}-title">${title}</h3><p class="readout" id="${id}-readout">${summary}</p><div class="frame"><div class="units" aria-hidden="true">${units}</div><div class="chart" id="${id}-chart" role="img" aria-label="${`${title}. ${summary}`}" data-chart="${id}" data-summary="${summary}" data-unit="${unit}" data-from="${span.fromMs}" data-to="${span.toMs}" ${dataOf(points, chart)}>${drawn}</div></div></div>`;
}

/** The points for the script, one a step from the first on; empty where nothing is known. */
function dataOf(points: readonly HistoryPoint[], { value, peak }: Chart): Markup {
  const start = points[0]?.atMs ?? 0;
  const byStep = new Map(points.map((point) => [Math.round((point.atMs - start) / HISTORY_STEP_MS), point]));
  const steps = Math.max(...byStep.keys()) + 1;
  const list = (read: (point: HistoryPoint) => number | null): string =>
    Array.from({ length: steps }, (_, i) => {
      const point = byStep.get(i);
      return point === undefined ? "" : (read(point) ?? "");
    }).join(",");
  const peaks = peak === undefined ? "" : list(peak);
  return markup`data-start="${start}" data-step="${HISTORY_STEP_MS}" data-values="${list(value)}" data-peaks="${peaks}"`;
}

interface Path {
  readonly value: (point: HistoryPoint) => number | null;
  readonly top: number;
  readonly span: Span;
  readonly kind: "line" | "peak";
}

/** One line for each stretch without a hole: where nothing was measured nothing is drawn. */
function pathsOf(points: readonly HistoryPoint[], { value, top, span, kind }: Path): Markup[] {
  const stretches: string[][] = [];
  let beforeMs = Number.NEGATIVE_INFINITY;
  for (const point of points) {
    const shown = value(point);
    if (shown === null) continue;
    if (point.atMs - beforeMs > HISTORY_STEP_MS * 1.5) stretches.push([]);
    beforeMs = point.atMs;
    const x = Math.max(0, ((point.atMs - span.fromMs) / (span.toMs - span.fromMs)) * WIDTH);
    stretches.at(-1)?.push(`${x.toFixed(1)},${(HEIGHT * (1 - shown / top)).toFixed(1)}`);
  }
  return stretches.map((stretch) => {
    const [first = ""] = stretch;
    // A single point would be no line.
    const drawn =
      stretch.length > 1 ? stretch.join(" ") : `${first} ${first.replace(/^[\d.]+/, (x) => String(Number(x) + 3))}`;
    return markup`<polyline class="${kind}" points="${drawn}"/>`;
  });
}

function inUnit(value: number, unit: Unit): string {
  if (unit === "seconds") return humanSeconds(value);
  return unit === "rate" ? `${humanBytes(value)}/s` : humanBytes(value);
}

/** Without a remainder of zero: 30 min, not 30 min 0 s. */
function roundText(value: number, unit: Unit): string {
  return inUnit(value, unit).replace(/(?<=\D) 0 (s|min|h)$/, "");
}
