/**
 * Chooses the generation of a cluster into which an import goes. An import brings history and no server, so it may go into a
 * generation that has ended, up to the end that was declared for it.
 */
import { undeclared } from "../archive/archive.ts";
import type { ClusterIdentity } from "../archive/documents.ts";
import { type Generation, type GenerationEnd, readGenerations } from "../archive/generations.ts";
import { generationFolder, parseGivenName } from "../archive/keys.ts";
import type { RequestOptions, Store } from "../store/store.ts";

export interface ChosenGeneration {
  readonly folder: string;
  /** Undefined for an archive that is not there yet. */
  readonly identity: ClusterIdentity | undefined;
  /** Set for a generation that another one has followed. */
  readonly ended: EndedGeneration | undefined;
  /** All generations of the cluster, oldest first. */
  readonly generations: readonly Generation[];
}

export interface EndedGeneration {
  /** `orders@1` */
  readonly name: string;
  /** The generation that followed: `orders@2`. */
  readonly next: string;
  /** Undefined where the archive held no WAL when the next generation was declared. */
  readonly end: GenerationEnd | undefined;
}

/**
 * Takes the generation that `name` states, else the one that `identify` finds, else the newest. Throws `archive-absent` for a
 * generation that was never declared.
 */
export async function chooseGeneration(
  store: Store,
  name: string,
  identify: () => bigint | undefined | Promise<bigint | undefined>,
  options: RequestOptions,
): Promise<ChosenGeneration> {
  const { cluster, generation } = parseGivenName(name);
  const generations = await readGenerations(store, cluster, options);
  if (generations.length === 0 && (generation ?? 1) === 1) {
    return { folder: generationFolder(cluster, 1), identity: undefined, ended: undefined, generations };
  }
  const index =
    generation === undefined
      ? await indexOf(generations, identify)
      : generations.findIndex(({ number }) => number === generation);
  const chosen = generations[index];
  if (chosen === undefined) throw undeclared(store, name, cluster);
  const next = generations[index + 1];
  const ended = next && { name: chosen.name, next: next.name, end: next.declared?.before };
  return { folder: chosen.folder, identity: chosen.identity, ended, generations };
}

async function indexOf(
  generations: readonly Generation[],
  identify: () => bigint | undefined | Promise<bigint | undefined>,
): Promise<number> {
  const newest = generations.length - 1;
  if (newest === 0) return newest;
  const wanted = await identify();
  const index = generations.findIndex(({ identity }) => identity.systemIdentifier === wanted);
  return index < 0 ? newest : index;
}

/** The generation with this system identifier, as advice for WAL that another generation refuses; empty for none. Pure. */
export function otherGeneration(generations: readonly Generation[], systemIdentifier: bigint): string {
  const other = generations.find(({ identity }) => identity.systemIdentifier === systemIdentifier);
  return other === undefined ? "" : `; it belongs to ${other.name}: import it with --cluster ${other.name}`;
}
