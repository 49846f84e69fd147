/** History that another tool has archived is imported from real servers' WAL, and real servers recover through it. */
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { PostgresServer } from "../harness/postgres.ts";
import { versionsUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { until } from "../campaigns/campaign.ts";
import { Elsewhere, packFile, PACKINGS, providePackers } from "./archived-elsewhere.ts";

const TIMEOUT_MS = 240_000;
/** The recovering servers read the archive. */
const AS_SERVER = { asServer: true };

await providePackers();

async function rows(server: PostgresServer): Promise<unknown[]> {
  return (await server.sql("SELECT i FROM t ORDER BY i")).map(({ i }) => i);
}

test.each(versionsUnderTest())(
  "PostgreSQL %i: WAL packed in every way, with a promotion in it, recovers to a moment inside and to its end",
  async (version) => {
    await using elsewhere = await Elsewhere.start({ version });
    const { server } = elsewhere;
    await server.sql("CREATE TABLE t (i int)");
    await server.sql("INSERT INTO t VALUES (1)");
    const restore_command = serverRestoreCommand(["--store", elsewhere.url]);
    const common = { signal: "recovery", start: false } as const;
    const inside = await server.clone(common);
    const end = await server.clone(common);

    await elsewhere.fill(2);
    await server.sql("INSERT INTO t VALUES (2)");
    await sleep(50);
    const then = await server.value("SELECT now()::text");
    await sleep(50);
    await server.sql("INSERT INTO t VALUES (3)");
    await elsewhere.fill(3);
    const standby = await server.cloneAsStandby();
    await server.stop();
    await standby.promote();
    await standby.sql("INSERT INTO t VALUES (4)");
    await elsewhere.fill(3, standby);
    await until("the partial", async () => elsewhere.files().some((name) => name.endsWith(".partial")));
    await standby.stop();

    // Barman's folders, pg_receivewal's endings, and every program.
    const folder = elsewhere.path("0000000100000000");
    mkdirSync(folder);
    for (const [index, name] of elsewhere.files().entries()) {
      if (!/^[0-9A-F]{24}$/.test(name)) continue;
      const path = packFile(elsewhere.path(name), PACKINGS[index % PACKINGS.length] ?? "");
      // Barman keeps packed files under their plain names.
      if (index % 2 === 1 && !path.endsWith(".br")) renameSync(path, join(folder, name));
    }

    const dry = await elsewhere.import(["--dry-run"], AS_SERVER);
    expect(dry).toMatchObject({ code: 0, report: { ok: true, dryRun: true, refusals: 0, missing: [] } });
    expect(readdirSync(elsewhere.store)).toEqual([]);
    const { code, report } = await elsewhere.import([], AS_SERVER);
    expect(report.refused).toEqual([]);
    expect(code).toBe(0);
    expect(report).toMatchObject({ ok: true, missing: [], unjoined: [], closedGaps: 0 });
    expect({ ...report, dryRun: true, seconds: 0 }).toEqual({ ...dry.report, seconds: 0 });
    expect(report.ranges.map(({ timeline }) => timeline)).toEqual([1, 2]);
    expect(report.stored).toMatchObject({ partials: 1, histories: 1 });
    expect(report.stored.segments).toBeGreaterThanOrEqual(9);

    const before = contentsOf(elsewhere.store);
    const again = await elsewhere.import([], AS_SERVER);
    expect(again).toMatchObject({ code: 0, report: { present: report.stored, stored: { segments: 0, partials: 0 } } });
    expect(contentsOf(elsewhere.store)).toEqual(before);
    expect(await elsewhere.import(["--skip-stored"], AS_SERVER)).toMatchObject({
      code: 0,
      report: { present: report.stored },
    });
    const verified = await runCli(["verify", "--deep", "--store", elsewhere.url, "--json"], AS_SERVER);
    expect(JSON.parse(verified.stdout)).toMatchObject({ ok: true, problems: [] });

    const target = { recovery_target_time: then, recovery_target_action: "promote", archive_mode: "off" };
    inside.writeConfiguration({ restore_command, recovery_target_timeline: "1", ...target });
    await inside.start();
    await until("the end of recovery", async () => (await inside.value("SELECT pg_is_in_recovery()")) === "false");
    expect(await rows(inside)).toEqual([1, 2]);

    end.writeConfiguration({ restore_command, recovery_target_timeline: "latest", archive_mode: "off" });
    await end.start();
    await until("the end of recovery", async () => (await end.value("SELECT pg_is_in_recovery()")) === "false");
    expect(await rows(end)).toEqual([1, 2, 3, 4]);
  },
  TIMEOUT_MS,
);

/** Every object with its size and time of modification. */
function contentsOf(folder: string): string[] {
  return readdirSync(join(folder, "main"), { recursive: true })
    .map(String)
    .sort()
    .map((path) => {
      const { size, mtimeMs } = statSync(join(folder, "main", path));
      return `${path} ${size} ${mtimeMs}`;
    });
}
