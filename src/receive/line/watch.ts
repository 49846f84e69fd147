/**
 * Watches the archive's line while a timeline is streamed. A receiver joins the line once, before it streams
 * (claim.ts). Another receiver may claim the line afterwards: this one must then stop acknowledging.
 *
 * A look is one HEAD for the claim that would come next. After a pause, and now and then, it also asks for two other documents:
 * - the claim that this receiver joined with. If it is absent, the archive was removed, and WAL stored there cannot be restored.
 * - the declaration of the next generation. If it is there, this generation has ended, and its WAL is not the cluster's.
 *
 * A look starts with received WAL and runs beside the PUT of the same WAL, so an idle cluster sends no request. `judgeClaims` in
 * decision.ts says what a newer claim means.
 */
import { type Archive, generationEnded } from "../../archive/archive.ts";
import { type LineClaim, readClaims } from "../../archive/line/claims.ts";
import { GENERATIONS_MAX, generationKey, identityKey, lineKey, parseGivenName } from "../../archive/keys.ts";
import { SeawallError, hasCode, isAbort } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { deadline } from "../../signals.ts";
import { waitFor } from "../../store/signal.ts";
import { type Lsn, type TimelineId, formatLsn, minLsn } from "../../wal/lsn.ts";
import { type ClaimVerdict, claimText, judgeClaims } from "./decision.ts";

/** The line as the receiver joined it. */
export interface JoinedLine {
  /** Opens the archive with the claims; with a spool it is the archive behind it. */
  readonly openArchive: (signal: AbortSignal) => Promise<Archive>;
  /** Number of the newest claim; undefined when a spool joined while its store was away. */
  readonly claim: number | undefined;
}

export interface LineWatchOptions extends JoinedLine {
  /** The server's timeline. */
  readonly timeline: TimelineId;
  readonly storedLsn: () => Lsn;
  readonly reportedLsn: () => Lsn;
  readonly nowMs: () => number;
  readonly log: Log;
  /** Called when held WAL may be acknowledged. */
  readonly onRelease: () => void;
  /** Called once, when the stream must end so that the receiver decides anew. */
  readonly onLost: (error: SeawallError) => void;
}

/** Time between two looks while WAL arrives. */
const LOOK_EVERY_MS = 5_000;
/** After a pause of this length the acknowledgement waits for the look. */
const PAUSE_MS = 2 * LOOK_EVERY_MS;
/** Time between two questions for the own claim while WAL arrives. */
const OWN_EVERY_MS = 15_000;
/** Time that one look may take. */
const ANSWER_MS = 5_000;

export class LineWatch {
  readonly #options: LineWatchOptions;
  readonly #over = new AbortController();
  #claim: number | undefined;
  #lookedAtMs: number;
  #ownAskedMs: number;
  #looking: Promise<void> | undefined;
  /** A request of a look is under way, or hangs: a file system may answer no call, and heed no signal. */
  #isAsking = false;
  /** Nothing past this is acknowledged. */
  #ceiling: Lsn | undefined;
  #verdict: ClaimVerdict = { kind: "ours" };
  /** The stream ends: nothing is looked at any more. */
  #isOver = false;
  #hasFailed = false;

  constructor(options: LineWatchOptions) {
    this.#options = options;
    this.#claim = options.claim;
    this.#lookedAtMs = options.claim === undefined ? -Infinity : options.nowMs();
    this.#ownAskedMs = options.nowMs();
  }

  /** WAL arrived: looks when the last look is too old. Cheap. */
  received(): void {
    const sinceMs = this.#options.nowMs() - this.#lookedAtMs;
    if (sinceMs < LOOK_EVERY_MS || this.#looking !== undefined || this.#isOver) return;
    // Each call that hangs holds a thread: a second one would take another.
    if (this.#isAsking) return;
    this.#lookedAtMs = this.#options.nowMs();
    // A look that follows the last one closely holds nothing up; after a pause the acknowledgement waits for it.
    if (sinceMs >= PAUSE_MS) this.#ceiling ??= this.#options.reportedLsn();
    const asksOwn = sinceMs >= PAUSE_MS || this.#lookedAtMs - this.#ownAskedMs >= OWN_EVERY_MS;
    if (asksOwn) this.#ownAskedMs = this.#lookedAtMs;
    this.#looking = this.#look(asksOwn).finally(() => (this.#looking = undefined));
  }

  /** WAL was stored: past a contested claim that shows that this server is still written, so the receiver decides anew. */
  stored(storedLsn: Lsn): void {
    const verdict = this.#verdict;
    if (verdict.kind === "contested" && storedLsn > verdict.limit) this.#lose(verdict.claim);
  }

  /** How far of `storedLsn` may be acknowledged. */
  acknowledgeable(storedLsn: Lsn): Lsn {
    return this.#ceiling === undefined ? storedLsn : minLsn(storedLsn, this.#ceiling);
  }

  /**
   * How far of the bytes that the archive has the source may let go. While a look after a pause is not answered, the archive may
   * have been removed. A contested line holds nothing here: the archive is there, and a record that is longer than a spool needs room.
   */
  releasable(keptLsn: Lsn): Lsn {
    const isThere = this.#verdict.kind === "contested" && !this.#isOver;
    return isThere ? keptLsn : this.acknowledgeable(keptLsn);
  }

  /** Ends a running look, and waits for that; not for a request that hangs. */
  async end(): Promise<void> {
    this.#over.abort();
    await this.#looking;
  }

  async #look(asksOwn: boolean): Promise<void> {
    const { timeline, log } = this.#options;
    using limit = deadline(ANSWER_MS, this.#over.signal);
    try {
      const newer = await waitFor(this.#ask(asksOwn, limit.signal), { signals: [limit.signal] });
      this.#judge(judgeClaims(newer, timeline));
      if (this.#hasFailed) log.info("the archive's line can be read again");
      this.#hasFailed = false;
    } catch (error) {
      if (this.#over.signal.aborted) return;
      if (hasCode(error, "archive-vanished")) {
        log.error("the archive was removed while it was written; it is made anew", { error });
        return this.#end(error);
      }
      if (hasCode(error, "generation-ended")) return this.#end(error);
      if (!isAbort(error) && !(error instanceof SeawallError)) throw error;
      // What is stored stays safe, whatever the line is. A store that is away must not hang the server's commits.
      if (!this.#hasFailed) log.warn("cannot read whether the archive's line is still this server's", { error });
      this.#hasFailed = true;
      if (this.#verdict.kind === "ours") this.#release();
    }
  }

  async #ask(asksOwn: boolean, signal: AbortSignal): Promise<LineClaim[]> {
    this.#isAsking = true;
    try {
      return await this.#newerClaims(asksOwn, signal);
    } finally {
      this.#isAsking = false;
    }
  }

  async #newerClaims(asksOwn: boolean, signal: AbortSignal): Promise<LineClaim[]> {
    const archive = await this.#options.openArchive(signal);
    if (asksOwn) await refuseEnded(archive, signal);
    const known = this.#claim;
    if (known !== undefined) {
      const next = await archive.store.head(lineKey(archive.cluster, known + 1), { signal });
      if (next === undefined) {
        if (!asksOwn) return [];
        await refuseVanished(archive, known, signal);
        return [];
      }
    }
    return (await readClaims(archive, { signal })).filter(({ number }) => number > (known ?? 0));
  }

  #judge(verdict: ClaimVerdict): void {
    const { timeline, log } = this.#options;
    const isNews = verdict.kind !== this.#verdict.kind;
    this.#verdict = verdict;
    switch (verdict.kind) {
      case "ours":
        return this.#release();
      case "lost":
        return this.#lose(verdict.claim);
      case "contested":
        this.#ceiling = verdict.limit;
        if (isNews) {
          log.warn(`${claimText(verdict.claim)} took the archive's line from this server without an order`, {
            timeline,
            limit: formatLsn(verdict.limit),
          });
        }
        this.#options.onRelease();
        this.stored(this.#options.storedLsn());
    }
  }

  #lose(claim: LineClaim): void {
    const message = `${claimText(claim)} took the archive's line from timeline ${this.#options.timeline}`;
    this.#end(new SeawallError("line-taken", message));
  }

  /** Acknowledges nothing more, and ends the stream. */
  #end(error: SeawallError): void {
    if (this.#isOver) return;
    this.#ceiling = minLsn(this.#options.reportedLsn(), this.#ceiling ?? this.#options.reportedLsn());
    this.#isOver = true;
    this.#options.onLost(error);
  }

  #release(): void {
    this.#ceiling = undefined;
    this.#options.onRelease();
  }
}

/** Throws `generation-ended` when the next generation of the cluster was declared. */
async function refuseEnded({ store, cluster: folder }: Archive, signal: AbortSignal): Promise<void> {
  const { cluster, generation: older = 1 } = parseGivenName(folder);
  const number = older + 1;
  if (number > GENERATIONS_MAX || (await store.head(generationKey(cluster, number), { signal })) === undefined) return;
  throw generationEnded(store, { cluster, older, number });
}

/**
 * Throws `archive-vanished` when what the receiver joined with is gone: its claim, or the identity of an archive without claims, as
 * `backup --with-wal` makes one.
 */
async function refuseVanished({ store, cluster }: Archive, known: number, signal: AbortSignal): Promise<void> {
  const key = known === 0 ? identityKey(cluster) : lineKey(cluster, known);
  if ((await store.head(key, { signal })) !== undefined) return;
  const where = `${store.description}, cluster "${cluster}"`;
  throw new SeawallError("archive-vanished", `the archive that this receiver writes was removed: ${where}`);
}
