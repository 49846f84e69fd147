/**
 * Opens the archive that an import goes into. A new archive takes the identity of the source's WAL, which must
 * then come from one cluster. It begins with the first object that the import stores.
 */
import { type Archive, openFolderFor } from "../archive/archive.ts";
import { mapBounded } from "../archive/bounded.ts";
import type { ClusterIdentity } from "../archive/documents.ts";
import { type LineClaim, readClaims } from "../archive/line/claims.ts";
import { locateTip } from "../archive/wal/tip.ts";
import type { Codec } from "../codec/codec.ts";
import { SeawallError } from "../errors.ts";
import type { RequestOptions, Store } from "../store/store.ts";
import { statedIdentity } from "../wal/first-page.ts";
import { LONG_HEADER_SIZE } from "../wal/format.ts";
import { isValidSegmentSize } from "../wal/lsn.ts";
import { readFront, RefusedFile } from "./content.ts";
import { readSourceName } from "./file-name.ts";
import { withFirstWrite } from "./first-write.ts";
import { type ChosenGeneration, chooseGeneration } from "./generation.ts";
import { type ImportSource, pathOf, type SourceFile } from "./source.ts";
import type { Survey } from "./survey.ts";
import { counted } from "../plural.ts";

const READS_IN_FLIGHT = 8;
/** The largest segment. */
export const SEGMENT_BYTES_MAX = 1 << 30;

export interface TargetOptions extends RequestOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly codec: Codec;
  /** Nothing is written. */
  readonly isDry: boolean;
  /** Chooses one of several clusters whose WAL lies in the source, for a new archive. */
  readonly systemIdentifier: bigint | undefined;
  /** The identity of a new archive, where the caller knows it: the source is not asked. */
  readonly identity?: ClusterIdentity | undefined;
  readonly now: () => Date;
}

export interface Target {
  readonly archive: Archive;
  readonly chosen: ChosenGeneration;
}

/** Throws `import-source` where the source does not say whose WAL it holds, `foreign-cluster`, and what the store throws. */
export async function openTarget(source: ImportSource, survey: Survey, options: TargetOptions): Promise<Target> {
  const { store, codec, cluster, signal, isDry, systemIdentifier } = options;
  const identify = async (): Promise<bigint | undefined> =>
    systemIdentifier ?? (await soleIdentifier(source, survey, options));
  const chosen = await chooseGeneration(store, cluster, identify, { signal });
  const { folder, identity: stored } = chosen;
  if (stored !== undefined && systemIdentifier !== undefined && stored.systemIdentifier !== systemIdentifier) {
    throw new SeawallError(
      "foreign-cluster",
      `the archive "${folder}" belongs to system identifier ${stored.systemIdentifier}, not to ${systemIdentifier}`,
      { hint: "Import this WAL under another --cluster, or into another --store." },
    );
  }
  const identity = stored ?? options.identity ?? (await identityOfSource(source, survey, options));
  const open = (): Promise<unknown> => openFolderFor(store, folder, identity, { codec, signal });
  return {
    archive: { store: isDry ? store : withFirstWrite(store, open), cluster: folder, identity, codec },
    chosen,
  };
}

/**
 * Reads the first and the last segment of each timeline, and gives their system identifier when it is one. It tells which
 * generation the source belongs to.
 */
async function soleIdentifier(
  source: ImportSource,
  survey: Survey,
  { signal, now }: TargetOptions,
): Promise<bigint | undefined> {
  const found = new Set<bigint>();
  for (const files of survey.segments.values()) {
    const whole = files.filter(({ name }) => readSourceName(name)?.kind === "segment");
    for (const file of new Set([whole.at(0), whole.at(-1)])) {
      if (file === undefined) continue;
      const identity = await identityOf(source, file, { signal, createdAt: now().toISOString() });
      if (identity !== undefined) found.add(identity.systemIdentifier);
    }
  }
  const [only] = found;
  return found.size === 1 ? only : undefined;
}

/** Reads the first page of every segment: two clusters in one folder must not become one archive. */
async function identityOfSource(
  source: ImportSource,
  survey: Survey,
  { signal, systemIdentifier, now }: TargetOptions,
): Promise<ClusterIdentity> {
  const files = [...survey.segments.values()].flat().filter(({ name }) => readSourceName(name)?.kind === "segment");
  const found = new Map<string, { readonly identity: ClusterIdentity; files: number }>();
  const createdAt = now().toISOString();
  await mapBounded(files, READS_IN_FLIGHT, async (file) => {
    const identity = await identityOf(source, file, { signal, createdAt });
    if (identity === undefined) return;
    const key = `${identity.systemIdentifier} ${identity.segmentSize}`;
    const other = found.get(key);
    if (other === undefined) found.set(key, { identity, files: 1 });
    else other.files++;
  });
  const all = [...found.values()];
  const wanted = all.filter(
    ({ identity }) => systemIdentifier === undefined || identity.systemIdentifier === systemIdentifier,
  );
  // A cluster whose segment size was changed, or a damaged header: the size of most files counts, and the others are refused.
  const [only] = wanted.sort((a, b) => b.files - a.files);
  const isOne = wanted.every(({ identity }) => identity.systemIdentifier === only?.identity.systemIdentifier);
  if (only !== undefined && isOne) return only.identity;
  const names = all.map(
    ({ identity, files: count }) =>
      `${identity.systemIdentifier} (${counted(count, "file")}, segments of ${identity.segmentSize} bytes)`,
  );
  if (only === undefined) {
    const has = names.length === 0 ? "no segment that can be read" : `WAL of system identifier ${names.join(", ")}`;
    throw new SeawallError("import-source", `${source.description} holds ${has}`, {
      hint: "A new archive needs at least one whole segment of its cluster.",
    });
  }
  throw new SeawallError("import-source", `${source.description} holds WAL of several clusters: ${names.join(", ")}`, {
    hint: "Choose one with --system-identifier, and import the others under another --cluster.",
  });
}

async function identityOf(
  source: ImportSource,
  file: SourceFile,
  { signal, createdAt }: RequestOptions & { readonly createdAt: string },
): Promise<ClusterIdentity | undefined> {
  let head: Buffer;
  try {
    head = await readFront(source, file, LONG_HEADER_SIZE, { bytesMax: SEGMENT_BYTES_MAX, signal });
  } catch (error) {
    // Named with its reason when its turn comes.
    if (error instanceof RefusedFile) return undefined;
    throw error;
  }
  const stated = statedIdentity(head);
  if (typeof stated === "string" || !isValidSegmentSize(stated.segmentSize)) return undefined;
  const { systemIdentifier, segmentSize, majorVersion: pgMajor } = stated;
  if (pgMajor === undefined) {
    throw new SeawallError("wal-version", `${pathOf(file)} is of a PostgreSQL newer than this Seawall knows`);
  }
  return { systemIdentifier, segmentSize, pgMajor, createdAt };
}

/**
 * The claims of the archive's line. A receiver that has claimed the line and stored nothing yet would take imported WAL for
 * its own beginning. Throws the retryable `import-early` then.
 */
export async function readLineFor(archive: Archive, options: RequestOptions): Promise<readonly LineClaim[]> {
  const claims = await readClaims(archive, options);
  if (claims.length > 0 && (await locateTip(archive, options)) === undefined) {
    throw new SeawallError(
      "import-early",
      `a receiver has claimed the archive "${archive.cluster}" and has not stored any WAL yet`,
    );
  }
  return claims;
}
