/**
 * `seawall restore`: plans, and prints or carries out the plan; with --check, says whether the server reached its
 * target.
 */
import { existsSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { humanBytes } from "../../daemon/status/human.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { versionOnPath } from "../../restore/drill/binaries.ts";
import { ISOLATED_DIR } from "../../restore/drill/isolation.ts";
import { describeLanding, type RestorePlan } from "../../restore/target/plan.ts";
import { type ResolvedPlan, resolvePlan } from "../../restore/target/resolve.ts";
import { restore, type Restored } from "../../restore/restore.ts";
import { shellWord } from "../../restore/restore-command.ts";
import { describePoint, type RecoveryTarget, targetJson } from "../../restore/target/target.ts";
import { placeTablespaces, refuseUnordered } from "../../restore/tablespace-places.ts";
import { parseOwner, readMarker, realpathOrSelf } from "../../restore/target-dir.ts";
import { inspectWalDir, refuseSharedWalDir } from "../../restore/wal-dir.ts";
import { schemeOf } from "../../store/schemes.ts";
import { formatLsn } from "../../wal/lsn.ts";
import { formatPgTime } from "../../wal/record-facts.ts";
import { type CommandContext, printResult } from "../context.ts";
import { fetchCommand, recoveryTarget } from "../recovery-settings.ts";
import { checkRestored } from "./restore-check.ts";
import { chooseGeneration } from "../restore-generation.ts";
import { withGenerations } from "../with-archive.ts";
import { counted } from "../../plural.ts";
import { shownTime } from "../views/time.ts";
import { columns } from "../views/layout.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, log, env } = context;
  if (settings.check !== undefined) return checkRestored(context, settings.check);
  if (settings.wait) {
    throw new SeawallError("usage", "--wait has no meaning without --check", {
      hint: "Restore, start the server, then run: seawall restore --check DIR --wait.",
    });
  }
  const startedAt = new Date();
  const target = targetOf(context, startedAt);
  const tablespaceMapping = parseMapping(settings.tablespaceMapping);
  const owner = settings.owner === undefined ? undefined : await parseOwner(settings.owner);
  const { targetDir } = settings;
  if (targetDir === undefined) throw new SeawallError("internal", "no target");
  return withGenerations(context, { verb: "restoring" }, async (generations, progress) => {
    const asked = { backupId: settings.backup, target };
    const chosen = await chooseGeneration(generations, asked, { signal: signals.stop });
    const { archive } = chosen;
    const generation = generations.all.length === 1 ? undefined : chosen.generation.name;
    const wish = { ...asked, generation };
    if (settings.dryRun) {
      const plan = await resolvePlan(archive, wish, { signal: signals.stop });
      await printPlan(context, plan, {
        target,
        targetDir,
        tablespaceMapping,
        name: chosen.generation.name,
        generation,
      });
      return EXIT.done;
    }
    // Asked for now: programs start while the plan is made.
    const programs = versionOnPath(env["PATH"]);
    const restored = await restore({
      ...wish,
      archive,
      targetDir,
      tablespaceMapping,
      owner,
      progress,
      log,
      tablespacesInPlace: settings.tablespacesInPlace,
      walDir: settings.waldir,
      delta: settings.delta,
      restoreCommand: settings.noRecoveryConfig ? undefined : fetchCommand(context, { followsLine: settings.standby }),
      standby: settings.standby
        ? { primaryConninfo: settings.primaryConninfo, primarySlot: settings.primarySlot }
        : undefined,
      keepArchiving: settings.keepArchiving,
      isolate: settings.isolate,
      jobs: settings.jobs ?? Math.min(8, Math.max(2, availableParallelism())),
      now: startedAt,
      env,
      signal: signals.stop,
    });
    progress.end();
    const seconds = (Date.now() - startedAt.getTime()) / 1000;
    const notes = [...notesOf(context, restored), ...versionNotes(restored.plan.backup, await programs)];
    const result = {
      ...resultJson(restored, target),
      generation: chosen.generation.name,
      standby: settings.standby,
      seconds,
      notes,
      dryRun: false,
    };
    await printResult(
      context,
      result,
      resultText(restored, { target, seconds, notes, generation, width: context.io.width }),
    );
    return EXIT.done;
  });
}

/** `--dry-run`: checks the places of tablespaces and of WAL, and prints the plan. Touches nothing. */
async function printPlan(
  context: CommandContext,
  plan: ResolvedPlan,
  wish: {
    readonly target: RecoveryTarget;
    readonly targetDir: string;
    readonly tablespaceMapping: ReadonlyMap<string, string>;
    /** The generation's name, and the same where the cluster has several. */
    readonly name: string;
    readonly generation: string | undefined;
  },
): Promise<void> {
  const { settings } = context;
  const { target, targetDir, tablespaceMapping, name, generation } = wish;
  const found = {
    targetDir: resolve(targetDir),
    backup: plan.backup,
    created: plan.changes.tablespaces,
    mapping: tablespaceMapping,
    otherTablespaces: undefined,
    inPlace: settings.tablespacesInPlace,
  };
  const places = await placeTablespaces(found);
  const path = await realpathOrSelf(resolve(targetDir));
  const marker = settings.delta ? await readMarker(path) : undefined;
  const walDir = await inspectWalDir({ path, marker, isEmpty: !settings.delta }, settings.waldir);
  refuseSharedWalDir(walDir, places);
  if (!settings.delta) refuseUnordered({ ...found, places, linked: new Set() });
  const placed = new Map([...places.restored, ...places.created]);
  const tablespaces = plan.backup.tablespaces.map((one) => ({ ...one, directory: placed.get(one.oid) }));
  const notes = plan.otherTimelines;
  const json = {
    ...planJson(plan, target),
    generation: name,
    tablespaces,
    targetDir,
    walDir: walDir ?? null,
    notes,
    dryRun: true,
  };
  await printResult(context, json, planText(plan, { target, placed, walDir, generation, width: context.io.width }));
}

/** Throws `usage`. */
function targetOf(context: CommandContext, now: Date): RecoveryTarget {
  const { settings } = context;
  const wrong = (message: string, hint: string): SeawallError => new SeawallError("usage", message, { hint });
  const target = recoveryTarget(context, now);
  if (settings.standby && (target.point.kind !== "latest" || target.timeline !== "latest")) {
    throw wrong(
      "--standby and a recovery target exclude each other",
      "A standby follows the primary: leave the target out.",
    );
  }
  if (!settings.standby && (settings.primaryConninfo ?? settings.primarySlot) !== undefined) {
    throw wrong("--primary-conninfo and --primary-slot go with --standby", "Add --standby, or leave them out.");
  }
  if (settings.standby && settings.noRecoveryConfig) {
    throw wrong("--standby and --no-recovery-config exclude each other", "Leave one of them out.");
  }
  if (settings.isolate && (settings.standby || settings.noRecoveryConfig || settings.keepArchiving)) {
    throw wrong(
      "--isolate excludes --standby, --no-recovery-config and --keep-archiving",
      "Restore a copy with --isolate alone, or leave it out.",
    );
  }
  return target;
}

/** Parses mappings as pg_basebackup does: OLD=NEW, an equals sign in a path behind a backslash. Throws `usage`. */
export function parseMapping(texts: string | undefined): Map<string, string> {
  const mapping = new Map<string, string>();
  for (const text of texts?.split("\n") ?? []) {
    const parts = text.split(/(?<!\\)=/).map((part) => part.replaceAll("\\=", "="));
    const [from, to] = parts;
    if (parts.length !== 2 || !from || !to) {
      throw new SeawallError("usage", `--tablespace-mapping: "${text}" is not OLD=NEW`, {
        hint: "Write the tablespace's old directory or OID, an equals sign, and its new directory.",
      });
    }
    mapping.set(from.replace(/(.)\/+$/, "$1"), to);
  }
  return mapping;
}

/** The programs at hand are of another version: that server would not start. */
function versionNotes({ pgMajor }: BackupDocument, version: string | undefined): string[] {
  if (version === undefined || Number.parseInt(version, 10) === pgMajor) return [];
  return [
    `The files are of PostgreSQL ${pgMajor}, and the programs on PATH are of ${version}: start the server with those of PostgreSQL ${pgMajor}.`,
  ];
}

function notesOf({ settings, env }: CommandContext, restored: Restored): string[] {
  const read = schemeOf(settings.store ?? "")?.environment ?? [];
  const used = read.filter((name) => env[name] !== undefined && env[name] !== "");
  const notes: string[] = [...restored.plan.otherTimelines];
  if (used.length > 0 && !settings.noRecoveryConfig) {
    notes.push(
      `Start the server with ${used.join(", ")} in its environment: wal-fetch needs them, and they are not written down.`,
    );
  }
  if (process.getuid?.() === 0 && restored.owner === undefined) {
    notes.push(
      "The files belong to root, whom PostgreSQL does not run as: give them to the server's account, or use --owner.",
    );
  }
  if (restored.fetchTrouble !== undefined) {
    notes.push(
      `The server's account (uid ${restored.owner?.uid ?? "?"}) cannot fetch WAL from the archive, so the server will not start: ` +
        `${restored.fetchTrouble}. Let that account read the archive and the files of --identity before you start it.`,
    );
  }
  if (restored.closedFolders.length > 0) {
    notes.push(
      `The server's account (uid ${restored.owner?.uid ?? "?"}) may not enter ${restored.closedFolders.join(", ")}, so the server ` +
        "will not start on this machine: let that account search these folders (chmod +x), or choose other directories.",
    );
  }
  const closed = process.getuid?.() === 0 && restored.owner !== undefined ? closedPath(process.execPath) : undefined;
  if (closed !== undefined && settings.restoreCommand === undefined && !settings.noRecoveryConfig) {
    notes.push(
      `Only root may enter ${closed}, where the restore_command leads: give the server another one (--restore-command).`,
    );
  }
  if (settings.isolate) {
    const dir = restored.targetDir;
    notes.push(
      `The server is isolated: connect with psql -h ${shellWord(dir)}. To lift that: ` +
        `mv ${shellWord(`${dir}/${ISOLATED_DIR}/postgresql.auto.conf`)} ${shellWord(`${dir}/postgresql.auto.conf`)}, and restart.`,
    );
  }
  notes.push(...restored.startEffects.map((effect) => `When the server starts: ${effect}`));
  if (!settings.standby && !settings.keepArchiving && !settings.noRecoveryConfig) {
    notes.push(
      "Archiving is off (archive_mode = off), so that this copy does not write into the archive of its original. " +
        "Once archive_command leads elsewhere: ALTER SYSTEM SET archive_mode = on, and restart.",
    );
  }
  if (restored.plan.backup.manifest === null)
    notes.push("The backup has no manifest: files were checked against its index.");
  return notes;
}

/** The first folder on the way to us, or to Node.js, that is not open to all. */
function closedPath(node: string): string | undefined {
  for (const path of [node, fileURLToPath(import.meta.url)]) {
    for (let folder = dirname(path); folder !== dirname(folder); folder = dirname(folder)) {
      if ((statSync(folder).mode & 0o001) === 0) return folder;
    }
  }
  return undefined;
}

function planJson(plan: RestorePlan<BackupDocument>, target: RecoveryTarget): Record<string, unknown> {
  const { backup, landing, wal, timeline } = plan;
  return {
    backup: backup.id,
    timeline,
    target: targetJson(target),
    landing: {
      lsn: formatLsn(landing.lsn),
      commitTime: landing.commitTime === undefined ? null : formatPgTime(landing.commitTime),
    },
    wal,
    bytes: backup.bytes,
    storedBytes: backup.storedBytes,
    tablespaces: backup.tablespaces,
  };
}

function planRows(plan: RestorePlan<BackupDocument>, target: RecoveryTarget): string[][] {
  const { backup, landing, wal, timeline } = plan;
  const span = wal.from === wal.to ? wal.from : `${wal.from} to ${wal.to}`;
  return [
    [
      "backup",
      `${backup.id}, taken ${shownTime(backup.startedAt)} to ${shownTime(backup.finishedAt)}, PostgreSQL ${backup.pgVersion}`,
    ],
    [
      "",
      `${humanBytes(backup.bytes)}, stored as ${humanBytes(backup.storedBytes)} in ${counted(backup.parts.length, "part")}`,
    ],
    [
      "WAL",
      `${span}: ${counted(wal.segments, "segment")}, ${humanBytes(wal.bytes)} to replay, ${humanBytes(wal.storedBytes)} stored`,
    ],
    ["target", `${describePoint(target.point)}${target.inclusive ? "" : ", exclusive"}, on timeline ${timeline}`],
    ["reaches", describeLanding(landing)],
  ];
}

function planText(
  plan: ResolvedPlan,
  facts: {
    readonly target: RecoveryTarget;
    readonly placed: ReadonlyMap<number, string>;
    readonly walDir: string | undefined;
    readonly generation: string | undefined;
    readonly width: number | undefined;
  },
): string {
  const { target, placed, walDir, generation, width } = facts;
  const tablespaces = plan.backup.tablespaces.map(({ oid, path }) => {
    const directory = placed.get(oid) ?? path;
    return ["tablespace", `${oid} at ${directory}${directory === path ? "" : `, instead of ${path}`}`];
  });
  const known = new Set(plan.backup.tablespaces.map(({ oid }) => oid));
  const created = plan.changes.tablespaces
    .filter(({ oid }) => placed.has(oid) && !known.has(oid))
    .map(({ oid, lsn }) => [
      "tablespace",
      `${oid} at ${placed.get(oid) ?? ""}, which WAL creates at ${formatLsn(lsn)}`,
    ]);
  const rows = [...generationRow(generation), ...planRows(plan, target), ...walRow(walDir), ...tablespaces, ...created];
  const notes = plan.otherTimelines.length === 0 ? [] : ["", ...plan.otherTimelines];
  return [...columns(rows, width), ...notes].join("\n");
}

/** Only where the cluster has several. */
function generationRow(generation: string | undefined): string[][] {
  return generation === undefined ? [] : [["generation", generation]];
}

function walRow(walDir: string | undefined): string[][] {
  return walDir === undefined ? [] : [["pg_wal", `a link to ${walDir}`]];
}

function resultJson(restored: Restored, target: RecoveryTarget): Record<string, unknown> {
  const { plan, targetDir, tablespaces, files, filesWritten, bytesWritten, filesUnchanged, entriesRemoved } = restored;
  return {
    ...planJson(plan, target),
    targetDir,
    walDir: restored.walDir ?? null,
    tablespaces: tablespaces.map(([oid, path]) => ({ oid, path })),
    files,
    filesWritten,
    bytesWritten,
    filesUnchanged,
    entriesRemoved,
  };
}

function resultText(
  restored: Restored,
  facts: {
    readonly target: RecoveryTarget;
    readonly seconds: number;
    readonly notes: readonly string[];
    readonly generation: string | undefined;
    readonly width: number | undefined;
  },
): string {
  const { plan, targetDir, tablespaces, filesWritten, bytesWritten, filesUnchanged, entriesRemoved } = restored;
  const rate = facts.seconds > 0 ? `, ${humanBytes(bytesWritten / facts.seconds)}/s` : "";
  const kept =
    filesUnchanged === 0 && entriesRemoved === 0 ? "" : `; ${filesUnchanged} unchanged, ${entriesRemoved} removed`;
  const rows = [
    ["restored", targetDir],
    [
      "",
      `${counted(filesWritten, "file")}, ${humanBytes(bytesWritten)} in ${facts.seconds.toFixed(1)} s${rate}${kept}`,
    ],
    ...walRow(restored.walDir),
    ...tablespaces.map(([oid, path]) => ["tablespace", `${oid} at ${path}`]),
    ...generationRow(facts.generation),
    ...planRows(plan, facts.target),
  ];
  const dir = shellWord(targetDir);
  // Without it pg_ctl finds no configuration there.
  const config = existsSync(join(targetDir, "postgresql.conf")) ? "" : ' -o "-c config_file=PATH/postgresql.conf"';
  const next = `Start the server: pg_ctl start -D ${dir}${config}; then: seawall restore --check ${dir} --wait`;
  return [...columns(rows, facts.width), "", ...facts.notes, next].join("\n");
}
