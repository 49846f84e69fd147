/** The status page of a real receiver: what it says of a real server and archive, over a restart of the receiver. */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { openBrowser } from "../harness/browser.ts";
import { freePort } from "../harness/postgres-process.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const browser = await openBrowser();
const dir = makeTempDir("page");
afterAll(async () => {
  await browser.close();
  removeTree(dir);
});

test.skipIf(!browser.available)(
  "a receiver shows its backup and a restore point with a hostile name, and remembers after a restart",
  async () => {
    await using server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
    const [archive, state] = [join(dir, "archive"), join(dir, "state")];
    mkdirSync(archive);
    const listen = `127.0.0.1:${await freePort()}`;
    const url = `http://${listen}/`;
    const common = ["--dsn", server.dsn, "--store", `file://${archive}`];
    const receive = ["receive", ...common, "--listen", listen, "--state-dir", state];
    const said = async (): Promise<string> => {
      const html = await fetch(url).then(
        async (answer) => answer.text(),
        () => "",
      );
      return html.replaceAll(/<[^>]*>/g, "");
    };
    {
      await using receiver = startCli(receive);
      await until("the archive was read", async () => (await said()).includes("there is no base backup"));
      expect(await runCli(["backup", ...common])).toMatchObject({ code: 0 });
      await server.sql("CREATE TABLE t AS SELECT 1 AS i");
      await server.sql("SELECT pg_create_restore_point('<b>before</b>')");
      await server.sql("SELECT pg_switch_wal()");
      await until("the restore point", async () => (await said()).includes("&lt;b&gt;before&lt;/b&gt;"));
      expect(await receiver.end("SIGTERM")).toMatchObject({ code: 0 });
      expect(readdirSync(state)).toEqual(["main.history.json"]);
    }
    await using receiver = startCli(receive);
    await until("the archive was read", async () => (await said()).includes("Recoverable from"));
    await using visit = await browser.visit(url, { timeZone: "Europe/Berlin" });
    const { page } = visit;
    await expect
      .poll(async () => page.innerText("#lead"))
      .toMatch(/^Recoverable from .* to now; losing the primary now/);
    expect(await page.innerText("header")).toMatch(/^main\s+ok\s+streaming/);
    const axis = page.getByRole("img", {
      name: /1 window, 0 gaps, 1 base backup, 0 pinned, 0 drills, 1 restore point\./,
    });
    expect(await axis.count()).toBe(1);
    await page.click("summary");
    expect(await page.locator("tr", { hasText: "<b>before</b>" }).innerText()).toMatch(/<b>before<\/b>.*0\/[0-9A-F]+/s);
    await expect.poll(async () => page.getByRole("slider", { name: "Lag" }).count()).toBe(1);
    expect(await visit.audit()).toEqual([]);
    expect(visit.errors).toEqual([]);
    for (const asked of visit.requests) expect(asked).toMatch(new RegExp(`^(${url}|data:)`));

    await server.kill9();
    await expect.poll(async () => page.innerText("header")).toMatch(/^main\s+(warning|critical)\s/);
    await expect.poll(async () => page.textContent("#news")).toMatch(/^main: (warning|critical)\. /);
    expect(await receiver.end("SIGTERM")).toMatchObject({ signal: null });
  },
);
