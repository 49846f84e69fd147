/**
 * The results of drills. Each is one small document that never changes. The newest stay, and so do the last that passed and the last
 * that proved an identity of each recipient.
 */
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, type TimelineId, formatLsn } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { startOf } from "../backups/list.ts";
import { decodeDocument, encodeDocument, type Fields } from "../json-document.ts";
import { drillKey, drillsPrefix } from "../keys.ts";
import { putPlainOnce } from "../put-once.ts";
import { ifReadable } from "../damage.ts";
import { afterStoring, oldestFirst, recordIds } from "./records.ts";

export interface DrillCheck {
  /** `recovered`, `amcheck`, `checksums`, or the query. */
  readonly name: string;
  readonly outcome: "passed" | "failed" | "skipped";
  /** The finding, or why the check was skipped. */
  readonly message: string;
}

export interface Drill {
  /** Like a backup's id: when it began, and random digits. */
  readonly id: string;
  /** ISO 8601, UTC, like every time here. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly ok: boolean;
  /** Undefined when no backup could be chosen. */
  readonly backup: string | undefined;
  readonly timeline: TimelineId | undefined;
  /** Where the restore promised to get, and where the server got. */
  readonly promisedLsn: Lsn | undefined;
  readonly reachedLsn: Lsn | undefined;
  /** Time of the last commit before the promised point; with microseconds. */
  readonly lastCommitAt: string | undefined;
  /** Time from the beginning to the files in place. */
  readonly restoreSeconds: number | undefined;
  readonly recoverySeconds: number | undefined;
  readonly checks: readonly DrillCheck[];
  /** Recipients of the backup whose identities the drill had, in short; none for a plain backup, or when it failed. */
  readonly proved: readonly string[];
}

/** Drills that are kept. */
const DRILLS_KEPT = 50;
const READS_IN_FLIGHT = 4;

/** Stores the document, and lets go of the oldest. Throws what the store throws. */
export async function putDrill(archive: Archive, drill: Drill, options: RequestOptions = {}): Promise<void> {
  const { promisedLsn, reachedLsn, backup, timeline, lastCommitAt, restoreSeconds, recoverySeconds, ...rest } = drill;
  const lsn = (value: Lsn | undefined): string | null => (value === undefined ? null : formatLsn(value));
  const document = encodeDocument({
    ...rest,
    backup: backup ?? null,
    timeline: timeline ?? null,
    lastCommitAt: lastCommitAt ?? null,
    promisedLsn: lsn(promisedLsn),
    reachedLsn: lsn(reachedLsn),
    restoreSeconds: restoreSeconds ?? null,
    recoverySeconds: recoverySeconds ?? null,
  });
  await putPlainOnce(archive.store, drillKey(archive.cluster, drill.id), document, options);
  await afterStoring(() => removeOld(archive, startOf(drill.id), options));
}

async function removeOld(archive: Archive, now: Date, options: RequestOptions): Promise<void> {
  const ids = oldestFirst(await recordIds(archive, drillsPrefix(archive.cluster), options), now);
  const old = ids.slice(0, -DRILLS_KEPT).reverse();
  if (old.length === 0) return;
  const shown = async (id: string): Promise<readonly string[]> =>
    showing(await ifReadable(readDrill(archive, id, options)));
  const kept = ids.slice(-DRILLS_KEPT).reverse();
  const shownLater = new Set<string>();
  const gone: string[] = [];
  for (const id of old) {
    const facts = await shown(id);
    const isNews = (): boolean => facts.some((fact) => !shownLater.has(fact));
    // As few of the newer ones are read as show it all.
    while (isNews()) {
      const later = kept.shift();
      if (later === undefined) break;
      for (const fact of await shown(later)) shownLater.add(fact);
    }
    if (!isNews()) gone.push(drillKey(archive.cluster, id));
    for (const fact of facts) shownLater.add(fact);
  }
  if (gone.length > 0) await archive.store.delete(gone, options);
}

const PASSED = "passed";

/** The facts for which a drill is kept while no later one shows them. One that cannot be read shows none. */
function showing(drill: Drill | undefined): readonly string[] {
  return drill?.ok === true ? [PASSED, ...drill.proved] : [];
}

/**
 * The newest drill that can be read; undefined without one. One dated ahead of `now` only when there is no other. Throws what
 * the store throws.
 */
export async function lastDrill(archive: Archive, now: Date, options: RequestOptions = {}): Promise<Drill | undefined> {
  const ids = oldestFirst(await recordIds(archive, drillsPrefix(archive.cluster), options), now);
  for (const id of ids.reverse()) {
    const drill = await ifReadable(readDrill(archive, id, options));
    if (drill !== undefined) return drill;
  }
  return undefined;
}

/**
 * When a drill last proved that an identity of one of these recipients opens a backup. ISO 8601; undefined when none did. Throws
 * what the store throws.
 */
export async function lastProof(
  archive: Archive,
  now: Date,
  to: readonly string[],
  options: RequestOptions = {},
): Promise<string | undefined> {
  const ids = oldestFirst(await recordIds(archive, drillsPrefix(archive.cluster), options), now);
  for (const id of ids.reverse()) {
    const drill = await ifReadable(readDrill(archive, id, options));
    if (drill?.ok === true && drill.proved.some((name) => to.includes(name))) return drill.finishedAt;
  }
  return undefined;
}

/**
 * The newest drills that can be read, oldest first, at most `count`; those dated ahead of `now` only when there are too few
 * others. Throws what the store throws.
 */
export async function recentDrills(
  archive: Archive,
  now: Date,
  count: number,
  options: RequestOptions = {},
): Promise<Drill[]> {
  const ids = oldestFirst(await recordIds(archive, drillsPrefix(archive.cluster), options), now).slice(-count);
  const read = await mapBounded(ids, READS_IN_FLIGHT, (id) => ifReadable(readDrill(archive, id, options)));
  return read.filter((drill) => drill !== undefined);
}

async function readDrill(archive: Archive, id: string, options: RequestOptions): Promise<Drill | undefined> {
  const key = drillKey(archive.cluster, id);
  const found = await archive.store.get(key, options);
  return found === undefined ? undefined : decodeDrill(found.body, key);
}

function decodeDrill(bytes: Uint8Array, key: string): Drill {
  const fields = decodeDocument(bytes, key);
  const unless = <T>(name: string, read: (name: string) => T): T | undefined =>
    fields.raw(name) === null ? undefined : read(name);
  return {
    id: fields.text("id"),
    startedAt: fields.time("startedAt"),
    finishedAt: fields.time("finishedAt"),
    ok: fields.boolean("ok"),
    backup: unless("backup", (name) => fields.text(name)),
    timeline: unless("timeline", (name) => fields.timeline(name)),
    promisedLsn: unless("promisedLsn", (name) => fields.lsn(name)),
    reachedLsn: unless("reachedLsn", (name) => fields.lsn(name)),
    lastCommitAt: unless("lastCommitAt", (name) => fields.text(name)),
    restoreSeconds: unless("restoreSeconds", (name) => fields.number(name)),
    recoverySeconds: unless("recoverySeconds", (name) => fields.number(name)),
    checks: fields.list("checks").map((check) => ({
      name: check.text("name"),
      outcome: check.oneOf("outcome", ["passed", "failed", "skipped"]),
      message: check.text("message"),
    })),
    proved: provedIn(fields),
  };
}

function provedIn(fields: Fields): readonly string[] {
  // Earlier versions did not write it.
  const proved = fields.raw("proved") ?? [];
  if (Array.isArray(proved) && proved.every((name) => typeof name === "string")) return proved;
  throw fields.wrong("proved");
}
