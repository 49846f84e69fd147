/** Makes a real server write the WAL that verifiers get wrong. */
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";

/** Settings under which nothing writes WAL that the test did not ask for, and nothing written is recycled. */
export const QUIET = {
  autovacuum: false,
  checkpoint_timeout: "1d",
  max_wal_size: "8GB",
  wal_keep_size: "8GB",
  track_commit_timestamp: true,
};

/** Everything at once; `large` bytes make a record longer than a segment. */
export async function writeMixedWal(server: PostgresServer, large: number): Promise<void> {
  await server.sql(`
    CREATE TABLE small (id int PRIMARY KEY, note text);
    INSERT INTO small SELECT g, md5(g::text) FROM generate_series(1, 2000) g;
    DELETE FROM small WHERE id % 3 = 0;
    SELECT pg_create_restore_point('between the tests');
    CHECKPOINT;
    UPDATE small SET note = note || 'full page images';
    SET wal_compression = on;
    CHECKPOINT;
    UPDATE small SET note = note || 'compressed';
  `);
  await server.sql("VACUUM small");
  // Single transactions, rolled back ones, prepared ones.
  for (let i = 0; i < 20; i++) await server.sql("INSERT INTO small VALUES ($1, 'one')", [-i - 1]);
  await server.sql("BEGIN; INSERT INTO small VALUES (-1000, 'no'); ROLLBACK");
  await server.sql("BEGIN; INSERT INTO small VALUES (-1001, 'later'); PREPARE TRANSACTION 'a'");
  await server.sql("BEGIN; INSERT INTO small VALUES (-1002, 'never'); PREPARE TRANSACTION 'b'");
  await server.sql("COMMIT PREPARED 'a'");
  await server.sql("ROLLBACK PREPARED 'b'");
  // Records of every length over a page, and some over many.
  await server.sql(
    `SELECT pg_logical_emit_message(false, 'len', repeat('x', n)) FROM generate_series(0, 9000, 37) n;
     SELECT pg_logical_emit_message(true, 'long', repeat('0123456789', 10000))`,
  );
  await server.sql("SELECT pg_logical_emit_message(true, 'longer than a segment', repeat('y', $1::int))", [
    Math.ceil(large),
  ]);
  for (const left of [0, 8, 16, 24, 32]) await switchWithRoomLeft(server, left);
  await server.sql("INSERT INTO small VALUES (-2000, 'last')");
}

/** pg_switch_wal() where `left` bytes of the page are left for the switch record; true when it came out so. */
export async function switchWithRoomLeft(server: PostgresServer, left: number): Promise<boolean> {
  const client = await server.connect();
  const value = async (text: string, params: unknown[] = []): Promise<string> => {
    const { rows } = await client.query<{ value: string }>(text, params);
    return rows[0]?.value ?? "";
  };
  const position = async (): Promise<Lsn> => parseLsn(await value("SELECT pg_current_wal_insert_lsn()::text AS value"));
  const emit = async (length: number): Promise<string> =>
    value("SELECT pg_logical_emit_message(false, 'fill', repeat('f', $1::int))::text AS value", [length]);
  try {
    // What a message of 1000 bytes takes; then one that fills the page up to `left`.
    await emit(0);
    const before = await position();
    await emit(1000);
    const overhead = Number((await position()) - before) - 1000;
    if (overhead > 200) await emit(1000);
    const room = 8192 - Number((await position()) % 8192n);
    if (room - left - overhead < 300) await emit(room);
    const free = 8192 - Number((await position()) % 8192n) - left;
    await emit(Math.floor(free / 8) * 8 - overhead);
    // The insert position at a page's end is given as the place of the next record, behind the next page's header.
    const inPage = Number((await position()) % 8192n);
    const reached = inPage === 24 || inPage === 40 ? 0 : 8192 - inPage;
    await client.query("SELECT pg_switch_wal()");
    await emit(10);
    return reached === left;
  } finally {
    await client.end();
  }
}
