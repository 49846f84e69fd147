/**
 * Lists many folders of segments below `wal/`: neighbouring ones in one listing, so that the number of requests is that
 * of its pages. Keys where no restore would look are passed over.
 */
import { throwIfAborted } from "../../store/signal.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { SegmentNumber, TimelineId } from "../../wal/lsn.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { parseWalKey, timelineFolders, timelinePrefix, walFolderNames, walPrefix } from "../keys.ts";

/** An object of one segment, as listed. */
export interface ListedWal {
  readonly segment: SegmentNumber;
  readonly bytes: number;
  readonly modifiedAtMs: number;
}

/** One folder of segments: 4 GiB of WAL, whatever the size of a segment. */
export interface WalFolder {
  readonly timeline: TimelineId;
  /** Its key prefix. */
  readonly prefix: string;
  /** Ascending. */
  readonly segments: readonly ListedWal[];
  readonly partials: readonly ListedWal[];
}

/** A timeline that has a folder below `wal/`. */
export interface ListedTimeline {
  readonly timeline: TimelineId;
  /** The segment with which the newest two of its folders begin; 0 without a folder of segments. */
  readonly newestFrom: SegmentNumber;
}

/** The part of `wal/` above the segments. */
export interface ListedTimelines {
  /** Timelines with a folder, ascending. */
  readonly timelines: readonly TimelineId[];
  /** Timelines with a history file, ascending. */
  readonly histories: readonly TimelineId[];
}

export interface WalkOptions extends RequestOptions {
  /** Lists under way at once; each holds one page of the store's listing and one folder. */
  readonly listsInFlight?: number | undefined;
}

const LISTS_IN_FLIGHT = 16;
const PREFIXES_IN_FLIGHT = 8;
/** Keys that one walk through neighbouring folders is meant to pass: some pages of a bucket's listing, so few are read in vain. */
const KEYS_PER_WALK = 8192;
/** WAL in a folder of segments, whatever their size (PostgreSQL: xlog_internal.h, XLogSegmentsPerXLogId). */
export const FOLDER_BYTES = 2 ** 32;

/**
 * Lists every folder of segments and hands each to `visit`; several are visited at the same time, in no order, and a list
 * is not read on before its visit has ended. Resolves with the timelines that have a folder, ascending, and with those that have
 * a history file.
 */
export async function walkWal(
  archive: Archive,
  visit: (folder: WalFolder) => void | Promise<void>,
  options: WalkOptions = {},
): Promise<{ readonly timelines: ListedTimeline[]; readonly histories: readonly TimelineId[] }> {
  const { listsInFlight = LISTS_IN_FLIGHT, signal } = options;
  const { timelines, histories } = await listTimelines(archive, { signal });
  const perTimeline = await mapBounded(timelines, PREFIXES_IN_FLIGHT, async (timeline) => {
    const prefix = timelinePrefix(archive.cluster, timeline);
    const names = walFolderNames(prefix, await archive.store.listPrefixes(prefix, { signal }));
    return { timeline, names, folders: names.map((name) => `${prefix}${name}/`) };
  });
  const segmentsPerFolder = FOLDER_BYTES / archive.identity.segmentSize;
  const foldersPerWalk = Math.max(1, Math.floor(KEYS_PER_WALK / segmentsPerFolder));
  const walks = perTimeline.flatMap(({ timeline, folders }) => {
    const starts = Array.from({ length: Math.ceil(folders.length / foldersPerWalk) }, (_, i) => i * foldersPerWalk);
    return starts.map((start) => ({ timeline, folders: folders.slice(start, start + foldersPerWalk) }));
  });
  await mapBounded(walks, listsInFlight, ({ timeline, folders }) =>
    walkFolders(archive, timeline, folders, visit, { signal }),
  );
  const listed = perTimeline.map(({ timeline, names }) => {
    const [oldest = "0"] = newestNames(names);
    const newestFrom = (Number.parseInt(oldest, 16) * segmentsPerFolder) as SegmentNumber;
    return { timeline, newestFrom };
  });
  return { timelines: listed, histories };
}

/**
 * The newest two of a timeline's folders, which are ascending: two, so that a hole left by parallel seals at a folder border is
 * seen. A hole in them counts as WAL that is still to be stored, so a deletion must leave none there.
 */
export function newestNames(names: readonly string[]): readonly string[] {
  return names.slice(-2);
}

/** Lists the timelines in one request, without their segments. */
export async function listTimelines(archive: Archive, { signal }: RequestOptions = {}): Promise<ListedTimelines> {
  const prefix = walPrefix(archive.cluster);
  const below = await archive.store.listPrefixes(prefix, { signal, objects: true });
  const files = below.filter((name) => !name.endsWith("/"));
  const histories = files.flatMap((key) => {
    const found = parseWalKey(key, archive.identity.segmentSize);
    return found?.kind === "history" ? [found.timeline] : [];
  });
  const folders = below.filter((name) => name.endsWith("/"));
  return { timelines: timelineFolders(prefix, folders), histories };
}

/** One listing through neighbouring folders, which are ascending. */
async function walkFolders(
  archive: Archive,
  timeline: TimelineId,
  folders: readonly string[],
  visit: (folder: WalFolder) => void | Promise<void>,
  options: RequestOptions,
): Promise<void> {
  const { store, cluster } = archive;
  const [first] = folders;
  const end = folders.at(-1);
  if (first === undefined || end === undefined) return;
  const root = timelinePrefix(cluster, timeline);
  let open: { prefix: string; segments: ListedWal[]; partials: ListedWal[] } | undefined;
  for await (const page of store.listPages(root, { ...options, startAfter: first })) {
    for (const { key, bytes, modifiedAt } of page) {
      const slash = key.indexOf("/", root.length);
      if (slash < 0) continue;
      if (open === undefined || slash + 1 !== open.prefix.length || !key.startsWith(open.prefix)) {
        if (open !== undefined) await visit({ timeline, ...open });
        throwIfAborted(options.signal);
        open = undefined;
        // Put together anew: a slice of the key would keep all of the page alive that the key was read from, for as long as
        // the folder is known.
        const prefix = `${root}${key.slice(root.length, slash + 1)}`;
        if (prefix > end) return;
        if (walFolderNames(root, [prefix]).length === 0) continue;
        open = { prefix, segments: [], partials: [] };
      }
      const found = parseOwnKey(archive, timeline, key);
      if (found === undefined) continue;
      const listed = { segment: found.segment, bytes, modifiedAtMs: modifiedAt.getTime() };
      (found.kind === "segment" ? open.segments : open.partials).push(listed);
    }
  }
  if (open !== undefined) await visit({ timeline, ...open });
  throwIfAborted(options.signal);
}

/** One folder as it is now. */
export async function listFolder(
  archive: Archive,
  folder: Pick<WalFolder, "timeline" | "prefix">,
  options: RequestOptions = {},
): Promise<WalFolder> {
  const { timeline, prefix } = folder;
  let listed: WalFolder = { timeline, prefix, segments: [], partials: [] };
  await walkFolders(archive, timeline, [prefix], (found) => void (listed = found), options);
  return listed;
}

function parseOwnKey(
  { identity }: Archive,
  timeline: TimelineId,
  key: string,
): { readonly kind: "segment" | "partial"; readonly segment: SegmentNumber } | undefined {
  const found = parseWalKey(key, identity.segmentSize);
  return found === undefined || found.kind === "history" || found.timeline !== timeline ? undefined : found;
}
