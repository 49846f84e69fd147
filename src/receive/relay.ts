/**
 * The relay: from the spool to the store. With `--durability spool` the receiver archives into a local directory, in the
 * archive's own layout, and acknowledges that; the relay copies what lies there to the store behind it, oldest first, and
 * removes from the spool what the store has confirmed. Objects are immutable, so it can be cut off and repeated anywhere.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Archive, openArchive, openArchiveFor, readIdentity } from "../archive/archive.ts";
import {
  breakKey,
  gapKey,
  parseWalKey,
  type SegmentPlace,
  segmentKey,
  tailPrefix,
  uploadedKey,
  walPrefix,
} from "../archive/keys.ts";
import { isRefusal } from "../archive/retention/bulk-delete.ts";
import { listBreaks, putBreak } from "../archive/wal/breaks.ts";
import { encodeDocument } from "../archive/json-document.ts";
import { putGap } from "../archive/wal/put-gap.ts";
import { putOnce, putPlainOnce } from "../archive/put-once.ts";
import { listChunks, readTail } from "../archive/wal/tail.ts";
import { listGaps } from "../archive/wal/gaps.ts";
import { type Tip, findTip } from "../archive/wal/tip.ts";
import { parseFacts, putChunk } from "../archive/wal/objects.ts";
import type { Codec } from "../codec/codec.ts";
import { crc32cOf } from "../store/crc.ts";
import { SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Store } from "../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  addBytes,
  bytesBetween,
  segmentOf,
  segmentStart,
} from "../wal/lsn.ts";
import { TailLevels } from "./tail-merge.ts";

/** After a failure the next pass waits at least this long, and at most DELAY_MAX_MS. */
const DELAY_FIRST_MS = 500;
const DELAY_MAX_MS = 15_000;
/** The last segment, the open one's chunks and those they are merged into, and a segment on its way. */
const SPOOL_SEGMENTS_MIN = 4;

export interface RelayOptions {
  readonly spool: Store;
  readonly store: Store;
  readonly cluster: string;
  /** The codec of both archives. */
  readonly codec: Codec;
  readonly log: Log;
  /** How long new bytes of the open segment may stay in the spool only. */
  readonly intervalMs: number;
  readonly spoolBytesMax: number;
  readonly observer: {
    /** All complete records before this are in the store. */
    uploaded(lsn: Lsn): void;
    spooled(bytes: number): void;
  };
}

interface SpooledWal {
  readonly key: string;
  readonly kind: "segment" | "partial";
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly bytes: number;
}

export class Relay {
  readonly #options: RelayOptions;
  /** Keys the store has confirmed in this run. */
  readonly #stored = new Set<string>();
  /** The part of the open segment's tail that the store has. */
  #tail: { readonly key: string; readonly levels: TailLevels; uploaded: number } | undefined;

  /** The store's archive was opened in this run. */
  #isOpened = false;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  /** Passes until `stop`; an unreachable store is tried again for ever, anything else ends it. Resolves on `stop`. */
  async run(stop: AbortSignal): Promise<void> {
    const { log, intervalMs } = this.#options;
    let delayMs = DELAY_FIRST_MS;
    while (!stop.aborted) {
      let waitMs = intervalMs;
      try {
        await this.pass(stop);
        delayMs = DELAY_FIRST_MS;
      } catch (error) {
        if (stop.aborted) return;
        if (!isOutage(error)) throw error;
        log.warn("the spool could not be uploaded; trying again", { error, delayMs });
        waitMs = delayMs;
        delayMs = Math.min(delayMs * 2, DELAY_MAX_MS);
      }
      await sleep(waitMs, undefined, { signal: stop }).catch(() => undefined);
    }
  }

  /** Uploads everything the spool holds now. Throws what either store throws; repeating it is safe. */
  async pass(signal: AbortSignal): Promise<void> {
    const { spool, cluster, codec, observer } = this.#options;
    const local = await openArchive(spool, cluster, { codec, signal }).catch(absentIsUndefined);
    if (local === undefined) return;
    this.#refuseSmallSpool(local.identity.segmentSize);
    const remote = await this.openStore(local, signal);
    await this.#copyPlain(local, remote, signal);
    const spooled = await listSpooled(local, signal);
    const waiting = spooled.filter(({ key }) => !this.#stored.has(key));
    // In order, so that a hole never precedes what the store has; one at a time, since each is held in memory.
    for (const object of waiting) await this.#copyWal(local, remote, object, signal);
    await this.#copyTailsBeforeGaps(local, remote, signal);
    const tip = await findTip(local, { signal });
    if (tip !== undefined) {
      await this.#thinOut(spooled, tip, signal);
      await this.#copyTail(local, remote, tip, signal);
      observer.uploaded(tip.lsn);
    }
    observer.spooled(await spooledBytes(spool, signal));
  }

  /**
   * Opens the store's archive, or creates it for a spool that was never uploaded. A store without the archive that this spool
   * was uploaded to is a bare mount point or another bucket: WAL that went there would leave the spool.
   */
  async openStore(local: Archive, signal: AbortSignal): Promise<Archive> {
    const { spool, store, cluster } = this.#options;
    const key = uploadedKey(cluster);
    const isKnown = this.#isOpened || (await spool.head(key, { signal })) !== undefined;
    if (!this.#isOpened && isKnown && (await readIdentity(store, cluster, { signal })) === undefined) {
      const message = `${store.description} has no archive of cluster "${cluster}", although this spool was uploaded to one`;
      throw new SeawallError("store-missing", message, {
        hint: `Mount the store, or correct --store. To begin a new archive, remove ${key} from the spool.`,
      });
    }
    const remote = await openArchiveFor(store, cluster, local.identity, { codec: local.codec, signal });
    if (!isKnown) await spool.put(key, encodeDocument({ store: store.description }), { signal });
    this.#isOpened = true;
    return remote;
  }

  /** Full of what it must keep, the spool would never have room again. */
  #refuseSmallSpool(segmentSize: number): void {
    const { spoolBytesMax } = this.#options;
    const bytesMin = SPOOL_SEGMENTS_MIN * segmentSize;
    if (spoolBytesMax >= bytesMin) return;
    const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
    throw new SeawallError("usage", `--spool-max: ${mib(spoolBytesMax)} cannot hold segments of ${mib(segmentSize)}`, {
      hint: `The spool keeps the last segment and the open one's chunks: give it ${mib(bytesMin)} or more.`,
    });
  }

  /** Histories and gap documents, before the WAL that follows them. */
  async #copyPlain(local: Archive, remote: Archive, signal: AbortSignal): Promise<void> {
    const { spool, store, cluster } = this.#options;
    for await (const { key } of spool.list(walPrefix(cluster), { signal })) {
      if (this.#stored.has(key) || !key.endsWith(".history")) continue;
      const found = await spool.get(key, { signal });
      if (found === undefined) continue;
      await putPlainOnce(store, key, found.body, { signal });
      this.#stored.add(key);
    }
    for (const gap of await listGaps(local, { signal })) {
      const key = gapKey(cluster, gap.timeline, gap.fromLsn, gap.toLsn);
      if (this.#stored.has(key)) continue;
      await putGap(remote, gap, { signal });
      this.#stored.add(key);
    }
    for (const { timeline, fromLsn: lsn, toLsn: end, detectedAt } of await listBreaks(local, { signal })) {
      const key = breakKey(cluster, timeline, lsn, end);
      if (this.#stored.has(key)) continue;
      await putBreak(remote, { timeline, record: { lsn, end }, detectedAt: new Date(detectedAt) }, { signal });
      this.#stored.add(key);
    }
  }

  /** One segment or partial, checked on the way. The chunks that it covers are then removed from the store. */
  async #copyWal(local: Archive, remote: Archive, object: SpooledWal, signal: AbortSignal): Promise<void> {
    const { segmentSize } = local.identity;
    const found = await local.store.get(object.key, { signal });
    if (found === undefined) return;
    const envelope = await local.codec.check(found.body, { key: object.key, rawBytesMax: segmentSize });
    const { rawBytes, rawCrc32c } = envelope;
    const encoded = { stored: found.body, storedCrc32c: crc32cOf(found.body), rawBytes, rawCrc32c };
    await putOnce(remote, object.key, encoded, { signal });
    const seen = await remote.store.head(object.key, { signal });
    if (seen === undefined) throw new SeawallError("store-lied", `the store confirmed ${object.key} but has none`);
    this.#stored.add(object.key);
    const place = { timeline: object.timeline, segment: object.segment, segmentSize };
    const facts = parseFacts(local.identity, envelope, object.key, place);
    const length = bytesBetween(segmentStart(object.segment, segmentSize), facts.endLsn);
    const chunks = await listChunks(remote, place, { signal });
    const covered = chunks.filter(({ end }) => end <= length).map(({ key }) => key);
    await this.#retire(remote, covered, signal);
  }

  /** Removes chunks that a larger object covers. A store that refuses keeps them: they do no harm, and uploads go on. */
  async #retire(remote: Archive, keys: readonly string[], signal: AbortSignal): Promise<void> {
    if (keys.length === 0) return;
    await remote.store.delete(keys, { signal }).catch((error: unknown) => {
      if (!isRefusal(error)) throw error;
      this.#options.log.warn("the store refuses to delete chunks that are not needed any more", {
        error,
        keys: keys.length,
      });
    });
  }

  /**
   * Removes what the store has from the spool, but for what a restart needs to find its place without the store: the last
   * segment before the tip, and whatever lies past it, since a segment before that is still on its way into the spool.
   */
  async #thinOut(spooled: readonly SpooledWal[], tip: Tip, signal: AbortSignal): Promise<void> {
    const passed = spooled.filter(
      ({ timeline, segment }) => timeline < tip.timeline || (timeline === tip.timeline && segment < tip.segment),
    );
    const lastSealed = passed.findLast((object) => object.kind === "segment");
    const removable = passed.filter((object) => object !== lastSealed && this.#stored.has(object.key));
    // One by one: a hole that an interruption left would hide what lies behind it in the spool.
    for (const { key } of removable) {
      await this.#options.spool.delete([key], { signal });
      this.#stored.delete(key);
    }
  }

  /** The segment before a gap is never sealed: what was acknowledged of it goes to the store as one chunk. */
  async #copyTailsBeforeGaps(local: Archive, remote: Archive, signal: AbortSignal): Promise<void> {
    const { segmentSize } = local.identity;
    for (const { timeline, fromLsn } of await listGaps(local, { signal })) {
      const place: SegmentPlace = { timeline, segment: segmentOf(fromLsn, segmentSize), segmentSize };
      const prefix = tailPrefix(local.cluster, place);
      if (this.#stored.has(prefix)) continue;
      const tail = await readTail(local, place, { signal });
      const known = (await readTail(remote, place, { signal }))?.bytes.byteLength ?? 0;
      if (tail !== undefined && known < tail.bytes.byteLength) {
        const { endLsn, verifiedLsn } = tail;
        const facts = { startLsn: addBytes(segmentStart(place.segment, segmentSize), known), endLsn, verifiedLsn };
        const options = { signal, confirm: true };
        await putChunk(remote, place, known, tail.bytes.subarray(known), facts, options);
      }
      this.#stored.add(prefix);
    }
  }

  /** The new bytes of the open segment as one chunk: then the store has everything up to the tip. */
  async #copyTail(local: Archive, remote: Archive, tip: Tip, signal: AbortSignal): Promise<void> {
    const { segmentSize } = local.identity;
    const place: SegmentPlace = { timeline: tip.timeline, segment: tip.segment, segmentSize };
    const key = segmentKey(local.cluster, place);
    const startLsn = segmentStart(tip.segment, segmentSize);
    if (this.#tail?.key !== key) {
      // Where an earlier run, or another machine, had got to.
      const known = await readTail(remote, place, { signal });
      this.#tail = { key, levels: new TailLevels(), uploaded: known?.bytes.byteLength ?? 0 };
    }
    const tail = await readTail(local, place, { signal });
    if (tail === undefined || tail.bytes.byteLength <= this.#tail.uploaded) return;
    const { levels, uploaded } = this.#tail;
    const put = async (start: number, end: number): Promise<string> => {
      const endLsn = addBytes(startLsn, end);
      const facts = { startLsn: addBytes(startLsn, start), endLsn, verifiedLsn: endLsn };
      const options = { signal, confirm: true };
      return (await putChunk(remote, place, start, tail.bytes.subarray(start, end), facts, options)).key;
    };
    const end = tail.bytes.byteLength;
    levels.add(0, { key: await put(uploaded, end), start: uploaded, end });
    this.#tail.uploaded = end;
    for (let merge = levels.take(); merge !== undefined; merge = levels.take()) {
      const { start, end: until } = merge;
      levels.add(merge.level + 1, { key: await put(start, until), start, end: until });
      await this.#retire(
        remote,
        merge.replaces.map((chunk) => chunk.key),
        signal,
      );
    }
  }
}

/** The store cannot be reached, or is not there: a directory that is not mounted. What the spool holds waits for it. */
export function isOutage(error: unknown): error is SeawallError {
  return error instanceof SeawallError && (error.retryable || error.code === "store-missing");
}

/** For an archive that may not be there yet: other errors are thrown again. */
export function absentIsUndefined(error: unknown): undefined {
  if (error instanceof SeawallError && error.code === "archive-absent") return undefined;
  throw error;
}

/** Segments and partials in the spool, oldest first: by timeline, then segment. */
async function listSpooled(local: Archive, signal: AbortSignal): Promise<SpooledWal[]> {
  const spooled: SpooledWal[] = [];
  for await (const { key, bytes } of local.store.list(walPrefix(local.cluster), { signal })) {
    const found = parseWalKey(key, local.identity.segmentSize);
    if (found?.kind === "segment" || found?.kind === "partial") spooled.push({ ...found, key, bytes });
  }
  return spooled.sort((a, b) => a.timeline - b.timeline || a.segment - b.segment);
}

export async function spooledBytes(spool: Store, signal: AbortSignal): Promise<number> {
  let total = 0;
  for await (const { bytes } of spool.list("", { signal })) total += bytes;
  return total;
}
