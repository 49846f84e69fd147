/** The status page in a real browser: every state, wide, narrow and dark, by eye of a checker, by keyboard, on paper. */
import { afterAll, describe, expect, test } from "vitest";
import { openBrowser, type Visit } from "../harness/browser.ts";
import { CALM_MAP, manyClusters, PAGE_STATES, type PageState, servePages } from "./page-states.ts";

const browser = await openBrowser();
afterAll(async () => browser.close());

const overview = manyClusters();
const STATES: readonly (readonly [string, readonly PageState[], readonly RegExp[]])[] = [
  [
    "ok",
    [PAGE_STATES.ok],
    [/ok streaming/, /to now; losing the primary now would lose 412 ms\./, /Nothing is wrong\./],
  ],
  [
    "store down",
    [PAGE_STATES["store down"]],
    [
      /critical streaming/,
      /would lose 40 min 12 s/,
      /has confirmed nothing for 40 min 12 s/,
      /To do: Check the endpoint/,
    ],
  ],
  ["server down", [PAGE_STATES["server down"]], [/critical waiting/, /No WAL has been received for 9 min/i]],
  [
    "gap",
    [PAGE_STATES.gap],
    [/critical/, /would lose everything since Thu 19 Nov 09:00 (CET|GMT\+1)/, /WAL is missing: 1 gap/],
  ],
  ["gap covered", [PAGE_STATES["gap covered"]], [/ok streaming/, /In the past/, /a newer backup covers the gap/]],
  [
    "stale backup",
    [PAGE_STATES["stale backup"]],
    [/warning/, /failed: no space left on the server\. Passed last Wed 11 Nov/],
  ],
  ["failed drill", [PAGE_STATES["failed drill"]], [/critical/, /The last drill failed/i]],
  [
    "many clusters",
    overview,
    [/6 of 9 ok/, /Critical: warehouse, zones\. Warning: tickets\./, /warehouse[^]*zones[^]*tickets/],
  ],
];
const VIEWS = [
  ["desktop", { width: 1280 }],
  ["phone", { width: 360 }],
  ["dark", { width: 1280, dark: true }],
] as const;

const textOf = async ({ page }: Visit): Promise<string> => (await page.innerText("main")).replaceAll(/\s+/g, " ");
const overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
/** Elements of which a part lies outside of the page; what is there for screen readers only does not count. */
const cutOff = `[...document.querySelectorAll("body *")].filter((one) => {
  const { right, left, width } = one.getBoundingClientRect();
  const isSeen = width > 1 && getComputedStyle(one).clipPath === "none" && one.closest("thead") === null;
  return isSeen && (left < -1 || right > innerWidth + 1);
}).map((one) => one.outerHTML.slice(0, 80))`;

describe.skipIf(!browser.available)("in the browser", () => {
  describe.each(STATES)("%s", (_, states, expected) => {
    test.each(VIEWS)("%s", async (view, options) => {
      await using served = await servePages(states);
      await using visit = await browser.visit(served.url, { ...options, timeZone: "Europe/Berlin" });
      const text = await textOf(visit);
      for (const words of expected) expect(text).toMatch(words);
      expect(await visit.audit()).toEqual([]);
      expect(await visit.page.evaluate(overflow)).toBe(0);
      if (view === "phone") expect(await visit.page.evaluate(cutOff)).toEqual([]);
      for (const url of visit.requests) expect(url).toMatch(new RegExp(`^(${served.url}|data:)`));
      expect(visit.errors).toEqual([]);
    });
  });

  test("times are in the browser's zone, and their title is UTC", async () => {
    await using served = await servePages([PAGE_STATES.ok]);
    await using visit = await browser.visit(served.url, { timeZone: "Asia/Tokyo" });
    const from = visit.page.locator("#lead time").first();
    expect(await from.innerText()).toBe("Tue\u00a010\u00a0Nov 19:00\u00a0GMT+9");
    expect(await from.getAttribute("title")).toBe("2026-11-10 10:00:00 UTC");
    expect(await visit.page.locator("[data-zone]").first().innerText()).toBe("Asia/Tokyo");
  });

  test("the arrow keys go over a chart's points, and each is read out", async () => {
    await using served = await servePages([PAGE_STATES.ok]);
    await using visit = await browser.visit(served.url);
    const chart = visit.page.getByRole("slider", { name: "Time of a PUT" });
    await chart.focus();
    expect(await chart.getAttribute("aria-valuenow")).toBe("287");
    await visit.page.keyboard.press("ArrowLeft");
    await visit.page.keyboard.press("PageDown");
    expect(await chart.getAttribute("aria-valuenow")).toBe("274");
    const read = await chart.getAttribute("aria-valuetext");
    expect(read?.replaceAll(/\s/g, " ")).toMatch(/^Fri 20 Nov 08:55 (UTC|GMT): [\d.]+ ms, slowest [\d.]+ ms$/);
    expect(await visit.page.innerText("#put-readout")).toBe(read);
    await visit.page.keyboard.press("Home");
    expect(await chart.getAttribute("aria-valuenow")).toBe("0");
    await visit.page.keyboard.press("ArrowLeft");
    expect(await chart.getAttribute("aria-valuenow")).toBe("0");
    await visit.page.keyboard.press("Escape");
    expect(await visit.page.innerText("#put-readout")).toMatch(/^Latest .*; largest .*\.$/);
  });

  test("the pointer reads a chart, and leaves it as it was", async () => {
    await using served = await servePages([PAGE_STATES.ok]);
    await using visit = await browser.visit(served.url);
    const chart = visit.page.locator("#lag-chart");
    await chart.scrollIntoViewIfNeeded();
    const before = await visit.page.innerText("#lag-readout");
    const box = await chart.boundingBox();
    if (box === null) throw new Error("the chart is not shown");
    await visit.page.mouse.move(box.x + box.width / 2, box.y + 40);
    expect((await visit.page.innerText("#lag-readout")).replaceAll(/\s/g, " ")).toMatch(
      /^Thu 19 Nov 2[12]:\d\d .*: [\d.]+ [KM]iB$/,
    );
    await visit.page.mouse.move(5, 5);
    expect(await visit.page.innerText("#lag-readout")).toBe(before);
  });

  test("a refresh keeps the focus, the read-out and what was opened, and tells only what has changed", async () => {
    await using served = await servePages([PAGE_STATES.ok]);
    await using visit = await browser.visit(served.url);
    const { page } = visit;
    await page.click("summary");
    await page.focus("#rpo-chart");
    await page.keyboard.press("PageDown");
    const read = await page.innerText("#rpo-readout");
    await page.evaluate("document.activeElement.mark = 1; document.querySelector('h1').mark = 1");
    const focused = "[document.activeElement.id, document.activeElement.mark, document.querySelector('h1').mark]";

    const { ok } = PAGE_STATES;
    served.show([{ ...ok, status: { ...ok.status, rpoSeconds: 0.7 } }]);
    await expect
      .poll(async () => page.evaluate("document.getElementById('lead').textContent.includes('700 ms')"))
      .toBe(true);
    expect(await page.evaluate(focused)).toEqual(["rpo-chart", 1, 1]);
    expect(await page.innerText("#rpo-readout")).toBe(read);
    expect(await page.evaluate("document.querySelector('details').open")).toBe(true);
    expect(await page.textContent("#news")).toBe("");

    served.show([PAGE_STATES["store down"]]);
    await expect.poll(async () => page.evaluate("document.title.startsWith('critical')")).toBe(true);
    expect(await page.evaluate(focused)).toEqual(["rpo-chart", 1, 1]);
    expect(await page.textContent("#news")).toMatch(
      /^orders: critical\. the store has confirmed nothing for 40 min 12 s/,
    );
    expect(await page.getAttribute("#news", "aria-live")).toBe("polite");

    await served[Symbol.asyncDispose]();
    await expect.poll(async () => page.evaluate("!document.getElementById('lost').hidden")).toBe(true);
    expect(await page.innerText("#lost")).toBe("The receiver does not answer. The page shows its last answer.");
    expect(await visit.audit()).toEqual([]);
  });

  test("the focus stays on a cluster when trouble of another one changes the order", async () => {
    await using served = await servePages(overview);
    await using visit = await browser.visit(served.url);
    const { page } = visit;
    await page.getByRole("link", { name: "zones" }).focus();
    served.show(
      overview.map((one) =>
        one.status.cluster === "warehouse"
          ? { ...PAGE_STATES.ok, status: { ...PAGE_STATES.ok.status, cluster: "warehouse" } }
          : one,
      ),
    );
    await expect.poll(async () => page.evaluate("document.title.startsWith('7 of 9')")).toBe(true);
    expect(await page.evaluate("document.activeElement.textContent")).toBe("zones");
    expect(await page.innerText("tbody tr:first-child th")).toBe("zones");
    expect(await page.textContent("#news")).toBe("7 of 9 ok. zones critical, tickets warning");
    await page.keyboard.press("Enter");
    await page.waitForURL("**/?cluster=zones");
    expect(await page.innerText("h1")).toBe("zones");
  });

  test("without JavaScript it is a still page that says the same", async () => {
    await using served = await servePages([PAGE_STATES["store down"]]);
    await using visit = await browser.visit(served.url, { withoutScript: true, timeZone: "Asia/Tokyo" });
    const text = await textOf(visit);
    expect(text).toMatch(/Recoverable from Tue 10 Nov 10:00 UTC to Fri 20 Nov 09:19 UTC/);
    expect(await visit.page.innerText("footer")).toMatch(/Without JavaScript this page stays as it is/);
    expect(await visit.page.getByRole("img", { name: "Lag: WAL not stored. Latest" }).count()).toBe(1);
  });

  test("on paper nothing is cut off, tables are open, and ink is dark on white", async () => {
    await using served = await servePages([PAGE_STATES["gap covered"]]);
    // The width of A4 between its margins.
    await using visit = await browser.visit(served.url, { width: 718, dark: true });
    const { page } = visit;
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    expect(await page.evaluate(overflow)).toBe(0);
    expect(await page.evaluate(cutOff)).toEqual([]);
    expect(await page.evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(255, 255, 255)");
    const table = await page.locator("details table").first().boundingBox();
    expect(table?.height).toBeGreaterThan(50);
    expect((await page.pdf({ format: "A4" })).subarray(0, 5).toString()).toBe("%PDF-");
  });

  test("names from outside are text: a restore point's, a cluster's, an error's", async () => {
    const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
    const { ok } = PAGE_STATES;
    const errors = [{ at: "2026-11-20T09:00:00Z", code: evil, message: evil, hint: evil, times: 1 }];
    const gaps = (PAGE_STATES.gap.recovery?.gaps ?? []).map((gap) => ({ ...gap, reason: evil }));
    const recovery = { ...CALM_MAP, gaps };
    const status = { ...ok.status, cluster: evil, server: evil, store: evil, errors };
    await using served = await servePages([{ ...ok, status, recovery }]);
    await using visit = await browser.visit(served.url);
    expect(await visit.page.innerText("h1")).toBe(evil);
    expect(await visit.page.evaluate("document.querySelectorAll('main img, main script').length")).toBe(0);
    expect(await visit.page.title()).toBe(`ok: ${evil} (Seawall)`);
    const rowOf = (text: string): ReturnType<Visit["page"]["locator"]> => visit.page.locator("tr", { hasText: text });
    expect(await rowOf("before_migration <7>").count()).toBe(1);
    // As a gap's reason, and as an error.
    expect(await rowOf(evil).count()).toBe(2);
    expect(visit.errors).toEqual([]);
  });
});
