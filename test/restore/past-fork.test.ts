/** A target that lies past a fork: what the plan and the refusal say about the other timeline, with two real servers. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { formatLsn, parseLsn } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { versionsUnderTest, type PostgresServer } from "../harness/postgres.ts";
import { Archived, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 180_000;
const version = Math.max(...versionsUnderTest()) as 18;

const now = (server: PostgresServer): Promise<string> =>
  server.value(`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`);
const committed = (server: PostgresServer, row: number): Promise<string> =>
  server.value(
    `SELECT to_char(pg_xact_commit_timestamp(xmin) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM t WHERE i = ${row}`,
  );

test(
  "a target past a fork: the plan and the refusal name the other timeline, its reach, and the flag that follows it",
  async () => {
    await using archived = await Archived.start({ version, settings: { track_commit_timestamp: true } });
    const { server } = archived;
    await archived.insert(1);
    await archived.backup();
    await using standby = await server.cloneAsStandby();
    await server.sql("INSERT INTO t VALUES (2)");
    const lsn = await server.value("SELECT pg_current_wal_flush_lsn()::text");
    await until("replay", async () => (await standby.value(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'`)) === "true");
    await standby.promote();
    const history = readFileSync(join(standby.walDir, "00000002.history"), "utf8");
    // PostgreSQL 19 writes eight digits after the slash.
    const fork = formatLsn(parseLsn(/^1\t(\S+)/.exec(history)?.[1] ?? ""));
    await standby.sql("INSERT INTO t VALUES (3)");
    const afterThree = await now(standby);
    // The old primary goes on for a while, and its receiver still runs.
    await server.sql("INSERT INTO t VALUES (102)");
    const afterLost = await now(server);
    await archived.stored();
    await standby.sql("SELECT pg_switch_wal(); SELECT pg_switch_wal()");
    await standby.sql("INSERT INTO t VALUES (4)");
    const four = await standby.value("SELECT pg_current_wal_insert_lsn()::text");
    const [firstTime, lastTime] = [await committed(standby, 3), await committed(standby, 4)];
    const lostTime = await committed(server, 102);
    await archived.follow(standby);
    await archived.stopReceiving();
    const dry = (flags: string[]) => archived.run(["--target-dir", join(archived.folder, "x"), "--dry-run", ...flags]);
    const reach = `Timeline 2 differs from timeline 1 from ${fork} on and reaches `;
    const times = `with commits from ${firstTime} to ${lastTime}.`;
    const advice = "To restore along it: --target-timeline 2.";

    for (const target of [
      ["--target-time", afterLost],
      ["--target-lsn", four],
    ]) {
      const refused = await dry(["--target-timeline", "1", ...target]);
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("is beyond the archived WAL of timeline 1: ");
      expect(refused.stderr).toContain(reach);
      expect(refused.stderr).toContain(`${times} ${advice}`);
      const advised = await dry(["--target-timeline", "2", ...target]);
      expect(advised).toMatchObject({ code: 0, stderr: "" });
    }

    const accepted = await dry(["--target-timeline", "1", "--target-time", afterThree]);
    expect(accepted.code).toBe(0);
    const also = `Timeline 2 also has commits up to ${afterThree}, and this restore follows timeline 1. ${reach}`;
    expect(accepted.stdout).toContain(also);
    expect(accepted.stdout).toContain(`${times} ${advice}`);
    const json = await dry(["--target-timeline", "1", "--target-time", afterThree, "--json"]);
    const { notes } = JSON.parse(json.stdout) as { notes: string[] };
    expect(notes).toHaveLength(1);
    expect(notes[0]).toContain(also);

    // The other way round: rows that only the old primary committed.
    const lost = await dry(["--target-time", afterLost]);
    expect(lost.code).toBe(0);
    expect(lost.stdout).toContain(
      `Timeline 1 also has commits up to ${afterLost}, and this restore follows timeline 2.`,
    );
    expect(lost.stdout).toContain(`with a commit at ${lostTime}. `);
    expect(lost.stdout).toContain("To restore along it: --target-timeline 1.");

    // A target before the fork is the same on both.
    const common = await dry(["--target-timeline", "1", "--target-lsn", lsn]);
    expect(common).toMatchObject({ code: 0 });
    expect(common.stdout).not.toContain("Timeline 2");

    await using restored = await archived.restored(["--target-timeline", "2", "--target-time", afterThree]);
    expect(await rowsOf(restored)).toEqual([1, 2, 3]);
  },
  TIMEOUT_MS,
);
