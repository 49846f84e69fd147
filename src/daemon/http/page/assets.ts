/** The page's style and its Content-Security-Policy. Style and script are inline and allowed by their hashes; nothing is loaded. */
import { createHash } from "node:crypto";
import { PAGE_SCRIPT } from "./script.ts";

const LIGHT = `--bg: #f4f6f8; --card: #fff; --ink: #18212c; --dim: #51606f; --line: #d5dce4; --grid: #e3e8ee;
  --good: #0d6b3c; --warn: #8a4b00; --bad: #b01f17; --accent: #1a5fa8; --window: #2f9e62; --peak: #9db9d8;`;
const DARK = `--bg: #10151c; --card: #19202a; --ink: #e8edf3; --dim: #a3b1c2; --line: #34404f; --grid: #28323f;
  --good: #58d196; --warn: #f0b155; --bad: #ff8f87; --accent: #7cbcfa; --window: #2e8f5c; --peak: #6d8cad;`;

export const PAGE_STYLE = `
:root { color-scheme: light dark; ${LIGHT} }
@media (prefers-color-scheme: dark) { :root { ${DARK} } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main, footer { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
main { padding-top: 20px; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 14px; }
h1 { font-size: 22px; margin: 0; }
h2 { font-size: 17px; margin: 28px 0 8px; }
h3 { font-size: 14px; margin: 0; }
p { margin: 0; }
.sub { flex-basis: 100%; color: var(--dim); font-size: 13px; }
.pill { white-space: nowrap; border: 2px solid currentColor; border-radius: 99px; padding: 0 12px; font-weight: 700; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); } .dim { color: var(--dim); }
.small { font-size: 13px; }
.lead { font-size: 19px; line-height: 1.4; margin: 14px 0 4px; }
.lost { position: sticky; top: 0; z-index: 1; background: var(--card); border: 2px solid var(--bad); padding: 8px 14px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.findings { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px; }
.findings > li { background: var(--card); border: 1px solid var(--line); border-left: 6px solid; border-radius: 6px; padding: 10px 14px; }
.findings > .bad { border-left-color: var(--bad); } .findings > .warn { border-left-color: var(--warn); }
.findings > .dim { border-left-color: var(--dim); }
.findings > li > * { color: var(--ink); } .findings > li > .dim { color: var(--dim); }
.findings .what { font-weight: 650; } .findings p::first-letter { text-transform: uppercase; }
.flow { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 10px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; min-width: 0; }
.card > b { display: block; font-size: 13px; font-weight: 600; color: var(--dim); }
.card > strong { display: block; font-size: 18px; font-weight: 600; font-variant-numeric: tabular-nums; }
.card > small { color: var(--dim); font-size: 13px; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; margin-bottom: 8px; }
.chart { border-radius: 4px; touch-action: pan-y; }
.readout { color: var(--dim); font-size: 13px; min-height: 20px; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; overflow: visible; }
svg text { fill: var(--dim); font-size: 12px; }
.frame { display: grid; grid-template-columns: auto 1fr; gap: 8px; margin-top: 6px; }
.units { display: flex; flex-direction: column; justify-content: space-between; height: 120px; min-width: 58px; text-align: right;
  font-size: 12px; line-height: 12px; color: var(--dim); padding-bottom: 8px; white-space: nowrap; }
svg .lane { fill: var(--ink); }
.rule { stroke: var(--grid); } .cursor { stroke: var(--ink); stroke-dasharray: 3 2; }
polyline { fill: none; stroke: var(--accent); stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
polyline.peak { stroke: var(--peak); stroke-width: 1; }
.window { fill: var(--window); } .window.left { fill: var(--peak); }
.gap { stroke: var(--bad); } .hatch { fill: var(--bad); }
.backup { fill: var(--accent); stroke: var(--card); stroke-width: 1.5; }
.drill { fill: none; stroke: var(--good); stroke-width: 3; } .drill.failed { stroke: var(--bad); }
.target { fill: transparent; } .point { fill: var(--warn); }
.plot-edge { padding: 0 8px; }
details { margin-top: 8px; }
summary { cursor: pointer; color: var(--accent); }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); font-size: 14px; }
details table { margin-top: 10px; }
caption { text-align: left; font-weight: 600; padding: 4px 0; }
th, td { text-align: left; vertical-align: top; padding: 6px 12px; border-top: 1px solid var(--line); font-weight: 400; overflow-wrap: break-word; }
.long { overflow-wrap: anywhere; }
thead th { font-size: 13px; color: var(--dim); font-weight: 600; border-top: 0; }
tbody th { font-weight: 600; }
footer { color: var(--dim); font-size: 13px; padding-top: 24px; padding-bottom: 24px; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media screen and (max-width: 760px) {
  main, footer { padding-left: 12px; padding-right: 12px; }
  .charts { grid-template-columns: 1fr; }
  .flow { grid-template-columns: 1fr 1fr; }
  .tiles { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
  .lead { font-size: 17px; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  table, caption, tbody, tr, tbody th, td { display: block; }
  table { border: 0; background: none; }
  tbody { border: 1px solid var(--line); background: var(--card); }
  tr { padding: 8px 0; border-top: 1px solid var(--line); }
  tbody tr:first-child { border-top: 0; }
  tbody th, td { border: 0; overflow-wrap: anywhere; padding: 2px 12px; display: grid; grid-template-columns: 130px 1fr; gap: 8px; }
  td:has(.nothing) { display: none; }
  tbody th::before, td::before { content: attr(data-label); color: var(--dim); font-weight: 400; }
}
@media print {
  :root { color-scheme: light; ${LIGHT} --bg: #fff; }
  main, footer { max-width: none; padding: 0; }
  .card, .findings > li, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  table { font-size: 12px; }
  th, td { padding: 4px 6px; }
  footer a { color: inherit; }
  details::details-content { content-visibility: visible; height: auto; }
  * { print-color-adjust: exact; }
}
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
