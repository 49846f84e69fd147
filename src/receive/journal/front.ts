/**
 * The front of a spool: a server's WAL goes into the journal. The archive's line lies in the store behind it, which is asked
 * while it answers; while it is away the journal goes on with the timeline that it has.
 */
import type { Archive } from "../../archive/archive.ts";
import type { ClusterIdentity } from "../../archive/documents.ts";
import { carryInto, findTip } from "../../archive/wal/tip.ts";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import { deadline, joinSignals } from "../../signals.ts";
import { waitFor } from "../../store/signal.ts";
import { formatLsn, segmentOf } from "../../wal/lsn.ts";
import type { TimelineHistory } from "../../wal/timeline.ts";
import { gapEnd, type LostWal } from "../gap.ts";
import { joinLine } from "../line/claim.ts";
import { type Admit, type Applicant, joinOptionsOf } from "../line/connect.ts";
import type { JoinedLine } from "../line/watch.ts";
import type { ReceiverOptions } from "../options.ts";
import type { ServerFacts } from "../server-facts.ts";
import { judgeSpool } from "../spool-room.ts";
import type { StartPosition } from "../start-position.ts";
import type { BegunTarget, WalTarget } from "../target.ts";
import { delaysUpload } from "../upload-failures.ts";
import type { Journal } from "./journal.ts";
import { openJournalIntake } from "./journal-intake.ts";
import type { RoomOptions } from "./room.ts";

export interface FrontContext {
  readonly journal: Journal;
  /** Opens the archive behind the journal. */
  readonly openBehind: (identity: ClusterIdentity, signal: AbortSignal) => Promise<Archive>;
  readonly room: RoomOptions;
}

/** How long the store behind a spool may take to say where the line is; the server waits meanwhile. */
const LINE_ANSWER_MS = 5_000;

/** Admits servers into the journal. */
export function admitToJournal(options: ReceiverOptions, context: FrontContext): Admit {
  const { journal } = context;
  return async (applicant, joining) => {
    await refuseSmall(applicant.identity, context, options);
    await journal.adopt(applicant.identity);
    const line = await join(options, context, applicant, joining);
    await journal.putHistories(applicant.origin.files);
    const { facts, origin, identity } = applicant;
    const target = new JournalTarget(options, context, { server: facts, history: origin.history, identity });
    return { line, target };
  };
}

/** Full of what it must keep, a spool that is too small would never have room again. */
async function refuseSmall(
  { segmentSize }: ClusterIdentity,
  { journal, room }: FrontContext,
  { log }: ReceiverOptions,
): Promise<void> {
  const disk = await room.diskSpace?.().catch(() => undefined);
  const facts = { segmentSize, spoolBytesMax: room.spoolBytesMax, disk, heldBytes: journal.bytes };
  const { kind, message, hint } = judgeSpool(facts);
  if (kind === "small") throw new SeawallError("usage", message, { hint });
  if (kind !== "ok") log.warn(message, { hint });
}

/** Decides in the store whether this server may be archived; without an answer, only the journal's own timeline may. */
async function join(
  options: ReceiverOptions,
  { journal, openBehind }: FrontContext,
  { identity, origin }: Applicant,
  { takeOver, signal }: Parameters<Admit>[1],
): Promise<JoinedLine> {
  const { timeline } = origin.history;
  const { tip } = journal;
  const isOnTimeline = tip?.timeline === timeline;
  // Opened once a stream: a look at the line is one request then.
  let opened: Archive | undefined;
  const openArchive: JoinedLine["openArchive"] = async (looking) => (opened ??= await openBehind(identity, looking));
  using limit = isOnTimeline ? deadline(LINE_ANSWER_MS, signal) : joinSignals(signal);
  const patient = limit.signal;
  const joining = { ...joinOptionsOf(options), server: origin, spooled: tip, takeOver, signal: patient };
  try {
    const claiming = openArchive(patient).then((behind) => joinLine(behind, joining));
    // A directory behind the spool may answer no call, and heed no signal.
    return { openArchive, claim: await waitFor(claiming, { signals: [patient] }) };
  } catch (error) {
    const isRefusing = delaysUpload(error) && error.exit === EXIT.store;
    if (isRefusing && tip !== undefined && !isOnTimeline) throw failoverWaits(error, timeline);
    if (signal.aborted || !isOnTimeline || !(isRefusing || limit.isOverdue)) throw error;
    const what = "the store does not say where the archive's line is: going on with the spool's timeline";
    options.log.warn(what, { error });
    return { openArchive, claim: undefined };
  }
}

/** Has the receiver try again: the spool holds acknowledged WAL, and the store will answer one day. */
function failoverWaits(cause: SeawallError, timeline: number): SeawallError {
  if (cause.retryable) return cause;
  const message = `the server moved to timeline ${timeline}, and the store does not say whether it may be archived: ${cause.message}`;
  return new SeawallError("store-unavailable", message, { cause, hint: cause.hint });
}

interface Joined {
  readonly server: ServerFacts;
  readonly history: TimelineHistory;
  readonly identity: ClusterIdentity;
}

/** The journal as the target of a stream. While it is empty, the store's archive says where to begin. */
class JournalTarget implements WalTarget {
  readonly #options: ReceiverOptions;
  readonly #context: FrontContext;
  readonly #joined: Joined;

  constructor(options: ReceiverOptions, context: FrontContext, joined: Joined) {
    this.#options = options;
    this.#context = context;
    this.#joined = joined;
  }

  async findTip(signal: AbortSignal): ReturnType<WalTarget["findTip"]> {
    return this.#context.journal.tip ?? findTip(await this.#archive(signal), { signal });
  }

  /** The store has what the journal does not hold any more; its own receiver looks there. */
  async lacks(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async begin(start: StartPosition, signal: AbortSignal): Promise<BegunTarget> {
    const { journal } = this.#context;
    const { server, history } = this.#joined;
    await journal.begin(start, await this.#firstCarry(start, signal));
    const context = { journal, server, history, start, room: this.#context.room };
    return {
      openIntake: async (wiring) => Promise.resolve(openJournalIntake(this.#options, context, wiring)),
      finish: async () => Promise.resolve(),
    };
  }

  async recordGap(lost: LostWal): ReturnType<WalTarget["recordGap"]> {
    const { journal } = this.#context;
    const { segmentSize } = this.#joined.server;
    const { timeline, fromLsn, reason, detectedAt } = lost;
    const toLsn = gapEnd(lost, segmentSize);
    if (toLsn <= fromLsn) return "none";
    if (journal.tip === undefined) {
      await journal.begin({ timeline, segment: segmentOf(fromLsn, segmentSize), storedLsn: fromLsn });
    }
    this.#options.log.error("WAL was lost before it came into the spool", {
      timeline,
      fromLsn: formatLsn(fromLsn),
      toLsn: formatLsn(toLsn),
    });
    return journal.noteGap({ timeline, fromLsn, toLsn, reason, detectedAt: detectedAt.toISOString() });
  }

  async #archive(signal: AbortSignal): Promise<Archive> {
    return this.#context.openBehind(this.#joined.identity, signal);
  }

  async #firstCarry({ timeline, segment }: StartPosition, signal: AbortSignal): ReturnType<typeof carryInto> {
    if (this.#context.journal.tip !== undefined) return undefined;
    const entries = this.#joined.history.entries.filter((entry) => entry.timeline < timeline);
    return carryInto(await this.#archive(signal), { timeline, entries }, segment, { signal });
  }
}
