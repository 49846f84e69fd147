/** Opens the archive for a command, and closes its store and its progress however the command ends. */
import { type Archive, openArchive } from "../archive/archive.ts";
import { type CommandContext, openPatientStore, requiredStore } from "./context.ts";
import { Progress } from "./views/progress.ts";

export interface WithArchiveOptions {
  /** The activity that the progress names: "restoring". */
  readonly verb: string;
  /** The unit that is counted, if it is not bytes. */
  readonly unit?: string;
  /** Give the store as much time as the daemon gives it. */
  readonly patient?: boolean;
}

/** Throws `archive-absent`, and what the store and `work` throw. The progress shows nothing before it begins. */
export async function withArchive<T>(
  context: CommandContext,
  { patient = false, ...shown }: WithArchiveOptions,
  work: (archive: Archive, progress: Progress) => Promise<T>,
): Promise<T> {
  const { settings, signals, io } = context;
  const store = await openPatientStore(context, requiredStore(context), { interactive: !patient });
  const cluster = settings.all ? settings.cluster : undefined;
  const progress = new Progress({ io, json: settings.json, cluster, ...shown, nowMs: () => Date.now() });
  try {
    return await work(await openArchive(store, settings.cluster, { signal: signals.stop }), progress);
  } finally {
    progress.end();
    await store.close();
  }
}
