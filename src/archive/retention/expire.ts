/**
 * Carries out an expiry: documents before data, so that a half-removed backup never looks whole, and WAL last, oldest
 * first. It may be interrupted anywhere; the next expiry finishes it. It may run beside a receiver, backups, restores
 * and another expiry. Each step says what it writes first and reads afterwards.
 */
import { hasCode, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { newestFolders } from "../wal/tip.ts";
import { type BackupDocument, decodeBackup } from "../backups/document.ts";
import { type BackupListing, listBackups } from "../backups/list.ts";
import { mapBounded } from "../bounded.ts";
import { BulkDelete, type DoomedObject, isRefusal, type Refused } from "./bulk-delete.ts";
import { doomedEnds, doomedSegments } from "./unneeded-wal.ts";
import { listMarks, missingObject, putMark, removeMark } from "./marks.ts";
import { type Decide, lookAtUnfinished, type PlannedExpiry } from "./expiry-plan.ts";
import { backupDocumentKey, backupPrefix, backupsPrefix, gapKey, isBackupId, isBackupObject } from "../keys.ts";
import { isInForce, listPins, removePin } from "../backups/pins.ts";
import { confirmProtection, type Protection } from "./protection.ts";
import { settledMs } from "./keep.ts";
import type { NewerGenerations, WalPlan } from "./model.ts";
import { planWal } from "./wal.ts";

export interface ExpireOptions extends RequestOptions {
  readonly now: () => Date;
  readonly decide: Decide;
  /** For a generation that has ended: reads the newer ones again before anything is deleted. */
  readonly readNewer?: (() => Promise<NewerGenerations>) | undefined;
  /** False: backups only (`seawall delete`). */
  readonly withWal: boolean;
  readonly onDeleted?: ((objects: number, bytes: number) => void) | undefined;
}

export interface Expired extends Refused {
  /** Backups whose document is gone. */
  readonly removed: readonly BackupDocument[];
  /** Ids of failed or removed backups of which nothing is left. */
  readonly leftovers: readonly string[];
  /** Ids of removed or failed backups of which the store keeps objects. */
  readonly remains: readonly string[];
  /** Planned to go, and there after all, and why. */
  readonly spared: readonly { readonly id: string; readonly why: string }[];
  readonly objects: number;
  readonly bytes: number;
  /** How many of them the store keeps as old versions (versioning, Object Lock): their space is not free yet. */
  readonly hidden: number;
  /** Why unneeded WAL is still there; undefined when none is. */
  readonly walStaysBecause: string | undefined;
}

const REQUESTS_IN_FLIGHT = 8;
/** A mark of this age belongs to no running expiry. */
const STALE_MARK_MS = 3_600_000;

/**
 * Throws what the store throws; after that, as after an abort, run it again. An object that the store refuses to delete is
 * passed over and counted.
 */
export async function expire(archive: Archive, planned: PlannedExpiry, options: ExpireOptions): Promise<Expired> {
  const { signal } = options;
  const run = new Run(archive, planned, options);
  const { goes, listing } = await run.claim();
  const removed: BackupDocument[] = [];
  for (const backup of goes) if (await run.removeDocument(backup)) removed.push(backup);
  const dead: string[] = [];
  for (const { id } of planned.plan.leftovers) if (await run.isStillLeftover(id)) dead.push(id);
  for (const id of [...dead, ...removed.map((backup) => backup.id)])
    if (!(await removeContents(archive, id, run, { signal }))) run.remains.push(id);
  const leftovers = dead.filter((id) => !run.remains.includes(id));
  await run.tidy(listing, removed);
  const walStaysBecause = options.withWal ? await run.removeWal(listing, removed) : undefined;
  const { objects, bytes, hidden, refused, refusals } = run.bulk;
  const kept = { spared: run.spared, remains: run.remains, refused, refusals, walStaysBecause };
  return { removed, leftovers, ...kept, objects, bytes, hidden };
}

/**
 * Removes what lies below a backup's id although no catalog knows it as a backup: one whose document cannot be read, or an
 * unfinished one, which fails if it should still be running.
 */
export async function removeUnlisted(archive: Archive, id: string, options: ExpireOptions): Promise<BulkDelete> {
  const { signal, now } = options;
  const bulk = new BulkDelete(archive.store, { signal, onDeleted: options.onDeleted });
  await putMark(archive, id, now(), { signal });
  if ((await listPins(archive, { signal, backup: id })).some((pin) => isInForce(pin, now()))) {
    await removeMark(archive, id, bulkOfMarks(archive, options));
    throw new SeawallError("backup-protected", `backup ${id} must stay: it is pinned`);
  }
  if (await bulk.one({ key: backupDocumentKey(archive.cluster, id), bytes: 0 })) {
    await removeContents(archive, id, { bulk, marks: bulkOfMarks(archive, options) }, { signal });
    await removeIdlePin(archive, id, { signal });
  }
  return bulk;
}

/** Removes the pin of a backup that is gone. One that the store keeps does no harm. */
async function removeIdlePin(archive: Archive, id: string, options: RequestOptions): Promise<void> {
  await removePin(archive, id, options).catch((error: unknown) => {
    if (!isRefusal(error)) throw error;
  });
}

/** Marks that the store keeps are not reported, however many: they do no harm, and the next expiry tries again. */
function bulkOfMarks({ store }: Archive, { signal }: RequestOptions): BulkDelete {
  return new BulkDelete(store, { signal, refusalsAtFirstMax: Infinity });
}

/** Removes a backup without a document, and its mark when nothing of it is left. False: the store refused some of it. */
async function removeContents(
  archive: Archive,
  id: string,
  { bulk, marks }: { readonly bulk: BulkDelete; readonly marks: BulkDelete },
  options: RequestOptions,
): Promise<boolean> {
  const refused = bulk.refused;
  await bulk.all(contentsOf(archive, id, options));
  if (bulk.refused > refused) return false;
  // One that was not dead may have stored more since it was listed.
  const rest = await lookAtUnfinished(archive, { id, startedAtMs: 0, isMarked: true }, options);
  if (rest.newestObjectMs === undefined) await removeMark(archive, id, marks);
  return true;
}

async function* contentsOf(archive: Archive, id: string, options: RequestOptions): AsyncGenerator<DoomedObject> {
  const { store, cluster } = archive;
  for await (const { key, bytes } of store.list(backupPrefix(cluster, id), options)) {
    if (isBackupObject(cluster, id, key)) yield { key, bytes };
  }
}

class Run {
  readonly #archive: Archive;
  readonly #planned: PlannedExpiry;
  readonly #options: ExpireOptions;
  readonly #request: RequestOptions;
  readonly bulk: BulkDelete;
  readonly marks: BulkDelete;
  readonly spared: { id: string; why: string }[] = [];
  readonly remains: string[] = [];
  /** The newer generations, as they were read last. */
  #newer: NewerGenerations | undefined;

  constructor(archive: Archive, planned: PlannedExpiry, options: ExpireOptions) {
    this.#archive = archive;
    this.#planned = planned;
    this.#options = options;
    this.#request = { signal: options.signal };
    this.bulk = new BulkDelete(archive.store, { signal: options.signal, onDeleted: options.onDeleted });
    this.marks = bulkOfMarks(archive, options);
    this.#newer = planned.facts.newer;
  }

  /**
   * Marks what goes, and then decides again: a pin made before the mark is seen now, a later one sees the mark; and of two
   * expiries that would together take what neither would alone, each sees the other's marks, and leaves what would be the
   * last.
   */
  async claim(): Promise<{ goes: readonly BackupDocument[]; listing: BackupListing }> {
    const { plan, facts, marks: marksBefore } = this.#planned;
    const wanted = [...plan.goes, ...plan.leftovers].map(({ id }) => id);
    const { now, decide } = this.#options;
    await mapBounded(wanted, REQUESTS_IN_FLIGHT, (id) => putMark(this.#archive, id, now(), this.#request));
    const pins = await listPins(this.#archive, this.#request);
    const marks = await listMarks(this.#archive, this.#request);
    const listing = await listBackups(this.#archive, this.#request);
    await this.#confirm({ before: facts, now: listing, pins, going: wanted }, marksBefore);
    const held = new Map(
      [...marks.keys()].filter((id) => !wanted.includes(id)).map((id) => [id, "another process is removing it"]),
    );
    this.#newer = (await this.#options.readNewer?.()) ?? facts.newer;
    const again = decide({ ...facts, pins, held, backups: listing.backups, newer: this.#newer });
    const goes = listing.backups.filter(({ id }) => wanted.includes(id) && again.goes.some((other) => other.id === id));
    for (const { id } of plan.goes) {
      const kept = again.keeps.find(({ backup }) => backup.id === id);
      if (kept === undefined) continue;
      this.spared.push({ id, why: kept.reasons.map(({ text }) => text).join("; ") });
      if (!marksBefore.has(id)) await this.#unmark(id);
    }
    await this.#removeStaleMarks(listing, marks, wanted);
    return { goes, listing };
  }

  /** Where the readings of what protects disagree, nothing goes, and our marks are taken back. */
  async #confirm(protection: Protection, marksBefore: ReadonlyMap<string, Date>): Promise<void> {
    try {
      await confirmProtection(this.#archive, protection, this.#request);
    } catch (error) {
      if (hasCode(error, "store-lied"))
        for (const id of protection.going) if (!marksBefore.has(id)) await this.#unmark(id);
      throw error;
    }
  }

  /** Marks of backups that stay, left behind by an expiry that was interrupted; and of those of which nothing is left. */
  async #removeStaleMarks(
    { backups, leftovers }: BackupListing,
    marks: ReadonlyMap<string, Date>,
    wanted: readonly string[],
  ): Promise<void> {
    // Marks are dated by the store, and our own are new: where this machine's clock runs ahead, theirs counts.
    const { newestWalMs } = this.#planned.facts;
    const newestMs = newestWalMs === undefined ? undefined : Math.max(newestWalMs, ...[...marks.values()].map(Number));
    const nowMs = settledMs({ newestWalMs: newestMs }, this.#options.now());
    for (const [id, markedAt] of marks) {
      if (wanted.includes(id) || nowMs - markedAt.getTime() < STALE_MARK_MS) continue;
      const isThere = leftovers.some((other) => other.id === id);
      if (backups.some((other) => other.id === id) || !isThere) await this.#unmark(id);
    }
  }

  async #unmark(id: string): Promise<void> {
    await removeMark(this.#archive, id, this.marks);
  }

  /** False when the store keeps it: then it is a backup as before. */
  async removeDocument({ id }: BackupDocument): Promise<boolean> {
    if (await this.bulk.one({ key: backupDocumentKey(this.#archive.cluster, id), bytes: 0 })) return true;
    this.spared.push({ id, why: "the store refuses to delete it" });
    await this.#unmark(id);
    return false;
  }

  /**
   * A backup that was taken for dead may just have ended: it has seen our mark, or we see its document. One that speaks of
   * what is gone comes from a backup that died of it, and goes first.
   */
  async isStillLeftover(id: string): Promise<boolean> {
    const { store, cluster } = this.#archive;
    const found = await store.get(backupDocumentKey(cluster, id), this.#request);
    if (found === undefined) return true;
    const document = decodeBackup(found.body, id);
    if ((await missingObject(this.#archive, document, this.#request)) !== undefined) {
      const isGone = await this.bulk.one({ key: backupDocumentKey(cluster, id), bytes: 0 });
      if (!isGone) this.remains.push(id);
      return isGone;
    }
    this.spared.push({ id, why: "it has been finished meanwhile" });
    await this.#unmark(id);
    return false;
  }

  /** Pins of what is gone. */
  async tidy(listing: BackupListing, removed: readonly BackupDocument[]): Promise<void> {
    const gone = new Set(removed.map(({ id }) => id));
    const there = new Set([...listing.backups, ...listing.leftovers, ...listing.damaged].map(({ id }) => id));
    for (const { backup } of await listPins(this.#archive, this.#request)) {
      if (!gone.has(backup) && there.has(backup)) continue;
      await removeIdlePin(this.#archive, backup, this.#request);
    }
  }

  /**
   * Removes WAL that no present backup needs, decided from what is there now, whatever was planned. Returns why it stays. A
   * backup that begins meanwhile may need WAL from before the cut (from a standby that lags behind), and puts an end to it.
   */
  async removeWal(listing: BackupListing, removed: readonly BackupDocument[]): Promise<string | undefined> {
    const { facts, plan } = this.#planned;
    const spared = new Set(this.spared.map(({ id }) => id));
    const late = listing.leftovers.find(({ id }) => spared.has(id));
    // Its document was read after the listing, so the backups below lack it.
    if (late !== undefined) return `backup ${late.id} has been finished meanwhile; the next expiry goes on`;
    const dead = new Set([...plan.leftovers, ...removed].map(({ id }) => id).filter((id) => !spared.has(id)));
    const harmless = facts.unfinished.filter(({ id }) => !plan.running.some((other) => other.id === id));
    const backups = listing.backups.filter(({ id }) => !dead.has(id));
    const running = listing.leftovers.map(({ id }) => id).filter((id) => !harmless.some((other) => other.id === id));
    const keeps = backups.map((backup) => ({ backup, reasons: [] }));
    const damaged = [...facts.damaged, ...listing.damaged.map(({ id }) => `the document of backup ${id}`)];
    const wal = planWal({ ...facts, backups, damaged, newer: this.#newer }, keeps, running);
    if (wal.staysBecause !== undefined) return wal.staysBecause;
    const known = new Set([...listing.backups, ...listing.leftovers, ...listing.damaged].map(({ id }) => id));
    const before = (): Promise<boolean> => this.#isAllKnown(known);
    const begun = "a backup has begun meanwhile; the next expiry goes on";
    let refusal: string | undefined;
    for (const timeline of new Set(wal.goes.map((range) => range.timeline))) {
      const refusals = this.bulk.refusals.length;
      const end = await this.#removeSegments(wal, timeline, before);
      if (end === "ended") return begun;
      const held = this.bulk.refusals[refusals]?.key ?? "a segment";
      if (end === "refused") refusal ??= `the store refuses to delete ${held}: WAL behind it stays too`;
    }
    if (!(await this.bulk.all(doomedEnds(this.#archive, wal, this.#request), before))) return begun;
    for (const { timeline, fromLsn, toLsn } of wal.gaps) {
      await this.bulk.one({ key: gapKey(this.#archive.cluster, timeline, fromLsn, toLsn), bytes: 0 });
    }
    return refusal;
  }

  /** A receiver takes a hole in the newest folders for the end of the archive: there, segments go one by one. */
  async #removeSegments(
    wal: WalPlan,
    timeline: TimelineId,
    before: () => Promise<boolean>,
  ): Promise<"done" | "ended" | "refused"> {
    const [older = ""] = await newestFolders(this.#archive, timeline, this.#request);
    const objects = doomedSegments(this.#archive, wal, timeline, this.#request);
    return this.bulk.inOrder(objects, { mayBatch: (key) => key < older, before });
  }

  async #isAllKnown(known: ReadonlySet<string>): Promise<boolean> {
    const prefix = backupsPrefix(this.#archive.cluster);
    const folders = await this.#archive.store.listPrefixes(prefix, this.#request);
    return folders.map((folder) => folder.slice(prefix.length, -1)).every((id) => !isBackupId(id) || known.has(id));
  }
}
