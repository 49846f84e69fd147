/** What a server writes into global/pg_control, compared with what it says about itself. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseControlFile } from "../../src/wal/pg-control.ts";
import { formatLsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import type { Checks } from "./checks.ts";

const SETTINGS = [
  "max_connections",
  "max_worker_processes",
  "max_wal_senders",
  "max_prepared_transactions",
  "max_locks_per_transaction",
] as const;

export async function probeControlFile(server: PostgresServer, checks: Checks): Promise<void> {
  await server.sql("CHECKPOINT");
  const [row] = await server.sql("SELECT redo_lsn::text AS redo, timeline_id AS timeline FROM pg_control_checkpoint()");
  const settings: Record<string, string> = {};
  for (const name of SETTINGS) settings[name] = await server.value(`SELECT current_setting('${name}')`);
  const bytes = await readFile(join(server.dataDir, "global", "pg_control"));
  compareControlFile(bytes, checks, {
    systemIdentifier: String(await server.systemIdentifier()),
    timeline: String(row?.["timeline"]),
    redo: formatLsn(parseLsn(String(row?.["redo"]))),
    ...settings,
  });
}

/** `told`: by the server, as texts. */
export function compareControlFile(bytes: Buffer, checks: Checks, told: Readonly<Record<string, string>>): void {
  const version = bytes.readUInt32LE(8);
  let read: ReturnType<typeof parseControlFile>;
  try {
    read = parseControlFile(bytes);
  } catch (error) {
    const difference = error instanceof Error ? error.message : String(error);
    return checks.add({ what: `pg_control of version ${version}`, difference });
  }
  const { systemIdentifier, timeline, redoLsn, settings } = read;
  const ours: Record<string, string> = {
    systemIdentifier: String(systemIdentifier),
    timeline: String(timeline),
    redo: formatLsn(redoLsn),
    ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, String(value)])),
  };
  for (const [name, value] of Object.entries(told)) {
    checks.compare(`pg_control of version ${version}, ${name}`, ours[name] ?? "nothing", value);
  }
}
