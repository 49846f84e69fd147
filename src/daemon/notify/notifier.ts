/**
 * Sends the notifications of one cluster: reads its status and its jobs' results, reports what is new, and remembers
 * that in the store, so that a restarted daemon does not repeat it. It never holds up the receiver.
 */
import { randomBytes } from "node:crypto";
import { openArchive } from "../../archive/archive.ts";
import { backupIdOf } from "../../archive/keys.ts";
import { listNotices, putNotice, type ToldNotice } from "../../archive/records/notices.ts";
import type { NoticeEventName } from "../../config/notify-events.ts";
import { hasCode } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { deadline, type JoinedSignal } from "../../signals.ts";
import type { Store } from "../../store/store.ts";
import { bodyOf, isWanted, type Notice } from "./notice.ts";
import { failureNotice, noticesOfRun, type EndedRun } from "./job-notices.ts";
import { beginWatch, decideNotices, type Watch, type WatchOptions } from "./status-notices.ts";
import type { Channel } from "./channel.ts";
import type { NotificationsView, StatusDocument } from "../status/document.ts";
import { Told } from "./already-reported.ts";

/** The settings that a reload may change. */
export interface NotifierTuning extends WatchOptions {
  /** `notify-events`. */
  readonly events: string;
  /** None: everything here does nothing. */
  readonly channels: readonly Channel[];
  /** Takes secrets out of a text. */
  readonly scrub: (text: string) => string;
}

export interface NotifierOptions {
  readonly cluster: string;
  readonly host: string;
  readonly store: Store;
  readonly log: Log;
  readonly nowMs: () => number;
  /** Notices of earlier lives of the cluster in this process, for later ones: the store may be what fails. */
  readonly memory?: ToldNotice[] | undefined;
}

/** Messages an hour. */
const RATE_MAX = 30;
const RATE_WINDOW_MS = 3_600_000;
/** How long a read or a write of sent notices in the store may take. After it, messages are sent all the same. */
const MEMORY_TIMEOUT_MS = 10_000;
/** How long a stop waits for deliveries. It waits longer after a failure, which no other message may report. */
const STOP_MS = 3_000;
const FAILURE_MS = 15_000;
const INBOX_MAX = 100;
const DECIDED_MAX = 200;
/** The pause before a store that did not answer is asked again. */
const RECALL_PAUSE_MS = 60_000;

export class Notifier {
  readonly #options: NotifierOptions;
  #tuning: NotifierTuning;
  readonly #inbox: Notice[] = [];
  #watch: Watch;
  #told = new Told();
  /** Notices of this daemon, kept until the store can be asked. */
  readonly #own: ToldNotice[];
  /** The latest that was decided on since the start, delivered by now or not. */
  readonly #decided: (readonly [notice: Pick<Notice, "subject" | "kind" | "state">, atMs: number])[] = [];
  /** The archive belongs to another cluster: it is neither read nor written. */
  #isForeign = false;
  #isRecalled = false;
  #recallAtMs = 0;
  /** Aborted at the end, when the store has had its time. */
  readonly #hurry = new AbortController();
  #working: Promise<void> | undefined;
  readonly #recording = new Set<Promise<void>>();
  #systemIdentifier: string | null = null;
  #sentMs: number[] = [];
  #omittedSince: Date | undefined;
  readonly #omitted = new Map<NoticeEventName, number>();
  #omittedTotal = 0;
  #isBroken = false;

  constructor(options: NotifierOptions, tuning: NotifierTuning) {
    this.#options = options;
    this.#tuning = tuning;
    this.#watch = beginWatch(options.nowMs());
    this.#own = options.memory ?? [];
    this.#told.recall(this.#own);
  }

  get view(): NotificationsView | null {
    const { channels } = this.#tuning;
    return channels.length === 0 ? null : { channels: channels.map(({ view }) => view), omitted: this.#omittedTotal };
  }

  /** To be called about every second. */
  look(status: StatusDocument): void {
    if (this.#tuning.channels.length === 0) return;
    this.#systemIdentifier = status.systemIdentifier ?? this.#systemIdentifier;
    this.#guarded(() => {
      const { watch, notices } = decideNotices(this.#watch, status, this.#tuning);
      this.#watch = watch;
      this.#consider([...notices, ...this.#omission()]);
    });
  }

  /** Other channels from now on; what the old ones have not delivered goes over the new ones. */
  retune(tuning: NotifierTuning): void {
    const before = this.#tuning.channels;
    this.#tuning = tuning;
    for (const old of before) {
      const heir = tuning.channels.find(({ name }) => name === old.name) ?? tuning.channels[0];
      for (const message of old.takeOver()) heir?.send(message);
    }
  }

  /** A job has ended. */
  ran(run: EndedRun): void {
    if (this.#tuning.channels.length > 0) this.#guarded(() => this.#consider(noticesOfRun(run)));
  }

  /** Ends with the cluster, after a bounded wait for deliveries. `failure`: the error that ended the cluster. */
  async end(failure?: unknown): Promise<void> {
    const { nowMs } = this.#options;
    const { channels } = this.#tuning;
    if (channels.length === 0) return;
    this.#isForeign = hasCode(failure, "foreign-cluster");
    const timer = setTimeout(() => this.#hurry.abort(), STOP_MS);
    if (failure !== undefined) this.#guarded(() => this.#consider([failureNotice(failure, new Date(nowMs()))]));
    await this.#working;
    await Promise.all(channels.map((channel) => channel.close(failure === undefined ? STOP_MS : FAILURE_MS)));
    await Promise.all(this.#recording);
    clearTimeout(timer);
  }

  /** Every look finds what still holds; only what may be news goes on, once. */
  #consider(notices: readonly Notice[]): void {
    const { nowMs, host } = this.#options;
    const { events } = this.#tuning;
    for (const found of notices) {
      // The archive's troubles are everybody's, but of two receivers one waits while the other is well.
      const isOwn = found.subject === "receiver" || found.subject === "uploads";
      const notice = isOwn ? { ...found, subject: `${found.subject} on ${host}` } : found;
      const isWaiting = this.#inbox.some(({ subject, state }) => subject === notice.subject && state === notice.state);
      if (isWaiting || this.#inbox.length >= INBOX_MAX) continue;
      // Without the notices of earlier daemons it is unknown whether a problem that ended was reported.
      const isUnknown = notice.kind === "end" && !this.#isRecalled && nowMs() >= this.#recallAtMs;
      const maybe = isUnknown || this.#told.isNews(notice, nowMs());
      if (isWanted(notice.event, events) && maybe) this.#inbox.push(notice);
    }
    if (this.#inbox.length === 0) return;
    this.#working ??= this.#work();
  }

  /** A bug in here is not to end what it watches. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#broken(error);
    }
  }

  #broken(error: unknown): void {
    const { log } = this.#options;
    log[this.#isBroken ? "debug" : "error"]("cannot find out which notifications are due", { error });
    this.#isBroken = true;
  }

  /** Rejects never. */
  async #work(): Promise<void> {
    const { nowMs } = this.#options;
    try {
      await this.#recall();
      for (let notice = this.#inbox.shift(); notice !== undefined; notice = this.#inbox.shift()) {
        if (this.#told.isNews(notice, nowMs())) this.#tell(notice);
      }
    } catch (error) {
      this.#broken(error);
    } finally {
      // In the same turn in which the inbox was found empty: what comes from now on begins anew.
      this.#working = undefined;
    }
  }

  #tell(notice: Notice): void {
    const { cluster, host, nowMs, log } = this.#options;
    const { channels, scrub } = this.#tuning;
    const now = nowMs();
    this.#sentMs = this.#sentMs.filter((ms) => isWithinRate(ms, now));
    // After a failure nothing else would report that it was left out.
    if (this.#sentMs.length >= RATE_MAX && notice.event !== "receiver-failed") return this.#omit(notice, now);
    this.#sentMs.push(now);
    const body = bodyOf(notice, { cluster, systemIdentifier: this.#systemIdentifier, host, scrub });
    const { event, severity } = body;
    log.info("notifying", { event, text: body.text });
    this.#remember(notice, now);
    const onDelivered = once(() => this.#record(notice, now));
    const message = { event, cluster, severity, body: `${JSON.stringify(body)}\n`, onDelivered };
    for (const channel of channels) channel.send(message);
  }

  /** Counts a notice that is not sent; another daemon may send it. */
  #omit(notice: Notice, nowMs: number): void {
    const { log } = this.#options;
    const { event } = notice;
    this.#omittedSince ??= new Date(nowMs);
    this.#omitted.set(event, (this.#omitted.get(event) ?? 0) + 1);
    this.#omittedTotal++;
    // Else it would be counted at each look.
    this.#remember(notice, nowMs);
    log.warn("too much to notify of: left out", { event });
  }

  #remember({ subject, kind, state }: Notice, nowMs: number): void {
    const matter = { subject, kind, state };
    this.#told.remember(matter, nowMs);
    this.#decided.push([matter, nowMs]);
    if (this.#decided.length > DECIDED_MAX) this.#decided.shift();
  }

  /** When the ceiling is no longer in the way: how much was left out. */
  #omission(): Notice[] {
    const now = this.#options.nowMs();
    const since = this.#omittedSince;
    if (since === undefined || this.#sentMs.filter((ms) => now - ms < RATE_WINDOW_MS).length >= RATE_MAX) return [];
    const events = Object.fromEntries(this.#omitted);
    const omitted = [...this.#omitted.values()].reduce((sum, count) => sum + count, 0);
    this.#omittedSince = undefined;
    this.#omitted.clear();
    const text = `${omitted} notifications were left out since ${since.toISOString()}: there were too many`;
    const details = { since: since.toISOString(), omitted, events };
    const about = { subject: "notices", kind: "once", state: since.toISOString(), at: new Date(now) } as const;
    return [{ ...about, event: "notices-omitted", text, details }];
  }

  /** Reads what earlier daemons reported. Best effort: a problem may be reported twice, which is better than never. */
  async #recall(): Promise<void> {
    const { store, cluster, log, nowMs } = this.#options;
    if (this.#isForeign || this.#isRecalled || nowMs() < this.#recallAtMs) return;
    this.#recallAtMs = nowMs() + RECALL_PAUSE_MS;
    using limit = this.#limit();
    const { signal } = limit;
    try {
      const known = await listNotices(await openArchive(store, cluster, { signal }), new Date(nowMs()), { signal });
      const told = new Told();
      told.recall([...known, ...this.#own]);
      for (const [matter, atMs] of this.#decided) told.remember(matter, atMs);
      this.#told = told;
      this.#isRecalled = true;
    } catch (error) {
      log.debug("cannot look up what was notified of before", { error });
    }
  }

  /** Remembers a delivered notice for the next daemon. */
  #record({ event, subject, kind, state }: Notice, nowMs: number): void {
    const { store, cluster, log } = this.#options;
    const toldAt = new Date(nowMs);
    const told = {
      id: backupIdOf(toldAt, randomBytes(4).readUInt32LE()),
      toldAt: toldAt.toISOString(),
      event,
      subject,
      kind,
      state,
    };
    this.#own.push(told);
    if (this.#own.length > INBOX_MAX) this.#own.shift();
    if (this.#isForeign) return;
    const limit = this.#limit();
    const { signal } = limit;
    const recording: Promise<void> = openArchive(store, cluster, { signal })
      .then(async (archive) => putNotice(archive, told, { signal }))
      .catch((error: unknown) => log.debug("cannot write down what was notified of", { event, error }));
    this.#recording.add(recording);
    void recording.finally(() => {
      limit[Symbol.dispose]();
      this.#recording.delete(recording);
    });
  }

  #limit(): JoinedSignal {
    return deadline(MEMORY_TIMEOUT_MS, this.#hurry.signal);
  }
}

/** Sent in the window that the rate is counted in; a time ahead of now was another clock's. */
function isWithinRate(sentMs: number, nowMs: number): boolean {
  return sentMs <= nowMs && nowMs - sentMs < RATE_WINDOW_MS;
}

function once(call: () => void): () => void {
  let isCalled = false;
  return () => {
    if (!isCalled) call();
    isCalled = true;
  };
}
