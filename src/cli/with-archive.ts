/** Opens the archive for a command, and closes its store and its progress however the command ends. */
import { type Archive, openArchive, openFolder } from "../archive/archive.ts";
import { type Generation, readGenerations } from "../archive/generations.ts";
import { backupNamed, LATEST } from "../archive/backups/named.ts";
import { backupPrefix, isBackupId, parseGivenName } from "../archive/keys.ts";
import { Codec } from "../codec/codec.ts";
import { hasCode, SeawallError } from "../errors.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { type CommandContext, openPatientStore, requiredStore } from "./context.ts";
import { askPassphrase, identitiesOf } from "./keys.ts";
import { Progress } from "./views/progress.ts";

export interface WithArchiveOptions {
  /** The activity that the progress names: "restoring". */
  readonly verb: string;
  /** The unit that is counted, if it is not bytes. */
  readonly unit?: string;
  /** Give the store as much time as the daemon gives it. */
  readonly patient?: boolean;
  /** The passphrase of an identity may be asked for: no server is started that needs it as well. */
  readonly asks?: boolean;
  /** The backup that the command is about, as the user names it: the generation that has it is opened. */
  readonly backup?: string | undefined;
}

/** One generation of the cluster, opened. */
export interface OpenGeneration {
  readonly generation: Generation;
  readonly archive: Archive;
}

/** The generations that a command works on. */
export interface OpenGenerations {
  /** All of the cluster, oldest first; at least one. */
  readonly all: readonly OpenGeneration[];
  /** The generations that the user named: one (`main@1`), or all of them. */
  readonly named: readonly OpenGeneration[];
}

/**
 * Opens the newest generation of the cluster, the one that is named, or the one that has a certain backup. Throws
 * `archive-absent`, and what the store and `work` throw. The progress shows nothing before it begins.
 */
export async function withArchive<T>(
  context: CommandContext,
  { backup, asks, ...shown }: WithArchiveOptions,
  work: (archive: Archive, progress: Progress) => Promise<T>,
): Promise<T> {
  return withStore(context, shown, async (store, progress) => {
    const request = await openOptions(context, asks);
    const { cluster } = context.settings;
    const archive =
      backup === undefined
        ? await openArchive(store, cluster, request)
        : await openWithBackup(store, cluster, backup, request);
    return work(archive, progress);
  });
}

/** Opens all generations of the cluster. Throws as `withArchive` does. */
export async function withGenerations<T>(
  context: CommandContext,
  { asks, ...shown }: Omit<WithArchiveOptions, "backup">,
  work: (generations: OpenGenerations, progress: Progress) => Promise<T>,
): Promise<T> {
  return withStore(context, shown, async (store, progress) =>
    work(await openGenerations(store, context.settings.cluster, await openOptions(context, asks)), progress),
  );
}

type OpenOptions = RequestOptions & { readonly codec: Codec };

/** Opens with the identities that the options name. Throws `usage`. */
async function openOptions(context: CommandContext, asks = false): Promise<OpenOptions> {
  const { settings, signals } = context;
  const identities = await identitiesOf(settings, asks ? askPassphrase(context) : undefined);
  return { codec: new Codec({ identities }), signal: signals.stop };
}

async function withStore<T>(
  context: CommandContext,
  { patient = false, ...shown }: Omit<WithArchiveOptions, "backup" | "asks">,
  work: (store: Store, progress: Progress) => Promise<T>,
): Promise<T> {
  const { settings, io } = context;
  const store = await openPatientStore(context, requiredStore(context), { interactive: !patient });
  const cluster = settings.all ? settings.cluster : undefined;
  const progress = new Progress({ io, json: settings.json, cluster, ...shown, nowMs: () => Date.now() });
  try {
    return await work(store, progress);
  } finally {
    progress.end();
    await store.close();
  }
}

async function openGenerations(store: Store, name: string, options: OpenOptions): Promise<OpenGenerations> {
  const { cluster, generation: asked } = parseGivenName(name);
  const first = await openFolder(store, cluster, options);
  const request = { signal: options.signal };
  const all = (await readGenerations(store, cluster, request)).map((generation) => {
    return { generation, archive: { ...first, cluster: generation.folder, identity: generation.identity } };
  });
  const named = asked === undefined ? all : all.filter(({ generation }) => generation.number === asked);
  if (named.length > 0) return { all, named };
  throw new SeawallError("archive-absent", `there is no generation "${name}" in ${store.description}`, {
    hint: `The newest one is ${all.at(-1)?.generation.name ?? cluster}.`,
  });
}

/** Ids are unique: the newest generation is opened where none has the backup. */
async function openWithBackup(store: Store, name: string, backup: string, options: OpenOptions): Promise<Archive> {
  const newest = await openArchive(store, name, options);
  const { cluster, generation } = parseGivenName(name);
  // The first generation is the newest where there is one alone, which is the rule.
  if (generation !== undefined || newest.cluster === cluster) return newest;
  return (await findGenerationOf(await openGenerations(store, name, options), backup, options)).archive;
}

/**
 * The generation that has the backup, among those that are named, and the archives of all newer ones. `backup` is an id, a part
 * of one, or `latest`: then the newest generation with a backup. Throws `usage` for a part that fits in several generations.
 */
export async function findGenerationOf(
  { all, named }: OpenGenerations,
  backup: string,
  options: RequestOptions,
): Promise<{ readonly archive: Archive; readonly newer: readonly Archive[] }> {
  const newestFirst = named.toReversed();
  const isPart = !isBackupId(backup) && backup !== LATEST;
  const having: OpenGeneration[] = [];
  for (const one of newestFirst.length > 1 ? newestFirst : []) {
    if (having.length > 0 && !isPart) break;
    if (await hasBackup(one.archive, backup, options)) having.push(one);
  }
  if (having.length > 1) {
    const names = having.map(({ generation }) => generation.name).join(", ");
    throw new SeawallError("usage", `"${backup}" fits backups of several generations: ${names}`, {
      hint: "Write more of the id, or name the generation with --cluster.",
    });
  }
  const found = having[0] ?? newestFirst[0];
  if (found === undefined) throw new SeawallError("internal", "a cluster without a generation");
  const { number } = found.generation;
  const newer = all.filter(({ generation }) => generation.number > number).map(({ archive }) => archive);
  return { archive: found.archive, newer };
}

async function hasBackup(archive: Archive, backup: string, options: RequestOptions): Promise<boolean> {
  if (isBackupId(backup)) {
    const { store, cluster } = archive;
    for await (const _ of store.list(backupPrefix(cluster, backup), options)) return true;
    return false;
  }
  try {
    await backupNamed(archive, backup, options);
    return true;
  } catch (error) {
    if (hasCode(error, "backup-absent")) return false;
    throw error;
  }
}
