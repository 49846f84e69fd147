/** Eight states of a cluster as the status page shows them, and an HTTP server of the daemon that serves them. */
import { startHttp } from "../../src/daemon/http/server.ts";
import type { ShownCluster } from "../../src/daemon/http/site.ts";
import type { JobView, LastRun } from "../../src/daemon/jobs/scheduler.ts";
import { growingWindow } from "../../src/daemon/status/contents.ts";
import type { StatusDocument, StatusFacts } from "../../src/daemon/status/document.ts";
import { History, HISTORY_STEP_MS, type HistoryPoint } from "../../src/daemon/status/history.ts";
import type { RecoveryMap } from "../../src/daemon/status/recovery-map.ts";
import { silentLog } from "../../src/log.ts";
import { statusFixture } from "./fixture.ts";

export const NOW = Date.parse("2026-11-20T10:00:00.500Z");
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const ago = (ms: number): string => new Date(NOW - ms).toISOString();

/** Twelve days of nightly backups; a window over all of them. */
export const CALM_MAP: RecoveryMap = {
  readAt: ago(40_000),
  windows: [
    {
      ...{ timeline: 3, fromTime: ago(10 * DAY), toTime: ago(45_000), fromLsn: "12/4000138", toLsn: "16/B364D000" },
      ...{ backup: "20261110T020003Z-1a2b3c4d", isLine: true, isOpen: true },
    },
    {
      ...{ timeline: 2, fromTime: ago(11 * DAY), toTime: ago(8 * DAY), fromLsn: "11/4000138", toLsn: "13/80000000" },
      ...{ backup: "20261109T020003Z-1a2b3c4d", isLine: false, isOpen: false },
    },
  ],
  backups: Array.from({ length: 11 }, (_, i) => {
    const finishedAt = ago((11 - i) * DAY - HOUR);
    return {
      id: `${finishedAt.slice(0, 10).replaceAll("-", "")}T020003Z-1a2b3c4d`,
      ...{ timeline: 3, finishedAt, startLsn: `1${i}/4000028`, stopLsn: `1${i}/4000138`, storedBytes: 3.1e9 + i * 1e7 },
      pin: i === 4 ? { note: "before the move to version 18", expiresAt: null } : null,
    };
  }),
  gaps: [],
  drills: [9, 6, 2].map((days) => ({ finishedAt: ago(days * DAY - 3 * HOUR), ok: true, backup: null })),
};

const GAP = { timeline: 3, fromLsn: "15/3F000000", toLsn: "15/C1000000", reason: "the slot was lost" };

/** The first window ends in a gap of `hours`; without a backup behind it the gap lasts until now. */
function mapWithGap(isCovered: boolean): RecoveryMap {
  const [line] = CALM_MAP.windows;
  if (line === undefined) throw new Error("the calm map has windows");
  const before = { ...line, toTime: ago(26 * HOUR), toLsn: GAP.fromLsn, isOpen: false };
  const behind = { ...line, fromTime: ago(20 * HOUR), fromLsn: "15/D0000138", backup: "20261119T140003Z-0000beef" };
  const toTime = isCovered ? behind.fromTime : null;
  const gap = {
    ...{ ...GAP, isOnLine: true, fromTime: before.toTime, toTime },
    coveredBy: isCovered ? behind.backup : null,
  };
  return { ...CALM_MAP, windows: isCovered ? [before, behind] : [before], gaps: [gap] };
}

/** A day of numbers: quiet at night, and with an outage of the store at its end if `outage`. */
export function dayOfNumbers(outage = false): HistoryPoint[] {
  const last = Math.floor(NOW / HISTORY_STEP_MS) * HISTORY_STEP_MS;
  return Array.from({ length: 288 }, (_, i) => {
    const load = 1 + Math.sin(i / 46) ** 2 * 5 + ((i * 7919) % 13) / 13;
    const isOut = outage && i > 280;
    return {
      atMs: last - (287 - i) * HISTORY_STEP_MS,
      lagBytes: isOut ? (i - 280) * 9e7 : Math.round(load * 300_000),
      rpoSeconds: isOut ? (i - 280) * 300 : 0.2 + load / 10,
      walBytesPerSecond: Math.round(load * 200_000),
      putSeconds: isOut ? null : 0.02 + load / 300,
      putSecondsMax: isOut ? null : 0.05 + load / 40,
    };
  });
}

function job(name: JobView["job"], changes: Partial<JobView> = {}): JobView {
  const last = { startedAt: ago(8 * HOUR), finishedAt: ago(8 * HOUR - 754_000), ok: true, exit: 0, message: "done" };
  return {
    ...{ job: name, schedule: "0 2 * * *", timeZone: "Europe/Berlin", runningSince: null, waitingSince: null },
    ...{ nextAt: new Date(NOW + 16 * HOUR).toISOString(), scheduledAt: null, last, lastSuccessAt: last.finishedAt },
    ...{ runs: 4, failures: 0 },
    ...changes,
  };
}

const JOBS = [
  job("backup"),
  job("expire", { schedule: "30 4 * * *" }),
  job("verify", { schedule: "0 5 * * 0" }),
  job("drill", { schedule: "0 6 * * 3" }),
];

function failedRun(message: string, agoMs: number): LastRun {
  return { startedAt: ago(agoMs), finishedAt: ago(agoMs - 61_000), ok: false, exit: 1, message };
}

const ARCHIVE: StatusFacts["archive"] = {
  backup: { id: "20261120T020003Z-1a2b3c4d", finishedAt: ago(8 * HOUR), bytes: 3.1e9 },
  verify: null,
  drill: { finishedAt: ago(45 * HOUR), ok: true },
};
const CALM: Partial<StatusFacts> = { jobs: JOBS, archive: ARCHIVE, errors: [] };
const gapDocument = (coveredBy: StatusDocument["gaps"][number]["coveredBy"]) => [
  { ...GAP, detectedAt: ago(25 * HOUR), coveredBy, lastCommitAt: null },
];

export interface PageState {
  readonly status: StatusDocument;
  readonly recovery: RecoveryMap | null;
  readonly points: readonly HistoryPoint[];
}

function state(facts: Partial<StatusFacts>, recovery: RecoveryMap = CALM_MAP, points = dayOfNumbers()): PageState {
  const oldestRecoverableAt = recovery.windows[0]?.fromTime ?? null;
  const size = { backups: recovery.backups.length, storedBytes: 4.2e11 };
  const recoverableSince = growingWindow(recovery)?.fromTime ?? null;
  const contents = { at: recovery.readAt, ...size, oldestRecoverableAt, recoverableSince };
  return { status: statusFixture({ ...CALM, contents, ...facts }), recovery, points };
}

const refused = {
  ...{ at: ago(40_000), code: "store-unavailable", times: 12 },
  ...{ message: "no answer from s3.example.org: connect ECONNREFUSED", hint: "Check the endpoint and the network." },
};

export const PAGE_STATES = {
  ok: state({}),
  "store down": state(
    {
      ...{ isStoreStalled: true, storeWaitSeconds: 2_412, lagBytes: 720_000_000, rpoSeconds: 2_412, errors: [refused] },
      storeWaitError: { place: "store", ...refused },
    },
    CALM_MAP,
    dayOfNumbers(true),
  ),
  "server down": state({
    ...{ state: "waiting", slot: null, slotHealth: null, serverLsn: null, lagBytes: null, rpoSeconds: null },
    ...{ streamingSince: null, notReceivingSince: ago(9 * MINUTE) },
    errors: [
      {
        ...{ at: ago(8_000), code: "connection-failed", times: 40 },
        ...{ message: "cannot connect to db.internal:5432: connect ECONNREFUSED", hint: "Is the server running?" },
      },
    ],
  }),
  gap: state({ gaps: gapDocument(null) }, mapWithGap(false)),
  "gap covered": state(
    { gaps: gapDocument({ backup: "20261119T140003Z-0000beef", finishedAt: ago(20 * HOUR) }) },
    mapWithGap(true),
  ),
  "stale backup": state({
    jobs: [
      job("backup", { last: failedRun("no space left on the server", 8 * HOUR), lastSuccessAt: ago(9 * DAY) }),
      ...JOBS.slice(1),
    ],
    archive: { ...ARCHIVE, backup: { id: "20261111T020003Z-1a2b3c4d", finishedAt: ago(9 * DAY), bytes: 3.1e9 } },
  }),
  "failed drill": state(
    { archive: { ...ARCHIVE, drill: { finishedAt: ago(3 * HOUR), ok: false } } },
    { ...CALM_MAP, drills: [...CALM_MAP.drills, { finishedAt: ago(3 * HOUR), ok: false, backup: null }] },
  ),
} satisfies Record<string, PageState>;

/** Nine clusters, of which three are in trouble. */
export function manyClusters(): PageState[] {
  const named = (cluster: string, { status, ...rest }: PageState): PageState => ({
    ...rest,
    status: { ...status, cluster },
  });
  const calm = ["accounts", "billing", "catalogue", "inventory", "search", "shipping"];
  return [
    ...calm.map((cluster) => named(cluster, PAGE_STATES.ok)),
    named("tickets", PAGE_STATES["stale backup"]),
    named("warehouse", PAGE_STATES["store down"]),
    named("zones", PAGE_STATES.gap),
  ];
}

export interface ServedPages extends AsyncDisposable {
  readonly url: string;
  /** Another state from now on. */
  readonly show: (states: readonly PageState[]) => void;
}

/** Serves one state as the page of a cluster, and several as an overview. */
export async function servePages(first: readonly PageState[]): Promise<ServedPages> {
  let shown = first;
  const clusters = (): ShownCluster[] =>
    shown.map(({ status, recovery, points }) => {
      const history = new History();
      const restorePoints = [{ name: "before_migration <7>", at: ago(30 * HOUR), lsn: "15/2B000090" }];
      history.restore({ points, restorePoints });
      return { name: status.cluster, status: () => status, history, recovery: () => recovery };
    });
  const site = {
    ...{ several: first.length > 1, names: () => [], configuration: () => null, version: "0.2.0", clusters },
    metrics: async () => ({ contentType: "text/plain", text: "" }),
  };
  const server = await startHttp({ listen: { kind: "tcp", host: "127.0.0.1", port: 0 }, site, log: silentLog });
  return {
    url: `http://${server.address}/`,
    show: (states) => (shown = states),
    [Symbol.asyncDispose]: async () => server.close(),
  };
}
