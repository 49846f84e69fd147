/** `check`, the server's side: asks for every fact over a replication connection and, where let in, an ordinary one. */
import type { JoinOptions } from "../../receive/line/claim.ts";
import { parseMilliseconds, readServerHistory } from "../../receive/server-facts.ts";
import { readSlotStatus } from "../../daemon/status/slot-monitor.ts";
import type { ErrorCode } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { ReplicationConnection, SqlConnection } from "../../replication/connection.ts";
import { readRestoreMark } from "../../replication/restore-mark.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import { type Finding, judgeServer, type ServerFacts, type SqlFacts, type Wishes } from "./findings.ts";

export interface ServerCheck {
  readonly findings: readonly Finding[];
  /** For comparison with the archive; undefined when the server could not be asked. */
  readonly identity: { readonly systemIdentifier: bigint; readonly segmentSize: number } | undefined;
  /** For the archive's line; undefined when the server could not be asked. */
  readonly joining: JoinOptions["server"] | undefined;
  /** Our address as the server sees it; undefined over a Unix socket, or when no ordinary connection could ask. */
  readonly clientAddress?: string | undefined;
}

/** Which check a refused connection belongs to. */
const FAILED_CHECK: Partial<Record<ErrorCode, string>> = {
  "server-auth": "authentication",
  "server-hba": "pg_hba.conf",
  "server-no-replication-role": "role",
  "server-wal-level": "wal_level",
  "server-max-wal-senders": "max_wal_senders",
  "server-tls": "TLS",
  "server-version": "version",
};

const SETTINGS = [
  "wal_level",
  "max_wal_senders",
  "max_replication_slots",
  "full_page_writes",
  "fsync",
  "data_checksums",
  "archive_mode",
  "synchronous_standby_names",
  "max_slot_wal_keep_size",
] as const;

export async function checkServer(
  settings: ConnectionSettings,
  wishes: Wishes,
  signal: AbortSignal,
): Promise<ServerCheck> {
  try {
    await using walsender = await ReplicationConnection.connect(settings, { signal });
    const { systemIdentifier, timeline } = await walsender.identifySystem();
    const segmentSize = await walsender.walSegmentSize();
    const shown = new Map<string, string>();
    for (const name of SETTINGS) shown.set(name, await walsender.show(name));
    shown.set("wal_sender_timeout", String(parseMilliseconds(await walsender.show("wal_sender_timeout"))));
    if (walsender.serverVersion >= 180000) {
      shown.set("idle_replication_slot_timeout", await walsender.show("idle_replication_slot_timeout"));
    }
    const inRecovery = (await walsender.show("in_hot_standby")) === "on";
    const joining = {
      ...(await readServerHistory(walsender, timeline)),
      address: walsender.server,
      restoredFrom: await readRestoreMark(walsender),
      inRecovery,
    };
    const { sql, clientAddress, finding } = await askSql(settings, wishes.slot, signal);
    const facts: ServerFacts = {
      server: walsender.server,
      user: settings.user,
      applicationName: settings.values.applicationName,
      tls: walsender.encrypted,
      serverVersion: walsender.serverVersion,
      inRecovery,
      segmentSize,
      settings: shown,
      sql,
    };
    const extra = finding === undefined ? [] : [finding];
    const identity = { systemIdentifier, segmentSize };
    const findings = [...ignoredParts(settings), ...judgeServer(facts, wishes), ...extra];
    return { findings, identity, joining, clientAddress };
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code === "aborted" || error.code === "internal") throw error;
    const name = FAILED_CHECK[error.code] ?? "connection";
    const finding: Finding = { group: "server", name, verdict: "fail", message: error.message, remedy: error.hint };
    return { findings: [...ignoredParts(settings), finding], identity: undefined, joining: undefined };
  }
}

function ignoredParts({ values }: ConnectionSettings): Finding[] {
  return values.ignored.map(({ part, reason }) => ({
    group: "server",
    name: "connection string",
    verdict: "warn",
    message: `${part} has no effect: ${reason}`,
    remedy: "Remove it from --dsn or the service file.",
  }));
}

interface SqlRow {
  readonly now_ms: string;
  readonly superuser: boolean;
  readonly senders: number;
  readonly slots: number;
  readonly client: string | null;
}

/** Views need an ordinary connection, which pg_hba.conf may not grant to a replication role: then less is known. */
async function askSql(
  settings: ConnectionSettings,
  slot: string | undefined,
  signal: AbortSignal,
): Promise<{
  readonly sql: SqlFacts | undefined;
  readonly clientAddress?: string | undefined;
  readonly finding: Finding | undefined;
}> {
  try {
    await using connection = await SqlConnection.connect(settings, { signal });
    const before = Date.now();
    const { rows } = await connection.query<SqlRow>(
      `SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::text AS now_ms,
              (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
              (SELECT count(*)::int FROM pg_catalog.pg_stat_replication WHERE pid <> pg_catalog.pg_backend_pid()) AS senders,
              (SELECT count(*)::int FROM pg_catalog.pg_replication_slots) AS slots,
              pg_catalog.host(pg_catalog.inet_client_addr()) AS client`,
      [],
      { signal },
    );
    const after = Date.now();
    const row = rows[0];
    const sql: SqlFacts = {
      superuser: row?.superuser ?? false,
      // Our own walsender connection is one of them.
      walSenders: Math.max(0, (row?.senders ?? 1) - 1),
      slots: row?.slots ?? 0,
      slot: slot === undefined ? undefined : await readSlotStatus(settings, slot, signal),
      clockAheadSeconds: (Number(row?.now_ms) - (before + after) / 2) / 1000,
    };
    return { sql, clientAddress: row?.client ?? undefined, finding: undefined };
  } catch (error) {
    if (!(error instanceof SeawallError) || error.code === "aborted") throw error;
    const finding: Finding = {
      group: "server",
      name: "ordinary connection",
      verdict: "warn",
      message: `${error.message}: the slot's state and WAL kept cannot be watched`,
      remedy: error.hint,
    };
    return { sql: undefined, finding };
  }
}
