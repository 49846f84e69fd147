/**
 * Runs of the routine: what the daemon did by its schedules, and what came of it. Kept in the store, so that a daemon that
 * starts on an empty machine knows what it has missed. One small document each, never changed; the newest of each job stay.
 */
import type { RequestOptions } from "../store/store.ts";
import type { Archive } from "./archive.ts";
import { decodeDocument, encodeDocument } from "./json-document.ts";
import { isBackupId, runKey, runsPrefix } from "./keys.ts";
import { putPlainOnce } from "./put-once.ts";

export interface JobRun {
  /** Like a backup's id: when it began, and random digits. */
  readonly id: string;
  readonly job: string;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly ok: boolean;
  /** Exit status of the command; null when a signal ended it. */
  readonly exit: number | null;
  /** In a line. */
  readonly message: string;
}

/** Runs of each job that are kept. */
const RUNS_KEPT = 50;

/** Stores the run, and lets go of the oldest. Throws what the store throws. */
export async function putRun(archive: Archive, run: JobRun, options: RequestOptions = {}): Promise<void> {
  const { store, cluster } = archive;
  await putPlainOnce(store, runKey(cluster, run.job, run.id), encodeDocument({ ...run }), options);
  const ids = await runIds(archive, run.job, options);
  const old = ids.slice(0, Math.max(0, ids.length - RUNS_KEPT)).map((id) => runKey(cluster, run.job, id));
  if (old.length > 0) await store.delete(old, options);
}

/** The newest run of a job; undefined without one. Throws `object-corrupt`, `archive-version` and what the store throws. */
export async function lastRun(
  archive: Archive,
  job: string,
  options: RequestOptions = {},
): Promise<JobRun | undefined> {
  const id = (await runIds(archive, job, options)).at(-1);
  if (id === undefined) return undefined;
  const key = runKey(archive.cluster, job, id);
  const found = await archive.store.get(key, options);
  if (found === undefined) return undefined;
  const fields = decodeDocument(found.body, key);
  return {
    id: fields.text("id"),
    job: fields.text("job"),
    startedAt: fields.time("startedAt"),
    finishedAt: fields.time("finishedAt"),
    ok: fields.boolean("ok"),
    exit: fields.raw("exit") === null ? null : fields.count("exit"),
    message: fields.text("message"),
  };
}

/** Oldest first: ids sort by time, and so do listings. */
async function runIds(archive: Archive, job: string, options: RequestOptions): Promise<string[]> {
  const prefix = runsPrefix(archive.cluster, job);
  const ids: string[] = [];
  for await (const { key } of archive.store.list(prefix, options)) {
    const id = key.slice(prefix.length).replace(/\.json$/, "");
    if (isBackupId(id)) ids.push(id);
  }
  return ids;
}
