/**
 * The prefetcher: one process beside a recovering server that fetches the next segments, verifies them and puts them
 * where a rename suffices. It handles sealed segments only, which never change. Tails, partials, "absent" and errors
 * are wal-fetch's, which asks the store every time.
 *
 * It ends by itself: when recovery or the server ends, when no file was asked for for a while, when told to. What it leaves
 * when it is killed is valid for this start of the server only, and the next wal-fetch or prefetcher removes it.
 */
import type { Identities } from "../../codec/age/identities.ts";
import { Codec } from "../../codec/codec.ts";
import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { openArchiveOf, type Archive } from "../../archive/archive.ts";
import { segmentName } from "../../archive/keys.ts";
import { deadline, joinSignals } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import type { SegmentNumber } from "../../wal/lsn.ts";
import { parseWalFileName } from "../../wal/names.ts";
import { createsTablespace } from "../../wal/wal-changes.ts";
import { PrefetchFolder, type ReadySegments, type Session, type Want } from "./prefetch-folder.ts";
import { fetchesAtOnce, planPrefetch, type Position, positionAfter, segmentsWithin } from "./prefetch-plan.ts";
import { isRecovering, isSameRun, refuseForeignArchive, type ServerRun, systemIdentifierOf } from "../server-run.ts";
import { changesOf, type Content, findWal, readSealedContent } from "./wal-fetch.ts";

export interface PrefetchOptions {
  readonly store: Store;
  readonly cluster: string;
  readonly run: ServerRun;
  readonly session: Session;
  /** The flag as wal-fetch was given it. */
  readonly anyTimeline?: boolean | undefined;
  /** The segment that recovery was given last. */
  readonly after: string;
  /** Most bytes that may wait or be under way. */
  readonly bytesMax: number;
  /** Ends when nothing has been taken or asked for so long. */
  readonly idleMsMax: number;
  /** For an encrypted archive. */
  readonly identities?: Identities | undefined;
  readonly signal: AbortSignal;
}

/** How often it is looked what recovery has taken: while it moves, and while it does not. */
const BUSY_POLL_MS = 10;
const IDLE_POLL_MS = 100;
const BUSY_FOR_MS = 2_000;
/** How often it is looked whether there is still a recovery. */
const LIFE_MS = 1_000;
/** Longer the script does not wait for an answer; wal-fetch has the patience that an outage needs. */
const ANSWER_MS_MAX = 1_000;
/** After a failure: the store has been tried again for long already, a full disk needs time. */
const PAUSE_MS = 2_000;

/**
 * Resolves when no server needs prefetching any more, and nothing of ours is left. Throws what opening the archive
 * throws.
 */
export async function runPrefetcher(options: PrefetchOptions): Promise<void> {
  const ready = await new PrefetchFolder(options.run).claim(options.session);
  if (ready === undefined) return;
  const ending = new AbortController();
  using either = joinSignals(options.signal, ending.signal);
  const { signal } = either;
  try {
    const asking = await systemIdentifierOf(options.run);
    const archive = await openArchiveOf(options.store, options.cluster, asking, {
      codec: new Codec({ identities: options.identities }),
      signal,
    });
    refuseForeignArchive(asking, archive.identity.systemIdentifier);
    const start = parseWalFileName(options.after, archive.identity.segmentSize);
    if (start?.kind !== "segment") return;
    await new Prefetcher(options, ready, archive, start, signal).untilTheEnd();
  } finally {
    ending.abort();
    await ready.close();
  }
}

class Prefetcher {
  readonly #options: PrefetchOptions;
  readonly #ready: ReadySegments;
  readonly #archive: Archive;
  readonly #signal: AbortSignal;
  readonly #segmentsMax: number;
  /** Names we have put there and not seen taken. */
  readonly #waiting = new Map<string, SegmentNumber>();
  readonly #fetching = new Map<string, Promise<void>>();
  /** Memory of fetches that have ended, for the next ones. */
  readonly #spares: Uint8Array<ArrayBuffer>[] = [];
  #position: Position;
  #missing: SegmentNumber | undefined;
  #wants: readonly Want[] = [];
  #asked: string | undefined;
  #movedMs = performance.now();
  #pausedUntilMs = 0;

  constructor(
    options: PrefetchOptions,
    ready: ReadySegments,
    archive: Archive,
    position: Position,
    signal: AbortSignal,
  ) {
    this.#options = options;
    this.#ready = ready;
    this.#archive = archive;
    this.#position = position;
    this.#signal = signal;
    this.#segmentsMax = segmentsWithin(options.bytesMax, archive.identity.segmentSize);
  }

  async untilTheEnd(): Promise<void> {
    let seenAliveMs = -Infinity;
    while (!this.#signal.aborted && this.#segmentsMax > 0) {
      const nowMs = performance.now();
      if (nowMs - seenAliveMs >= LIFE_MS) {
        if (nowMs - this.#movedMs > this.#options.idleMsMax || !(await this.#isWanted())) return;
        seenAliveMs = nowMs;
      }
      await this.#look();
      await this.#act(nowMs);
      for (const want of this.#wants) await this.#answer(want);
      await this.#rest();
    }
  }

  async #isWanted(): Promise<boolean> {
    const { run } = this.#options;
    return isRecovering(run) && (await isSameRun(run)) && (await this.#ready.touch());
  }

  /** Where is recovery? Behind the last segment it has taken, or at the one that wal-fetch served by itself. */
  async #look(): Promise<void> {
    // What is added while we look is not there yet, and not taken either.
    const waiting = [...this.#waiting];
    const { ready: there, wants } = await this.#ready.look();
    this.#wants = wants;
    const taken: SegmentNumber[] = [];
    for (const [name, segment] of waiting) {
      if (there.has(name)) continue;
      this.#waiting.delete(name);
      taken.push(segment);
    }
    let position = positionAfter(this.#position, taken);
    const asked = await this.#ready.asked();
    if (asked !== this.#asked) {
      this.#asked = asked;
      const place = parseWalFileName(asked ?? "", this.#archive.identity.segmentSize);
      if (place?.kind === "segment") position = place;
    }
    if (position !== this.#position) this.#movedTo(position);
  }

  #movedTo(position: Position): void {
    this.#position = position;
    this.#movedMs = performance.now();
    this.#missing = undefined;
  }

  async #act(nowMs: number): Promise<void> {
    const { remove } = this.#plan();
    for (const [name, segment] of this.#waiting) {
      // Another timeline's are of no use to this recovery any more.
      if (name === this.#nameOf(segment) && !remove.includes(segment)) continue;
      this.#waiting.delete(name);
      await this.#ready.remove(name);
    }
    while (nowMs >= this.#pausedUntilMs && this.#fetching.size < fetchesAtOnce(this.#archive.identity.segmentSize)) {
      const { fetch } = this.#plan();
      if (fetch === undefined) return;
      const name = this.#nameOf(fetch);
      this.#fetching.set(
        name,
        this.#fetch(name, fetch).finally(() => this.#fetching.delete(name)),
      );
    }
  }

  /**
   * Answers for files that do not wait, as wal-fetch would, but for answers that only wal-fetch may give. A tail holds only
   * now and must not be left lying; an error belongs into the server's log.
   */
  async #answer(want: Want): Promise<void> {
    const { file } = want;
    const { segmentSize } = this.#archive.identity;
    let answer: "waits" | "gone" | "unknown" = "unknown";
    try {
      const place = parseWalFileName(file, segmentSize);
      const fetching = this.#fetching.get(file);
      if (fetching !== undefined) await fetching;
      if (this.#waiting.has(file)) answer = "waits";
      else {
        using limit = deadline(ANSWER_MS_MAX, this.#signal);
        const { anyTimeline } = this.#options;
        const found = await findWal(this.#archive, file, { signal: limit.signal, anyTimeline });
        if (found === undefined) answer = "gone";
        else if (found.from === "segment" && place?.kind === "segment" && (await this.#mayWait(found))) {
          // Given is what lies before it; this one must not be taken for passed.
          this.#movedTo({ ...place, segment: (place.segment - 1) as SegmentNumber });
          await this.#ready.add(file, found.content);
          this.#waiting.set(file, place.segment);
          answer = "waits";
        }
      }
    } catch {
      answer = "unknown";
    }
    await this.#ready.answer(want, answer).catch(() => undefined);
  }

  #plan(): ReturnType<typeof planPrefetch> {
    const have = new Set(this.#waiting.values());
    for (const name of this.#fetching.keys()) {
      const place = parseWalFileName(name, this.#archive.identity.segmentSize);
      if (place?.kind === "segment" && place.timeline === this.#position.timeline) have.add(place.segment);
    }
    return planPrefetch({
      position: this.#position,
      have,
      missing: this.#missing,
      segmentsMax: this.#segmentsMax,
    });
  }

  /** A segment that creates a tablespace is wal-fetch's to give, when recovery is there (tablespace-gate.ts). */
  async #mayWait(found: Content): Promise<boolean> {
    return !createsTablespace(await changesOf(this.#archive, found, { signal: this.#signal }));
  }

  /** Never rejects: what is wrong, wal-fetch will say when recovery gets there. */
  async #fetch(name: string, segment: SegmentNumber): Promise<void> {
    const { run, bytesMax } = this.#options;
    const { timeline } = this.#position;
    const { segmentSize } = this.#archive.identity;
    const into = this.#spares.pop() ?? new Uint8Array(segmentSize);
    let isAdded = false;
    try {
      // Recovery needs room in pg_wal more than we do.
      const { bavail, bsize } = await statfs(run.walDir);
      if (bavail * bsize < bytesMax + segmentSize) return this.#pause();
      await this.#ready.begin(name);
      const place = { timeline, segment, segmentSize };
      const found = await readSealedContent(this.#archive, place, { signal: this.#signal, into });
      const mayWait = found !== undefined && (await this.#mayWait(found));
      if (mayWait && !this.#signal.aborted) {
        await this.#ready.add(name, found.content);
        isAdded = true;
        this.#waiting.set(name, segment);
      } else if (timeline === this.#position.timeline && segment > this.#position.segment) {
        this.#missing = Math.min(segment, this.#missing ?? segment) as SegmentNumber;
      }
    } catch {
      this.#pause();
    } finally {
      if (!isAdded) await this.#ready.giveUp(name);
      this.#spares.push(into);
    }
  }

  #pause(): void {
    this.#pausedUntilMs = performance.now() + PAUSE_MS;
  }

  async #rest(): Promise<void> {
    const isBusy = this.#fetching.size > 0 || performance.now() - this.#movedMs < BUSY_FOR_MS;
    const ms = isBusy ? BUSY_POLL_MS : IDLE_POLL_MS;
    await sleep(ms, undefined, { signal: this.#signal }).catch(() => undefined);
  }

  #nameOf(segment: SegmentNumber): string {
    return segmentName({ ...this.#position, segment, segmentSize: this.#archive.identity.segmentSize });
  }
}
