/**
 * The status without a receiver: the server's own facts and our slot, and how far the archive reaches. Either side may
 * be missing or failing; the other is still reported.
 */
import { openArchive, writerRefusal } from "../../archive/archive.ts";
import { readGenerations } from "../../archive/generations.ts";
import { parseGivenName } from "../../archive/keys.ts";
import { type LastEvents, readLastEvents } from "../../archive/records/last-events.ts";
import { describeRivals } from "../../archive/line/rivals.ts";
import { findTip } from "../../archive/wal/tip.ts";
import { readSlotStatus } from "./slot-monitor.ts";
import type { SlotStatus } from "../../receive/status.ts";
import { ReplicationConnection } from "../../replication/connection.ts";
import { isNewerServer } from "../../replication/server-version.ts";
import type { ConnectionSettings } from "../../replication/settings.ts";
import type { Store } from "../../store/store.ts";
import { bytesBetween, formatLsn, type Lsn } from "../../wal/lsn.ts";
import { Journal } from "./journal.ts";
import type { SeawallError } from "../../errors.ts";
import { shownError } from "../../log.ts";
import { judged } from "../health/health.ts";
import { rivalDocument } from "./receiver-document.ts";
import { GapMemory, lookAtGaps } from "./gap-look.ts";
import { followSlot } from "./slot-health.ts";
import type { GapDocument, HealthLimits, NoReceiver, RivalDocument, StatusDocument } from "./document.ts";

export interface OutsideViewOptions {
  readonly cluster: string;
  readonly slot: string | undefined;
  /** Undefined: not to be looked at. */
  readonly connection: ConnectionSettings | undefined;
  readonly store: Store | undefined;
  /** Why something could not even be tried. */
  readonly troubles?: readonly unknown[];
  /** Undefined: no receiver was asked. */
  readonly noReceiver: NoReceiver | undefined;
  readonly limits: HealthLimits;
  readonly version: string;
  readonly nowMs: () => number;
  readonly signal: AbortSignal;
}

export interface OutsideView {
  readonly status: StatusDocument;
  /** Errors of what could not be looked at. */
  readonly failures: readonly unknown[];
}

interface ServerView {
  readonly server: string;
  readonly serverVersion: number;
  readonly systemIdentifier: bigint;
  readonly timeline: number;
  readonly flushLsn: Lsn;
  readonly slot: SlotStatus | null;
}

interface ArchiveView {
  readonly systemIdentifier: bigint;
  readonly segmentSize: number;
  readonly tip: Lsn | undefined;
  readonly timeline: number | undefined;
  readonly gaps: readonly GapDocument[];
  readonly rivals: readonly RivalDocument[];
  readonly last: LastEvents;
  /** The refusal of a writer with this system identifier. */
  readonly refusalOf: (systemIdentifier: bigint) => SeawallError | undefined;
}

export async function lookFromOutside(options: OutsideViewOptions): Promise<OutsideView> {
  const { cluster, connection, store, version, nowMs, signal } = options;
  const failures: unknown[] = [...(options.troubles ?? [])];
  const journal = new Journal({ nowMs, onError: () => undefined });
  for (const trouble of failures) journal.note(trouble);
  const attempt = async <T>(look: Promise<T>): Promise<T | undefined> => {
    try {
      return await look;
    } catch (error) {
      failures.push(error);
      journal.note(error);
      return undefined;
    }
  };
  const [server, archive] = await Promise.all([
    connection === undefined ? undefined : attempt(lookAtServer(connection, options.slot, signal)),
    store === undefined ? undefined : attempt(lookAtArchive(store, cluster, nowMs(), signal)),
  ]);
  const identifier = server?.systemIdentifier ?? archive?.systemIdentifier;
  const refusal = server === undefined ? undefined : archive?.refusalOf(server.systemIdentifier);
  // The LSNs of two servers are not comparable.
  const isComparable = refusal === undefined && server !== undefined && archive?.tip !== undefined;
  const lagBytes = isComparable ? Math.max(0, bytesBetween(archive.tip, server.flushLsn)) : null;
  const at = nowMs();
  const slot = server?.slot ?? null;
  const status = judged({
    source: "server-and-store",
    cluster,
    state: "unreachable",
    systemIdentifier: identifier?.toString() ?? null,
    timeline: server?.timeline ?? archive?.timeline ?? null,
    serverLsn: server === undefined ? null : formatLsn(server.flushLsn),
    receivedLsn: null,
    verifiedLsn: null,
    storedLsn: archive?.tip === undefined ? null : formatLsn(archive.tip),
    reportedLsn: null,
    lagBytes,
    rpoSeconds: null,
    rpoIsAtMost: null,
    slot,
    slotBudget: null,
    slotHealth: slot === null ? null : followSlot(null, slot, at),
    limits: options.limits,
    synchronous: false,
    durability: "store",
    spoolBytes: null,
    spoolLimitBytes: null,
    uploadedLsn: null,
    isUploaded: null,
    server: server?.server ?? null,
    serverVersion: server?.serverVersion ?? null,
    isServerNewer: server === undefined ? null : isNewerServer(server.serverVersion),
    segmentSize: archive?.segmentSize ?? null,
    store: store?.description ?? null,
    startedAt: null,
    streamingSince: null,
    notReceivingSince: null,
    lastMessageAt: null,
    bufferSegmentsInUse: 0,
    waitingForStore: false,
    storeWaitSeconds: null,
    storeWaitError: null,
    isStoreStalled: false,
    serverStoppingSince: null,
    segmentLevel: null,
    counters: null,
    gaps: archive?.gaps ?? [],
    rivals: archive?.rivals ?? null,
    archive: archive?.last ?? null,
    contents: null,
    slotError: null,
    refusal: refusal === undefined ? null : shownError(refusal, at),
    noReceiver: options.noReceiver ?? null,
    lastError: null,
    errors: journal.errors(),
    jobs: [],
    restart: null,
    configuration: null,
    notifications: null,
    progressAgeSeconds: null,
    version,
    at: new Date(at).toISOString(),
  });
  return { status, failures };
}

async function lookAtServer(
  connection: ConnectionSettings,
  slot: string | undefined,
  signal: AbortSignal,
): Promise<ServerView> {
  await using walsender = await ReplicationConnection.connect(connection, { signal });
  const { systemIdentifier, timeline, xlogpos } = await walsender.identifySystem();
  const { server, serverVersion } = walsender;
  const found = slot === undefined ? null : await readSlotStatus(connection, slot, signal);
  return { server, serverVersion, systemIdentifier, timeline, flushLsn: xlogpos, slot: found };
}

async function lookAtArchive(store: Store, cluster: string, nowMs: number, signal: AbortSignal): Promise<ArchiveView> {
  const archive = await openArchive(store, cluster, { signal });
  const isNewest = parseGivenName(cluster).generation === undefined;
  const generations = isNewest ? await readGenerations(store, cluster, { signal }) : [];
  const [tip, gaps, rivals, last] = await Promise.all([
    findTip(archive, { signal }),
    lookAtGaps(archive, new GapMemory(), { signal, mayReadWal: true }),
    describeRivals(archive, { signal }),
    readLastEvents(archive, new Date(nowMs), { signal }),
  ]);
  return {
    systemIdentifier: archive.identity.systemIdentifier,
    segmentSize: archive.identity.segmentSize,
    tip: tip?.lsn,
    timeline: tip?.timeline,
    last,
    refusalOf: (systemIdentifier) => writerRefusal(store, generations, systemIdentifier),
    rivals: rivals.map(rivalDocument),
    gaps,
  };
}
