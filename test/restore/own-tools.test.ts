/**
 * PostgreSQL's own tools judge what Seawall restores: pg_verifybackup with the WAL of the archive, pg_basebackup and
 * pg_combinebackup with an incremental backup on top. They come from Debian's packages, of the server's own version.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { BackupDocument } from "../../src/archive/backups/document.ts";
import { walFetch } from "../../src/restore/fetch/wal-fetch.ts";
import { type Lsn, segmentOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { runCodec } from "../harness/encryption.ts";
import { oracleOf, type PostgresServer, versionsUnderTest } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "./restored.ts";

async function oracle(server: PostgresServer, name: string): Promise<string> {
  const program = await oracleOf(server, name);
  if (program === undefined) throw new Error(`there is no ${name} of PostgreSQL ${server.version}`);
  return program;
}

/** The WAL between the backup's start and its stop, as recovery would get it. */
async function fetchWal({ store, server }: Archived, backup: BackupDocument, folder: string): Promise<void> {
  const size = server.segmentSize;
  const last = segmentOf((backup.stopLsn - 1n) as Lsn, size);
  for (let segment = segmentOf(backup.startLsn, size); segment <= last; segment++) {
    const fileName = segmentFileName(backup.timeline, segment, size);
    const fetched = await walFetch({
      ...{ store, cluster: "main", fileName, targetPath: join(folder, fileName) },
      identities: runCodec.identities,
    });
    expect(fetched).toMatchObject({ kind: "fetched" });
  }
}

// Summaries of WAL came with 17, and Debian has whole installations from there on.
test.each(versionsUnderTest().filter((version) => version >= 17))(
  "PostgreSQL %i: pg_verifybackup accepts a restored backup with the archive's WAL, and pg_combinebackup an increment on it",
  async (version) => {
    const folder = makeTempDir("tools");
    try {
      await using archived = await Archived.start({ version, settings: { summarize_wal: true } });
      const { server } = archived;
      await server.sql("CREATE TABLE big AS SELECT i, md5(i::text) AS text FROM generate_series(1, 20000) i");
      const backup = await archived.backup();
      await server.sql("UPDATE big SET text = 'changed' WHERE i % 100 = 0; CREATE TABLE later AS SELECT 1 AS i");
      const target = join(folder, "restored");
      const { code, stderr } = await archived.run([
        "--target-dir",
        target,
        "--target",
        "immediate",
        "--restore-command",
        archived.fetchCommand,
      ]);
      expect(code, stderr).toBe(0);

      const wal = join(folder, "wal");
      await run("mkdir", [wal]);
      await fetchWal(archived, backup, wal);
      const verify = await oracle(server, "pg_verifybackup");
      expect((await run(verify, ["-w", wal, target])).stdout).toContain("backup successfully verified");
      // It does judge: a file and a record that differ are found.
      const damaged = join(target, "PG_VERSION");
      writeFileSync(damaged, "77\n");
      await expect(run(verify, ["-w", wal, target])).rejects.toThrow(/PG_VERSION/);
      writeFileSync(damaged, `${version}\n`);

      const manifest = join(target, "backup_manifest");
      const increment = join(folder, "increment");
      const incremental = ["-D", increment, "--incremental", manifest, "-d", server.dsn, "-c", "fast", "-X", "none"];
      await run(await oracle(server, "pg_basebackup"), incremental);
      const combined = join(folder, "combined");
      await run(await oracle(server, "pg_combinebackup"), [target, increment, "-o", combined]);
      expect((await run(verify, ["-n", combined])).stdout).toContain("backup successfully verified");
    } finally {
      removeTree(folder);
    }
  },
  300_000,
);
