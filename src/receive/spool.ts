/**
 * `--durability spool`: WAL is acknowledged when it is in a journal on a local disk (journal/), and uploaded behind it. Two
 * receivers run at once. The front receives from the server into the journal; the back receives from the journal into the
 * store. This file prepares the journal at the start and runs both.
 *
 * The store stays the truth (promise 3): an empty journal begins where the store ends, and one that lags behind it (this machine
 * was away while another one received) is uploaded and begun anew. Only while the store cannot be reached, or refuses, does a
 * journal that holds WAL go on by itself.
 */
import { type Archive, openFolder } from "../archive/archive.ts";
import type { ClusterIdentity } from "../archive/documents.ts";
import { type Tip, findTip } from "../archive/wal/tip.ts";
import { Codec } from "../codec/codec.ts";
import { sharedOrOwn } from "../codec/pool.ts";
import { hasCode, SeawallError } from "../errors.ts";
import { deadline, joinSignals, onAbort } from "../signals.ts";
import { Outage } from "../outage.ts";
import { FileStore } from "../store/file/store.ts";
import { observed } from "../store/observe.ts";
import { waitFor } from "../store/signal.ts";
import { BackState, shipJournal } from "./journal/back.ts";
import { FileDisk, type JournalDisk } from "./journal/disk.ts";
import { isBehind } from "./journal/document.ts";
import { admitToJournal } from "./journal/front.ts";
import { Journal } from "./journal/journal.ts";
import { storeLeftover } from "./journal/leftover.ts";
import { loadPerProcessor } from "./machine-load.ts";
import { limitsBehindJournal } from "./memory.ts";
import { replaceOldSpool } from "./old-spool.ts";
import type { ReceiverOptions } from "./options.ts";
import { persist } from "./persist.ts";
import { findSpoolFolder, type SpoolFolder } from "./spool-folder.ts";
import { lockSpool } from "./spool-lock.ts";
import type { DiskSpace } from "./spool-room.ts";
import { StoreBehind } from "./store-behind.ts";
import { delaysUpload } from "./upload-failures.ts";
import { joinServer, runReceiver } from "./walreceiver.ts";

export interface SpoolOptions {
  /** Absolute path; the directory exists. */
  readonly directory: string;
  /** At this size the receiver stops reading until the store has taken some. */
  readonly spoolBytesMax: number;
  /** Asks the spool's disk; absent where it is no limit. */
  readonly diskSpace?: (() => Promise<DiskSpace>) | undefined;
  /** How long new WAL of the open segment may stay in the spool only. */
  readonly uploadIntervalMs: number;
  /** Opens a folder of the spool; the file system's by default. */
  readonly openDisk?: (folder: string) => JournalDisk;
}

/** Runs front and back; ends when the front ends, or with the back's failure. */
export async function runSpooledReceiver(given: ReceiverOptions, spool: SpoolOptions): Promise<void> {
  const { stop, kill } = given;
  using either = joinSignals(stop, kill);
  const { compressLevel: level, recipients } = given;
  const codec = new Codec({
    level,
    load: loadPerProcessor,
    recipients,
    ...sharedOrOwn(given.codecPool, { threads: 1 }),
  });
  try {
    const place = await findPlace(given, spool);
    const { directory } = spool;
    await using _lock = await lockSpool({ directory, folder: place.folder, log: given.log, signal: either.signal });
    const journal = await openJournal(given, spool, { place, codec, signal: either.signal });
    try {
      const options = { ...given, cluster: place.folder };
      const behind = storeBehind(options, journal, codec);
      await prepareJournal(journal, behind, { ...options, asking: place.asking, codec });
      await runEnds(options, spool, { journal, behind });
    } finally {
      await journal.close();
    }
  } finally {
    await codec.close();
  }
}

async function findPlace(given: ReceiverOptions, { directory }: SpoolOptions): Promise<SpoolFolder> {
  const files = new FileStore(directory);
  try {
    return await findSpoolFolder(files, given);
  } finally {
    await files.close();
  }
}

async function openJournal(
  { store, log, state }: ReceiverOptions,
  { directory, openDisk }: SpoolOptions,
  { place, codec, signal }: { readonly place: SpoolFolder; readonly codec: Codec; readonly signal: AbortSignal },
): Promise<Journal> {
  const files = new FileStore(directory);
  try {
    const onFailure = (error: unknown): void => state.uploadFailed(error);
    await replaceOldSpool({ spool: files, store, cluster: place.folder, codec, log, onFailure }, signal);
    const disk = openDisk?.(place.folder) ?? new FileDisk(directory, place.folder);
    return await Journal.open(disk);
  } finally {
    await files.close();
  }
}

function storeBehind({ store, cluster }: ReceiverOptions, journal: Journal, codec: Codec): StoreBehind {
  const note = {
    read: async () => Promise.resolve(journal.store),
    write: async (description: string) => journal.noteStore(description),
    name: `"store" from journal.json in ${journal.where}`,
  };
  return new StoreBehind({ store, cluster, codec, note });
}

interface Prepared {
  readonly journal: Journal;
  readonly behind: StoreBehind;
}

async function runEnds(options: ReceiverOptions, spool: SpoolOptions, { journal, behind }: Prepared): Promise<void> {
  const { cluster, log, state, kill, stop, shutdownTimeoutMs } = options;
  using stopped = stopwatch(stop);
  const [frontKill, backKill, backStop] = [new AbortController(), new AbortController(), new AbortController()];
  using _killing = onAbort(kill, () => {
    frontKill.abort(kill.reason);
    backKill.abort(kill.reason);
  });
  const { spoolBytesMax, diskSpace } = spool;
  const fullness = new Outage({ log, over: "the spool has room again" });
  const room = {
    journal,
    spoolBytesMax,
    diskSpace,
    onFull: (error: unknown) => {
      state.spoolFailed(error);
      fullness.failed({ message: "no more WAL is received: the spool is full", error });
    },
    onRoom: () => fullness.succeeded(),
  };
  const openBehind = async (identity: ClusterIdentity, signal: AbortSignal): Promise<Archive> =>
    behind.open(identity, signal);
  const front = { ...options, kill: frontKill.signal };
  const backState = new BackState(
    { cluster, synchronous: false, durability: "store", nowMs: () => state.nowMs() },
    { shown: state, journal },
  );
  const back: ReceiverOptions = {
    ...options,
    ...limitsBehindJournal(options),
    slot: undefined,
    slotBudget: undefined,
    shipIntervalMs: spool.uploadIntervalMs,
    stop: backStop.signal,
    kill: backKill.signal,
    once: false,
    log: log.child("upload"),
    onStoreFailure: (error) => state.uploadFailed(error),
  };
  state.buffersInUse = () => backState.bufferSegmentsInUse;
  state.spool = { tip: () => journal.tip, leavesAt: (timeline) => journal.leavesAt(timeline) };
  using _showing = showBytes(journal, (bytes) => (state.spoolBytes = bytes));
  let failure: { readonly error: unknown } | undefined;
  const shipping = shipJournal(back, { journal, openBehind, state: backState }).catch((error: unknown) => {
    if (backKill.signal.aborted) return;
    failure = { error };
    frontKill.abort(error);
  });
  try {
    await runReceiver(
      front,
      joinServer(front, () => admitToJournal(front, { journal, openBehind, room })),
    );
    journal.finish();
    using limit = deadline(Math.max(0, shutdownTimeoutMs - stopped.elapsedMs()), kill);
    if (!(await backState.reaches(journal.tip, [limit.signal, frontKill.signal]))) {
      log.warn("the spool holds WAL that the store has not taken yet; keep it for the next start");
      backKill.abort();
    }
    backStop.abort();
  } catch (error) {
    throw failure?.error ?? error;
  } finally {
    if (!backStop.signal.aborted) backKill.abort();
    await shipping;
  }
  if (failure !== undefined) throw failure.error;
}

/** Milliseconds since `stop`: front and back share the time that an orderly stop is given. */
function stopwatch(stop: AbortSignal): Disposable & { readonly elapsedMs: () => number } {
  let sinceMs: number | undefined;
  const stopping = onAbort(stop, () => (sinceMs = performance.now()));
  return { ...stopping, elapsedMs: () => (sinceMs === undefined ? 0 : performance.now() - sinceMs) };
}

function showBytes(journal: Journal, show: (bytes: number) => void): Disposable {
  let watching: Disposable;
  const look = (): void => {
    show(journal.walBytes);
    watching = journal.onChange(look);
  };
  look();
  return { [Symbol.dispose]: () => watching[Symbol.dispose]() };
}

/** A store that answers no request for so long is left alone at the start. */
const SILENCE_MS_MAX = 10_000;

/**
 * Looks at the store first: it may have more WAL than the journal. Where it does not answer, a journal that holds WAL goes on by
 * itself, and an empty one waits.
 */
async function prepareJournal(
  journal: Journal,
  behind: StoreBehind,
  options: ReceiverOptions & Pick<SpoolFolder, "asking"> & { readonly codec: Codec },
): Promise<void> {
  const { cluster, codec, log, state, stop, kill, asking } = options;
  using either = joinSignals(stop, kill);
  const { signal } = either;
  using silence = new Silence(SILENCE_MS_MAX);
  const store = observed(options.store, { observe: () => silence.heard(), classify: () => "store" });
  const look = async (): Promise<StoredTip | undefined> => {
    // A call that hangs holds a thread: one of them is enough.
    await asking;
    const archive = await openFolder(store, cluster, { codec, signal }).catch(absentIsUndefined);
    if (archive === undefined) return undefined;
    refuseMixed(journal, archive);
    const tip = await findTip(archive, { signal });
    return tip && { archive, tip };
  };
  const tell = (what: string): void => log.warn(`the store does not answer: ${what}`, { store: store.description });
  const { tip } = journal;
  if (tip === undefined) {
    silence.onTooLong(() => tell("an empty spool needs it to begin"));
    const looking = persist(look, { what: "where an empty spool begins", log, signal });
    await waitFor(looking, { signals: [signal] });
    return;
  }
  const looking = look();
  let found: StoredTip | "silent" | undefined;
  try {
    const silent = new Promise<"silent">((resolve) => silence.onTooLong(() => resolve("silent")));
    found = await waitFor(Promise.race([looking, silent]), { signals: [signal] });
  } catch (error) {
    if (signal.aborted || !delaysUpload(error)) throw error;
    state.uploadFailed(error);
    return log.warn("the store cannot be read: going on from the spool alone", { error });
  }
  if (found === "silent") {
    tell("going on from the spool alone");
    return behind.leaveAloneUntil(looking);
  }
  if (found === undefined) return;
  const { archive } = found;
  if (!isBehind(tip, found.tip)) {
    // Of a timeline that was left the store may lack the end, and what ships the journal begins at the store's tip.
    const left = journal.leftBefore(found.tip.timeline);
    if (left.length === 0) return;
    const giveUp = new Promise<void>((resolve) => silence.onTooLong(resolve));
    const facts = { detectedAt: new Date(state.nowMs()), signal, before: found.tip.timeline };
    const storing = storeLeftover(journal, archive, facts).then(() => {
      for (const timeline of left) journal.noteShipped(timeline);
    });
    return await waitFor(Promise.race([storing, giveUp]), { signals: [signal] }).catch((error: unknown) => {
      if (signal.aborted || !delaysUpload(error)) throw error;
      log.warn("the store does not take the end of an older timeline: the spool keeps it", { error });
    });
  }
  silence.onTooLong(() => tell("a spool that lags behind it needs it to begin"));
  log.info("another receiver has gone further: the spool is uploaded and begun anew");
  const refresh = async (): Promise<void> => {
    await storeLeftover(journal, archive, { detectedAt: new Date(state.nowMs()), signal });
    await journal.clear();
  };
  const what = "what the spool holds, before it is begun anew";
  await waitFor(persist(refresh, { what, log, signal, isPassing: delaysUpload }), { signals: [signal] });
}

interface StoredTip {
  readonly archive: Archive;
  readonly tip: Tip;
}

/** Calls back when nothing was heard for a time. */
class Silence implements Disposable {
  readonly #ms: number;
  #timer: NodeJS.Timeout | undefined;
  #onTooLong: (() => void) | undefined;

  constructor(ms: number) {
    this.#ms = ms;
  }

  /** Starts to measure, and calls `then` once. */
  onTooLong(then: () => void): void {
    this.#onTooLong = then;
    this.heard();
  }

  heard(): void {
    clearTimeout(this.#timer);
    const then = this.#onTooLong;
    if (then !== undefined) this.#timer = setTimeout(then, this.#ms);
  }

  [Symbol.dispose](): void {
    this.#onTooLong = undefined;
    clearTimeout(this.#timer);
  }
}

function refuseMixed(journal: Journal, { identity }: Archive): void {
  const ours = journal.identity;
  if (ours === undefined || ours.systemIdentifier === identity.systemIdentifier) return;
  throw new SeawallError(
    "foreign-cluster",
    `the spool holds WAL of system identifier ${ours.systemIdentifier}, the archive belongs to ${identity.systemIdentifier}`,
    { hint: "Give each cluster its own --spool-dir." },
  );
}

/** For an archive that may not be there yet: other errors are thrown again. */
function absentIsUndefined(error: unknown): undefined {
  if (hasCode(error, "archive-absent")) return undefined;
  throw error;
}
