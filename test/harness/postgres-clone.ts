/** Copies a server's data directory, running or stopped, into one that another server starts from. */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { serverAccount } from "./account.ts";
import type { PostgresServer, Settings } from "./postgres.ts";
import { giveToServer } from "./postgres-template.ts";

export interface CloneOptions {
  /** standby.signal, recovery.signal, or none: a copy that starts as a server of its own. */
  readonly signal?: "standby" | "recovery" | "none";
  readonly settings?: Settings;
  /** `cloneAsStandby`: this physical slot of the primary; it must exist. */
  readonly slot?: string;
  /** Copy pg_wal of a running server too. */
  readonly withWal?: boolean;
  readonly start?: boolean;
}

export async function copyDataDir(server: PostgresServer, target: string, options: CloneOptions): Promise<void> {
  if (server.running) {
    const label = await copyWhileRunning(server, target, options.withWal === true);
    writeFor(join(target, "backup_label"), label);
  } else {
    copyFolder(server.dataDir, target, () => true);
  }
  const signal = options.signal ?? "none";
  if (signal !== "none") writeFor(join(target, `${signal}.signal`), "");
}

/** Docs: Making a Base Backup Using the Low Level API (also what to leave out). The functions were renamed in 15. */
async function copyWhileRunning(server: PostgresServer, target: string, withWal: boolean): Promise<string> {
  const client = await server.connect();
  try {
    const old = server.version < 15;
    await client.query(
      old ? "SELECT pg_start_backup('harness', true, false)" : "SELECT pg_backup_start('harness', true)",
    );
    copyFolder(
      server.dataDir,
      target,
      (path) => withWal || !path.startsWith("pg_wal/") || path === "pg_wal/archive_status",
    );
    const stop = old
      ? "SELECT labelfile FROM pg_stop_backup(false, false)"
      : "SELECT labelfile FROM pg_backup_stop(false)";
    const { rows } = await client.query<{ labelfile: string }>(stop);
    return rows[0]?.labelfile ?? "";
  } finally {
    await client.end();
  }
}

const LEFT_OUT =
  /^(postmaster\.(pid|opts)|(pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans)\/.*|(.*\/)?pgsql_tmp.*|(standby|recovery)\.signal|backup_label)$/;

/** Files that vanish while they are copied are none of a backup's business: recovery replays their removal. */
function copyFolder(from: string, to: string, wanted: (path: string) => boolean): void {
  const account = serverAccount();
  const own = (path: string) => {
    if (account !== undefined) chownSync(path, account.uid, account.gid);
  };
  // Two servers never share a tablespace: the copy gets its own beside its data directory.
  const copyTablespace = (path: string): string => {
    const place = join(dirname(to), `tablespace-${basename(path)}`);
    copyFolder(readlinkSync(join(from, path)), place, () => true);
    return place;
  };
  const walk = (folder: string) => {
    mkdirSync(join(to, folder), { mode: 0o700 });
    own(join(to, folder));
    for (const entry of readdirSync(join(from, folder), { withFileTypes: true })) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (LEFT_OUT.test(path) || !wanted(path)) continue;
      if (entry.isDirectory()) walk(path);
      else if (entry.isSymbolicLink() && folder === "pg_tblspc") symlinkSync(copyTablespace(path), join(to, path));
      else if (entry.isSymbolicLink()) symlinkSync(readlinkSync(join(from, path)), join(to, path));
      else if (entry.isFile()) {
        try {
          copyFileSync(join(from, path), join(to, path));
          chmodSync(join(to, path), 0o600);
          own(join(to, path));
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        }
      }
    }
  };
  walk("");
}

function writeFor(path: string, text: string): void {
  writeFileSync(path, text);
  giveToServer(path, 0o600);
}
