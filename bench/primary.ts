/** The primary the benches use: this machine's own PostgreSQL with its tools, on a real disk, and WAL of many kinds. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { bytesBetween, type Lsn, parseLsn } from "../src/wal/lsn.ts";
import { type PostgresServer, type Settings, startPostgres, tool } from "../test/harness/postgres.ts";
import { run } from "../test/harness/run.ts";

export const SLOT = "backlog";

/** The path of a PostgreSQL tool of this machine; throws where there is none. */
export function pgTool(name: string): string {
  const path = tool(name);
  if (path === undefined) throw new Error(`the bench needs ${name}: install PostgreSQL 15 or later with its tools`);
  return path;
}

export async function startPrimary(settings: Settings = {}): Promise<PostgresServer> {
  return startPostgres({
    system: true,
    freshIdentifier: true,
    settings: {
      fsync: true,
      shared_buffers: "256MB",
      max_wal_size: "16GB",
      checkpoint_timeout: "1h",
      maintenance_work_mem: "256MB",
      autovacuum: false,
      log_replication_commands: false,
      ...settings,
    },
  });
}

export interface Backlog {
  readonly endLsn: Lsn;
  readonly bytes: number;
}

/**
 * At least `bytesMin` of WAL kept by the slot `backlog`, ending at a segment's end: bulk loads, full-page images, index
 * builds, small transactions, and values that do not compress.
 */
export async function makeBacklog(server: PostgresServer, bytesMin: number): Promise<Backlog> {
  await server.sql("CREATE EXTENSION IF NOT EXISTS pgcrypto");
  await server.sql("CREATE TABLE bulk (id bigint, name text, made timestamptz)");
  await server.sql("CREATE TABLE blob (id bigint, data bytea)");
  await server.sql("ALTER TABLE blob ALTER data SET STORAGE EXTERNAL");
  await server.sql("SELECT pg_switch_wal()");
  await server.sql("SELECT pg_create_physical_replication_slot($1, true)", [SLOT]);
  const startLsn = parseLsn(
    await server.value("SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = $1", [SLOT]),
  );
  await pgbench(server, ["-i", "-q", "-s", "30"]);
  for (let round = 0; bytesBetween(startLsn, await server.currentFlushLsn()) < bytesMin; round++) {
    await server.sql("CHECKPOINT");
    await pgbench(server, ["-c", "8", "-j", "2", "-t", "2500"]);
    await server.sql(
      `INSERT INTO bulk SELECT g, md5(g::text), now() FROM generate_series(${round} * 1000000, ${round} * 1000000 + 999999) g`,
    );
    await server.sql("DROP INDEX IF EXISTS bulk_name");
    await server.sql("CREATE INDEX bulk_name ON bulk (name)");
    await server.sql(
      "INSERT INTO blob SELECT g, (SELECT string_agg(gen_random_bytes(1024), NULL) FROM generate_series(1, 8 + g % 2)) FROM generate_series(1, 18000) g",
    );
    await server.sql("CHECKPOINT");
    await server.sql("UPDATE bulk SET made = now() WHERE id % 16 = 0");
  }
  await server.sql("SELECT pg_switch_wal()");
  const endLsn = await server.currentFlushLsn();
  return { endLsn, bytes: bytesBetween(startLsn, endLsn) };
}

/** A new slot at the start of the backlog. */
export async function slotAtStart(server: PostgresServer, name: string): Promise<void> {
  await server.sql("SELECT pg_copy_physical_replication_slot($1, $2)", [SLOT, name]);
}

/** Waits until whoever streamed from it has gone, and drops it. */
export async function dropSlot(server: PostgresServer, name: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const active = await server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND active", [name]);
    if (active.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await server.sql("SELECT pg_drop_replication_slot($1)", [name]);
}

export async function pgbench(server: PostgresServer, args: readonly string[]): Promise<string> {
  const connection = ["-h", server.socketDir, "-p", String(server.port), "-U", "postgres"];
  const { stdout, stderr } = await run(pgTool("pgbench"), [...connection, ...args, "postgres"], { timeoutMs: 600_000 });
  return stdout + stderr;
}

/** What the disk still owes is paid before a measurement begins, not during it. */
export async function settleDisk(): Promise<void> {
  await run("sync", [], { timeoutMs: 300_000 });
}

/** Sizes of all files below a folder, together. */
export function bytesBelow(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
