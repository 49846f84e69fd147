/**
 * The relay copies the spool to the store. With `--durability spool` the receiver archives into a local directory in
 * the archive's own layout, and acknowledges that. The relay copies its objects to the store, oldest first, and removes
 * from the spool what the store has confirmed. Objects are immutable, so it can be interrupted and repeated anywhere.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Archive, openFolder, openFolderFor } from "../archive/archive.ts";
import { readIdentity } from "../archive/identity.ts";
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
import { putPlainOnce } from "../archive/put-once.ts";
import { listChunks, readTailEnd, readTailPart, tailCuts } from "../archive/wal/tail.ts";
import { listGaps } from "../archive/wal/gaps.ts";
import { type Tip, findTip } from "../archive/wal/tip.ts";
import { parseFacts, putChunk } from "../archive/wal/objects.ts";
import type { Codec } from "../codec/codec.ts";
import { LARGE_OBJECT_BYTES } from "../codec/pool.ts";
import { hasCode, SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { waitFor } from "../store/signal.ts";
import type { Store } from "../store/store.ts";
import {
  type Lsn,
  type SegmentNumber,
  type TimelineId,
  addBytes,
  bytesBetween,
  minLsn,
  segmentOf,
  segmentStart,
} from "../wal/lsn.ts";
import { copyObject } from "./copy-object.ts";
import { type DiskSpace, judgeSpool } from "./spool-room.ts";
import { type StoredChunk, TailLevels } from "./tail-merge.ts";
import { delaysUpload, isRefusedUpload } from "./upload-failures.ts";
import { Outage } from "../outage.ts";

/** After a failure the next pass waits at least this long, and at most DELAY_MAX_MS. */
const DELAY_FIRST_MS = 500;
const DELAY_MAX_MS = 15_000;
const UPLOAD_FAILED =
  "the spool could not be uploaded; WAL is acknowledged from the spool, and the upload is tried again";

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
  /** Asks the spool's disk; absent where there is none. */
  readonly diskSpace?: () => Promise<DiskSpace>;
  readonly observer: {
    /** All complete records before this are in the store. */
    uploaded(lsn: Lsn): void;
    spooled(bytes: number): void | Promise<void>;
    /** A pass failed and is tried again. */
    failed(error: SeawallError): void;
    /** A pass went through. */
    passed(): void;
  };
}

interface SpooledWal {
  readonly key: string;
  readonly kind: "segment" | "partial";
  readonly timeline: TimelineId;
  readonly segment: SegmentNumber;
  readonly bytes: number;
}

/** One pass over the spool: what it copies from, and to where. */
interface Pass {
  readonly local: Archive;
  /** Opens the store's archive at the first upload: a pass without an upload sends no request. */
  readonly remote: () => Promise<Archive>;
  readonly signal: AbortSignal;
}

export class Relay {
  readonly #options: RelayOptions;
  /** Keys the store has confirmed in this run. */
  readonly #stored = new Set<string>();
  /** The part of the open segment's tail that the store has. */
  #tail: { readonly key: string; readonly levels: TailLevels; uploaded: number } | undefined;

  #isSpoolJudged = false;
  /** The store's archive, as long as passes go through. */
  #remote: Archive | undefined;
  /** The store's archive was opened in this run. */
  #isOpened = false;
  /** A look at the store that does not return; undefined once it has. */
  #hanging: Promise<void> | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
  }

  /**
   * Leaves the store alone until `look` has ended: a call into a directory that hangs holds a thread, and the spool needs
   * threads too.
   */
  leaveAloneUntil(look: Promise<unknown>): void {
    const hanging = look.then(
      () => undefined,
      () => undefined,
    );
    this.#hanging = hanging;
    void hanging.then(() => (this.#hanging = undefined));
  }

  /** Rejects `aborted` when `signal` fires first. */
  async #untilAnswered(signal: AbortSignal): Promise<void> {
    if (this.#hanging !== undefined) await waitFor(this.#hanging, { signals: [signal] });
  }

  /**
   * Passes until `stop`. A store that takes nothing is tried again for ever; an error that contradicts the archive is thrown
   * (upload-failures.ts). Resolves on `stop`.
   */
  async run(stop: AbortSignal): Promise<void> {
    const { log, intervalMs, observer } = this.#options;
    const outage = new Outage({ log, over: "the store takes the spool's WAL again" });
    let delayMs = DELAY_FIRST_MS;
    while (!stop.aborted) {
      let waitMs = intervalMs;
      try {
        await this.pass(stop);
        observer.passed();
        outage.succeeded();
        delayMs = DELAY_FIRST_MS;
      } catch (error) {
        // The store may come back as another one.
        this.#remote = undefined;
        if (stop.aborted) return;
        if (!delaysUpload(error)) throw error;
        observer.failed(error);
        outage.failed({ message: UPLOAD_FAILED, error, level: isRefusedUpload(error) ? "error" : "warn" });
        // Without a store the receiver retires chunks all the same, and the disk fills.
        await this.#measure(stop).catch(() => undefined);
        waitMs = delayMs;
        delayMs = Math.min(delayMs * 2, DELAY_MAX_MS);
      }
      await sleep(waitMs, undefined, { signal: stop }).catch(() => undefined);
    }
  }

  /** Uploads everything the spool holds now. Throws what either store throws; repeating it is safe. */
  async pass(signal: AbortSignal): Promise<void> {
    await this.#untilAnswered(signal);
    const { spool, cluster, codec, observer } = this.#options;
    const local = await openFolder(spool, cluster, { codec, signal }).catch(absentIsUndefined);
    if (local === undefined) return;
    await this.#refuseSmallSpool(local.identity.segmentSize, signal);
    const pass: Pass = { local, remote: async () => (this.#remote ??= await this.openStore(local, signal)), signal };
    // A store that this run does not know may be another one than the spool was uploaded to.
    if (!this.#isOpened) await pass.remote();
    await this.#copyPlain(pass);
    const spooled = await listSpooled(local, signal);
    const waiting = spooled.filter(({ key }) => !this.#stored.has(key));
    // In order, so that a hole never precedes what the store has; one at a time, since each is held in memory.
    for (const object of waiting) await this.#copyWal(pass, object);
    await this.#copyTailsBeforeGaps(pass);
    const tip = await findTip(local, { signal });
    if (tip !== undefined) {
      await this.#thinOut(spooled, tip, signal);
      if (await this.#copyTail(pass, tip)) observer.uploaded(tip.lsn);
    }
    await this.#measure(signal);
  }

  async #measure(signal: AbortSignal): Promise<void> {
    const { spool, observer } = this.#options;
    await observer.spooled(await spooledBytes(spool, signal));
  }

  /**
   * Opens the store's archive, or creates it for a spool that was never uploaded. A store without the archive that this spool
   * was uploaded to is a bare mount point or another bucket: WAL that went there would leave the spool.
   */
  async openStore(local: Archive, signal: AbortSignal): Promise<Archive> {
    await this.#untilAnswered(signal);
    const { spool, store, cluster } = this.#options;
    const key = uploadedKey(cluster);
    const isKnown = this.#isOpened || (await spool.head(key, { signal })) !== undefined;
    if (!this.#isOpened && isKnown && (await readIdentity(store, cluster, { signal })) === undefined) {
      const message = `${store.description} has no archive of cluster "${cluster}", although this spool was uploaded to one`;
      throw new SeawallError("store-missing", message, {
        hint: `Mount the store, or correct --store. To begin a new archive, remove ${key} from the spool.`,
      });
    }
    const remote = await openFolderFor(store, cluster, local.identity, { codec: local.codec, signal });
    if (!isKnown) await spool.put(key, encodeDocument({ store: store.description }), { signal });
    this.#isOpened = true;
    return remote;
  }

  /** Full of what it must keep, a spool that is too small would never have room again. A tight one is reported once. */
  async #refuseSmallSpool(segmentSize: number, signal: AbortSignal): Promise<void> {
    if (this.#isSpoolJudged) return;
    const { spool, spoolBytesMax, diskSpace, log } = this.#options;
    const disk = await diskSpace?.().catch(() => undefined);
    const heldBytes = await spooledBytes(spool, signal);
    const { kind, message, hint } = judgeSpool({ segmentSize, spoolBytesMax, disk, heldBytes });
    if (kind === "small") throw new SeawallError("usage", message, { hint });
    if (kind !== "ok") log.warn(message, { hint });
    this.#isSpoolJudged = true;
  }

  /** Histories and gap documents, before the WAL that follows them. */
  async #copyPlain({ local, remote, signal }: Pass): Promise<void> {
    const { spool, store, cluster } = this.#options;
    for await (const { key } of spool.list(walPrefix(cluster), { signal })) {
      if (this.#stored.has(key) || !key.endsWith(".history")) continue;
      const found = await spool.get(key, { signal });
      if (found === undefined) continue;
      await remote();
      await putPlainOnce(store, key, found.body, { signal });
      this.#stored.add(key);
    }
    for (const gap of await listGaps(local, { signal })) {
      const key = gapKey(cluster, gap.timeline, gap.fromLsn, gap.toLsn);
      if (this.#stored.has(key)) continue;
      await putGap(await remote(), gap, { signal });
      this.#stored.add(key);
    }
    for (const { timeline, fromLsn: lsn, toLsn: end, detectedAt } of await listBreaks(local, { signal })) {
      const key = breakKey(cluster, timeline, lsn, end);
      if (this.#stored.has(key)) continue;
      await putBreak(await remote(), { timeline, record: { lsn, end }, detectedAt: new Date(detectedAt) }, { signal });
      this.#stored.add(key);
    }
  }

  /** One segment or partial, checked on the way. The chunks that it covers are then removed from the store. */
  async #copyWal(pass: Pass, object: SpooledWal): Promise<void> {
    const { local, signal } = pass;
    const remote = await pass.remote();
    const { segmentSize } = local.identity;
    const copied = await copyObject({ from: local, to: remote }, object, signal);
    if (copied === undefined) return;
    const seen = await remote.store.head(object.key, { signal });
    if (seen === undefined) throw new SeawallError("store-lied", `the store confirmed ${object.key} but has none`);
    this.#stored.add(object.key);
    const place = { timeline: object.timeline, segment: object.segment, segmentSize };
    const facts = parseFacts(local.identity, copied, object.key, place);
    const length = bytesBetween(segmentStart(object.segment, segmentSize), facts.endLsn);
    const chunks = await listChunks(remote, place, { signal });
    const covered = chunks.filter(({ end }) => end <= length).map(({ key }) => key);
    await this.#retire(pass, covered);
  }

  /** Removes chunks that a larger object covers. A store that refuses keeps them: they do no harm, and uploads go on. */
  async #retire({ signal }: Pass, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    await this.#options.store.delete(keys, { signal }).catch((error: unknown) => {
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
  async #copyTailsBeforeGaps(pass: Pass): Promise<void> {
    const { local, remote, signal } = pass;
    const { segmentSize } = local.identity;
    for (const { timeline, fromLsn } of await listGaps(local, { signal })) {
      const place: SegmentPlace = { timeline, segment: segmentOf(fromLsn, segmentSize), segmentSize };
      const prefix = tailPrefix(local.cluster, place);
      if (this.#stored.has(prefix)) continue;
      const known = await this.#tailLength(await remote(), place, signal);
      if (await this.#uploadTail(pass, { place, from: known })) this.#stored.add(prefix);
    }
  }

  /**
   * Uploads the new bytes of the open segment. False when the store still lacks WAL up to the tip: the segment was sealed
   * meanwhile, and the next pass copies it.
   */
  async #copyTail(pass: Pass, tip: Tip): Promise<boolean> {
    const { local, remote, signal } = pass;
    const { segmentSize } = local.identity;
    const place: SegmentPlace = { timeline: tip.timeline, segment: tip.segment, segmentSize };
    const key = segmentKey(local.cluster, place);
    if (this.#tail?.key !== key) {
      // Where an earlier run, or another machine, had got to.
      const uploaded = await this.#tailLength(await remote(), place, signal);
      this.#tail = { key, levels: new TailLevels(LARGE_OBJECT_BYTES), uploaded };
    }
    const tail = this.#tail;
    const { levels } = tail;
    await this.#uploadTail(pass, { place, from: tail.uploaded }, (chunk) => {
      levels.add(0, chunk);
      tail.uploaded = chunk.end;
    });
    for (let merge = levels.take(); merge !== undefined; merge = levels.take()) {
      const { start, end } = merge;
      const merged = await this.#uploadPart(pass, place, { start, end });
      if (merged === undefined) break;
      levels.add(merge.level + 1, merged);
      const replaced = merge.replaces.map((chunk) => chunk.key);
      await this.#retire(pass, replaced);
    }
    return addBytes(segmentStart(tip.segment, segmentSize), tail.uploaded) >= tip.lsn;
  }

  /**
   * Uploads what the spool holds of a segment's tail after offset `from`: as one chunk, or as several when it is long. False when
   * the segment was sealed meanwhile.
   */
  async #uploadTail(
    pass: Pass,
    { place, from }: { readonly place: SegmentPlace; readonly from: number },
    onStored: (chunk: StoredChunk) => void = () => undefined,
  ): Promise<boolean> {
    const cuts = await tailCuts(pass.local, place, from, { signal: pass.signal });
    for (let start = from, at = 0; at < cuts.length;) {
      // At least one object of the spool, however long it is.
      let end = cuts[at] ?? start;
      for (at++; at < cuts.length && (cuts[at] ?? 0) - start <= LARGE_OBJECT_BYTES; at++) end = cuts[at] ?? end;
      const chunk = await this.#uploadPart(pass, place, { start, end });
      if (chunk === undefined) return false;
      onStored(chunk);
      start = end;
    }
    return true;
  }

  /** Undefined when the spool does not hold these bytes as a tail any more. */
  async #uploadPart(
    { local, remote, signal }: Pass,
    place: SegmentPlace,
    { start, end }: { readonly start: number; readonly end: number },
  ): Promise<StoredChunk | undefined> {
    const part = await readTailPart(local, place, { start, end }, { signal });
    if (part === undefined) return undefined;
    const startLsn = segmentStart(place.segment, place.segmentSize);
    const endLsn = addBytes(startLsn, end);
    const facts = { startLsn: addBytes(startLsn, start), endLsn, verifiedLsn: minLsn(part.verifiedLsn, endLsn) };
    const options = { signal, confirm: true };
    const { key } = await putChunk(await remote(), place, start, part.bytes, facts, options);
    return { key, start, end };
  }

  /** How much of a segment's start is stored without a hole. */
  async #tailLength(archive: Archive, place: SegmentPlace, signal: AbortSignal): Promise<number> {
    const end = await readTailEnd(archive, place, { signal });
    return end === undefined ? 0 : bytesBetween(segmentStart(place.segment, place.segmentSize), end.endLsn);
  }
}

/** For an archive that may not be there yet: other errors are thrown again. */
export function absentIsUndefined(error: unknown): undefined {
  if (hasCode(error, "archive-absent")) return undefined;
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
