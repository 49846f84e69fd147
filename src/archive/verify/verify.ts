/**
 * A verification in order: list the archive (the catalog), find missing WAL, check what each object states or, with
 * `deep`, what it contains. Then report the consequences, and remember the good objects for the next run.
 */
import { hasCode } from "../../errors.ts";
import { readTailEnd } from "../wal/tail.ts";
import { deadline } from "../../signals.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type SegmentNumber, segmentOf, segmentStart } from "../../wal/lsn.ts";
import type { WalChange } from "../../wal/wal-changes.ts";
import type { Archive } from "../archive.ts";
import { backupRecipients } from "../backups/encrypted-to.ts";
import { readEncryption } from "../encryption.ts";
import type { Stretch } from "./encrypted-stretches.ts";
import { listBackups } from "../backups/list.ts";
import { mapBounded } from "../bounded.ts";
import { minimalIn } from "../wal/breaks.ts";
import { isRefusal } from "../retention/bulk-delete.ts";
import { listMarks } from "../retention/marks.ts";
import { type Catalog, gapBegins, readCatalog } from "../catalog/catalog.ts";
import { segmentKey, tailPrefix, verifyPrefix } from "../keys.ts";
import { verifyBackup } from "./backups.ts";
import { damageOf, ifReadable } from "../damage.ts";
import { verifyCrew } from "./questions.ts";
import {
  affectedBackups,
  breakMessage,
  type Checked,
  coveredMessage,
  Findings,
  type Note,
  type Problem,
} from "./report.ts";
import {
  type ProvenBackup,
  type ProvenWal,
  putVerifyRecord,
  readVerifyRecord,
  type VerifyOutcome,
  type VerifyRecord,
} from "./state.ts";
import {
  folderName,
  type PendingFolder,
  pendingOf,
  reportBreaks,
  verifyFolder,
  type VerifyWalOptions,
  wantedLevel,
} from "./wal.ts";
import { type WalkedRecord, walkSegment } from "../wal/walk.ts";
import { backupsOn, reachOf } from "../catalog/windows.ts";

export interface VerifyProgress {
  /** Called once, as soon as the number of stored bytes to verify is known. */
  begin(totalBytes: number): void;
  advance(bytes: number): void;
  detail(text: string): void;
}

export interface VerifyOptions extends RequestOptions {
  /** Read the contents of all objects. */
  readonly deep: boolean;
  /** Verify objects again that an earlier run has proven. */
  readonly full: boolean;
  readonly jobs: number;
  readonly now: () => Date;
  /** 32 random bits. */
  readonly random: number;
  readonly progress: VerifyProgress;
}

export interface VerifyReport {
  readonly ok: boolean;
  readonly deep: boolean;
  readonly checked: Readonly<Checked>;
  readonly problems: readonly Problem[];
  readonly notes: readonly Note[];
  /** The WAL that was looked at; empty where nothing of the archive is encrypted. */
  readonly stretches: readonly Stretch[];
  /** Backups by id, in the same case. */
  readonly backups: readonly { readonly id: string; readonly to: readonly string[] }[];
}

/** Memory for WAL that is being read with `deep`: raw and stored, the segment at hand and the next one. */
const READ_BYTES_MAX = 256 << 20;
const FOLDERS_IN_FLIGHT = 4;

/** How often proofs are stored. A killed process loses the work of this time at most. */
const SAVE_EVERY_MS = 300_000;
/** After an abort or a failure; the store may be what failed. */
const LAST_SAVE_TIMEOUT_MS = 10_000;

/** Throws what the store throws. After an abort or an error, the next verification knows the proofs made so far. */
export async function verifyArchive(archive: Archive, options: VerifyOptions): Promise<VerifyReport> {
  const { deep, full, progress, signal } = options;
  const startedAt = options.now().toISOString();
  const findings = new Findings();
  progress.detail("listing");
  const before = await readRecord(archive, full, findings, { signal });
  const survey = await surveyArchive(archive, { before, deep, findings }, { signal });
  const { from, folders } = survey;
  let { catalog } = survey;

  const proofs = new Proofs(archive, options, { last: before?.last ?? null, folders, findings });
  const pending = [...folders.values()].flatMap((folder) => folder.pending ?? []);
  const backupBytes = deep ? catalog.backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0) : 0;
  progress.begin(pending.reduce((sum, { bytes }) => sum + bytes, backupBytes));
  const { segmentSize } = archive.identity;
  const walJobs = Math.max(1, Math.min(options.jobs, Math.floor(READ_BYTES_MAX / (4 * segmentSize))));
  await using crew = verifyCrew(options.jobs);
  const common = { deep, findings, crew, signal, onBytes: (bytes: number): void => progress.advance(bytes) };
  try {
    progress.detail("WAL");
    const { histories, breaks } = catalog.inventory;
    const walOptions = { ...common, jobs: walJobs, from, histories, breaks };
    await verifyWal(archive, { catalog, pending, proofs }, walOptions);
    progress.detail("backups");
    for (const backup of catalog.backups) {
      const proven = before?.backups ?? [];
      await proofs.addBackup(await verifyBackup(archive, backup, { ...common, jobs: options.jobs, proven }));
    }
  } catch (error) {
    using limit = deadline(LAST_SAVE_TIMEOUT_MS);
    await proofs.save({ signal: limit.signal }).catch(() => undefined);
    throw error;
  }
  // An expiry may have removed listed objects meanwhile, so list again before anything is called missing.
  if (findings.vanished > 0) catalog = await readCatalog(archive, { signal });
  const gaps = reportMissing(archive, catalog, findings);
  noteEmpty(archive, catalog, findings);
  findings.noteUnchecked(archive.cluster, { hasIdentity: archive.codec.identities !== undefined });
  reportUnfinished(catalog, await listMarks(archive, { signal }), findings);
  const problems = findings.problems(catalog.paths, catalog.backups);
  const ok = problems.length === 0;
  const finishedAt = options.now().toISOString();
  await proofs.save({ signal, last: { startedAt, finishedAt, deep, ok, problems: problems.length, gaps } });
  const isPlain = (await readEncryption(archive.store, archive.cluster, { signal })) === undefined;
  const encrypted = isPlain
    ? { stretches: [], backups: [] }
    : await encryptedIn(archive, catalog, findings, { signal });
  return { ok, deep, checked: findings.checked, problems, notes: findings.notes, ...encrypted };
}

async function encryptedIn(
  archive: Archive,
  { backups }: Catalog,
  { stretches }: Findings,
  options: RequestOptions,
): Promise<Pick<VerifyReport, "stretches" | "backups">> {
  const told = await mapBounded(backups, FOLDERS_IN_FLIGHT, async ({ id }) =>
    // Damage is a finding of its own.
    ifReadable(backupRecipients(archive, id, options).then((to) => ({ id, to: to ?? [] }))),
  );
  return { stretches: stretches.list(), backups: told.filter((one) => one !== undefined) };
}

/** The proofs so far, stored every few minutes. */
class Proofs {
  readonly #archive: Archive;
  readonly #options: VerifyOptions;
  readonly #last: VerifyOutcome | null;
  readonly #findings: Findings;
  readonly #wal: Map<string, readonly ProvenWal[]>;
  readonly #backups: ProvenBackup[] = [];
  #savedMs: number;
  #saves = 0;
  #isRefused = false;

  constructor(
    archive: Archive,
    options: VerifyOptions,
    input: {
      readonly last: VerifyOutcome | null;
      readonly folders: ReadonlyMap<string, FolderSurvey>;
      readonly findings: Findings;
    },
  ) {
    const { last, folders, findings } = input;
    this.#archive = archive;
    this.#options = options;
    this.#last = last;
    this.#findings = findings;
    this.#wal = new Map([...folders].map(([prefix, { known }]) => [prefix, known]));
    this.#savedMs = options.now().getTime();
  }

  async addFolder(prefix: string, proven: readonly ProvenWal[]): Promise<void> {
    this.#wal.set(prefix, proven);
    await this.#saveSometimes();
  }

  async addBackup(proven: ProvenBackup | undefined): Promise<void> {
    if (proven !== undefined) this.#backups.push(proven);
    await this.#saveSometimes();
  }

  /** Stores the proofs under a new name. An account that may only read can verify too; its proofs are not kept. */
  async save(options: RequestOptions & { readonly last?: VerifyOutcome }): Promise<void> {
    if (this.#isRefused) return;
    try {
      await this.#put(options);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      this.#isRefused = true;
      const message = `the result is not recorded, and the next run reads everything again: ${error.message}`;
      this.#findings.note({ kind: "verify-state", object: verifyPrefix(this.#archive.cluster), message });
    }
  }

  async #put(options: RequestOptions & { readonly last?: VerifyOutcome }): Promise<void> {
    const now = this.#options.now();
    this.#savedMs = now.getTime();
    const wal = [...this.#wal.values()].flat();
    const last = options.last ?? this.#last;
    const record = { writtenAt: now.toISOString(), last, wal, backups: this.#backups };
    const random = this.#options.random + this.#saves++;
    await putVerifyRecord(this.#archive, record, random, { signal: options.signal });
  }

  async #saveSometimes(): Promise<void> {
    if (this.#options.now().getTime() - this.#savedMs < SAVE_EVERY_MS) return;
    await this.save({ signal: this.#options.signal });
  }
}

async function readRecord(
  archive: Archive,
  full: boolean,
  findings: Findings,
  options: RequestOptions,
): Promise<VerifyRecord | undefined> {
  if (full) return undefined;
  const { record, damage } = await readVerifyRecord(archive, options);
  if (damage !== undefined) {
    const message = `everything is looked at again: ${damage.error.message}`;
    findings.note({ kind: "verify-state", object: damage.key, message });
  }
  return record;
}

interface FolderSurvey {
  readonly pending: PendingFolder | undefined;
  readonly known: readonly ProvenWal[];
  readonly unchanged: number;
}

interface Survey {
  readonly catalog: Catalog;
  readonly from: SegmentNumber;
  /** By prefix. */
  readonly folders: ReadonlyMap<string, FolderSurvey>;
}

/** One listing: the catalog, and which folders have something to be looked at. */
async function surveyArchive(
  archive: Archive,
  input: { readonly before: VerifyRecord | undefined; readonly deep: boolean; readonly findings: Findings },
  options: RequestOptions,
): Promise<Survey> {
  const { before, deep, findings } = input;
  const proven = new Map<string, ProvenWal[]>();
  for (const proof of before?.wal ?? []) {
    const place = `${proof.timeline} ${proof.folder}`;
    proven.set(place, [...(proven.get(place) ?? []), proof]);
  }
  const { backups } = await listBackups(archive, options);
  const starts = backups.map(({ startLsn }) => segmentOf(startLsn, archive.identity.segmentSize));
  const from = (starts.length === 0 ? 0 : Math.min(...starts)) as SegmentNumber;
  const folders = new Map<string, FolderSurvey>();
  const catalog = await readCatalog(archive, {
    ...options,
    onFolder: (folder) => {
      const known = proven.get(`${folder.timeline} ${folderName(folder.prefix)}`) ?? [];
      folders.set(folder.prefix, pendingOf(folder, known, { from, wanted: wantedLevel(archive, deep) }));
    },
  });
  for (const { unchanged } of folders.values()) findings.checked.unchangedSegments += unchanged;
  return { catalog, from, folders };
}

/** Reports what listing alone shows. Returns how many of the problems are recorded gaps: a later backup makes them history. */
function reportMissing(archive: Archive, catalog: Catalog, findings: Findings): number {
  const { segmentSize } = archive.identity;
  const { backups, paths, ends, gaps } = catalog;
  let recordedGaps = 0;
  for (const gap of gaps) {
    const { timeline, fromLsn, toLsn, reason, isRecorded, isStored, coveredBy } = gap;
    const lost = { timeline, fromLsn, toLsn };
    const isMissed = backups.length === 0 || affectedBackups(paths, backups, lost).length > 0;
    const segment = segmentOf(fromLsn, segmentSize);
    const object = segmentKey(archive.cluster, { timeline, segment, segmentSize });
    const count = Number((toLsn - segmentStart(segment, segmentSize)) / BigInt(segmentSize));
    const more = !isRecorded && count > 1 ? `, and ${count - 1} after it` : "";
    const lostMessage = isRecorded ? `WAL was lost before it was archived: ${reason}` : `${reason}${more}`;
    const message = isStored === true ? breakMessage(fromLsn, reason) : lostMessage;
    const finding = { kind: isRecorded ? "gap" : "missing-wal", object } as const;
    if (isMissed && coveredBy !== undefined) {
      findings.note({ ...finding, message: `${message}: ${coveredMessage(gapBegins(catalog, gap), coveredBy)}` });
    } else if (isMissed) {
      if (isRecorded && isStored !== true) recordedGaps++;
      findings.report({ ...finding, message }, lost);
    } else findings.note({ ...finding, message: `${message}: no backup needs it` });
  }
  for (const backup of backups) {
    const own = paths.filter(({ history }) => backupsOn([backup], history).length > 0);
    if (own.some((path) => reachOf(path, backup, ends) !== undefined)) continue;
    const message = "the WAL between its start and its end is not in the archive: it cannot be restored";
    findings.report({ kind: "unrestorable-backup", object: backup.id, message });
  }
  for (const { id, error } of catalog.damagedBackups) {
    const kind = error.code === "foreign-cluster" ? "foreign-backup" : "damaged-backup";
    findings.report({ kind, object: id, message: `${error.message}: backup ${id} cannot be restored` });
  }
  for (const { key, error } of catalog.inventory.damaged) {
    findings.report({ kind: "damaged-document", object: key, message: error.message });
  }
  return recordedGaps;
}

/** Notes an archive in which nothing is missing because nothing was stored. */
function noteEmpty({ cluster: object }: Archive, catalog: Catalog, findings: Findings): void {
  const { runs, partials, tails } = catalog.inventory;
  if ([runs, partials, tails, catalog.backups, catalog.damagedBackups].some(({ length }) => length > 0)) return;
  const message = "it holds no WAL and no backup: nothing can be restored from it";
  findings.note({ kind: "empty-archive", object, message });
}

/** Notes objects of backups without a document. `marks`: of backups that an expiry was removing. */
function reportUnfinished(
  { leftovers }: Pick<Catalog, "leftovers">,
  marks: ReadonlyMap<string, Date>,
  findings: Findings,
): void {
  const unfinished = "a backup that was begun and not finished: it is still running, or has failed and may be removed";
  const removed =
    "a backup that an expiry or seawall delete has begun to remove: the next expiry removes what is left, where the store allows it";
  for (const { id } of leftovers)
    findings.note({ kind: "unfinished-backup", object: id, message: marks.has(id) ? removed : unfinished });
}

async function verifyWal(
  archive: Archive,
  input: { readonly catalog: Catalog; readonly pending: readonly PendingFolder[]; readonly proofs: Proofs },
  options: VerifyWalOptions,
): Promise<void> {
  const { catalog, pending, proofs } = input;
  // With `deep` the pieces of one folder keep the machine busy.
  const inFlight = options.deep ? 1 : FOLDERS_IN_FLIGHT;
  await mapBounded(pending, inFlight, async (folder) =>
    proofs.addFolder(folder.prefix, await verifyFolder(archive, folder, options)),
  );
  const { segmentSize } = archive.identity;
  const { runs, tails } = catalog.inventory;
  for (const tail of tails) {
    const { timeline, segment } = tail;
    const isSealed = runs.some((run) => run.timeline === timeline && run.first <= segment && segment <= run.last);
    if (isSealed || segment < options.from) continue;
    const place = { timeline, segment, segmentSize };
    const key = tailPrefix(archive.cluster, place);
    const changes: WalChange[] = [];
    const visit = ({ change }: WalkedRecord): void => {
      options.findings.checked.records++;
      if (change !== undefined) changes.push(change);
    };
    options.findings.checked.tails++;
    try {
      const walked = { signal: options.signal, takesNewer: true };
      await walkSegment(archive, { timeline, segment, kind: "tail" }, visit, walked).catch(async (error: unknown) => {
        if (!hasCode(error, "identity-missing")) throw error;
        await readTailEnd(archive, place, { signal: options.signal });
        options.findings.noteLocked(error.details["to"]);
      });
      reportBreaks(minimalIn(changes), key, place, options);
    } catch (error) {
      options.findings.reportWal(key, damageOf(error), place);
    }
  }
}
