/** The commands of docs/timelines.md in a row, with the numbers that stand there: two recoveries, a copy that is refused, and its claim. */
import { describe, expect, test } from "vitest";
import { tool } from "../harness/postgres.ts";
import { pageBlock } from "./page-blocks.ts";
import { PageSite } from "./page-site.ts";

const block = (name: string): string => pageBlock("docs/timelines.md", name);

describe.skipIf(tool("pg_dump") === undefined)("the page on timelines", () => {
  test("recovers twice, and makes a copy the new production server", async () => {
    await using site = await PageSite.start();
    const line = async (): Promise<string> =>
      site.shell(`seawall list --config ${site.config} --json | jq -c '[.line.timeline, (.timelines | length)]'`);
    await site.stopProduction();
    // Each pair of lines restores a copy and follows it, once its server runs.
    const commands = block("twice").trim().split("\n");
    expect(commands).toHaveLength(4);
    for (const [at, first] of [["/data/a", 0] as const, ["/data/b", 2] as const]) {
      await site.shell(site.here(commands[first] ?? ""));
      await site.startCopy(at);
      await site.shell(site.here(commands[first + 1] ?? ""));
      // A copy that is restored before its timeline has any WAL is refused in other words.
      await site.stored();
      await site.stopReceiving();
      await site.stopCopies();
    }
    expect(await line()).toBe("[3,3]\n");

    await site.shell(site.here("seawall restore --config /etc/seawall.yaml --target-dir /restore/data"));
    await site.startCopy("/restore/data");
    const refused = await site.shell(`${site.here(block("refused")).trim()} || [ $? = 1 ]`);
    expect(refused).toContain("the server is a restored copy on timeline 4; the archive's line is timeline 3");
    expect(refused).toContain("--take-over 3");
    await site.shell(site.here(block("replace")));
    expect(await line()).toBe("[4,4]\n");
  }, 600_000);
});
