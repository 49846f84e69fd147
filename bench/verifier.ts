/**
 * How fast the verifier is, beside `pg_waldump -q` on the same files in the same run: on WAL of small records, which is the
 * hard case, and on mixed WAL. Also where the native CRC-32C overtakes the tables, which sets NATIVE_FROM_BYTES.
 *
 * Both read the segments from the page cache and check every record's CRC. Rates are MiB of WAL a second of CPU time (user
 * and system), which a busy machine distorts least, and of wall-clock time; the ratio is of the medians.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { crc32c as nativeCrc32c } from "@node-rs/crc32";
import { CRC_START, crcUpdateWords, NATIVE_FROM_BYTES } from "../src/wal/crc32c.ts";
import { addBytes, formatLsn, type Lsn, segmentStart, timelineOf } from "../src/wal/lsn.ts";
import { parseWalFileName } from "../src/wal/names.ts";
import { rootHistory } from "../src/wal/timeline.ts";
import { WalVerifier } from "../src/wal/verifier.ts";
import { type PostgresServer, startPostgres, tool } from "../test/harness/postgres.ts";
import { run } from "../test/harness/run.ts";
import { describeMachine } from "./machine.ts";

export interface BenchResult {
  readonly name: string;
  readonly machine: string;
  readonly estimate: string;
  readonly notes: readonly string[];
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

export const ESTIMATE =
  "tables take about 1.2 GiB/s and a record about 25 ns besides, so 0.9 to 1.2 GiB/s on records of 100 bytes, twice that on " +
  "mixed WAL, where native code takes the full-page images; pg_waldump was seen at 1.7 GB/s: a ratio of 0.6 to 1";

const RUNS = 7;
const PIECE_BYTES = 128 << 10;
const MIB = 1 << 20;

interface Sample {
  readonly title: string;
  readonly server: PostgresServer;
  readonly files: readonly string[];
  readonly start: Lsn;
  readonly end: Lsn;
}

interface Times {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

/** `args`: MiB of WAL for each sample, 512 by default. */
export async function main(args: readonly string[] = []): Promise<BenchResult> {
  const mib = Number(args[0] ?? 512);
  const isOracleHere = tool("pg_waldump") !== undefined && tool("postgres") !== undefined;
  const rows: string[][] = [];
  const notes: string[] = [];
  for (const [title, write, settings] of WORKLOADS) {
    await using server = await startPostgres({
      ...(isOracleHere ? { system: true } : { version: 18 }),
      settings: { ...SETTINGS, ...settings },
    });
    const sample = await makeSample(title, server, write, mib);
    const records = verify(sample).records;
    const bytes = Number(sample.end - sample.start);
    notes.push(
      `${title}: PostgreSQL ${server.version}, ${(bytes / MIB).toFixed(0)} MiB, ${records} records, ${(bytes / records).toFixed(0)} bytes each`,
    );
    const ours: Times[] = [];
    const theirs: Times[] = [];
    for (let i = 0; i < RUNS; i++) {
      ours.push(verify(sample).times);
      if (isOracleHere) theirs.push(await waldump(sample));
    }
    rows.push(rateRow(title, "verifier", bytes, ours));
    if (isOracleHere) {
      rows.push(rateRow(title, "pg_waldump -q", bytes, theirs));
      const ratio = (key: keyof Times): string => (median(theirs, key) / median(ours, key)).toFixed(2);
      rows.push([title, "ratio", `${ratio("cpuSeconds")}×`, "", `${ratio("wallSeconds")}×`, ""]);
    } else notes.push("pg_waldump is not installed: no yardstick in this run");
  }
  rows.push(...crossoverRows());
  notes.push(`native code takes over at NATIVE_FROM_BYTES = ${NATIVE_FROM_BYTES}`);
  const columns = ["what", "who", "MiB/s CPU", "(spread)", "MiB/s wall", "(spread)"];
  return { name: "verifier", machine: describeMachine(), estimate: ESTIMATE, notes, columns, rows };
}

const SETTINGS = { max_wal_size: "16GB", wal_keep_size: "16GB", checkpoint_timeout: "1d", autovacuum: false };

type Workload = readonly [title: string, step: (server: PostgresServer, i: number) => Promise<void>, settings: object];

const WORKLOADS: readonly Workload[] = [
  ["small records", smallRecords, { full_page_writes: false }],
  ["mixed WAL", mixedWal, { wal_compression: false }],
];

async function smallRecords(server: PostgresServer, i: number): Promise<void> {
  await server.sql(`
    CREATE TABLE IF NOT EXISTS small (id bigint PRIMARY KEY, note text, at timestamptz DEFAULT now());
    INSERT INTO small SELECT ${i} * 100000::bigint + g, md5(g::text) FROM generate_series(1, 100000) g;
    UPDATE small SET note = 'changed' WHERE id > ${i} * 100000::bigint AND id % 3 = 0;
  `);
}

async function mixedWal(server: PostgresServer, i: number): Promise<void> {
  await smallRecords(server, i);
  await server.sql("CHECKPOINT");
  // Full-page images of what was there, and some records of many pages.
  await server.sql("UPDATE small SET note = 'again' WHERE id % 97 = 0");
  await server.sql("SELECT pg_logical_emit_message(true, 'large', repeat('0123456789abcdef', 65536))");
}

async function makeSample(title: string, server: PostgresServer, write: Workload[1], mib: number): Promise<Sample> {
  const begun = await server.currentFlushLsn();
  for (let i = 0; (await server.currentFlushLsn()) < addBytes(begun, mib * MIB); i++) await write(server, i);
  await server.sql("SELECT pg_switch_wal()");
  const end = await server.currentFlushLsn();
  const files = server.walFiles().filter((name) => startOf(name, server) < end);
  const first = files[0];
  if (first === undefined) throw new Error("the server has no WAL");
  return { title, server, files, start: startOf(first, server), end };
}

function startOf(name: string, server: PostgresServer): Lsn {
  const parsed = parseWalFileName(name, server.segmentSize);
  if (parsed?.kind !== "segment") throw new Error(`${name} is no segment`);
  return segmentStart(parsed.segment, server.segmentSize);
}

/** Reads and verifies the whole sample as the receiver does: a segment's buffer, in pieces as they come from a socket. */
function verify({ server, files, start, end }: Sample): { times: Times; records: number } {
  const verifier = new WalVerifier({
    systemIdentifier: systemIdentifierIn(join(server.walDir, files[0] ?? "")),
    segmentSize: server.segmentSize,
    startLsn: start,
    history: rootHistory(timelineOf(1)),
    majorVersion: server.version,
  });
  const segment = Buffer.allocUnsafeSlow(server.segmentSize);
  const cpu = process.cpuUsage();
  const begun = performance.now();
  for (const name of files) {
    const length = Math.min(read(join(server.walDir, name), segment), Number(end - verifier.position));
    for (let at = 0; at < length; at += PIECE_BYTES) {
      verifier.push(segment.subarray(at, Math.min(at + PIECE_BYTES, length)));
    }
  }
  const wallSeconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  if (verifier.verifiedLsn !== end) throw new Error(`verified only up to ${formatLsn(verifier.verifiedLsn)}`);
  const summaries = [...verifier.takeSummaries(), verifier.openSummary()];
  const records = summaries.reduce((sum, summary) => sum + summary.recordCount, 0);
  return { times: { wallSeconds, cpuSeconds: (user + system) / 1e6 }, records };
}

function read(path: string, into: Buffer): number {
  const file = openSync(path, "r");
  try {
    return readSync(file, into, 0, into.length, 0);
  } finally {
    closeSync(file);
  }
}

function systemIdentifierIn(path: string): bigint {
  const header = Buffer.alloc(40);
  read(path, header);
  return header.readBigUInt64LE(24);
}

/** The shell's `times` prints what its children took, as minutes and seconds of user and system time. */
async function waldump({ server, start, end }: Sample): Promise<Times> {
  const program = tool("pg_waldump") ?? "";
  const script = '"$0" -q -p "$1" -s "$2" -e "$3" && times';
  // pg_waldump wants to be shown the first record, not the start of a segment that begins inside one: it finds it itself.
  const args = ["-c", script, program, server.walDir, formatLsn(addBytes(start, 40)), formatLsn(end)];
  const begun = performance.now();
  const { stdout } = await run("/bin/sh", args);
  const wallSeconds = (performance.now() - begun) / 1000;
  const [, user, system] = /\n(\d+m[\d.]+s) (\d+m[\d.]+s)\s*$/.exec(stdout) ?? [];
  const seconds = (text = ""): number => {
    const [minutes, rest] = text.split("m");
    return Number(minutes) * 60 + Number.parseFloat(rest ?? "");
  };
  return { wallSeconds, cpuSeconds: seconds(user) + seconds(system) };
}

/** Rates of both ways to compute a CRC by length, a view per native call included, as the verifier makes one. */
function crossoverRows(): string[][] {
  const bytes = new Uint8Array(MIB).map((_, i) => (i * 2654435761) >>> 13);
  const words = new Int32Array(bytes.buffer);
  return [64, 128, 192, 256, 320, 384, 512, 1024, 8152].map((length) => {
    const best = (once: (at: number) => number): number => {
      let fastest = 0;
      for (let i = 0; i < RUNS; i++) {
        const cpu = process.cpuUsage();
        let [done, sum] = [0, 0];
        for (; done < 16 * MIB; done += length) sum ^= once((done % (MIB - 8192)) & ~7);
        const { user, system } = process.cpuUsage(cpu);
        fastest = Math.max(fastest, sum === 1 ? 0 : done / MIB / ((user + system) / 1e6));
      }
      return fastest;
    };
    const tables = best((at) => crcUpdateWords(CRC_START, words, at >>> 2, length >>> 3));
    const native = best((at) => nativeCrc32c(bytes.subarray(at, at + length)));
    return [
      `CRC-32C of ${length} bytes`,
      native > tables ? "native" : "tables",
      `${tables.toFixed(0)} | ${native.toFixed(0)}`,
      "tables | native",
      "",
      "",
    ];
  });
}

function rateRow(title: string, who: string, bytes: number, times: readonly Times[]): string[] {
  const rate = (seconds: number): string => (bytes / MIB / seconds).toFixed(0);
  const spread = (key: keyof Times): string => {
    const all = times.map((t) => t[key]).sort((a, b) => a - b);
    return `${rate(all.at(-1) ?? 1)}–${rate(all[0] ?? 1)}`;
  };
  const cells = (key: keyof Times): string[] => [rate(median(times, key)), spread(key)];
  return [title, who, ...cells("cpuSeconds"), ...cells("wallSeconds")];
}

function median(times: readonly Times[], key: keyof Times): number {
  const all = times.map((t) => t[key]).sort((a, b) => a - b);
  return all[all.length >> 1] ?? 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  console.log(`estimate: ${ESTIMATE}`);
  const result = await main(process.argv.slice(2));
  console.log([result.machine, ...result.notes].join("\n"));
  for (const row of [result.columns, ...result.rows]) console.log(row.join("\t"));
}
