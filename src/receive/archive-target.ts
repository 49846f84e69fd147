/** The archive as the target of a stream: the tip it has, finished timelines, chunks to retire, gaps. */
import type { Archive } from "../archive/archive.ts";
import { finishTimeline, staleChunks } from "../archive/wal/finish-timeline.ts";
import { peekWal } from "../archive/wal/objects.ts";
import { findTip } from "../archive/wal/tip.ts";
import { listTails } from "../archive/wal/tail.ts";
import { formatLsn } from "../wal/lsn.ts";
import type { TimelineHistory } from "../wal/timeline.ts";
import { openArchiveIntake } from "./archive-intake.ts";
import { recordGap } from "./gap.ts";
import type { ReceiverOptions } from "./options.ts";
import { Retirement } from "./retirement.ts";
import type { SegmentBufferPools } from "./segment-buffer.ts";
import type { ServerFacts } from "./server-facts.ts";
import type { BegunTarget, WalTarget } from "./target.ts";

export interface ArchiveTargetContext {
  readonly archive: Archive;
  readonly server: ServerFacts;
  /** The server's history. */
  readonly history: TimelineHistory;
  readonly pools: SegmentBufferPools;
}

export function archiveTarget(options: ReceiverOptions, context: ArchiveTargetContext): WalTarget {
  const { archive } = context;
  const { segmentSize } = context.server;
  return {
    findTip: async (signal) => findTip(archive, { signal }),
    lacks: async (place, signal) =>
      (await peekWal(archive, "segment", { ...place, segmentSize }, { signal })) === undefined,
    begin: async (start, signal) => begin(options, context, start, signal),
    recordGap: async (lost, signal) => recordGap(archive, lost, options.log, signal),
  };
}

async function begin(
  options: ReceiverOptions,
  { archive, server, history, pools }: ArchiveTargetContext,
  start: Parameters<WalTarget["begin"]>[0],
  signal: AbortSignal,
): Promise<BegunTarget> {
  const { store, log, state } = options;
  const retirement = new Retirement(store, log);
  if (start.finish !== undefined) {
    const { timeline, segment } = start.finish;
    const { partial, retired } = await finishTimeline(archive, timeline, segment, { signal });
    retirement.add(retired);
    if (partial !== undefined) {
      log.info("finished a timeline", { timeline, endLsn: formatLsn(partial.endLsn), key: partial.key });
    }
  }
  const tails = await listTails(archive, { timeline: start.timeline }, { signal });
  retirement.add(await staleChunks(archive, tails, start, { signal }));
  const pool = pools.of(server.segmentSize);
  const context = { archive, server, history, start, tails, retirement, pool };
  return {
    openIntake: async (wiring) => {
      const intake = await openArchiveIntake(options, context, wiring);
      state.buffersInUse = () => pool.inUse;
      return intake;
    },
    finish: async (kill) => {
      await retirement.finish(kill);
      state.retired(retirement.retired);
    },
  };
}
