/**
 * WAL that receivers get wrong, written by a real server: records cut by page and segment borders, longer than a segment,
 * switched segments, full-page images, a crash in the midst of a record.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pageFlagsOf } from "../../src/wal/format.ts";
import type { PostgresServer, Settings } from "../harness/postgres.ts";

export interface Workload {
  readonly title: string;
  readonly write: (server: PostgresServer) => Promise<void>;
}

/** All WAL is kept for the comparison, and small buffers make a long record reach the disk before it is complete. */
export const WORKLOAD_SETTINGS: Settings = {
  autovacuum: false,
  checkpoint_timeout: "1d",
  max_wal_size: "8GB",
  wal_keep_size: "16GB",
  wal_buffers: "64kB",
};

const message = (bytes: number | string, transactional = true): string =>
  `SELECT pg_logical_emit_message(${transactional}, 'campaign', repeat('x', ${bytes}))`;

export const WORKLOADS: readonly Workload[] = [
  {
    title: "rows, indexes and rolled back transactions",
    write: async (server) => {
      await server.sql(`CREATE TABLE IF NOT EXISTS w (i int PRIMARY KEY, pad text)`);
      await server.sql("INSERT INTO w SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
      await server.sql("DELETE FROM w WHERE i % 3 = 0");
      await server.sql("BEGIN; UPDATE w SET pad = 'never'; ROLLBACK");
      await server.sql("BEGIN; INSERT INTO w VALUES (-1, 'later'); PREPARE TRANSACTION 'later'");
      await server.sql("COMMIT PREPARED 'later'");
    },
  },
  {
    title: "records of every length across page borders",
    write: async (server) => void (await server.sql(`${message("n", false)} FROM generate_series(0, 17000, 61) n`)),
  },
  {
    title: "a record longer than a segment",
    write: async (server) => void (await server.sql(message(server.segmentSize + (server.segmentSize >> 1) + 4711))),
  },
  {
    title: "segments switched early, one record apart",
    write: async (server) => {
      for (let i = 0; i < 3; i++) {
        await server.sql(message(i * 4000));
        await server.sql("SELECT pg_switch_wal()");
      }
    },
  },
  {
    title: "full-page images, plain and compressed",
    write: async (server) => {
      await server.sql("CHECKPOINT");
      await server.sql("UPDATE w SET pad = pad || 'image'");
      await server.sql("CHECKPOINT");
      await server.sql("SET wal_compression = on; UPDATE w SET pad = pad || 'small'");
      await server.sql("VACUUM w");
    },
  },
  {
    title: "large objects",
    write: async (server) => {
      await server.sql(
        "SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 8000), 'hex')) FROM generate_series(1, 12) i",
      );
    },
  },
  {
    title: "a switch record at the end of a page",
    write: async (server) => {
      for (const left of [0, 8, 16, 24, 32]) await switchNearPageEnd(server, left);
    },
  },
  { title: "a crash in the midst of a long record", write: crashInRecord },
  {
    title: "a restart and an idle cluster",
    write: async (server) => {
      await server.restart("fast");
      await sleep(300);
      await server.sql(message(10));
    },
  },
];

/** Fills the open page so that about `left` bytes remain, then switches: the switch record meets the page's end. */
async function switchNearPageEnd(server: PostgresServer, left: number): Promise<void> {
  const client = await server.connect();
  try {
    const room = async (): Promise<number> => {
      const { rows } = await client.query<{ room: string }>(
        "SELECT (8192 - (pg_current_wal_insert_lsn() - '0/0') % 8192)::text AS room",
      );
      return Number(rows[0]?.room ?? 0);
    };
    const emit = async (bytes: number): Promise<void> => void (await client.query(message(bytes, false)));
    await emit(1000);
    const before = await room();
    await emit(1000);
    const overhead = Math.max(0, before - (await room()) - 1000);
    const free = (await room()) - left - Math.min(overhead, 200);
    if (free > 300) await emit(free);
    await client.query("SELECT pg_switch_wal()");
    await emit(10);
  } finally {
    await client.end();
  }
}

/**
 * SIGKILL while a record of many megabytes is being written: the server finds its beginning without its end and overwrites
 * it (XLP_FIRST_IS_OVERWRITE_CONTRECORD).
 */
export async function crashInRecord(server: PostgresServer): Promise<void> {
  const bytes = Math.max(48 << 20, server.segmentSize * 2);
  for (let attempt = 1; attempt <= 5; attempt++) {
    const client = await server.connect();
    const start = BigInt(await server.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::text"));
    const writing = client.query(message(bytes)).catch(() => undefined);
    // The write position follows the insertion once the small WAL buffers are full.
    const deadline = Date.now() + 10_000;
    let written = start;
    while (written - start < BigInt(server.segmentSize >> 1) && Date.now() < deadline) {
      written = BigInt(await server.value("SELECT (pg_current_wal_lsn() - '0/0')::text"));
    }
    await server.kill9();
    await writing;
    await server.start();
    if (server.walFiles().some((name) => overwritesRecord(server, name, start))) return;
  }
  throw new Error("five crashes left no broken record");
}

/** Whether a page of this file, written since `start`, says that it overwrites a broken record (xlp_info, xlp_pageaddr). */
function overwritesRecord(server: PostgresServer, name: string, start: bigint): boolean {
  const content = readFileSync(join(server.walDir, name));
  for (let at = 0; at < content.length; at += 8192) {
    const isOverwrite = (content.readUInt16LE(at + 2) & pageFlagsOf(server.version).overwrites) !== 0;
    if (isOverwrite && content.readBigUInt64LE(at + 8) > start) return true;
  }
  return false;
}
