/**
 * A drill: restores a backup, starts it, lets it recover, and checks that it reached the promised point and that its
 * contents are whole. A failure caused by the archive is the drill's result; any other failure is thrown, and says
 * nothing about the archive.
 */
import { readEncryption } from "../../archive/encryption.ts";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Archive } from "../../archive/archive.ts";
import { backupRecipients } from "../../archive/backups/encrypted-to.ts";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { isRefusal } from "../../archive/retention/bulk-delete.ts";
import { type Drill, type DrillCheck, putDrill } from "../../archive/records/drills.ts";
import { ERROR_KINDS, type ErrorCode } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, parseLsn } from "../../wal/lsn.ts";
import { formatPgTime } from "../../wal/record-facts.ts";
import { gatherEvidence, judgeRestore } from "../check.ts";
import { type DrillBinaries, findBinaries } from "./binaries.ts";
import { checkPages, checkQuery, checkStructures, parseQuery } from "./checks.ts";
import { openToQueries } from "./client.ts";
import { type DrillFolder, makeDrillFolder } from "./folder.ts";
import { findProgramPlaces } from "./program-places.ts";
import { DRILL_PORT, DrillServer, type DrillServerOptions, plainEnv, probeOf } from "./server.ts";
import { CONTROL_FILE } from "../layout.ts";
import { findNamespaces, type Namespaces } from "./namespaces.ts";
import type { Owner } from "../part-writer.ts";
import { parseControlFile } from "../../wal/pg-control.ts";
import type { RestorePlan } from "../target/plan.ts";
import { type PlanWish, resolvePlan } from "../target/resolve.ts";
import type { ReplayedChanges } from "../replayed-changes.ts";
import { type RestoreProgress, restore } from "../restore.ts";
import { fetchTrouble, mayEnter } from "../server-account.ts";
import { missingMinimums, neededSettings, readConfiguration } from "../standby-settings.ts";

export interface DrillOptions extends PlanWish {
  readonly archive: Archive;
  /** The document's id, in the form of a backup's. */
  readonly id: string;
  readonly binDir: string | undefined;
  /** Where the drill's folder is made. */
  readonly scratchDir: string;
  /** For root: as whom the server runs. */
  readonly owner: Owner | undefined;
  readonly superuser: string;
  readonly preload: string;
  readonly restoreCommand: string;
  /** Queries of the user's; each must answer with something true. */
  readonly queries: readonly string[];
  readonly structures: boolean;
  readonly pages: boolean;
  /** Leave the folder, with the server stopped. */
  readonly keep: boolean;
  readonly jobs: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly progress: DrillProgress;
  readonly log: Log;
  readonly now: () => Date;
  readonly signal: AbortSignal;
}

export interface DrillProgress extends RestoreProgress {
  detail(text: string): void;
}

export interface Drilled {
  readonly drill: Drill;
  /** With `keep`. */
  readonly folder: string | undefined;
  /** The store's refusal to keep the result: an account that may only read drills all the same. */
  readonly unrecorded: SeawallError | undefined;
  /** Why a drill's folder is still there, this one's or an earlier one's. */
  readonly unremoved: SeawallError | undefined;
}

/** Codes that say something about the archive. */
const OF_THE_ARCHIVE: readonly ErrorCode[] = [
  "backup-corrupt",
  "object-corrupt",
  "segment-conflict",
  "target-unreachable",
  "wal-corrupt",
  "wal-gap",
];

type Facts = { -readonly [key in keyof Drill]: Drill[key] };

/** The fate of the folder: `kept` is its path. */
interface FolderEnd {
  kept?: string;
  unremoved?: SeawallError | undefined;
}

/** Runs the drill and stores its result. Throws `usage`, `target-unwritable`, `aborted` and what the store throws. */
export async function drill(options: DrillOptions): Promise<Drilled> {
  const { archive, id, log, now, signal } = options;
  const startedAt = now().toISOString();
  const facts: Facts = {
    id,
    startedAt,
    finishedAt: startedAt,
    ok: false,
    backup: undefined,
    timeline: undefined,
    checks: [],
    promisedLsn: undefined,
    reachedLsn: undefined,
    lastCommitAt: undefined,
    restoreSeconds: undefined,
    recoverySeconds: undefined,
    proved: [],
  };
  const end: FolderEnd = {};
  try {
    const plan = await resolvePlan(archive, options, { signal });
    facts.backup = plan.backup.id;
    await inFolder(options, plan, facts, end);
  } catch (error) {
    if (!(error instanceof SeawallError) || !OF_THE_ARCHIVE.includes(error.code)) {
      if (end.unremoved !== undefined) log.warn("a drill's folder could not be removed", { error: end.unremoved });
      throw error;
    }
    facts.checks = [...facts.checks, { name: "restored", outcome: "failed", message: error.message }];
  }
  facts.ok = facts.checks.length > 0 && facts.checks.every(({ outcome }) => outcome !== "failed");
  if (facts.ok) facts.proved = await provedBy(archive, facts.backup, { signal });
  facts.finishedAt = now().toISOString();
  const unrecorded = await record(archive, await storableFacts(options, facts), { signal });
  return { drill: facts, folder: end.kept, unrecorded, unremoved: end.unremoved };
}

/** Recipients of the backup whose identities are here: one of these has opened it. */
async function provedBy(archive: Archive, backup: string | undefined, options: RequestOptions): Promise<string[]> {
  const { identities } = archive.codec;
  if (backup === undefined || identities === undefined) return [];
  const to = (await backupRecipients(archive, backup, options)) ?? [];
  if (to.length === 0) return [];
  const own = await identities.recipients();
  return to.filter((name) => own.includes(name));
}

/** The drill as it may be stored: an encrypted archive gets no query and no answer, since both may hold data. */
async function storableFacts({ archive, queries, signal }: DrillOptions, facts: Facts): Promise<Facts> {
  if ((await readEncryption(archive.store, archive.cluster, { signal })) === undefined) return facts;
  const texts = queries.map((query) => parseQuery(query).text);
  const checks = facts.checks.map((check) => {
    const number = texts.indexOf(check.name) + 1;
    if (number === 0) return check;
    return { ...check, name: `query ${number}`, message: "not stored, as the archive is encrypted" };
  });
  return { ...facts, checks };
}

/** Returns the store's refusal; throws its other errors. */
async function record(archive: Archive, facts: Facts, options: RequestOptions): Promise<SeawallError | undefined> {
  try {
    await putDrill(archive, facts, options);
    return undefined;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return error;
  }
}

async function inFolder(
  options: DrillOptions,
  plan: RestorePlan<BackupDocument>,
  facts: Facts,
  end: FolderEnd,
): Promise<void> {
  const { backup, wal } = plan;
  const major = Number.parseInt(backup.pgVersion, 10);
  const binaries = await findBinaries(major, options.binDir, options.env["PATH"]);
  const folder = await makeDrillFolder(options.scratchDir, backup.bytes + wal.bytes, options.owner);
  end.unremoved = folder.unremovedBefore;
  try {
    await refuseWithoutAccess(options, folder, wal.from);
    const changes = await restoreInto(options, folder, plan, facts);
    await recoverAndCheck(options, { folder, binaries, backup, changes }, facts);
    if (options.keep) end.kept = folder.path;
  } finally {
    // A failure to remove it must hide neither the drill's result nor the error that ended the drill.
    await (options.keep ? folder.keep() : folder.remove()).catch((error: unknown) => {
      if (!(error instanceof SeawallError)) throw error;
      end.unremoved = error;
    });
  }
}

/** Root restores, and another account recovers: what that may not do says nothing of the archive. */
async function refuseWithoutAccess(options: DrillOptions, folder: DrillFolder, segment: string): Promise<void> {
  const { owner, restoreCommand, env, signal } = options;
  if (owner === undefined) return;
  const refuse = (what: string, hint: string): never => {
    throw new SeawallError("target-unwritable", `the account that runs the drill's server (uid ${owner.uid}) ${what}`, {
      hint,
    });
  };
  if (!(await mayEnter(folder.path, { owner, signal }))) {
    refuse(
      `may not enter ${options.scratchDir}`,
      "Open the folders on the way to it, or name another with --scratch-dir.",
    );
  }
  const trouble = await fetchTrouble({ restoreCommand, segment, owner, env, signal });
  if (trouble === undefined) return;
  refuse(
    `cannot fetch WAL from the archive: ${trouble}`,
    "Let that account read the archive and the files of --identity, or name another account with --owner.",
  );
}

async function restoreInto(
  options: DrillOptions,
  folder: DrillFolder,
  plan: RestorePlan<BackupDocument>,
  facts: Facts,
): Promise<ReplayedChanges> {
  const { archive, owner, restoreCommand, jobs, progress, log, now, signal, target } = options;
  const begunMs = performance.now();
  const { backup } = plan;
  const restored = await restore({
    archive,
    owner,
    restoreCommand,
    jobs,
    progress,
    log,
    signal,
    backupId: backup.id,
    // Only a server that has left recovery can be asked everything.
    target: { ...target, action: "promote" },
    targetDir: folder.dataDir,
    tablespaceMapping: new Map(backup.tablespaces.map(({ oid }) => [String(oid), folder.tablespace(oid)])),
    // What recovery creates, and what is archived while the drill runs, stays in its folder as well.
    otherTablespaces: folder.createdTablespaces,
    delta: false,
    flushEachFile: true,
    standby: undefined,
    now: now(),
  });
  const { landing, timeline, changes } = restored.plan;
  facts.timeline = timeline;
  facts.promisedLsn = landing.lsn;
  facts.lastCommitAt = landing.commitTime === undefined ? undefined : formatPgTime(landing.commitTime);
  facts.restoreSeconds = secondsSince(begunMs);
  return changes;
}

async function recoverAndCheck(
  options: DrillOptions,
  scene: {
    readonly folder: DrillFolder;
    readonly binaries: DrillBinaries;
    readonly backup: BackupDocument;
    readonly changes: ReplayedChanges;
  },
  facts: Facts,
): Promise<void> {
  const { owner, preload, env, signal, progress } = options;
  const { folder, binaries, backup, changes } = scene;
  const control = parseControlFile(await readFile(join(folder.dataDir, CONTROL_FILE)));
  const major = Number.parseInt(backup.pgVersion, 10);
  const server = { binaries, folder, major, owner, preload, env, signal };
  const checks: DrillCheck[] = [];
  facts.checks = checks;
  const configuration = await readConfiguration(folder.dataDir);
  const lacking = missingMinimums(configuration, major, neededSettings(control.settings, changes.minimums));
  if (Object.keys(lacking).length > 0) checks.push(lackingCheck(lacking));
  const recovered = await recover(server, options, facts);
  checks.push(recovered.check);
  if (!recovered.isWhole) return;
  const namespaces = await namespacesFor(server);
  checks.push(isolationCheck(namespaces));
  const complaint = await askServer(server, { namespaces, options, checks });
  if (!options.pages) return;
  progress.detail("checking page checksums");
  if (!backup.dataChecksums) checks.push(skipped("checksums", "the cluster has no data checksums"));
  else if (complaint !== undefined) checks.push(skipped("checksums", `the server did not stop in order: ${complaint}`));
  else checks.push(await checkPages(folder.dataDir, { binaries, owner, signal }));
}

/** The drill's own server is no hot standby, and does not ask. */
function lackingCheck(lacking: Readonly<Record<string, number>>): DrillCheck {
  const needed = Object.entries(lacking).map(([name, value]) => `${name} = ${value}`);
  const message = `a restored server would pause in recovery: it needs at least ${needed.join(", ")}`;
  return { name: "settings", outcome: "failed", message };
}

/** Runs the recovery to its end, and stops the server before it lets anything in. */
async function recover(
  serverOptions: DrillServerOptions,
  { progress }: DrillOptions,
  facts: Facts,
): Promise<{ readonly check: DrillCheck; readonly isWhole: boolean }> {
  const begunMs = performance.now();
  progress.detail("recovering");
  await using server = await DrillServer.recovery(serverOptions);
  const isReady = await server.ready(() => progress.detail(`recovering for ${Math.floor(secondsSince(begunMs))} s`));
  facts.recoverySeconds = secondsSince(begunMs);
  const isWhole = isReady && (await server.stop());
  const check = await judged(server, serverOptions.folder, isWhole, facts);
  return { check, isWhole };
}

/** Asks the user's queries and looks at the structures. Its log's last complaint, when it did not stop in order. */
async function askServer(
  serverOptions: DrillServerOptions,
  asking: { readonly namespaces: Namespaces; readonly options: DrillOptions; readonly checks: DrillCheck[] },
): Promise<string | undefined> {
  const { options, checks } = asking;
  const { superuser: user, signal, progress, structures } = options;
  const { folder, binaries, owner, major } = serverOptions;
  const queries = options.queries.map(parseQuery);
  if (queries.length === 0 && !structures) return undefined;
  progress.detail("starting the recovered server");
  await using server = await DrillServer.answering(serverOptions, asking.namespaces);
  if (!(await server.ready(() => undefined))) {
    const { text } = await server.complaint();
    checks.push({ name: "started", outcome: "failed", message: `the recovered server does not start: ${text}` });
    return text;
  }
  const named = queries.flatMap(({ database }) => (database === undefined ? [] : [database]));
  const client = await openToQueries({ socketDir: folder.socketDir, port: DRILL_PORT, user, major, signal }, named);
  for (const query of queries) {
    progress.detail(`asking ${query.text.slice(0, 60)}`);
    checks.push(await checkQuery(client, query, signal));
  }
  if (structures) {
    progress.detail("checking structures");
    checks.push(await checkStructures(client, { binaries, owner, signal }));
  }
  return (await server.stop()) ? undefined : (await server.complaint()).text;
}

async function namespacesFor(server: DrillServerOptions): Promise<Namespaces> {
  const { folder, binaries, env, signal } = server;
  const plain = plainEnv(env);
  return findNamespaces({
    folders: [...new Set([folder.path, folder.socketDir])],
    programs: await findProgramPlaces(binaries, { env: plain, signal }),
    probe: probeOf(server),
    env: plain,
    signal,
  });
}

function isolationCheck({ kind, reason }: Namespaces): DrillCheck {
  const because = reason ?? "unknown";
  switch (kind) {
    case "files":
      return { name: "isolated", outcome: "passed", message: "queries ran without network and saw no other files" };
    case "network":
      return skipped("isolated", `queries ran without network, but with the machine's files: ${because}`);
    case "none":
      return skipped("isolated", `queries ran with the machine's network and files: ${because}`);
  }
}

async function judged(server: DrillServer, folder: DrillFolder, isWhole: boolean, facts: Facts): Promise<DrillCheck> {
  const verdict = judgeRestore(await gatherEvidence(folder.dataDir, undefined));
  facts.reachedLsn = verdict.reachedLsn === undefined ? undefined : (parseLsn(verdict.reachedLsn) satisfies Lsn);
  const name = "recovered";
  if (isWhole) return { name, outcome: verdict.ok ? "passed" : "failed", message: verdict.message };
  const { text, code } = await server.complaint();
  const message = `the server ended before its recovery did: ${text}`;
  // The server's restore_command could not reach the store or was refused: that says nothing about the archive.
  if (code !== undefined && isErrorCode(code) && !OF_THE_ARCHIVE.includes(code)) throw new SeawallError(code, message);
  return { name, outcome: "failed", message: code === undefined ? message : `${message} [${code}]` };
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_KINDS, text);
}

function skipped(name: string, message: string): DrillCheck {
  return { name, outcome: "skipped", message };
}

function secondsSince(begunMs: number): number {
  return Math.round(performance.now() - begunMs) / 1000;
}
