/**
 * What others find in a server's WAL, to compare the verifier with: PostgreSQL's pg_waldump of the server's version (beside the
 * server, the machine's, or from Debian's packages), the server's own pg_walinspect from 15 on, and a reader written here, without
 * a thought for speed, that gathers each record whole before it looks at it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { PAGE_SIZE, XLOG_SWITCH } from "../../src/wal/format.ts";
import { addBytes, type Lsn, lsnOf, parseLsn, segmentStart } from "../../src/wal/lsn.ts";
import { parseWalFileName } from "../../src/wal/names.ts";
import { oracleOf, type PostgresServer } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";

/** What all of them can tell of a record. */
export interface FoundRecord {
  readonly lsn: Lsn;
  readonly prev: Lsn;
  readonly length: number;
  readonly xid: number;
  readonly rmid: number;
}

/** RmgrNames of 14 to 19, in the order of rmgrlist.h. */
const RMGRS =
  "XLOG Transaction Storage CLOG Database Tablespace MultiXact RelMap Standby Heap2 Heap Btree Hash Gin Gist Sequence SPGist BRIN CommitTs ReplicationOrigin Generic LogicalMessage".split(
    " ",
  );

export interface WalOfServer {
  /** A segment boundary. */
  readonly start: Lsn;
  readonly bytes: Uint8Array;
}

/** The WAL on the server's disk from its oldest segment on, of one timeline's files, up to `end`. */
export function walOf(server: PostgresServer, timeline: number, end: Lsn): WalOfServer {
  const segments = readdirSync(server.walDir).flatMap((name) => {
    const parsed = parseWalFileName(name, server.segmentSize);
    return parsed?.kind === "segment" && parsed.timeline === timeline ? [{ name, segment: parsed.segment }] : [];
  });
  const wanted = segments
    .sort((a, b) => a.segment - b.segment)
    .filter(({ segment }) => segmentStart(segment, server.segmentSize) < end);
  const [first] = wanted;
  if (first === undefined) throw new Error(`no segment of timeline ${timeline} before the end`);
  const start = segmentStart(first.segment, server.segmentSize);
  const whole = Buffer.concat(wanted.map(({ name }) => readFileSync(join(server.walDir, name))));
  return { start, bytes: whole.subarray(0, Number(end - start)) };
}

/** The end of all WAL, at a moment when everything written is flushed, so that it is the end of a record. */
export async function settledEnd(server: PostgresServer): Promise<Lsn> {
  for (let tries = 0; tries < 100; tries++) {
    const [row] = await server.sql(
      "SELECT pg_current_wal_insert_lsn()::text AS inserted, pg_current_wal_flush_lsn()::text AS flushed",
    );
    const { inserted, flushed } = row as { inserted: string; flushed: string };
    if (inserted === flushed) return parseLsn(flushed);
    await server.sql("SELECT pg_logical_emit_message(true, 'settle', '')");
  }
  throw new Error("the server never settles");
}

/** pg_waldump of the server's own version, whose WAL alone it reads, in `folder`; undefined when there is none. */
export async function byWaldump(
  server: PostgresServer,
  from: Lsn,
  to: Lsn,
  folder = server.walDir,
): Promise<FoundRecord[] | undefined> {
  const program = await oracleOf(server, "pg_waldump");
  if (program === undefined) return undefined;
  const { stdout } = await run(program, ["-p", folder, "-s", hex(from), "-e", hex(to)]);
  return [...stdout.matchAll(WALDUMP_LINE)].map(([, name, length, xid, lsn, prev]) => ({
    lsn: parseLsn(lsn ?? ""),
    prev: parseLsn(prev ?? ""),
    length: Number(length),
    xid: Number(xid),
    rmid: RMGRS.indexOf(name ?? ""),
  }));
}

/** How many commits, of prepared transactions too, pg_waldump finds; asked only where byWaldump answered. */
export async function commitsByWaldump(server: PostgresServer, from: Lsn, to: Lsn): Promise<number> {
  const args = ["-p", server.walDir, "-r", "Transaction", "-s", hex(from), "-e", hex(to)];
  const { stdout } = await run((await oracleOf(server, "pg_waldump")) ?? "", args);
  return [...stdout.matchAll(/desc: COMMIT(_PREPARED)? /g)].length;
}

const WALDUMP_LINE =
  /^rmgr: (\w+) +len \(rec\/tot\): +\d+\/ *(\d+), tx: +(\d+), lsn: ([0-9A-F]+\/[0-9A-F]+), prev ([0-9A-F]+\/[0-9A-F]+)/gm;

/** pg_walinspect, which reads with the server's own xlogreader; undefined before 15. */
export async function byWalinspect(server: PostgresServer, from: Lsn, to: Lsn): Promise<FoundRecord[] | undefined> {
  if (server.version < 15) return undefined;
  await server.sql("CREATE EXTENSION IF NOT EXISTS pg_walinspect");
  const rows = await server.sql(
    `SELECT start_lsn::text AS lsn, prev_lsn::text AS prev, record_length::text AS length, xid::text AS xid, resource_manager AS name
       FROM pg_get_wal_records_info($1::text::pg_lsn, $2::text::pg_lsn) ORDER BY start_lsn`,
    [hex(from), hex(to)],
  );
  return (rows as Record<"lsn" | "prev" | "length" | "xid" | "name", string>[]).map((row) => ({
    lsn: parseLsn(row.lsn),
    prev: parseLsn(row.prev),
    length: Number(row.length),
    xid: Number(row.xid),
    rmid: RMGRS.indexOf(row.name),
  }));
}

function hex(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`;
}

/** The plain reader: records with a right CRC from the first that begins in `wal` to the end. */
export function byPlainReader(wal: WalOfServer, segmentSize: number): FoundRecord[] {
  const { start, bytes } = wal;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: FoundRecord[] = [];
  let at = 0;
  const skipHeader = (): void => {
    if (at % PAGE_SIZE === 0) at += at % segmentSize === 0 ? 40 : 24;
  };
  /** The next `length` bytes without page headers; undefined when there are fewer. */
  const gather = (length: number): Uint8Array | undefined => {
    const gathered = new Uint8Array(length);
    for (let got = 0; got < length;) {
      skipHeader();
      const take = Math.min(length - got, PAGE_SIZE - (at % PAGE_SIZE));
      if (at + take > bytes.length) return undefined;
      gathered.set(bytes.subarray(at, at + take), got);
      got += take;
      at += take;
    }
    at = Math.ceil(at / 8) * 8;
    return gathered;
  };
  gather(view.getUint32(16, true)); // xlp_rem_len: the rest of a record that began before
  for (;;) {
    skipHeader();
    if (at + 4 > bytes.length) return found;
    const lsn = addBytes(start, at);
    const length = view.getUint32(at, true);
    const record = gather(length);
    if (record === undefined) return found;
    const fields = new DataView(record.buffer);
    const crc = crc32c(record.subarray(0, 20), crc32c(record.subarray(24)));
    if (crc !== fields.getUint32(20, true)) throw new Error(`the plain reader finds a wrong CRC at ${hex(lsn)}`);
    const rmid = fields.getUint8(17);
    found.push({ lsn, prev: lsnOf(fields.getBigUint64(8, true)), length, xid: fields.getUint32(4, true), rmid });
    const isSwitch = rmid === 0 && (fields.getUint8(16) & 0xf0) === XLOG_SWITCH;
    if (isSwitch) at = Math.ceil(at / segmentSize) * segmentSize;
  }
}
