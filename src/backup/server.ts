/** What a base backup must know of the server before it begins. */
import { SeawallError } from "../errors.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import type { Lsn } from "../wal/lsn.ts";

export interface BackupServer {
  readonly systemIdentifier: bigint;
  /** As the server says it: `17.2`. */
  readonly pgVersion: string;
  readonly pgMajor: number;
  readonly segmentSize: number;
  readonly flushLsn: Lsn;
  readonly fromStandby: boolean;
  readonly dataChecksums: boolean;
}

/** PostgreSQL 14 to 18: what the archive can hold the WAL of. */
const MAJOR_MIN = 14;
const MAJOR_MAX = 18;

export async function readBackupServer(connection: ReplicationConnection): Promise<BackupServer> {
  const pgMajor = Math.floor(connection.serverVersion / 10000);
  if (pgMajor < MAJOR_MIN || pgMajor > MAJOR_MAX) {
    throw new SeawallError(
      "server-version",
      `the server is PostgreSQL ${pgMajor}; Seawall knows ${MAJOR_MIN} to ${MAJOR_MAX}`,
    );
  }
  const { systemIdentifier, xlogpos } = await connection.identifySystem();
  return {
    systemIdentifier,
    pgVersion: (connection.parameters.get("server_version") ?? String(pgMajor)).split(" ")[0] ?? "",
    pgMajor,
    segmentSize: await connection.walSegmentSize(),
    flushLsn: xlogpos,
    fromStandby: connection.parameters.get("in_hot_standby") === "on",
    dataChecksums: (await connection.show("data_checksums")) === "on",
  };
}
