/** The browser of the harness: it shows a page of this machine, reports what the page does wrong, and reaches nothing else. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, expect, test } from "vitest";
import { openBrowser } from "./browser.ts";

const browser = await openBrowser();
afterAll(async () => browser.close());

const PAGE = `<!doctype html><html lang="en"><title>t</title><main><h1>Hello</h1><img src="http://example.com/x.png">
<p id="zone"></p><script>document.getElementById("zone").textContent = new Date(0).getHours() + " " + matchMedia("(prefers-color-scheme: dark)").matches;</script></main>`;

test.skipIf(!browser.available)(
  "a page is shown in the asked zone and colours, and what is wrong with it is reported",
  async () => {
    const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(PAGE));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    // A cast: a TCP server's address is always an object.
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    try {
      await using visit = await browser.visit(url, { width: 360, dark: true, timeZone: "Asia/Tokyo" });
      expect(await visit.page.textContent("#zone")).toBe("9 true");
      expect(await visit.page.evaluate("innerWidth")).toBe(360);
      expect(await visit.audit()).toEqual([expect.stringMatching(/^image-alt /)]);
      expect(visit.requests).toEqual([url, "http://example.com/x.png"]);
      expect(visit.errors).toEqual([expect.stringContaining("ERR_NAME_NOT_RESOLVED")]);
      await using still = await browser.visit(url, { withoutScript: true });
      expect(await still.page.textContent("#zone")).toBe("");
    } finally {
      server.close();
      server.closeAllConnections();
    }
  },
);
