/** Runs a server through everything in Seawall that depends on the version, and says what differs (docs/versions.md). */
import { MAJOR_MAX, MAJOR_MIN } from "../../src/wal/format.ts";
import { startPostgres } from "../harness/postgres.ts";
import { probeArchive } from "./archive.ts";
import type { Checks } from "./checks.ts";
import { probeControlFile } from "./control-file.ts";
import { probeWal } from "./wal.ts";

export interface ProbeOptions {
  /** The folder of the server's programs. */
  readonly binDir: string;
  /** The version whose tables are compared; the server's own otherwise. */
  readonly major?: number | undefined;
}

/** All WAL stays on the server, and nothing writes WAL that was not asked for. */
export const PROBE_SETTINGS = { track_commit_timestamp: true, autovacuum: false, wal_keep_size: "16GB" };

export async function probe({ binDir, major: asked }: ProbeOptions, checks: Checks): Promise<void> {
  await using server = await startPostgres({
    binDir,
    segmentSizeMiB: 1,
    freshIdentifier: true,
    settings: PROBE_SETTINGS,
  });
  const major = asked ?? server.version;
  const isKnown = major >= MAJOR_MIN && major <= MAJOR_MAX;
  const difference = isKnown
    ? undefined
    : `${major} is none of ${MAJOR_MIN} to ${MAJOR_MAX} (MAJOR_MAX in src/wal/format.ts)`;
  checks.add({ what: "the version is known", difference, seen: String(major) });
  await probeControlFile(server, checks);
  await probeArchive(server, checks);
  await probeWal(server, major, checks);
}
