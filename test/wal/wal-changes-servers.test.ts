/** Tablespaces and settings in the WAL of servers of every version, as the servers themselves name them. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { formatLsn, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { WalVerifier } from "../../src/wal/verifier.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { type PostgresServer, startPostgres, tool, versionsUnderTest } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { settledEnd, walOf } from "./oracles.ts";
import { QUIET } from "./workloads.ts";

const SYSTEM = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;
const SERVERS = [
  ...versionsUnderTest().map((version) => ({ version })),
  ...(SYSTEM ? [{ system: true as const }] : []),
];

describe("on a real server", () => {
  it.each(SERVERS)("%j tablespaces and settings are found as the server made them", async (options) => {
    await using server = await startPostgres({
      ...options,
      segmentSizeMiB: 1,
      settings: { ...QUIET, wal_level: "replica" },
    });
    // The first segment on disk begins in a record that nothing before it explains.
    await server.sql("SELECT pg_switch_wal()");
    const from = await server.currentFlushLsn();
    const place = makeTempDir("places");
    const short = makeTablespaceFolder(join(place, "a"));
    const long = makeTablespaceFolder(join(place, "ä".repeat(60), "x".repeat(200)));
    await server.sql(`CREATE TABLESPACE one LOCATION '${short}'`);
    await server.sql(`CREATE TABLESPACE two LOCATION '${long}'`);
    const oids = await server.sql(
      "SELECT oid::int, spcname FROM pg_tablespace WHERE spcname IN ('one', 'two') ORDER BY 2",
    );
    await server.sql("DROP TABLESPACE one");
    const raised = { max_connections: 71, max_worker_processes: 11, max_wal_senders: 12 };
    await server.configure({ ...raised, max_prepared_transactions: 13, max_locks_per_transaction: 77 });
    await server.restart();
    await server.configure({ wal_level: "minimal", max_wal_senders: 0 });
    await server.restart();
    await server.configure({ wal_level: "logical", max_wal_senders: 10 });
    await server.restart();
    const end = await settledEnd(server);

    const changes = (await changesOf(server, end)).filter(({ lsn }) => lsn >= from);
    removeTree(place);

    const [one, two] = oids.map(({ oid }) => oid as number);
    expect(changes.map(({ lsn: _lsn, end: _end, ...change }) => change)).toEqual([
      { kind: "tablespace-created", oid: one, location: short },
      { kind: "tablespace-created", oid: two, location: long },
      { kind: "tablespace-dropped", oid: one },
      {
        ...{ kind: "parameters", walLevel: "replica" },
        settings: { ...raised, max_prepared_transactions: 13, max_locks_per_transaction: 77 },
      },
      {
        ...{ kind: "parameters", walLevel: "minimal" },
        settings: { ...raised, max_wal_senders: 0, max_prepared_transactions: 13, max_locks_per_transaction: 77 },
      },
      {
        ...{ kind: "parameters", walLevel: "logical" },
        settings: { ...raised, max_wal_senders: 10, max_prepared_transactions: 13, max_locks_per_transaction: 77 },
      },
    ]);
    if (!("system" in options)) return;
    const args = ["-p", server.walDir, "-s", formatLsn(from), "-e", formatLsn(end)];
    const { stdout } = await run(tool("pg_waldump") ?? "", args);
    const dumped = [...stdout.matchAll(/lsn: ([0-9A-F]+\/[0-9A-F]+), .* desc: (CREATE \d+ "|DROP|PARAMETER_CHANGE)/gm)];
    expect(
      dumped.filter(([line]) => !line.includes("rmgr: Database")).map(([, lsn]) => lsn?.replace(/\/0+(?=.)/, "/")),
    ).toEqual(changes.map(({ lsn }) => formatLsn(lsn)));
  });
});

async function changesOf(server: PostgresServer, end: Awaited<ReturnType<typeof settledEnd>>): Promise<WalChange[]> {
  const wal = walOf(server, 1, end);
  const verifier = new WalVerifier({
    systemIdentifier: await server.systemIdentifier(),
    segmentSize: server.segmentSize,
    startLsn: wal.start,
    history: rootHistory(timelineOf(1)),
  });
  verifier.push(wal.bytes);
  return [...verifier.takeSummaries(), verifier.openSummary()].flatMap(({ changes }) => changes ?? []);
}
