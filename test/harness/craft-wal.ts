/**
 * Makes a real server write the WAL that readers of WAL get wrong: one row a kind, told by its name.
 *
 *     test.each(WAL_CRAFTS)("… $name", async ({ name }) => {
 *       await using server = await startPostgres({ version, segmentSizeMiB: 1 });
 *       const { startLsn, endLsn } = await craftWal(server, name);
 *
 * Every kind works on any segment size and any version, and leaves the server running with all its WAL kept in pg_wal. All
 * names of tables may exist once: a kind that makes any runs once on a server.
 */
import type pg from "pg";
import { pageFlagsOf } from "../../src/wal/format.ts";
import { type Lsn, lsnOf, parseLsn, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import type { PostgresServer } from "./postgres.ts";
import { PAGE, SWITCH_RECORD_BYTES, emitMessage, insertLsn, placeInsert } from "./wal-placement.ts";

export interface WalCraft {
  readonly name: string;
  /** Writes the WAL; the client is a superuser's, and may be lost when the kind crashes the server. */
  readonly run: (server: PostgresServer, client: pg.Client) => Promise<void>;
}

export interface CraftedWal {
  /** Insert position before and flush position after, on a timeline that is still the same. */
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

export const WAL_CRAFTS: readonly WalCraft[] = [
  { name: "records of every size across pages", run: everySize },
  { name: "records that start and end at every border of a page", run: pageBorders },
  { name: "records across segments", run: acrossSegments },
  { name: "a record larger than a segment", run: largerThanSegment },
  { name: "switch records at the border of a page", run: switchesAtPageBorder },
  { name: "switch records in the last bytes of a segment", run: switchesAtSegmentEnd },
  { name: "full-page images", run: async (_, client) => fullPageImages(client, "fpi") },
  { name: "wal_compression with every method the server has", run: compressedImages },
  { name: "an idle cluster", run: idle },
  { name: "a crash that leaves an aborted continuation record at the border of a segment", run: tornAtSegmentBorder },
  { name: "a crash that leaves an aborted continuation record across segments", run: tornAcrossSegments },
  { name: "a crash that leaves an aborted continuation record inside a segment", run: tornInsideSegment },
  { name: "large objects", run: largeObjects },
  { name: "many tiny commits", run: tinyCommits },
  { name: "prepared transactions", run: preparedTransactions },
  { name: "subtransactions", run: subtransactions },
  { name: "all kinds of indexes, DDL and maintenance", run: everyResourceManager },
  { name: "segments recycled with old pages in them", run: recycledSegments },
];

/** Runs one kind by name; throws when there is none of that name, or when the WAL did not come out as its name says. */
export async function craftWal(server: PostgresServer, name: string): Promise<CraftedWal> {
  const craft = WAL_CRAFTS.find((row) => row.name === name);
  if (craft === undefined) throw new Error(`no such kind of WAL: ${name}`);
  await server.configure({ wal_keep_size: "16GB" });
  const client = await server.connect();
  const startLsn = lsnOf(await insertLsn(client));
  try {
    await craft.run(server, client);
  } catch (error) {
    throw new Error(`${name}: ${String(error)}; the server's log:\n${server.log().slice(-3000)}`, { cause: error });
  }
  await client.end().catch(() => undefined);
  await flush(server);
  return { startLsn, endLsn: await server.currentFlushLsn() };
}

/** A commit that waits for the disk takes everything before it along. */
async function flush(server: PostgresServer): Promise<void> {
  await server.sql("CREATE TABLE IF NOT EXISTS craft_flush (i int); INSERT INTO craft_flush VALUES (1)");
}

async function everySize(_: PostgresServer, client: pg.Client): Promise<void> {
  const sizes =
    "SELECT generate_series(0, 300) UNION ALL SELECT generate_series(8000, 8300, 7) UNION ALL SELECT generate_series(16000, 40000, 997)";
  await client.query(`SELECT pg_logical_emit_message(false, 'p', repeat('x', size)) FROM (${sizes}) AS t (size)`);
}

/** Headers cut by the border (8 and 16 bytes left), records that end exactly there, and one page further. */
async function pageBorders(server: PostgresServer, client: pg.Client): Promise<void> {
  const { segmentSize } = server;
  for (const pageRemaining of [0, 8, 16, 24, 32, 40, 48, 56]) {
    await placeInsert(client, { segmentSize, pageRemaining });
    await emitMessage(client, 100);
    await placeInsert(client, { segmentSize, pageRemaining });
    await emitMessage(client, 20_000);
  }
}

async function acrossSegments(server: PostgresServer, client: pg.Client): Promise<void> {
  const { segmentSize } = server;
  for (const pageRemaining of [0, 8, 24, 1000]) {
    await placeInsert(client, { segmentSize, pageRemaining, lastPage: true });
    await emitMessage(client, 30_000);
  }
}

async function largerThanSegment(server: PostgresServer, client: pg.Client): Promise<void> {
  await placeInsert(client, { segmentSize: server.segmentSize, pageRemaining: 4000 });
  await emitMessage(client, server.segmentSize + (server.segmentSize >> 1));
}

async function switchesAtPageBorder(server: PostgresServer, client: pg.Client): Promise<void> {
  for (const pageRemaining of [0, 8, 16, SWITCH_RECORD_BYTES, SWITCH_RECORD_BYTES + 8]) {
    await switchAt(server, client, { pageRemaining });
  }
}

/** With 8 and 16 bytes left the record itself crosses into the segment that it then leaves empty. */
async function switchesAtSegmentEnd(server: PostgresServer, client: pg.Client): Promise<void> {
  for (const pageRemaining of [8, 16, SWITCH_RECORD_BYTES, SWITCH_RECORD_BYTES + 8]) {
    await switchAt(server, client, { pageRemaining, lastPage: true });
  }
}

/**
 * Places and switches; when the server put a record of its own in between, once more.
 *
 * The message after the switch is not for looks: pg_switch_wal counts the header of the next page in when its record ends
 * where a page does (xlog.c, XLogInsertRecord). At the end of a segment that page does not exist yet, and a WAL writer that
 * is told to flush up to there takes the server down with "xlog write request … is past end of log". Both in one
 * statement, the transaction's last record lies beyond.
 */
async function switchAt(
  server: PostgresServer,
  client: pg.Client,
  at: { readonly pageRemaining: number; readonly lastPage?: boolean },
): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const before = await placeInsert(client, { segmentSize: server.segmentSize, ...at });
    const { rows } = await client.query<{ end: string }>(
      "SELECT pg_switch_wal()::text AS end, pg_logical_emit_message(false, 'p', 'after')",
    );
    // The end of its record; the headers of one page or segment may lie in between.
    const length = Number(parseLsn(rows[0]?.end ?? "") - before);
    if (length >= SWITCH_RECORD_BYTES && length <= SWITCH_RECORD_BYTES + 40) return;
  }
  throw new Error("the server kept writing between placing and switching");
}

async function fullPageImages(client: pg.Client, table: string): Promise<void> {
  await client.query(`CREATE TABLE ${table} (id int PRIMARY KEY, half_empty text, random text)`);
  // Pages with a hole, pages nearly full, and index pages.
  await client.query(
    `INSERT INTO ${table} SELECT i, repeat('tide ', i % 200), (SELECT string_agg(md5((i * 7 + j)::text), '') FROM generate_series(1, 20) j) FROM generate_series(1, 600) i`,
  );
  for (let round = 0; round < 2; round++) {
    await client.query("CHECKPOINT");
    await client.query(`UPDATE ${table} SET half_empty = half_empty || '.' WHERE id % 3 = ${round}`);
  }
  await client.query("CHECKPOINT");
  await client.query(`DELETE FROM ${table} WHERE id % 2 = 0`);
}

async function compressedImages(server: PostgresServer, client: pg.Client): Promise<void> {
  // A boolean in 14; from 15 on an enum of the methods the server was built with.
  const { rows } = await client.query<{ methods: string[] | null }>(
    "SELECT enumvals AS methods FROM pg_settings WHERE name = 'wal_compression'",
  );
  const methods = (rows[0]?.methods ?? ["on"]).filter((method) => method !== "off");
  for (const method of methods) {
    await client.query(`SET wal_compression = '${method}'`);
    await fullPageImages(client, `fpi_${method}`);
  }
  await client.query("RESET wal_compression");
  await server.configure({ wal_compression: "on" });
}

/** Checkpoints with nothing to do write nothing; a switch of a segment that is empty does not either. */
async function idle(_: PostgresServer, client: pg.Client): Promise<void> {
  for (let i = 0; i < 3; i++) await client.query("CHECKPOINT");
  await client.query("SELECT pg_switch_wal()");
  await client.query("SELECT pg_switch_wal()");
  await client.query("CHECKPOINT");
}

/** WAL buffers of 64 kB are eight pages: the record pushes the last page of its first segment out, and nothing else. */
const PAYLOAD_OF_EIGHT_PAGES = 61_300;

async function tornAtSegmentBorder(server: PostgresServer, client: pg.Client): Promise<void> {
  await tear(server, client, { pageRemaining: 200, lastPage: true, payload: PAYLOAD_OF_EIGHT_PAGES, atBorder: true });
}

async function tornAcrossSegments(server: PostgresServer, client: pg.Client): Promise<void> {
  await tear(server, client, { pageRemaining: 200, lastPage: true, payload: 300_000 });
}

async function tornInsideSegment(server: PostgresServer, client: pg.Client): Promise<void> {
  await tear(server, client, { pageRemaining: 200, payload: 300_000 });
}

/** The inserts before a crash take milliseconds. */
const HELD_UP_MS = 3_000;

/**
 * A record longer than the WAL buffers is on disk only in part when the server dies before it is flushed. The new
 * server finds a record whose continuation is missing and marks the page where it goes on (XLOG_OVERWRITE_CONTRECORD). A
 * segment is flushed as soon as it is full, so a receiver has really been sent the record's beginning.
 */
async function tear(
  server: PostgresServer,
  client: pg.Client,
  at: {
    readonly pageRemaining: number;
    readonly lastPage?: boolean;
    readonly payload: number;
    /** The mark must be on the first page of a segment. */
    readonly atBorder?: boolean;
  },
): Promise<void> {
  await client.end();
  // No process flushes in the background.
  await server.configure({ wal_buffers: "64kB", wal_writer_delay: "10s", wal_writer_flush_after: 0 });
  await server.restart();
  for (let attempt = 0; attempt < 20; attempt++) {
    const doomed = await server.connect();
    await stopBackgroundWrites(doomed);
    // One that was stopped with a lock in its hands holds us up forever: the crash frees us, and the next attempt is made.
    const heldUp = setTimeout(() => void server.kill9(), HELD_UP_MS);
    const start = await placeInsert(doomed, { segmentSize: server.segmentSize, ...at }).catch(() => undefined);
    await emitMessage(doomed, at.payload).catch(() => undefined);
    clearTimeout(heldUp);
    await server.kill9();
    await server.start();
    const marked = start === undefined ? undefined : await overwrittenPage(server, start);
    if (marked !== undefined && (at.atBorder !== true || marked % BigInt(server.segmentSize) === 0n)) {
      await server.configure({ wal_buffers: "4MB", wal_writer_delay: "200ms", wal_writer_flush_after: "1MB" });
      return server.restart();
    }
  }
  throw new Error("no crash left an aborted continuation record");
}

/**
 * The WAL writer wakes up all the same, for a snapshot of running transactions: then more of the record is on disk than
 * the test wants, or all of it. So every process that might write or wake it stands still until the crash.
 */
async function stopBackgroundWrites(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')",
  );
  if (rows.length !== 3) throw new Error(`expected three background processes, found ${rows.length}`);
  for (const { pid } of rows) process.kill(pid, "SIGSTOP");
}

/** The page after the one of `start`, where the torn record went on, that is marked. */
async function overwrittenPage(server: PostgresServer, start: bigint): Promise<bigint | undefined> {
  const first = start - (start % BigInt(PAGE)) + BigInt(PAGE);
  for (let page = first; page < first + 400_000n; page += BigInt(PAGE)) {
    const segment = segmentOf(lsnOf(page), server.segmentSize);
    const name = segmentFileName(timelineOf(1), segment, server.segmentSize);
    if (!server.walFiles().includes(name)) return undefined;
    const bytes = await server.readWalFile(name);
    const offset = Number(page % BigInt(server.segmentSize));
    const header = Buffer.from(bytes.buffer, bytes.byteOffset + offset, 16);
    if ((header.readUInt16LE(2) & pageFlagsOf(server.version).overwrites) !== 0 && header.readBigUInt64LE(8) === page)
      return page;
  }
  return undefined;
}

async function largeObjects(_: PostgresServer, client: pg.Client): Promise<void> {
  await client.query(
    "SELECT lo_from_bytea(1000 + i, decode(repeat(md5(i::text), 40000), 'hex')) FROM generate_series(1, 3) i",
  );
  await client.query("SELECT lo_put(1001, 100000, decode(repeat('ab', 50000), 'hex'))");
  await client.query("SELECT lo_unlink(1002)");
}

async function tinyCommits(_: PostgresServer, client: pg.Client): Promise<void> {
  await client.query("CREATE TABLE tiny (i int)");
  await client.query("SET synchronous_commit = off");
  await client.query("DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO tiny VALUES (i); COMMIT; END LOOP; END $$");
}

async function preparedTransactions(_: PostgresServer, client: pg.Client): Promise<void> {
  await client.query("CREATE TABLE prepared (i int PRIMARY KEY, t text)");
  for (const [from, name, end] of [
    [1000, "kept", "COMMIT PREPARED"],
    [2000, "dropped", "ROLLBACK PREPARED"],
    [3000, "open", undefined],
  ] as const) {
    await client.query("BEGIN");
    await client.query("SAVEPOINT s");
    await client.query(`CREATE TABLE prepared_${name} (i int)`);
    const rows = `SELECT i, repeat('${name}', i % 50) FROM generate_series(${from}, ${from} + 400) i`;
    await client.query(`INSERT INTO prepared ${rows}`);
    await client.query(`PREPARE TRANSACTION '${name}'`);
    await client.query("CHECKPOINT");
    if (end !== undefined) await client.query(`${end} '${name}'`);
  }
}

async function subtransactions(_: PostgresServer, client: pg.Client): Promise<void> {
  await client.query("CREATE TABLE sub (i int PRIMARY KEY)");
  // More than 64 subtransactions overflow the cache of a backend, and the commit record lists them all.
  await client.query(
    `DO $$ BEGIN FOR i IN 1..500 LOOP
       BEGIN INSERT INTO sub VALUES (i); IF i % 5 = 0 THEN RAISE division_by_zero; END IF;
       EXCEPTION WHEN division_by_zero THEN NULL; END;
     END LOOP; END $$`,
  );
  await client.query("BEGIN");
  for (let depth = 0; depth < 70; depth++) {
    await client.query(`SAVEPOINT s${depth}`);
    await client.query("INSERT INTO sub VALUES ($1)", [1000 + depth]);
  }
  await client.query("ROLLBACK TO s35");
  await client.query("COMMIT");
}

async function everyResourceManager(server: PostgresServer, client: pg.Client): Promise<void> {
  const other = await server.connect();
  try {
    await client.query("CREATE TABLE many (id serial PRIMARY KEY, t text, a int[], p point, r int4range)");
    await client.query(
      "CREATE INDEX ON many USING gin (a); CREATE INDEX ON many USING gist (p); CREATE INDEX ON many USING hash (t)",
    );
    await client.query(
      "CREATE INDEX ON many USING brin (id); CREATE INDEX ON many USING spgist (p); CREATE INDEX ON many USING gist (r)",
    );
    await client.query(
      "INSERT INTO many (t, a, p, r) SELECT md5(i::text), ARRAY[i % 7, i % 11], point(i % 97, i % 89), int4range(i, i + 10) FROM generate_series(1, 3000) i",
    );
    await client.query("DELETE FROM many WHERE id % 3 = 0");
    await client.query("VACUUM (FREEZE, ANALYZE) many");
    // A row locked by two transactions at once makes a multixact.
    await client.query("BEGIN; SELECT 1 FROM many WHERE id = 1 FOR SHARE");
    await other.query("BEGIN; SELECT 1 FROM many WHERE id = 1 FOR SHARE");
    await client.query("COMMIT");
    await other.query("COMMIT");
    await client.query(
      "ALTER TABLE many ADD COLUMN extra text DEFAULT 'x'; ALTER TABLE many ALTER COLUMN t TYPE varchar",
    );
    await client.query("CLUSTER many USING many_pkey");
    await client.query(
      "CREATE TABLE toasted AS SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 400) j) AS wide FROM generate_series(1, 50) i",
    );
    await client.query("TRUNCATE toasted");
    await client.query("CREATE ROLE crafted; GRANT SELECT ON many TO crafted; COMMENT ON TABLE many IS 'many'");
    await client.query("CREATE DATABASE crafted");
    await client.query("DROP DATABASE crafted");
    await client.query("REINDEX TABLE many");
    await client.query("DROP TABLE toasted");
  } finally {
    await other.end();
  }
}

/** Old segments become new ones under other names, with their old pages in them until they are written over. */
async function recycledSegments(server: PostgresServer, client: pg.Client): Promise<void> {
  await server.configure({ wal_keep_size: 0, wal_recycle: true });
  for (let i = 0; i < 4; i++) {
    await emitMessage(client, 50_000);
    await client.query("SELECT pg_switch_wal()");
  }
  await client.query("CHECKPOINT");
  await client.query("CHECKPOINT");
  await server.configure({ wal_keep_size: "16GB" });
  await emitMessage(client, 5000);
}
