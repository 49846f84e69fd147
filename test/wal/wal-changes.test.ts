/** Tablespaces and settings in the WAL: on servers of every version as they say it themselves, and cut at every border. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RM_TBLSPC_ID, RM_XLOG_ID, XLOG_PARAMETER_CHANGE, XLOG_TBLSPC_CREATE } from "../../src/wal/format.ts";
import { formatLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { WalVerifier } from "../../src/wal/verifier.ts";
import type { WalChange } from "../../src/wal/wal-changes.ts";
import { type PostgresServer, startPostgres, tool, versionsUnderTest } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { settledEnd, walOf } from "./oracles.ts";
import { concat, filled, mainData, toSegmentEnd, verifierFor, WalWriter } from "./wal-writer.ts";
import { QUIET } from "./workloads.ts";

const SYSTEM = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;
const SERVERS = [
  ...versionsUnderTest().map((version) => ({ version })),
  ...(SYSTEM ? [{ system: true as const }] : []),
];

/** The main data of xl_tblspc_create_rec. */
function creation(oid: number, path: string): Uint8Array {
  const bytes = Buffer.from(`\0\0\0\0${path}\0`);
  bytes.writeUInt32LE(oid, 0);
  return mainData(bytes);
}

const CREATE = { rmid: RM_TBLSPC_ID, info: XLOG_TBLSPC_CREATE };

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

describe("where a border cuts the record", () => {
  it.each([8, 16, 24, 32, 40, 200])("a page with %i bytes left: the whole path", (left) => {
    const writer = new WalWriter();
    const path = `/srv/${"p".repeat(1000)}`;
    writer.fillPage(left);
    const { lsn, end } = writer.write({ ...CREATE, data: creation(16_400, path) });
    const { verifier } = verifierFor(writer);
    for (const byte of writer.bytes) verifier.push(Uint8Array.of(byte));
    expect(verifier.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: path },
    ]);
  });

  it("a segment: it counts where it ends; resumed from a carry, a path that the carry lacks is unknown", () => {
    const writer = new WalWriter();
    writer.write({ data: filled(10) });
    toSegmentEnd(writer, 200);
    const path = `/srv/${"p".repeat(300)}`;
    const { lsn, end } = writer.write({ ...CREATE, data: creation(16_400, path) });
    const { verifier } = verifierFor(writer);
    const border = writer.segmentSize;
    verifier.push(writer.bytes.subarray(0, border));
    const carry = verifier.carry();
    verifier.push(writer.bytes.subarray(border));
    expect(verifier.takeSummaries()[0]?.changes).toEqual([]);
    expect(verifier.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: path },
    ]);
    const startLsn = segmentStart(segmentOf(end, border), border);
    const { verifier: resumed } = verifierFor(writer, { carry, startLsn });
    resumed.push(writer.bytes.subarray(border));
    expect(resumed.verifiedLsn).toBe(end);
    expect(resumed.openSummary().changes).toEqual([
      { kind: "tablespace-created", lsn, end, oid: 16_400, location: undefined },
    ]);
    // Without the carry nobody can say what ended there.
    const { verifier: blind } = verifierFor(writer, { startLsn });
    blind.push(writer.bytes.subarray(border));
    expect(blind.openSummary().changes).toBeUndefined();
  });
});

describe("odd records", () => {
  const found = (record: { rmid: number; info: number; data: Uint8Array }): readonly WalChange[] | undefined => {
    const writer = new WalWriter();
    writer.write(record);
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    return verifier.openSummary().changes;
  };

  it("a tablespace inside the data directory has an empty location", () => {
    expect(found({ ...CREATE, data: creation(5, "") })).toMatchObject([{ oid: 5, location: "" }]);
  });

  it("an emptied path is still known", () => {
    expect(found({ ...CREATE, data: creation(5, "\0srv/a") })).toMatchObject([{ oid: 5, location: "/srv/a" }]);
  });

  it("a path that is not UTF-8, or has no end, is unknown", () => {
    const notText = mainData(concat([Uint8Array.of(5, 0, 0, 0, 0x2f, 0xe4, 0)]));
    const endless = mainData(concat([Uint8Array.of(5, 0, 0, 0, 0x2f, 0x61)]));
    for (const data of [notText, endless]) expect(found({ ...CREATE, data })).toMatchObject([{ location: undefined }]);
  });

  it("other operations and records that are too short are none", () => {
    expect(found({ rmid: RM_TBLSPC_ID, info: 0x20, data: mainData(filled(8)) })).toEqual([]);
    expect(found({ ...CREATE, data: mainData(filled(3)) })).toEqual([]);
    expect(found({ rmid: RM_XLOG_ID, info: XLOG_PARAMETER_CHANGE, data: mainData(filled(20)) })).toEqual([]);
  });

  it("more than fit are not listed in part", () => {
    const writer = new WalWriter();
    for (let i = 0; i < 65; i++) writer.write({ ...CREATE, data: creation(i + 1, "/a") });
    const { verifier } = verifierFor(writer);
    verifier.push(writer.bytes);
    expect(verifier.openSummary().changes).toBeUndefined();
  });
});
