/** The status page's style and script, inline and allowed by their hashes: nothing is loaded from elsewhere. */
import { createHash } from "node:crypto";

export const PAGE_STYLE = `
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --ink: #1b2430; --dim: #5d6b7c; --line: #dde3ea;
  --good: #14804a; --warn: #9a5b00; --bad: #b3261e; --accent: #1e66b0; }
@media (prefers-color-scheme: dark) { :root { --bg: #11161d; --card: #1a212b; --ink: #e6ebf2; --dim: #93a1b3;
  --line: #2b3644; --good: #4cc38a; --warn: #e5a13c; --bad: #ff7b72; --accent: #6cb2f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, footer { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
main { padding-top: 24px; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; margin-bottom: 20px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 13px; font-weight: 600; color: var(--dim); margin: 28px 0 8px; }
.sub { flex-basis: 100%; color: var(--dim); overflow-wrap: anywhere; }
.pill { border: 1px solid currentColor; border-radius: 99px; padding: 1px 12px; font-weight: 600; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); } .dim { color: var(--dim); }
.banner { border: 1px solid var(--bad); border-left-width: 6px; background: var(--card); border-radius: 6px; padding: 10px 14px; margin-bottom: 16px; }
.warn-line { border-color: var(--warn); } .dim-line { border-color: var(--line); }
.lost { position: sticky; top: 0; margin: 0; border-radius: 0; }
.flow { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 12px; margin-top: 12px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; min-width: 0; }
.card b { display: block; font-size: 13px; font-weight: 600; color: var(--dim); }
.card strong { display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.flow strong, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.card small { color: var(--dim); font-size: 13px; }
svg { display: block; width: 100%; height: 64px; }
polyline { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; margin-top: 12px; }
.rows td { white-space: nowrap; } .rows td:last-child { white-space: normal; min-width: 220px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 8px 14px; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
th { font-size: 13px; color: var(--dim); font-weight: 600; white-space: nowrap; }
footer { color: var(--dim); font-size: 13px; padding-top: 24px; padding-bottom: 24px; }
a { color: var(--accent); }
@media (max-width: 760px) { .flow { grid-template-columns: 1fr 1fr; } .charts { grid-template-columns: 1fr; } }
@media (max-width: 420px) { .flow { grid-template-columns: 1fr; } }
`;

/** Fetches the page again and takes over its main part; leaves it alone while something in it is selected. */
export const PAGE_SCRIPT = `
const lost = document.getElementById("lost");
async function refresh() {
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const next = new DOMParser().parseFromString(await answer.text(), "text/html");
    lost.hidden = true;
    if (!getSelection().isCollapsed) return;
    document.title = next.title;
    document.querySelector("main").replaceChildren(...next.querySelector("main").childNodes);
    document.querySelector("footer").replaceChildren(...next.querySelector("footer").childNodes);
  } catch {
    lost.hidden = false;
  } finally {
    setTimeout(refresh, document.hidden ? 10000 : 2000);
  }
}
setTimeout(refresh, 2000);
`;

const hash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src ${hash(PAGE_STYLE)}`,
  `script-src ${hash(PAGE_SCRIPT)}`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");
