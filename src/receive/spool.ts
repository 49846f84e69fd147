/**
 * `--durability spool`: acknowledges after a local fsync, and uploads behind it. The receiver runs unchanged on an
 * archive in a local directory. This file prepares the spool at the start, bounds it, and runs the relay beside the
 * receiver.
 *
 * The store stays the truth (promise 3): an empty spool is primed from it, a spool that lags behind it (this machine was
 * away while another one received) is uploaded and primed anew. Only while the store cannot be reached, or refuses, does a
 * spool that holds WAL go on by itself.
 */
import { type Archive, openFolder } from "../archive/archive.ts";
import { readIdentity } from "../archive/identity.ts";
import { historyKey, identityKey, partialKey, segmentKey, uploadedKey } from "../archive/keys.ts";
import { putGap } from "../archive/wal/put-gap.ts";
import { putPlainOnce } from "../archive/put-once.ts";
import { listChunks } from "../archive/wal/tail.ts";
import { listGaps } from "../archive/wal/gaps.ts";
import { type Tip, findTip, historyOf } from "../archive/wal/tip.ts";
import { Codec } from "../codec/codec.ts";
import { sharedOrOwn } from "../codec/pool.ts";
import { SeawallError } from "../errors.ts";
import { deadline, joinSignals, onAbort } from "../signals.ts";
import { observed } from "../store/observe.ts";
import { waitFor } from "../store/signal.ts";
import type { Store } from "../store/store.ts";
import { type SegmentNumber, formatLsn, segmentStart } from "../wal/lsn.ts";
import { ownerBefore } from "../wal/timeline.ts";
import { BoundedSpool } from "./bounded-spool.ts";
import { limitsBesideRelay } from "./memory.ts";
import { findSpoolFolder, type SpoolFolder } from "./spool-folder.ts";
import type { ReceiverOptions } from "./options.ts";
import { persist } from "./persist.ts";
import { absentIsUndefined, Relay, spooledBytes } from "./relay.ts";
import type { DiskSpace } from "./spool-room.ts";
import { delaysUpload } from "./upload-failures.ts";
import { runReceiver } from "./walreceiver.ts";

export interface SpoolOptions {
  /** A file store on this machine. */
  readonly spool: Store;
  /** At this size the receiver stops reading until the store has taken some. */
  readonly spoolBytesMax: number;
  /** Asks the spool's disk; absent where there is none. */
  readonly diskSpace?: () => Promise<DiskSpace>;
  /** How long new WAL of the open segment may stay in the spool only. */
  readonly uploadIntervalMs: number;
}

/** Runs the receiver on the spool and the relay beside it; ends when the receiver ends, or with the relay's failure. */
export async function runSpooledReceiver(given: ReceiverOptions, spoolOptions: SpoolOptions): Promise<void> {
  const { spool: inner, spoolBytesMax, diskSpace } = spoolOptions;
  const place = await findSpoolFolder(inner, given);
  const options = { ...given, cluster: place.folder };
  const { store, cluster, log, state, kill, stop, shutdownTimeoutMs } = options;
  const segmentSize = (): number => state.segmentSize ?? 0;
  const bounded = new BoundedSpool({
    inner,
    spoolBytesMax,
    segmentSize,
    onFailure: (error) => state.spoolFailed(error),
    onBytes: (bytes) => (state.spoolBytes = bytes),
  });
  // A disk that does not answer is no limit: a write into it fails by itself.
  const measure = async (bytes: number): Promise<void> => {
    bounded.measured(bytes, await diskSpace?.().catch(() => undefined));
  };
  const codec = new Codec({ level: options.compressLevel, ...sharedOrOwn(options.codecPool, { threads: 1 }) });
  const relay = new Relay({
    spool: bounded,
    store,
    cluster,
    codec,
    log,
    intervalMs: spoolOptions.uploadIntervalMs,
    spoolBytesMax,
    ...(diskSpace && { diskSpace }),
    observer: {
      uploaded: (lsn) => state.uploaded(lsn),
      spooled: measure,
      failed: (error) => state.uploadFailed(error),
      passed: () => state.uploadsPass(),
    },
  });
  using stopped = stopwatch(stop);
  const relayStop = new AbortController();
  const receiverKill = new AbortController();
  using _killing = onAbort(kill, () => {
    receiverKill.abort(kill.reason);
    relayStop.abort();
  });
  try {
    await prepareSpool(bounded, relay, { ...options, asking: place.asking });
    using either = joinSignals(stop, kill);
    await measure(await spooledBytes(bounded, either.signal));
    let relayFailure: unknown;
    const relaying = relay.run(relayStop.signal).catch((error: unknown) => {
      relayFailure = error;
      receiverKill.abort(error);
    });
    try {
      const limits = limitsBesideRelay(options);
      const openBehind: ReceiverOptions["openBehind"] = (spooled, signal) => relay.openStore(spooled, signal);
      const onSpool = { isSpool: true, store: bounded, openBehind, kill: receiverKill.signal };
      await runReceiver({ ...options, ...limits, ...onSpool });
    } catch (error) {
      throw relayFailure ?? error;
    } finally {
      relayStop.abort();
      await relaying;
    }
    using limit = deadline(Math.max(0, shutdownTimeoutMs - stopped.elapsedMs()), kill);
    await lastPass(relay, options, limit.signal);
  } finally {
    await codec.close();
  }
}

/** Milliseconds since `stop`: receiver and relay share the time that an orderly stop is given. */
function stopwatch(stop: AbortSignal): Disposable & { readonly elapsedMs: () => number } {
  let sinceMs: number | undefined;
  const stopping = onAbort(stop, () => (sinceMs = performance.now()));
  return { ...stopping, elapsedMs: () => (sinceMs === undefined ? 0 : performance.now() - sinceMs) };
}

/** A graceful stop uploads what it can; what it cannot is durable in the spool, and the next start uploads it. */
async function lastPass(relay: Relay, options: ReceiverOptions, signal: AbortSignal): Promise<void> {
  try {
    await relay.pass(signal);
  } catch (error) {
    options.log.warn("the spool holds WAL that the store has not taken yet; keep it for the next start", { error });
  }
}

/** A store that answers no request for so long is left alone at the start. */
const SILENCE_MS_MAX = 10_000;

/**
 * Brings the spool up to the store: one that lags behind it is uploaded, and primed anew. Where the store does not answer, a
 * spool that holds WAL goes on by itself.
 */
async function prepareSpool(
  spool: Store,
  relay: Relay,
  options: ReceiverOptions & Pick<SpoolFolder, "asking">,
): Promise<void> {
  const { cluster, log, state, stop, kill, asking } = options;
  using either = joinSignals(stop, kill);
  const { signal } = either;
  const spoolTip = await tipOf(spool, cluster, signal);
  using silence = new Silence(SILENCE_MS_MAX);
  const store = observed(options.store, { observe: () => silence.heard(), classify: () => "store" });
  const look = async (): Promise<StoredTip | undefined> => {
    // A call that hangs holds a thread: one of them is enough.
    await asking;
    await refuseMixedSpool(spool, store, cluster, signal);
    return tipOf(store, cluster, signal);
  };
  const tell = (what: string): void => log.warn(`the store does not answer: ${what}`, { store: store.description });
  if (spoolTip === undefined) {
    silence.onTooLong(() => tell("an empty spool needs it to begin"));
    const prepare = async (): Promise<void> => primeFrom(await look(), { ...options, store }, spool, signal);
    const preparing = persist(prepare, { what: "what the empty spool is primed with", log, signal });
    return await waitFor(preparing, { signals: [signal] });
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
    return relay.leaveAloneUntil(looking);
  }
  if (found === undefined || !isAhead(found.tip, spoolTip.tip)) return;
  silence.onTooLong(() => tell("a spool that lags behind it needs it to begin"));
  const refresh = async (): Promise<void> => {
    await relay.pass(signal);
    await clear(spool, cluster, signal);
    await primeFrom(found, { ...options, store }, spool, signal);
  };
  const what = "what the spool holds, before it is primed anew";
  await waitFor(persist(refresh, { what, log, signal, isPassing: delaysUpload }), { signals: [signal] });
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

interface StoredTip {
  readonly archive: Archive;
  readonly tip: Tip;
}

async function primeFrom(
  found: StoredTip | undefined,
  { log }: ReceiverOptions,
  spool: Store,
  signal: AbortSignal,
): Promise<void> {
  if (found === undefined) return;
  const { archive, tip } = found;
  await prime(spool, archive, tip, signal);
  log.info("primed the spool from the store", { tip: formatLsn(tip.lsn), timeline: tip.timeline });
}

async function tipOf(store: Store, cluster: string, signal: AbortSignal): Promise<StoredTip | undefined> {
  const archive = await openFolder(store, cluster, { signal }).catch(absentIsUndefined);
  if (archive === undefined) return undefined;
  const tip = await findTip(archive, { signal });
  return tip === undefined ? undefined : { archive, tip };
}

async function refuseMixedSpool(spool: Store, store: Store, cluster: string, signal: AbortSignal): Promise<void> {
  const ours = await readIdentity(spool, cluster, { signal });
  const theirs = await readIdentity(store, cluster, { signal });
  if (ours === undefined || theirs === undefined || ours.systemIdentifier === theirs.systemIdentifier) return;
  throw new SeawallError(
    "foreign-cluster",
    `the spool holds WAL of system identifier ${ours.systemIdentifier}, the archive belongs to ${theirs.systemIdentifier}`,
    { hint: "Give each cluster its own --spool-dir." },
  );
}

function isAhead(a: Tip, b: Tip): boolean {
  return a.timeline > b.timeline || (a.timeline === b.timeline && a.lsn > b.lsn);
}

/** Removes all but the note that this spool was uploaded: until the spool is primed, only the note tells a bare mount point. */
async function clear(spool: Store, cluster: string, signal: AbortSignal): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of spool.list(`${cluster}/`, { signal })) {
    if (key !== uploadedKey(cluster)) keys.push(key);
  }
  await spool.delete(keys, { signal });
}

/** Copies what a receiver needs to find its place: identity, histories, gaps, the segment before the tip, and the tail. */
async function prime(spool: Store, archive: Archive, tip: Tip, signal: AbortSignal): Promise<void> {
  const { cluster, identity, store } = archive;
  const { segmentSize } = identity;
  const history = await historyOf(archive, tip.timeline, { signal });
  const timelines = [...history.entries.map((entry) => entry.timeline), tip.timeline];
  const place = { timeline: tip.timeline, segment: tip.segment, segmentSize };
  const chunks = await listChunks(archive, place, { signal });
  const keys = [identityKey(cluster), ...timelines.map((timeline) => historyKey(cluster, timeline))];
  // A tail may consist of chunks behind a partial; a key without an object is passed over.
  keys.push(partialKey(cluster, place));
  if (tip.segment > 0) {
    const timeline = ownerBefore(history, segmentStart(tip.segment, segmentSize));
    keys.push(segmentKey(cluster, { timeline, segment: (tip.segment - 1) as SegmentNumber, segmentSize }));
  }
  for (const key of [...keys, ...chunks.map((chunk) => chunk.key)]) {
    const found = await store.get(key, { signal });
    if (found !== undefined) await putPlainOnce(spool, key, found.body, { signal });
  }
  // A tip behind a gap has no segment before it: without the document the spool would have no place to go on from.
  for (const gap of await listGaps(archive, { signal })) {
    if (gap.timeline === tip.timeline) await putGap({ ...archive, store: spool }, gap, { signal });
  }
}
