/** The recipes of docs/cookbook.md that build on one another, as they stand there. page-commands.test.ts runs the others. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { userInfo } from "node:os";
import { describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { tool } from "../harness/postgres.ts";
import { pageBlock } from "./page-blocks.ts";
import { PageSite } from "./page-site.ts";

const block = (name: string): string => pageBlock("docs/cookbook.md", name);

describe.skipIf(tool("pg_dump") === undefined)("a reader of the cookbook", () => {
  test("gets a dropped table from a copy, and corrects the target", async () => {
    await using site = await PageSite.start();
    await site.shell(site.here(block("copy")));
    const [dump] = site.written("orders.sql");
    expect(String(dump)).toContain("COPY public.orders");

    await site.shell(site.here(block("again")));
    const data = site.path("/restore/data");
    const started = `pg_ctl start -w -D ${data} -o '-p 5433' -l ${site.path("/restore/log")}`;
    const rows = await site.shell(
      `${started} >&2\npsql -h ${data} -p 5433 -d postgres -Atc 'SELECT i FROM t ORDER BY i'`,
    );
    expect(rows).toBe("1\n");
  }, 300_000);

  test("brings a lost primary back, and the receiver follows it", async () => {
    await using site = await PageSite.start();
    await site.stopProduction();
    const claims = readdirSync(site.path("/srv/archive/main/line")).map((name) => Number.parseInt(name, 10));
    const owner = serverAccount()?.name ?? userInfo().username;
    await site.shell(
      site.here(block("lost"), [
        ["--take-over 3", `--take-over ${Math.max(...claims)}`],
        ["--owner postgres", `--owner ${owner}`],
      ]),
    );
    expect(await site.shell("psql -d postgres -Atc 'SELECT i FROM t ORDER BY i'")).toBe("1\n2\n3\n");
    const pid = join(site.path("/var/lib/postgresql/data"), "postmaster.pid");
    expect(readFileSync(pid, "utf8")).toContain(`\n${site.server.port}\n`);
    const line = (): Promise<string> => site.shell(`seawall list --config ${site.config} --json | jq .line.timeline`);
    await until("the receiver follows the promotion", async () => (await line()) === "2\n");
  }, 300_000);
});
