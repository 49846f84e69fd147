/** Reads what a base backup must know about the server before it begins. */
import type { ReplicationConnection } from "../replication/connection.ts";
import { knownMajor } from "../replication/server-version.ts";
import type { Lsn } from "../wal/lsn.ts";

export interface BackupServer {
  readonly systemIdentifier: bigint;
  /** The version that the server reports: `17.2`. */
  readonly pgVersion: string;
  readonly pgMajor: number;
  readonly segmentSize: number;
  readonly flushLsn: Lsn;
  readonly fromStandby: boolean;
  readonly dataChecksums: boolean;
}

export async function readBackupServer(connection: ReplicationConnection): Promise<BackupServer> {
  const pgMajor = knownMajor(connection.serverVersion);
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
