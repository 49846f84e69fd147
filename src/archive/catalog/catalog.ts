/**
 * The catalog: the backups and WAL of an archive, and the points that they lead to, from the store alone. Backups are
 * listed before WAL, so that the WAL of a finished backup is always seen. The WAL is listed once, each folder in one listing:
 * inventory, tip and windows come from the same one.
 */
import type { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { formatLsn, type Lsn, segmentOf, segmentStart, type TimelineId } from "../../wal/lsn.ts";
import { formatPgTime } from "../../wal/record-facts.ts";
import type { Archive } from "../archive.ts";
import type { BackupDocument } from "../backups/document.ts";
import { type BackupListing, listBackups } from "../backups/list.ts";
import { mapBounded, sideBySide } from "../bounded.ts";
import { damageOf, unlessLocked } from "../damage.ts";
import { findOpenHole } from "../wal/holes.ts";
import { segmentKey } from "../keys.ts";
import { type LineClaim, readClaims } from "../line/claims.ts";
import { listPins, type Pin } from "../backups/pins.ts";
import { type Tip, tipIn } from "../wal/tip.ts";
import { COMMIT_LOOK_BACK_MAX, commitTimesIn } from "../wal/commits.ts";
import { hasKnownRecords } from "../wal/known-records.ts";
import { readableEnd } from "../wal/reach.ts";
import { type InventoryOptions, listWal, type WalInventory, type WalListing } from "../wal/inventory.ts";
import {
  breakBarrier,
  cutPath,
  firstBarrier,
  itemBefore,
  itemsBack,
  type PathBarrier,
  type WalItem,
  type WalPath,
} from "../wal/path.ts";
import type { ListedChunks } from "../wal/tail.ts";
import { EndReads } from "./end-reads.ts";
import { type Cover, commitText, coverOf, type GapPlace, type KnownCommit, lastCommitBefore } from "./cover.ts";
import type { SettledEnds } from "./settled-ends.ts";
import {
  type BorderItem,
  borderItems,
  itemKey,
  pathsOf,
  reachOf,
  type RecoveryWindow,
  type WalEnd,
  windowsOf,
} from "./windows.ts";

export interface CatalogGap extends PathBarrier {
  /** For recorded ones: the backup that made it history. */
  readonly coveredBy?: Cover;
}

export interface Catalog {
  /** Oldest first. */
  readonly backups: readonly BackupDocument[];
  readonly leftovers: BackupListing["leftovers"];
  readonly damagedBackups: BackupListing["damaged"];
  /** With the pins that have run out. */
  readonly pins: readonly Pin[];
  readonly inventory: WalInventory;
  /** To the end of each timeline that has WAL. */
  readonly paths: readonly WalPath[];
  /** Facts on the items that windows end with. */
  readonly ends: ReadonlyMap<string, WalEnd>;
  readonly windows: readonly RecoveryWindow[];
  /** Recorded gaps and breaks, and holes that no document names; each once, by LSN. */
  readonly gaps: readonly CatalogGap[];
  /** The newest claim of the line; undefined for an archive without claims, and when they cannot be read. */
  readonly claim: LineClaim | undefined;
  /** Undefined for an archive without WAL, and when what leads to it is damaged. */
  readonly tip: Tip | undefined;
  /** Documents and WAL that the catalog had to read and could not. */
  readonly damaged: WalInventory["damaged"];
}

/** The last ones, where WAL comes in. */
const HOLES_LOOKED_AT = 64;
const LISTINGS_MAX = 3;
/** Memory for segments that have to be read because they do not say when they were committed. */
const READ_BYTES_MAX = 64 << 20;
const ENDS_IN_FLIGHT = 8;
/** Segments without a summary that are read for one settled end. */
const SETTLED_READS_MAX = 2;

export interface CatalogOptions extends InventoryOptions {
  /** Reads no WAL, and so no more than a few megabytes: the last commit of an end may then be one of an earlier segment. */
  readonly summariesOnly?: boolean | undefined;
  /** With `summariesOnly`: ends that do not move any more are read all the same, once each. */
  readonly settledEnds?: SettledEnds | undefined;
  /** The archive is an older generation: no WAL arrives, so its end does not move either. */
  readonly isEnded?: boolean | undefined;
}

/** Throws what the store throws. */
export async function readCatalog(archive: Archive, options: CatalogOptions = {}): Promise<Catalog> {
  const request = { signal: options.signal };
  // The claims, too, are read before the WAL is listed: what leads to a claimed timeline is in the listing.
  const [listed, pins, claimed] = await sideBySide(
    [
      (signal) => listBackups(archive, { signal }),
      (signal) => listPins(archive, { signal }),
      (signal) => attempt(readClaims(archive, { signal })),
    ],
    request,
  );
  const { backups, leftovers, damaged: damagedBackups } = listed;
  const claim = claimed.value?.at(-1);
  const { listing, complete } = await readSettled(archive, backups, options);
  const { inventory } = listing;
  const damaged = [...inventory.damaged];
  const note = (key: string, error: unknown): void => void damaged.push({ key, error: damageOf(error) });
  const located = await attempt(claimed.value && tipIn(archive, claimed.value, listing, request));
  const paths = await mapBounded(complete, ENDS_IN_FLIGHT, (path) => endAtOpenHole(archive, path, note, request));
  const { summariesOnly, settledEnds, isEnded } = options;
  const timeline = isEnded === true ? undefined : (claim?.timeline ?? located.value?.timeline);
  const reads = new EndReads(archive, listing, request);
  const [ends, read] = await sideBySide(
    [
      (signal) => readEnds(archive, { paths, backups, note, timeline, reads }, { signal, summariesOnly, settledEnds }),
      () => attempt(located.value && tipAt(located.value, reads)),
    ],
    request,
  );
  const tip = read.value;
  for (const { damage } of [claimed, located, read]) if (damage !== undefined) note("the tip", damage);
  return {
    backups,
    leftovers,
    damagedBackups,
    pins,
    inventory,
    paths,
    ends,
    claim,
    tip,
    windows: windowsOf(paths, backups, ends),
    gaps: withCovers(gapsOf(inventory, paths), { paths, backups, ends, claim, tip }),
    damaged,
  };
}

/** Gives what was read, or the damage that it met. */
async function attempt<T>(
  reading: Promise<T> | undefined,
): Promise<{ readonly value?: T | undefined; readonly damage?: SeawallError }> {
  try {
    return { value: await reading };
  } catch (error) {
    return { damage: damageOf(error) };
  }
}

async function tipAt(place: Omit<Tip, "lsn">, reads: EndReads): Promise<Tip> {
  return { ...place, lsn: await reads.tipLsn(place) };
}

/** A listing takes a while, and segments are sealed meanwhile: what is seen behind one that came too late is no hole. */
async function readSettled(
  archive: Archive,
  backups: readonly BackupDocument[],
  options: InventoryOptions,
): Promise<{ readonly listing: WalListing; readonly complete: readonly WalPath[] }> {
  const { segmentSize } = archive.identity;
  for (let listings = 1; ; listings++) {
    const listing = await listWal(archive, options);
    const { inventory } = listing;
    const complete = pathsOf(inventory, backups, segmentSize);
    const holes = gapsOf(inventory, complete).filter(({ isRecorded }) => !isRecorded);
    const appeared = await mapBounded(holes.slice(-HOLES_LOOKED_AT), ENDS_IN_FLIGHT, async ({ timeline, fromLsn }) => {
      const place = { timeline, segment: segmentOf(fromLsn, segmentSize), segmentSize };
      const found = await archive.store.head(segmentKey(archive.cluster, place), { signal: options.signal });
      return found !== undefined;
    });
    if (!appeared.includes(true) || listings === LISTINGS_MAX) return { listing, complete };
  }
}

/** Ends a path before WAL that was on its way when the receiver ended: nothing behind it was acknowledged. */
async function endAtOpenHole(archive: Archive, path: WalPath, note: Note, options: RequestOptions): Promise<WalPath> {
  try {
    const hole = await findOpenHole(archive, path, options);
    return hole === undefined ? path : cutPath(path, hole);
  } catch (error) {
    note(`timeline ${path.history.timeline}`, error);
    return path;
  }
}

type Note = (key: string, error: unknown) => void;
type EndOptions = RequestOptions & Pick<CatalogOptions, "summariesOnly" | "settledEnds">;

async function readEnds(
  archive: Archive,
  input: {
    readonly paths: readonly WalPath[];
    readonly backups: readonly BackupDocument[];
    readonly note: Note;
    /** The one that the archive follows: the end of its WAL moves on. Undefined: no end moves. */
    readonly timeline: TimelineId | undefined;
    readonly reads: EndReads;
  },
  options: EndOptions,
): Promise<Map<string, WalEnd>> {
  const { paths, backups, note, timeline, reads } = input;
  const inFlight = Math.min(ENDS_IN_FLIGHT, Math.max(1, Math.floor(READ_BYTES_MAX / archive.identity.segmentSize)));
  const wanted = new Map<string, { readonly path: WalPath; readonly item: BorderItem }>();
  for (const path of paths) for (const item of borderItems(path, backups)) wanted.set(itemKey(item), { path, item });
  const growing = growingItem(paths.find(({ history }) => history.timeline === timeline));
  const read = await mapBounded([...wanted], inFlight, async ([key, { path, item }]) => {
    const end = await readEnd(archive, { path, item, note, reads, isSettled: key !== growing }, options);
    return end === undefined ? [] : [[key, end] as const];
  });
  return new Map(read.flat());
}

/** The key of the item that arriving WAL makes longer; undefined where a gap ends it. */
function growingItem(line: WalPath | undefined): string | undefined {
  const last = line === undefined ? undefined : itemBefore(line, undefined);
  if (line === undefined || last === undefined) return undefined;
  const lost = line.barriers.filter(({ isStored }) => isStored !== true);
  const isEnded = firstBarrier(lost, segmentStart(last.segment, line.segmentSize)) !== undefined;
  return isEnded ? undefined : itemKey(last);
}

/** The end of what can be read up to `item`: one that is damaged counts as not there. */
async function readEnd(
  archive: Archive,
  input: {
    readonly path: WalPath;
    readonly item: BorderItem;
    readonly note: Note;
    readonly reads: EndReads;
    readonly isSettled: boolean;
  },
  options: EndOptions,
): Promise<WalEnd | undefined> {
  const { path, item, note, reads, isSettled } = input;
  const looker = {
    endOf: (last: WalItem, before: WalItem | undefined) => reads.endOf(last, before),
    read: async (last: WalItem, verifiedLsn: Lsn): Promise<WalEnd> => {
      const limited = last.segment === item.segment ? { ...last, limit: item.limit } : last;
      let isUnread = false;
      const onLocked = (): void => void (isUnread = true);
      const at = { path, item: limited, verifiedLsn, listed: reads.listed, onLocked };
      const time = isSettled ? settledCommitAt(archive, at, options) : lastCommitAt(archive, at, options);
      const end = { verifiedLsn, lastCommitAt: await time };
      return isUnread ? { ...end, isUnread } : end;
    },
    onDamage: (last: WalItem, error: unknown): void => note(`the end of ${itemKey(last)}`, error),
  };
  return readableEnd(archive, itemsBack(path, item), looker, options);
}

interface EndPlace {
  readonly path: WalPath;
  readonly item: BorderItem;
  readonly verifiedLsn: Lsn;
  readonly listed: ListedChunks;
  /** Called for WAL on the way that is encrypted to others. */
  readonly onLocked: () => void;
}

async function settledCommitAt(archive: Archive, at: EndPlace, options: EndOptions): Promise<string | undefined> {
  const { kind, limit } = at.item;
  const { settledEnds } = options;
  const summary = (): Promise<string | undefined> => lastCommitAt(archive, at, options);
  // A sealed segment says it of itself.
  if (settledEnds === undefined || (kind === "segment" && limit === undefined)) return summary();
  return settledEnds.timeOf(`${itemKey(at.item)} ${at.verifiedLsn}`, {
    segmentSize: archive.identity.segmentSize,
    whole: () => lastCommitAt(archive, at, { ...options, readsMax: SETTLED_READS_MAX }),
    summary,
  });
}

/** `readsMax`: so many of the nearest items are read where they have no summary, also with `summariesOnly`. */
async function lastCommitAt(
  archive: Archive,
  { path, item, listed, onLocked }: EndPlace,
  { readsMax = 0, ...options }: EndOptions & { readonly readsMax?: number },
): Promise<string | undefined> {
  if (!hasKnownRecords(archive.identity)) return undefined;
  let looked = 0;
  for (const at of itemsBack(path, item)) {
    if (looked++ === COMMIT_LOOK_BACK_MAX) return undefined;
    const limit = looked === 1 ? item.limit : undefined;
    const summariesOnly = options.summariesOnly === true && looked > readsMax;
    const times = await unlessLocked(
      commitTimesIn(archive, at, { signal: options.signal, limit, summariesOnly, listed }),
    );
    // Of an encrypted tail the time is not known without an identity: an earlier commit's is given.
    if (times === "locked") onLocked();
    else if (times !== undefined) return formatPgTime(times.last);
  }
  return undefined;
}

/** The backup that covers a gap of the catalog, on the archive's line. */
export function coverIn(
  { paths, backups, ends, claim, tip }: Pick<Catalog, "paths" | "backups" | "ends" | "claim" | "tip">,
  gap: GapPlace,
): Cover | undefined {
  const line = claim?.timeline ?? tip?.timeline;
  const path = paths.find(({ history }) => history.timeline === line);
  if (path === undefined) return undefined;
  const isRestorable = (backup: BackupDocument): boolean => reachOf(path, backup, ends) !== undefined;
  return coverOf(gap, { line: path.history, backups, isRestorable });
}

/** The last commit before a gap that can be recovered; undefined when there is none. */
export function commitBefore(
  { windows, paths }: Pick<Catalog, "windows" | "paths">,
  gap: GapPlace,
): KnownCommit | undefined {
  return lastCommitBefore(gap, { windows, histories: paths.map(({ history }) => history) });
}

/** Says where a gap begins: the time of the last commit before it, or its LSN where no commit is known. */
export function gapBegins(catalog: Pick<Catalog, "windows" | "paths">, gap: GapPlace): string {
  const commit = commitBefore(catalog, gap);
  return commit === undefined ? formatLsn(gap.fromLsn) : commitText(commit);
}

/** Adds to each recorded gap the backup that covers it. Holes without a document are damage, and stay. */
function withCovers(gaps: readonly PathBarrier[], catalog: Parameters<typeof coverIn>[0]): CatalogGap[] {
  return gaps.map((gap) => {
    const coveredBy = gap.isRecorded ? coverIn(catalog, gap) : undefined;
    return coveredBy === undefined ? gap : { ...gap, coveredBy };
  });
}

function gapsOf(inventory: WalInventory, paths: readonly WalPath[]): PathBarrier[] {
  const recorded = [
    ...inventory.gaps.map((gap) => ({ ...gap, isRecorded: true })),
    ...inventory.breaks.map(breakBarrier),
  ];
  const holes = paths.flatMap(({ barriers }) => barriers.filter((barrier) => !barrier.isRecorded));
  const all: PathBarrier[] = [...recorded, ...holes].map(
    ({ timeline, fromLsn, toLsn, reason, isRecorded, ...rest }) => ({
      timeline,
      fromLsn,
      toLsn,
      reason,
      isRecorded,
      ...("isStored" in rest && rest.isStored === true ? { isStored: true } : {}),
    }),
  );
  const unique = new Map(all.map((gap) => [`${gap.timeline} ${gap.fromLsn} ${gap.toLsn}`, gap]));
  return [...unique.values()].sort((a, b) => (a.fromLsn < b.fromLsn ? -1 : a.fromLsn > b.fromLsn ? 1 : 0));
}
