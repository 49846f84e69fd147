/**
 * The page's script, as text. It shows times in the browser's zone, makes sliders of the charts, and fetches the page again to
 * take over what has changed: elements stay the same, so that focus, opened tables and a chart's cursor stay, too.
 */
import { humanBytes, humanSeconds, threeDigits } from "../../status/human.ts";
import { timeText } from "./markup.ts";

/** The functions that write numbers and times on the server write them in the browser as well. */
const SHARED = [threeDigits, humanBytes, humanSeconds, timeText].map(String).join("\n");

export const PAGE_SCRIPT = `
${SHARED}
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const cursors = new Map();

function localise(root) {
  for (const one of root.querySelectorAll("[data-as]")) {
    const ms = one.dataset.time ? Number(one.dataset.time) : Date.parse(one.getAttribute("datetime"));
    one.textContent = timeText(ms, one.dataset.as, zone);
  }
  for (const one of root.querySelectorAll("[data-zone]")) one.textContent = zone;
}

// A chart's points: [milliseconds, value, peak], without those that have no value.
function pointsOf({ dataset: { start, step, values, peaks } }) {
  const high = peaks.split(",");
  return values.split(",").flatMap((value, i) =>
    value === "" ? [] : [[Number(start) + i * Number(step), Number(value), high[i] ? Number(high[i]) : undefined]]);
}

function valueText(value, unit) {
  return unit === "seconds" ? humanSeconds(value) : humanBytes(value) + (unit === "rate" ? "/s" : "");
}

function sliders(root) {
  for (const chart of root.querySelectorAll("[data-chart]")) {
    const points = pointsOf(chart);
    if (points.length === 0) continue;
    const { chart: id, unit, from, to } = chart.dataset;
    const asked = cursors.get(id);
    const at = asked === undefined ? -1 : points.findIndex(([ms]) => ms === asked);
    if (at < 0) cursors.delete(id);
    const shown = points[at < 0 ? points.length - 1 : at];
    const peak = shown[2] === undefined ? "" : ", slowest " + valueText(shown[2], unit);
    const text = timeText(shown[0], "minute", zone) + ": " + valueText(shown[1], unit) + peak;
    const set = (name, value) => chart.getAttribute(name) !== String(value) && chart.setAttribute(name, value);
    set("role", "slider");
    set("tabindex", 0);
    // Its name stays the same while numbers change, so that it is not read out again.
    chart.removeAttribute("aria-label");
    set("aria-labelledby", id + "-title");
    set("aria-valuemin", 0);
    set("aria-valuemax", points.length - 1);
    set("aria-valuenow", at < 0 ? points.length - 1 : at);
    set("aria-valuetext", text);
    const line = chart.querySelector(".cursor");
    line.setAttribute("visibility", at < 0 ? "hidden" : "visible");
    const x = at < 0 ? "0" : Math.max(0, ((shown[0] - from) / (to - from)) * 100).toFixed(2) + "%";
    for (const name of ["x1", "x2"]) line.setAttribute(name, x);
    if (at >= 0) root.querySelector("#" + id + "-readout").textContent = text;
  }
}

function point(chart, choose) {
  const points = pointsOf(chart);
  if (points.length === 0) return;
  const now = points.findIndex(([ms]) => ms === cursors.get(chart.dataset.chart));
  const next = points[Math.min(points.length - 1, Math.max(0, choose(now < 0 ? points.length - 1 : now, points)))];
  cursors.set(chart.dataset.chart, next[0]);
  sliders(document);
}

function release(chart) {
  if (!cursors.delete(chart.dataset.chart)) return;
  document.getElementById(chart.dataset.chart + "-readout").textContent = chart.dataset.summary;
  sliders(document);
}

const MOVES = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -12, PageUp: 12, Home: -1e6, End: 1e6 };
document.addEventListener("keydown", (event) => {
  const chart = event.target.closest("[data-chart]");
  if (chart === null || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") return release(chart);
  const move = MOVES[event.key];
  if (move === undefined) return;
  event.preventDefault();
  point(chart, (at) => at + move);
});
document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest("[data-chart]");
  if (chart === null) return;
  const { left, width } = chart.getBoundingClientRect();
  const { from, to } = chart.dataset;
  const ms = Number(from) + ((event.clientX - left) / width) * (to - from) - chart.dataset.step / 2;
  point(chart, (_, points) => {
    let best = 0;
    points.forEach(([one], i) => { if (Math.abs(one - ms) < Math.abs(points[best][0] - ms)) best = i; });
    return best;
  });
});
document.addEventListener("pointerout", (event) => {
  const chart = event.target.closest("[data-chart]");
  if (chart !== null && !chart.contains(event.relatedTarget) && document.activeElement !== chart) release(chart);
});
document.addEventListener("focusin", (event) => event.target.matches("[data-chart]") && point(event.target, (at) => at));
document.addEventListener("focusout", (event) => event.target.matches("[data-chart]") && release(event.target));

function keyOf(node) {
  return node.nodeType === 1 ? node.getAttribute("data-key") || node.id : "";
}

// Makes \`old\` equal to \`next\`, and keeps every element that both have. What a reader has opened stays open.
function take(old, next) {
  for (const { name } of [...old.attributes])
    if (name !== "open" && !next.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of next.attributes)
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = old.firstChild;
  for (const fresh of [...next.childNodes]) {
    const key = keyOf(fresh);
    const isLike = at !== null && keyOf(at) === "" && at.nodeName === fresh.nodeName;
    const same = key !== "" ? keyed.get(key) : isLike ? at : undefined;
    keyed.delete(key);
    if (same === undefined || same.nodeName !== fresh.nodeName) {
      old.insertBefore(fresh, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    if (same.nodeType === 1) take(same, fresh);
    else if (same.data !== fresh.data) same.data = fresh.data;
  }
  while (at !== null) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

const lost = document.getElementById("lost");
const news = document.getElementById("news");
let told = document.querySelector("main").dataset.news;

async function refresh() {
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    lost.hidden = true;
    if (!getSelection().isCollapsed) return;
    localise(next);
    sliders(next);
    const focused = document.activeElement;
    document.title = next.title;
    for (const name of ["main", "footer"]) take(document.querySelector(name), next.querySelector(name));
    // An element that was moved has lost the focus.
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    const main = document.querySelector("main");
    if (main.dataset.news !== told) news.textContent = main.dataset.say;
    told = main.dataset.news;
  } catch {
    lost.hidden = false;
  } finally {
    setTimeout(refresh, document.hidden ? 10000 : 2000);
  }
}
localise(document);
sliders(document);
setTimeout(refresh, 2000);
`;
