/**
 * The shipper: verified WAL becomes stored objects, and stored objects become `storedLsn`. Two kinds of object: chunks of
 * the open segment, every `shipIntervalMs` or as soon as there is anything; and whole segments, sealed when full.
 *
 * Nothing here blocks the receiver: `advance` and `seal` start work and return; the pool of segment buffers is the bound,
 * and as many encoded segments on their way to the store.
 * Several PUTs are in flight, the ledger advances over the contiguous prefix only. What fails passingly is tried until it
 * succeeds or the run is cancelled; what fails for good ends the run through `failure`.
 */
import type { Archive } from "../archive/archive.ts";
import { chunkKey } from "../archive/keys.ts";
import { segmentsPastHoleMax } from "../archive/wal/tip.ts";
import {
  type EncodedWal,
  type StoredWal,
  type WalFacts,
  encodeSegment,
  encodeSegmentInPlace,
  putChunk,
  storeEncoded,
} from "../archive/wal/objects.ts";
import { LARGE_OBJECT_BYTES, SMALL_OBJECT_BYTES } from "../codec/pool.ts";
import { invariant, isAbort } from "../errors.ts";
import type { Log } from "../log.ts";
import { joinSignals, onAbort, sharedController } from "../signals.ts";
import { Turns } from "../turns.ts";
import { type Lsn, addBytes, formatLsn, segmentEnd } from "../wal/lsn.ts";
import type { OpenSegment } from "./assembler.ts";
import type { Ledger } from "./ledger.ts";
import { persist } from "./persist.ts";
import type { Retirement } from "./retirement.ts";
import type { SegmentBufferPool } from "./segment-buffer.ts";
import { ShipTimer } from "./ship-timer.ts";
import { type Merge, TailLevels } from "./tail-merge.ts";

export interface ShipperOptions {
  readonly archive: Archive;
  readonly pool: SegmentBufferPool;
  readonly ledger: Ledger;
  readonly retirement: Retirement;
  readonly log: Log;
  readonly nowMs: () => number;
  /** Ends all work; in-flight objects may or may not be stored. */
  readonly signal: AbortSignal;
  readonly shipIntervalMs: number;
  /** Chunk PUTs in flight; while they are, newer bytes gather for the next. */
  readonly chunksInFlightMax: number;
  /** Ask the store again about each chunk before acknowledging it. Segments are always confirmed. */
  readonly confirmChunks: boolean;
  /** Nothing precedes this stream in the archive: its first segment must be stored before anything later. */
  readonly unanchored: boolean;
  /**
   * The end of what the archive holds already. On a new timeline the first segment begins before the switch point, and the
   * newest timeline's tail is what a restore takes: until it reaches this far it would hide WAL that has been acknowledged.
   */
  readonly floorLsn: Lsn;
  readonly observer: ShipperObserver;
}

export interface ShipperObserver {
  /** `storedLsn` moved. */
  stored(): void;
  /** Bytes were stored; without a hole they reach `contiguousLsn`, which may lie within a record. */
  kept(contiguousLsn: Lsn): void;
  /** A request failed and is tried again. */
  readonly failed?: ((error: unknown) => void) | undefined;
  sealed(stored: StoredWal): void;
  chunk(stored: StoredWal): void;
}

/** The verifier's facts on a complete segment. */
type SealFacts = Omit<WalFacts, "startLsn" | "endLsn" | "contiguousLsn">;

/** The open segment's shipping: which bytes are on their way, and what is stored. */
interface Shipping {
  readonly open: OpenSegment;
  readonly levels: TailLevels;
  /** Keys of chunks that are stored, or may be: all of them are retired when the segment is sealed. */
  readonly keys: Set<string>;
  readonly chunkPuts: Set<Promise<void>>;
  readonly chunksCancelled: AbortController;
  /** Aborted once the segment is complete: no more chunks are begun. */
  readonly sealing: AbortController;
  /** Bytes before this are stored or on their way. */
  shipped: number;
  /** Since when the bytes after `shipped` have been waiting. */
  waitingSinceMs: number | undefined;
  merging: boolean;
}

export class Shipper {
  readonly #options: ShipperOptions;
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  readonly #timer: ShipTimer;
  readonly #seals = new Set<Promise<unknown>>();
  /** Encoded segments and large chunks on their way to the store. */
  readonly #largeEncoded: Turns;
  /** Segments from the oldest that is not stored on: a hole, once the process is killed, must be found again. */
  readonly #sealsAhead: Turns;
  /** Every segment sealed so far has been stored. */
  #sealedInOrder: Promise<unknown> = Promise.resolve();
  /** One for each segment whose chunks are on their way. */
  readonly #chunksCancelled = new Set<AbortController>();
  #current: Shipping | undefined;
  #chunksInFlight = 0;
  #chunkBytesInFlight = 0;
  #urgent = false;
  #anchor: Promise<unknown> | undefined;
  #anchored: boolean;

  constructor(options: ShipperOptions) {
    this.#options = options;
    // `close` aborts `#failed`, which lets go of `options.signal`.
    this.#signal = joinSignals(options.signal, this.#failed.signal).signal;
    onAbort(this.#signal, () => {
      for (const cancelled of this.#chunksCancelled) cancelled.abort(this.#signal.reason);
    });
    this.#anchored = !options.unanchored;
    const { shipIntervalMs: intervalMs, nowMs } = options;
    this.#timer = new ShipTimer({ intervalMs, nowMs, wake: () => this.#pump() });
    this.#largeEncoded = new Turns(options.pool.encodedCount);
    this.#sealsAhead = new Turns(segmentsPastHoleMax(options.archive.identity.segmentSize));
  }

  /** Aborted, with the error as reason, when something failed for good. */
  get failure(): AbortSignal {
    return this.#failed.signal;
  }

  /** A segment was opened: its buffer is the shipper's to release, however the stream ends. */
  begin(open: OpenSegment): void {
    const chunksCancelled = sharedController();
    this.#chunksCancelled.add(chunksCancelled);
    if (this.#signal.aborted) chunksCancelled.abort(this.#signal.reason);
    this.#current = {
      open,
      levels: new TailLevels(LARGE_OBJECT_BYTES),
      keys: new Set(),
      chunkPuts: new Set(),
      chunksCancelled,
      sealing: sharedController(),
      shipped: open.storedPrefixBytes,
      waitingSinceMs: undefined,
      merging: false,
    };
  }

  /** The open segment has new verified bytes. */
  advance(open: OpenSegment): void {
    const shipping = this.#shipping(open);
    if (!this.#hasNews(shipping)) return;
    shipping.waitingSinceMs ??= this.#options.nowMs();
    this.#timer.schedule(shipping.waitingSinceMs);
  }

  /** Ships what is verified now, without waiting for the interval. */
  hurry(): void {
    this.#urgent = true;
    this.#pump();
  }

  /** The segment is complete: it becomes one object, and its chunks are not needed any more. The shipper owns its buffer now. */
  seal(open: OpenSegment, facts: SealFacts): void {
    const shipping = this.#shipping(open);
    this.#current = undefined;
    this.#timer.cancel();
    shipping.sealing.abort();
    const seal = this.#seal(shipping, facts).finally(() => this.#seals.delete(seal));
    this.#seals.add(seal);
    this.#sealedInOrder = Promise.all([this.#sealedInOrder, seal]).then(([, pass]) => pass());
    if (!this.#anchored) this.#anchor ??= seal;
  }

  /**
   * Stores everything verified so far, seals included. Resolves with true when all of it is stored, false when the shipper
   * failed or was cancelled, or `overdue` was aborted, before.
   */
  async drain(overdue: AbortSignal): Promise<boolean> {
    return this.#settleUntil(() => {
      const shipping = this.#current;
      return this.#seals.size === 0 && (shipping === undefined || this.#idle(shipping));
    }, overdue);
  }

  /** Waits until everything before `lsn` is stored, however much arrives meanwhile. */
  async storeUpTo(lsn: Lsn, overdue: AbortSignal): Promise<boolean> {
    return this.#settleUntil(() => this.#options.ledger.storedLsn >= lsn, overdue);
  }

  async #settleUntil(done: () => boolean, overdue: AbortSignal): Promise<boolean> {
    using either = joinSignals(this.#signal, overdue);
    const { signal } = either;
    const aborted = new Promise<void>((resolve) => void onAbort(signal, resolve));
    while (!done()) {
      if (signal.aborted) return false;
      const shipping = this.#current;
      if (shipping !== undefined && this.#hasNews(shipping)) {
        shipping.waitingSinceMs ??= this.#options.nowMs();
        this.hurry();
      }
      const pending = [...this.#seals, ...(shipping?.chunkPuts ?? [])];
      if (pending.length === 0) return done();
      await Promise.race([...pending, aborted]);
    }
    return true;
  }

  #idle(shipping: Shipping): boolean {
    return shipping.chunkPuts.size === 0 && !this.#hasNews(shipping);
  }

  /** There are verified bytes to ship, and with them the segment's tail reaches at least as far as the archive did. */
  #hasNews({ open, shipped }: Shipping): boolean {
    return open.verified > shipped && addBytes(open.startLsn, open.verified) >= this.#options.floorLsn;
  }

  /** Ends timers and waits for what is in flight to settle (cancelled by the signal); frees the open segment. */
  async close(): Promise<void> {
    this.#timer.cancel();
    this.#failed.abort();
    const shipping = this.#current;
    this.#current = undefined;
    await Promise.allSettled([...this.#seals, ...(shipping?.chunkPuts ?? [])]);
    if (shipping !== undefined) this.#options.pool.release(shipping.open.buffer);
  }

  #shipping(open: OpenSegment): Shipping {
    const shipping = this.#current;
    invariant(shipping?.open === open, "a segment that was not begun, or has been sealed");
    return shipping;
  }

  /** Starts the next chunk if one is due and a place in flight is free. */
  #pump(): void {
    this.#timer.cancel();
    const shipping = this.#current;
    const { chunksInFlightMax } = this.#options;
    if (this.#signal.aborted || shipping?.waitingSinceMs === undefined) return;
    if (this.#anchor !== undefined && !this.#anchored) return;
    if (!this.#urgent && !this.#timer.isDue(shipping.waitingSinceMs))
      return this.#timer.schedule(shipping.waitingSinceMs);
    if (this.#chunksInFlight >= chunksInFlightMax) return;
    // While the store takes less than arrives, chunks grow: one of them alone may be large, not several.
    const end = shipping.open.chunkEnd(shipping.shipped, LARGE_OBJECT_BYTES);
    const bytes = end - shipping.shipped;
    if (this.#chunksInFlight > 0 && this.#chunkBytesInFlight + bytes > SMALL_OBJECT_BYTES) return;
    const isRest = end === shipping.open.verified;
    if (isRest) this.#urgent = false;
    this.#ship(shipping, end);
    if (!isRest) this.#pump();
  }

  #ship(shipping: Shipping, end: number): void {
    const start = shipping.shipped;
    shipping.shipped = end;
    if (end === shipping.open.verified) shipping.waitingSinceMs = undefined;
    this.#chunksInFlight++;
    this.#chunkBytesInFlight += end - start;
    const startedMs = this.#options.nowMs();
    const put = this.#putChunk(shipping, start, end, 0)
      .then((stored) => {
        if (stored === undefined) return;
        // First of all, as a commit waits for it.
        this.#confirm(shipping.open, start, end, addBytes(shipping.open.startLsn, end));
        this.#timer.stored(startedMs);
        this.#options.observer.chunk(stored);
        this.#mergeTail(shipping);
      })
      .finally(() => {
        shipping.chunkPuts.delete(put);
        this.#chunksInFlight--;
        this.#chunkBytesInFlight -= end - start;
        this.#pump();
      });
    shipping.chunkPuts.add(put);
  }

  /** Undefined when the chunk is not needed any more (sealed meanwhile) or the run ended. */
  async #putChunk(shipping: Shipping, start: number, end: number, level: number): Promise<StoredWal | undefined> {
    if (end - start <= SMALL_OBJECT_BYTES) return this.#putEncoded(shipping, start, end, level);
    // A large chunk takes the memory of a segment. It counts only behind the segments before it, and is not needed beside its own.
    const { sealing, chunksCancelled } = shipping;
    using either = joinSignals(sealing.signal, chunksCancelled.signal);
    const giveBack = await this.#largeEncoded.take(either.signal);
    if (giveBack === undefined) return undefined;
    try {
      return await this.#putEncoded(shipping, start, end, level);
    } finally {
      giveBack();
    }
  }

  async #putEncoded(shipping: Shipping, start: number, end: number, level: number): Promise<StoredWal | undefined> {
    const { archive, log, confirmChunks } = this.#options;
    const { open } = shipping;
    const endLsn = addBytes(open.startLsn, end);
    const { contiguousLsn } = this.#options.ledger;
    const digest = archive.codec.recipients === undefined ? undefined : open.digestTo(end);
    const facts = { startLsn: addBytes(open.startLsn, start), endLsn, verifiedLsn: endLsn, contiguousLsn, digest };
    const { signal } = shipping.chunksCancelled;
    const raw = open.buffer.bytes.subarray(start, end);
    const options = { signal, confirm: confirmChunks || level > 0 };
    shipping.keys.add(chunkKey(archive.cluster, open.place, start, end));
    try {
      const stored = await persist(() => putChunk(archive, open.place, start, raw, facts, options), {
        what: `chunk up to ${formatLsn(endLsn)}`,
        log,
        onFailure: this.#options.observer.failed,
        signal,
      });
      shipping.levels.add(level, { key: stored.key, start, end });
      return stored;
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
      else if (!isAbort(error)) log.debug("a cancelled chunk ended with an error", { error });
      return undefined;
    }
  }

  #mergeTail(shipping: Shipping): void {
    if (shipping.merging || shipping.sealing.signal.aborted || shipping.chunksCancelled.signal.aborted) return;
    // Segments fill faster than they are stored: this one's chunks will soon be retired anyway.
    if (this.#seals.size > 0) return;
    const merge = shipping.levels.take();
    if (merge === undefined) return;
    shipping.merging = true;
    const put = this.#merge(shipping, merge).finally(() => {
      shipping.chunkPuts.delete(put);
      shipping.merging = false;
      this.#mergeTail(shipping);
    });
    shipping.chunkPuts.add(put);
  }

  async #merge(shipping: Shipping, merge: Merge): Promise<void> {
    const stored = await this.#putChunk(shipping, merge.start, merge.end, merge.level + 1);
    if (stored === undefined) return shipping.levels.putBack(merge);
    const replaced = merge.replaces.map((chunk) => chunk.key);
    for (const key of replaced) shipping.keys.delete(key);
    this.#options.retirement.add(replaced);
  }

  /** Resolves with what lets the next segment run ahead, once every one before this is stored too. */
  async #seal(shipping: Shipping, partialFacts: SealFacts): Promise<() => void> {
    const { archive, ledger, log, observer, retirement } = this.#options;
    const { open } = shipping;
    const endLsn = segmentEnd(open.place.segment, open.place.segmentSize);
    const signal = this.#signal;
    let freed: Promise<void> | undefined;
    let pass = (): void => undefined;
    try {
      await this.#afterAnchor();
      pass = await this.#sealsAhead.take();
      const giveBack = await this.#largeEncoded.take();
      try {
        signal.throwIfAborted();
        const { contiguousLsn } = ledger;
        const facts: WalFacts = { ...partialFacts, startLsn: open.startLsn, endLsn, contiguousLsn };
        const encoded = await this.#encode(shipping, facts);
        // The next segment may be received while this one is still on its way to the store.
        if (encoded.encoded.stored.buffer !== open.buffer.bytes.buffer) freed = this.#free(shipping);
        const stored = await persist(() => storeEncoded(archive, encoded, { signal, confirm: true }), {
          what: `segment ending at ${formatLsn(endLsn)}`,
          log,
          onFailure: observer.failed,
          signal,
        });
        observer.sealed(stored);
      } finally {
        giveBack();
      }
      this.#anchored = true;
      this.#confirm(open, 0, open.place.segmentSize, partialFacts.verifiedLsn);
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
    shipping.chunksCancelled.abort();
    await (freed ?? this.#free(shipping));
    this.#chunksCancelled.delete(shipping.chunksCancelled);
    if (!signal.aborted) retirement.add([...shipping.keys]);
    this.#pump();
    return pass;
  }

  async #encode(shipping: Shipping, facts: WalFacts): Promise<EncodedWal> {
    const { archive, pool } = this.#options;
    const { place, buffer } = shipping.open;
    if (!pool.encodesInPlace) return encodeSegment(archive, place, buffer.bytes, facts);
    // A chunk that is tried again is made from the content, which is about to be overwritten.
    await Promise.allSettled([...shipping.chunkPuts]);
    this.#signal.throwIfAborted();
    return encodeSegmentInPlace(archive, place, buffer.bytes.buffer, facts);
  }

  /** Gives a sealed segment's buffer back once the chunk PUTs that read it have settled. */
  async #free(shipping: Shipping): Promise<void> {
    await Promise.allSettled([...shipping.chunkPuts]);
    this.#options.pool.release(shipping.open.buffer);
  }

  /** The first segment of an archive or a timeline is stored before any later one, so a hole can never precede them all. */
  async #afterAnchor(): Promise<void> {
    const anchor = this.#anchor;
    if (!this.#anchored && anchor !== undefined) await anchor;
  }

  #confirm(open: OpenSegment, start: number, end: number, verifiedLsn: Lsn): void {
    const { ledger, observer } = this.#options;
    const moved = ledger.confirm({
      from: addBytes(open.startLsn, start),
      to: addBytes(open.startLsn, end),
      verified: verifiedLsn,
    });
    if (moved) observer.stored();
    observer.kept(ledger.contiguousLsn);
  }

  #fail(error: unknown): void {
    if (!this.#failed.signal.aborted) this.#failed.abort(error);
  }
}
