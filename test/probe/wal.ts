/**
 * What a server writes into its WAL, compared with the tables of src/wal: page magic, bits of page headers, every record of
 * the crafted WAL against the server's own readers, and the records whose contents Seawall reads.
 */
import { join } from "node:path";
import { majorVersionOfMagic, PAGE_MAGIC, pageFlagsOf } from "../../src/wal/format.ts";
import { formatLsn, type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { rootHistory } from "../../src/wal/timeline.ts";
import { type VerifiedRecord, WalVerifier } from "../../src/wal/verifier.ts";
import { craftWal, WAL_CRAFTS, type WalCraft } from "../harness/craft-wal.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { byWaldump, byWalinspect, commitsByWaldump, settledEnd, walOf } from "../wal/oracles.ts";
import type { Checks } from "./checks.ts";

const PAGE = 8192;

/** `major` is the version whose tables are compared; `crafts` are the kinds of WAL to write. */
export async function probeWal(
  server: PostgresServer,
  major: number,
  checks: Checks,
  crafts: readonly WalCraft[] = WAL_CRAFTS,
): Promise<void> {
  await probeCommits(server, major, checks);
  await probeChanges(server, major, checks);
  for (const { name } of crafts) {
    await checks.attempt(`WAL: ${name}`, async () => {
      const { startLsn, endLsn } = await craftWal(server, name);
      const { bytes } = cutOut(server, startLsn, endLsn);
      probePages(bytes, server, major);
      const ours = await verified(server, major, startLsn, endLsn);
      // pg_waldump ends at a record that a crash has cut off, although recovery goes on behind it.
      if (!name.startsWith("a crash")) await compareRecords(server, ours.records, startLsn, endLsn);
      return `${ours.records.length} records`;
    });
  }
  probeMagic(server, major, await settledEnd(server), checks);
}

function probeMagic(server: PostgresServer, major: number, end: Lsn, checks: Checks): void {
  const { bytes } = walOf(server, 1, end);
  const magic = hex(Buffer.from(bytes).readUInt16LE(0));
  const known = PAGE_MAGIC[major];
  checks.compare("page magic", magic, known === undefined ? `a row for ${major} in PAGE_MAGIC` : hex(known));
}

/** Throws for a bit of xlp_info, or a magic, that the tables do not have. */
function probePages(bytes: Buffer, server: PostgresServer, major: number): void {
  const { all } = pageFlagsOf(major);
  for (let at = 0; at < bytes.length; at += PAGE) {
    const [magic, info] = [bytes.readUInt16LE(at), bytes.readUInt16LE(at + 2)];
    // Behind a switch the rest of a segment is zero.
    if (magic === 0) continue;
    if (majorVersionOfMagic(magic) !== major)
      throw new Error(`a page of version ${server.version} has magic ${hex(magic)}`);
    if ((info & ~all) !== 0)
      throw new Error(`a page has info bits ${hex(info)}, and ${hex(all)} are all that are known`);
  }
}

async function probeCommits(server: PostgresServer, major: number, checks: Checks): Promise<void> {
  await checks.attempt("commits, their times and named restore points", async () => {
    await server.sql("CREATE TABLE probe_commits (i int)");
    const from = await server.currentFlushLsn();
    for (let i = 0; i < 5; i++) await server.sql(`INSERT INTO probe_commits VALUES (${i})`);
    await server.sql("BEGIN; INSERT INTO probe_commits VALUES (9); ROLLBACK");
    await server.sql("BEGIN; INSERT INTO probe_commits VALUES (10); PREPARE TRANSACTION 'probe'");
    await server.sql("COMMIT PREPARED 'probe'");
    await server.sql("SELECT pg_create_restore_point('the probe')");
    await server.sql("INSERT INTO probe_commits VALUES (11)");
    const time = "SELECT (extract(epoch FROM timestamp) * 1000000)::bigint::text FROM pg_last_committed_xact()";
    const committed = await server.value(time);
    const end = await settledEnd(server);
    const { verifier } = await verified(server, major, from, end);
    if (String(verifier.lastCommitTime) !== committed) {
      throw new Error(`the last commit was at ${committed}, and reads as ${verifier.lastCommitTime ?? "nothing"}`);
    }
    const points = [...verifier.takeSummaries(), verifier.openSummary()].flatMap((one) => one.restorePoints);
    const names = points.map(({ name }) => name).join(", ");
    if (names !== "the probe") throw new Error(`the restore point reads as "${names}"`);
    const start = segmentStart(segmentOf(from, server.segmentSize), server.segmentSize);
    if ((await byWaldump(server, start, end)) === undefined) return "pg_waldump is not there to count commits";
    const theirs = await commitsByWaldump(server, start, end);
    if (verifier.commitCount !== theirs)
      throw new Error(`pg_waldump counts ${theirs} commits, we ${verifier.commitCount ?? 0}`);
    return `${theirs} commits`;
  });
}

/** Tablespaces and settings: what a recovery must know before it meets them. */
async function probeChanges(server: PostgresServer, major: number, checks: Checks): Promise<void> {
  await checks.attempt("records of tablespaces and settings", async () => {
    const folder = makeTablespaceFolder(join(server.socketDir, "probe-space"));
    const from = await server.currentFlushLsn();
    await server.sql(`CREATE TABLESPACE probe LOCATION '${folder}'`);
    const oid = Number(await server.value("SELECT oid::text FROM pg_tablespace WHERE spcname = 'probe'"));
    await server.sql("DROP TABLESPACE probe");
    await server.configure({ max_connections: 71, max_worker_processes: 12, max_locks_per_transaction: 77 });
    await server.restart();
    const { verifier } = await verified(server, major, from, await settledEnd(server));
    const changes = [...verifier.takeSummaries(), verifier.openSummary()].flatMap((one) => one.changes ?? []);
    const seen = JSON.stringify(
      changes.map((change) => {
        if (change.kind === "parameters") return [change.walLevel, ...Object.values(change.settings)];
        return change.kind === "tablespace-created" ? [change.oid, change.location] : [change.oid];
      }),
    );
    const expected = JSON.stringify([[oid, folder], [oid], ["replica", 71, 12, 10, 10, 77]]);
    if (seen !== expected) throw new Error(`they read as ${seen}, and the server wrote ${expected}`);
    return undefined;
  });
}

/** WAL from the segment in which `from` lies. */
function cutOut(server: PostgresServer, from: Lsn, end: Lsn): { readonly start: Lsn; readonly bytes: Buffer } {
  const whole = walOf(server, 1, end);
  const start = segmentStart(segmentOf(from, server.segmentSize), server.segmentSize);
  const bytes = whole.bytes.subarray(Number(start - whole.start));
  return { start, bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) };
}

/** Throws where the WAL does not verify to its end. */
async function verified(
  server: PostgresServer,
  major: number,
  from: Lsn,
  end: Lsn,
): Promise<{ readonly verifier: WalVerifier; readonly records: readonly VerifiedRecord[] }> {
  const { start, bytes } = cutOut(server, from, end);
  const records: VerifiedRecord[] = [];
  const verifier = new WalVerifier({
    systemIdentifier: await server.systemIdentifier(),
    segmentSize: server.segmentSize,
    startLsn: start,
    history: rootHistory(timelineOf(1)),
    majorVersion: major,
    onRecord: (record) => void (record.lsn >= from && records.push(record)),
  });
  verifier.push(bytes);
  if (verifier.verifiedLsn !== end) {
    throw new Error(
      `it verifies to ${formatLsn(verifier.verifiedLsn)}, and the server's WAL ends at ${formatLsn(end)}`,
    );
  }
  return { verifier, records };
}

/** Throws at the first record that the server's readers find otherwise. */
async function compareRecords(
  server: PostgresServer,
  ours: readonly VerifiedRecord[],
  from: Lsn,
  end: Lsn,
): Promise<void> {
  if (ours.length === 0) return;
  for (const theirs of [await byWaldump(server, from, end), await byWalinspect(server, from, end)]) {
    if (theirs === undefined) continue;
    for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
      const [a, b] = [ours[i], theirs[i]].map((record) => {
        if (record === undefined) return "nothing";
        const { lsn, prev, length, xid, rmid } = record;
        return `${formatLsn(lsn)} prev ${formatLsn(prev)} length ${length} xid ${xid} resource manager ${rmid}`;
      });
      if (a !== b) throw new Error(`record ${i} is ${a ?? ""} to us, and ${b ?? ""} to PostgreSQL`);
    }
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(4, "0")}`;
}
