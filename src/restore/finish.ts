/**
 * The end of a restore: files that are in no part, then everything flushed to disk, and only then the control file,
 * without which no server starts.
 */
import { mkdir, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Archive } from "../archive/archive.ts";
import type { BackupDocument } from "../archive/backups/document.ts";
import { SeawallError } from "../errors.ts";
import { throwIfAborted } from "../store/signal.ts";
import { type BackupIndex, readManifest } from "../archive/backups/index.ts";
import type { DiskFlush } from "./disk-flush.ts";
import { CONTROL_FILE, directoriesOf, fsPath, HELD_CONTROL_FILE, Layout, type LayoutFacts } from "./layout.ts";
import { encodePromise, PROMISE_FILE, type RestorePromise, UNFINISHED_FILE } from "./marker.ts";
import { setModeAndOwner, syncPath, writeNewFile } from "./new-file.ts";
import type { Owner } from "./part-writer.ts";
import { parseControlFile } from "../wal/pg-control.ts";
import { ISOLATED_DIR, isolatedSettings } from "./drill/isolation.ts";
import { type RecoverySettings, withoutRecoverySettings, withRecoverySettings } from "./recovery-config.ts";
import type { ReplayedChanges } from "./replayed-changes.ts";
import { missingMinimums, neededSettings, readConfiguration } from "./standby-settings.ts";

type RecoveryWish = Omit<RecoverySettings, "minimums" | "isolation">;

export interface FinishOptions {
  readonly archive: Archive;
  readonly backup: BackupDocument;
  readonly index: BackupIndex;
  readonly layout: LayoutFacts;
  readonly owner: Owner | undefined;
  /** Files that were there before. */
  readonly unchanged: ReadonlySet<string>;
  readonly flush: DiskFlush;
  /** Undefined: the files stay as they were backed up. */
  readonly recovery: RecoveryWish | undefined;
  /** Keep the server from having effects elsewhere. */
  readonly isolate: boolean;
  readonly standby: boolean;
  /** The settings that the WAL on the way needs at least, beside those of the control file. */
  readonly minimums: ReplayedChanges["minimums"];
  readonly promise: RestorePromise;
  readonly signal: AbortSignal;
}

/** Throws `target-unwritable`, `backup-corrupt`. Until it returns, the directory cannot be started. */
export async function finishRestore(options: FinishOptions): Promise<void> {
  const { layout, recovery, promise, signal } = options;
  const target = layout.targetDir;
  try {
    await checkControlFile(options);
    await linkTablespaces(options);
    await writeManifest(options);
    if (recovery !== undefined) await configureRecovery(options, recovery);
    await write(options, PROMISE_FILE, encodePromise(promise));
    throwIfAborted(signal);
    await syncAll(options);
    // From here on it is a data directory.
    await rename(join(target, HELD_CONTROL_FILE), join(target, CONTROL_FILE));
    await syncPath(dirname(join(target, CONTROL_FILE)));
    await rm(join(target, UNFINISHED_FILE), { force: true });
    await syncPath(target);
    await syncPath(dirname(target));
  } catch (cause) {
    if (cause instanceof SeawallError || signal.aborted) throw cause;
    throw new SeawallError("target-unwritable", `cannot finish the restore in ${target}`, { cause });
  }
}

async function checkControlFile({ layout, backup }: FinishOptions): Promise<void> {
  const control = parseControlFile(await readFile(join(layout.targetDir, HELD_CONTROL_FILE)));
  if (control.systemIdentifier === backup.systemIdentifier) return;
  throw new SeawallError(
    "backup-corrupt",
    `global/pg_control in backup ${backup.id} is of system identifier ${control.systemIdentifier}`,
  );
}

/**
 * At its first start PostgreSQL makes the links again as tablespace_map says: where a tablespace moved, so must the map. Links
 * stay root's: to give one away by its name would give away what the account has put there meanwhile. A server removes and
 * follows links of any owner.
 */
async function linkTablespaces(options: FinishOptions): Promise<void> {
  const { layout, backup, index } = options;
  await removeStrayLinks(layout);
  for (const [oid, directory] of [...layout.tablespaces, ...layout.created]) {
    const path = fsPath(`${layout.targetDir}/pg_tblspc/${oid}`);
    if ((await readlink(path).catch(() => undefined)) === directory) continue;
    await rm(path, { recursive: true, force: true });
    await symlink(directory, path);
  }
  const moved = layout.tablespaces.some(([oid, place]) =>
    backup.tablespaces.every((tablespace) => tablespace.oid !== oid || tablespace.path !== place),
  );
  if (!moved || index.byPath.get("tablespace_map") === undefined) return;
  // xlogbackup: a line for each, with what would end the line escaped (xlog.c, do_pg_backup_start; read_tablespace_map).
  const lines = layout.tablespaces.map(([oid, place]) => `${oid} ${place.replaceAll(/[\\\n\r]/g, "\\$&")}\n`);
  await write(options, "tablespace_map", lines.join(""));
}

/** A tablespace that was created while the backup ran is in it as a bare link to the primary's directory. */
async function removeStrayLinks({ targetDir, tablespaces, created }: LayoutFacts): Promise<void> {
  const known = new Set([...tablespaces, ...created].map(([oid]) => String(oid)));
  const folder = join(targetDir, "pg_tblspc");
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    if (entry.isSymbolicLink() && !known.has(entry.name)) await rm(join(folder, entry.name));
  }
}

async function writeManifest(options: FinishOptions): Promise<void> {
  const { archive, backup, signal } = options;
  if (backup.manifest === null) return;
  const path = join(options.layout.targetDir, backup.manifest.name);
  await writeNewFile(path, options.owner, (file) =>
    readManifest(archive, backup, { signal }, async (bytes) => {
      await file.writeFile(bytes);
    }),
  );
}

async function configureRecovery(options: FinishOptions, recovery: RecoveryWish): Promise<void> {
  const target = options.layout.targetDir;
  const path = join(target, "postgresql.auto.conf");
  const previous = await readFile(path, "utf8").catch(() => "# Do not edit this file manually!\n");
  const control = parseControlFile(await readFile(join(target, HELD_CONTROL_FILE)));
  // A former recovery's settings are about to go: what they set does not count.
  const configuration = await readConfiguration(target, withoutRecoverySettings(previous));
  const major = Number.parseInt(options.backup.pgVersion, 10);
  const minimums = missingMinimums(configuration, major, neededSettings(control.settings, options.minimums));
  const settings = { ...recovery, minimums };
  const isolation = options.isolate ? await isolated(options, withRecoverySettings(previous, settings)) : undefined;
  await write(options, "postgresql.auto.conf", withRecoverySettings(previous, { ...settings, isolation }));
  await rm(join(target, options.standby ? "recovery.signal" : "standby.signal"), { force: true });
  await write(options, options.standby ? "standby.signal" : "recovery.signal", "");
}

/** Writes the files that the settings name, and `lifted`: the postgresql.auto.conf that ends the isolation. */
async function isolated(options: FinishOptions, lifted: string): Promise<Map<string, string>> {
  const { layout, owner, backup } = options;
  const target = layout.targetDir;
  const folder = new Layout(layout).place(ISOLATED_DIR);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { mode: 0o700 });
  await setModeAndOwner(folder, { mode: 0o700, owner, isDirectory: true });
  // The socket lies in the data directory, which is closed to other accounts.
  await write(options, `${ISOLATED_DIR}/pg_hba.conf`, "local all all trust\n");
  await write(options, `${ISOLATED_DIR}/pg_ident.conf`, "");
  await write(options, `${ISOLATED_DIR}/postgresql.auto.conf`, lifted);
  const files = { hbaFile: join(folder, "pg_hba.conf"), identFile: join(folder, "pg_ident.conf") };
  return isolatedSettings({ major: backup.pgMajor, socketDir: target, ...files });
}

async function write({ layout, owner }: FinishOptions, name: string, content: string): Promise<void> {
  await writeNewFile(new Layout(layout).place(name), owner, (file) => file.writeFile(content));
}

/** Everything is durable behind this: what was extracted, and files that an earlier run may have left in memory only. */
async function syncAll({ index, layout: facts, unchanged, flush, isolate }: FinishOptions): Promise<void> {
  const layout = new Layout(facts);
  await flush.addEach([...unchanged].map((path) => layout.place(path)));
  const isolated = isolate ? [layout.place(ISOLATED_DIR)] : [];
  await flush.addDirectories([...directoriesOf(index, facts), ...isolated, ...outsideOf(facts)]);
  await flush.done();
}

/** The folders that hold the names of the restored directories. */
function outsideOf({ tablespaces, created, walDir }: LayoutFacts): string[] {
  return [
    ...[...tablespaces, ...created].map(([, directory]) => directory),
    ...(walDir === undefined ? [] : [walDir]),
  ].map((directory) => dirname(directory));
}
