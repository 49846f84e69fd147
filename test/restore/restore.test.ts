/** Restores of a real server land exactly where they were told to, checked by content on both sides of the target. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { FULL } from "../campaigns/campaign.ts";
import { type PostgresServer, versionsUnderTest } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { Archived, rowsOf } from "./restored.ts";

/** The verdict of `restore --check`, of a server that runs or not. */
async function check(server: PostgresServer): Promise<{ code: number | null; verdict: Record<string, unknown> }> {
  const dsn = server.running ? ["--dsn", server.dsn] : [];
  const { code, stdout } = await runCli(["restore", "--check", server.dataDir, "--json", ...dsn]);
  return { code, verdict: JSON.parse(stdout) as Record<string, unknown> };
}

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test("every kind of target lands exactly, inclusive and exclusive", async () => {
    await using archived = await Archived.start({ version });
    const { server } = archived;
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await server.sql("SELECT pg_create_restore_point('before three')");
    const three = await archived.insert(3);
    await sleep(20);
    const time = await server.value("SELECT clock_timestamp()::text");
    await sleep(20);
    const four = await archived.insert(4);
    await server.sql("SELECT pg_switch_wal()");
    const prepared = await server.value(
      "BEGIN; INSERT INTO t VALUES (5); PREPARE TRANSACTION 'five'; SELECT transaction::text FROM pg_prepared_xacts",
    );
    await archived.insert(6);
    await server.sql("COMMIT PREPARED 'five'");
    await archived.insert(7);
    await archived.stored();
    await archived.stopReceiving();

    const cases: readonly (readonly [flags: string[], rows: number[]])[] = [
      [[], [1, 2, 3, 4, 5, 6, 7]],
      [["--target", "immediate"], [1]],
      [
        ["--target-name", "before three"],
        [1, 2],
      ],
      [
        ["--target-xid", three.xid],
        [1, 2, 3],
      ],
      [
        ["--target-xid", three.xid, "--target-exclusive"],
        [1, 2],
      ],
      [
        ["--target-xid", prepared],
        [1, 2, 3, 4, 5, 6],
      ],
      [
        ["--target-xid", prepared, "--target-exclusive"],
        [1, 2, 3, 4, 6],
      ],
      [
        ["--target-time", time],
        [1, 2, 3],
      ],
      [
        ["--target-lsn", four.before, "--target-exclusive"],
        [1, 2, 3],
      ],
      [
        ["--target-lsn", four.after, "--target-exclusive"],
        [1, 2, 3, 4],
      ],
    ];
    // The oldest version tries a few of them, unless all are wanted.
    const tried = FULL || version === Math.max(...versionsUnderTest()) ? cases : [0, 1, 6, 7].map((at) => cases[at]);
    for (const [flags, rows] of tried.flatMap((found) => (found === undefined ? [] : [found]))) {
      await using restored = await archived.restored(flags);
      expect({ flags, rows: await rowsOf(restored) }).toEqual({ flags, rows });
      const { code, verdict } = await check(restored);
      expect({ flags, code, verdict }).toMatchObject({ code: 0, verdict: { ok: true, state: "recovered" } });
      const { lsn } = verdict["promised"] as { lsn: string };
      expect({ flags, reached: verdict["reachedLsn"] }).toEqual({ flags, reached: lsn });
      await restored.stop("immediate");
    }
  }, 300_000);
});
