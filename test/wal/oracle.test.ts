/** The verifier on WAL of real servers: exactly the records that PostgreSQL's own readers find, up to exactly its flush LSN. */
import { describe, expect, it } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { formatLsn, type Lsn, parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { formatPgTime } from "../../src/wal/record-facts.ts";
import { type VerifiedRecord, WalVerifier, type WalVerifierOptions } from "../../src/wal/verifier.ts";
import { type PostgresServer, startPostgres, tool, VERSIONS, versionsUnderTest } from "../harness/postgres.ts";
import {
  byPlainReader,
  byWaldump,
  byWalinspect,
  commitsByWaldump,
  type FoundRecord,
  settledEnd,
  type WalOfServer,
  walOf,
} from "./oracles.ts";
import { randomFrom } from "../harness/random.ts";
import { QUIET, switchWithRoomLeft, writeMixedWal } from "./workloads.ts";

const MIB = 1 << 20;
/** Where pg_waldump is missing, pg_walinspect of 15, the same code in the server, takes its place and the title says so. */
const SYSTEM = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;
const SIZES = [1, 16, 64];
const FIFTEEN = SIZES.map((segmentSizeMiB) =>
  SYSTEM ? { system: true, segmentSizeMiB } : { version: 15 as const, segmentSizeMiB },
);
const EVERY = VERSIONS.flatMap((version) => SIZES.map((segmentSizeMiB) => ({ version, segmentSizeMiB })));
const CASES = [
  ...FIFTEEN,
  // Every size in a full matrix, otherwise one each.
  ...EVERY.filter(({ version, segmentSizeMiB }) => {
    const chosen = versionsUnderTest().length === VERSIONS.length || segmentSizeMiB === (version === 18 ? 1 : 16);
    return chosen && versionsUnderTest().includes(version);
  }),
];

describe("on a real server", () => {
  it.each(CASES)(
    "%j the records are those that PostgreSQL finds",
    async (options) => {
      await using server = await startPostgres({ ...options, settings: QUIET });
      await writeMixedWal(server, (options.segmentSizeMiB * 1.1 + 1) * MIB);
      await server.sql("CREATE TABLE done (i int)");
      const end = await settledEnd(server);
      const committed = await server.value(
        "SELECT (extract(epoch FROM timestamp) * 1000000)::bigint::text FROM pg_last_committed_xact()",
      );
      const wal = walOf(server, 1, end);
      const { verifier, records } = await verifierOf(server, wal);

      verifier.push(wal.bytes);

      expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(end));
      const found = records.map(comparable);
      expect(difference(found, byPlainReader(wal, server.segmentSize))).toBeUndefined();
      const from = records[0]?.lsn ?? end;
      const dumped = await byWaldump(server, from, end);
      const inspected = await byWalinspect(server, from, end);
      const theirs = [dumped, inspected].filter((records) => records !== undefined);
      expect(theirs.length).toBeGreaterThanOrEqual((server.version < 15 ? 0 : 1) + ("system" in options ? 1 : 0));
      for (const records of theirs) expect(difference(found, records)).toBeUndefined();
      expect(String(verifier.lastCommitTime)).toBe(committed);
      if (dumped !== undefined) expect(verifier.commitCount).toBe(await commitsByWaldump(server, from, end));
      const points = [...verifier.takeSummaries(), verifier.openSummary()].flatMap((s) => s.restorePoints);
      expect(points.map((point) => point.name)).toEqual(["between the tests"]);
      expect(points.every((point) => formatPgTime(point.time).startsWith("20"))).toBe(true);
    },
    180_000,
  );
});

describe.each(versionsUnderTest())("on PostgreSQL %i", (version) => {
  it("the flush LSN of a clean shutdown is verified to the byte", async () => {
    await using server = await startPostgres({ version, settings: QUIET });
    for (const statement of ["SELECT 1", "CREATE TABLE t (i int)", "SELECT pg_switch_wal()"]) {
      await server.sql(statement);
      await server.stop("fast");
      await server.start();
      // The shutdown checkpoint is the last record of the WAL before; a server that starts slowly may have written a few since.
      const checkpoint = parseLsn(await server.value("SELECT checkpoint_lsn::text FROM pg_control_checkpoint()"));
      const end = await settledEnd(server);
      const wal = walOf(server, 1, end);
      const { verifier, records } = await verifierOf(server, wal);
      verifier.push(wal.bytes);
      expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(end));
      // XLOG_CHECKPOINT_SHUTDOWN
      expect(records.findLast(({ rmid, info }) => rmid === 0 && (info & 0xf0) === 0)?.lsn).toBe(checkpoint);
    }
  });

  it("a switch is verified to the segment's end, wherever on its page the switch record lies", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    const hits: number[] = [];
    for (const left of [0, 8, 16, 24, 32]) {
      // Something else of the server may have written in between: then once more.
      for (let tries = 0; tries < 5 && !hits.includes(left); tries++) {
        if (await switchWithRoomLeft(server, left)) hits.push(left);
      }
    }
    expect(hits).toEqual([0, 8, 16, 24, 32]);
    const end = await settledEnd(server);
    const wal = walOf(server, 1, end);
    const { verifier, records } = await verifierOf(server, wal);
    verifier.push(wal.bytes);
    expect(formatLsn(verifier.verifiedLsn)).toBe(formatLsn(end));
    const switches = records.filter((record) => record.rmid === 0 && (record.info & 0xf0) === 0x40);
    expect(switches.length).toBeGreaterThanOrEqual(5);
  });

  it("cut anywhere and flipped anywhere, it is verified or refused (seeds 1 to 3)", async () => {
    await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: QUIET });
    await writeMixedWal(server, 3 * MIB);
    const end = await settledEnd(server);
    const wal = walOf(server, 1, end);
    const whole = await verifierOf(server, wal);
    whole.verifier.push(wal.bytes);
    for (const seed of [1, 2, 3]) {
      const random = randomFrom(seed);
      const cut = await verifierOf(server, wal);
      for (let at = 0; at < wal.bytes.length;) {
        const take = random.between(0, random.pick([9, 900, 90_000]));
        cut.verifier.push(wal.bytes.subarray(at, at + take));
        at += take;
      }
      expect(difference(cut.records.map(comparable), whole.records.map(comparable))).toBeUndefined();
      const segment = random.between(0, Math.floor(wal.bytes.length / MIB) - 1);
      await expectFlipsCaught(server, wal, segment * (MIB / 8192) + random.between(0, 3));
    }
  });
});

/** One bit of every byte of one page, with what the segment before it carries over. */
async function expectFlipsCaught(server: PostgresServer, wal: WalOfServer, page: number): Promise<void> {
  const [from, to] = [page * 8192, (page + 1) * 8192];
  const border = from - (from % server.segmentSize);
  const before = await verifierOf(server, wal);
  before.verifier.push(wal.bytes.subarray(0, border));
  const carry = border === 0 ? undefined : before.verifier.carry();
  const bytes = wal.bytes.slice(border, to + 8192);
  const options = { ...(await identityOf(server)), startLsn: (wal.start + BigInt(border)) as Lsn, carry };
  const missed: number[] = [];
  for (let at = from - border; at < Math.min(to - border, bytes.length); at++) {
    // Bit 2 of the third byte is XLP_BKP_REMOVABLE, which nothing can check.
    const bit = at % 8192 === 2 ? 1 : at % 8;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
    const verifier = new WalVerifier(options);
    try {
      verifier.push(bytes);
    } catch (error) {
      if (!(error instanceof SeawallError) || error.code !== "wal-corrupt") throw error;
    }
    if (verifier.verifiedLsn > options.startLsn + BigInt(at)) missed.push(at);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
  }
  expect(missed).toEqual([]);
}

async function identityOf(server: PostgresServer): Promise<Omit<WalVerifierOptions, "startLsn">> {
  return {
    systemIdentifier: await server.systemIdentifier(),
    segmentSize: server.segmentSize,
    history: rootHistory(timelineOf(1)),
    majorVersion: server.version,
  };
}

async function verifierOf(
  server: PostgresServer,
  wal: WalOfServer,
): Promise<{ verifier: WalVerifier; records: VerifiedRecord[] }> {
  const records: VerifiedRecord[] = [];
  const onRecord = (record: VerifiedRecord): void => void records.push(record);
  return { verifier: new WalVerifier({ ...(await identityOf(server)), startLsn: wal.start, onRecord }), records };
}

function comparable({ lsn, prev, length, xid, rmid }: VerifiedRecord): FoundRecord {
  return { lsn, prev, length, xid, rmid };
}

/** The first place where two lists differ, small enough to read; undefined when they are equal. */
function difference(ours: readonly FoundRecord[], theirs: readonly FoundRecord[]): string | undefined {
  const text = (record: FoundRecord | undefined): string =>
    record === undefined
      ? "nothing"
      : `${formatLsn(record.lsn)} prev ${formatLsn(record.prev)} length ${record.length} xid ${record.xid} rmgr ${record.rmid}`;
  for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    if (text(ours[i]) !== text(theirs[i])) return `record ${i}: ours is ${text(ours[i])}, theirs ${text(theirs[i])}`;
  }
  return undefined;
}
