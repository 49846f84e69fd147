/**
 * The results of the daemon's scheduled jobs. The store keeps them, so that a daemon on an empty machine knows which
 * runs it missed. Each is one small document that never changes; the newest of each job stay.
 */
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { startOf } from "../backups/list.ts";
import { readEncryption } from "../encryption.ts";
import { decodeDocument, encodeDocument } from "../json-document.ts";
import { runKey, runsPrefix } from "../keys.ts";
import { putPlainOnce } from "../put-once.ts";
import { ifReadable } from "../damage.ts";
import { afterStoring, oldestFirst, recordIds } from "./records.ts";

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
  const document = encodeDocument({ ...(await storableRun(archive, run, options)) });
  await putPlainOnce(store, runKey(cluster, run.job, run.id), document, options);
  await afterStoring(async () => {
    const ids = oldestFirst(await recordIds(archive, runsPrefix(cluster, run.job), options), startOf(run.id));
    const old = ids.slice(0, -RUNS_KEPT).map((id) => runKey(cluster, run.job, id));
    if (old.length > 0) await store.delete(old, options);
  });
}

/** The run as it may be stored: a failed drill's message quotes an answer of the database, and goes into no encrypted archive. */
async function storableRun({ store, cluster }: Archive, run: JobRun, options: RequestOptions): Promise<JobRun> {
  if (run.job !== "drill" || run.ok || (await readEncryption(store, cluster, options)) === undefined) return run;
  return { ...run, message: "the message is not stored, as the archive is encrypted; the log has it" };
}

/**
 * The newest run of a job that can be read; undefined without one. One dated ahead of `now` only when there is no other.
 * Throws what the store throws.
 */
export async function lastRun(
  archive: Archive,
  job: string,
  now: Date,
  options: RequestOptions = {},
): Promise<JobRun | undefined> {
  const ids = oldestFirst(await recordIds(archive, runsPrefix(archive.cluster, job), options), now);
  for (const id of ids.reverse()) {
    const run = await ifReadable(readRun(archive, runKey(archive.cluster, job, id), options));
    if (run !== undefined) return run;
  }
  return undefined;
}

async function readRun(archive: Archive, key: string, options: RequestOptions): Promise<JobRun | undefined> {
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
