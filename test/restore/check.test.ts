/** The verdict on a restored server as a function of what is known of it. */
import { expect, test } from "vitest";
import {
  isServerOf,
  judgeRestore,
  maySeeMore,
  type RestoreEvidence,
  type RestoreVerdict,
} from "../../src/restore/check.ts";
import type { ControlFile } from "../../src/wal/pg-control.ts";
import { type Lsn, parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { parseHistory } from "../../src/wal/timeline.ts";

const one = timelineOf(1);
const lsn = (text: string): Lsn => parseLsn(text);
const control: ControlFile = {
  ...{
    systemIdentifier: 7n,
    state: "in archive recovery",
    timeline: one,
    redoLsn: lsn("0/200"),
    minRecoveryLsn: lsn("0/300"),
  },
  settings: {
    ...{ max_connections: 1, max_worker_processes: 1, max_wal_senders: 1, max_prepared_transactions: 0 },
    max_locks_per_transaction: 1,
  },
  segmentSize: 16 << 20,
  dataChecksums: true,
};
const evidence: RestoreEvidence = {
  promise: {
    ...{
      systemIdentifier: 7n,
      cluster: "main",
      backup: "b",
      restoredAt: "",
      target: { kind: "latest" },
      standby: false,
      tablespaces: [],
      otherTablespaces: undefined,
    },
    ...{ action: "promote", timeline: one, lsn: lsn("0/500"), commitTime: null },
  },
  ...{ control, server: undefined, isRunning: false, hasBackupLabel: false, younger: [] },
};
const server = {
  ...{ systemIdentifier: 7n, inRecovery: true, replayLsn: lsn("0/400"), isPaused: false },
  ...{ startedAtSeconds: 1000, port: 5432 },
};
const left = (at: string): RestoreEvidence["younger"] => [
  parseHistory(timelineOf(2), `1\t${at}\tno recovery target\n`),
];

const cases: readonly (readonly [
  string,
  Partial<RestoreEvidence>,
  { ok: boolean; state: string; reachedLsn?: string },
])[] = [
  ["not started", { hasBackupLabel: true }, { ok: false, state: "not started" }],
  ["on its way", { server, isRunning: true }, { ok: false, state: "recovering", reachedLsn: "0/400" }],
  [
    "there, in recovery",
    { server: { ...server, replayLsn: lsn("0/500") } },
    { ok: true, state: "recovering", reachedLsn: "0/500" },
  ],
  ["there, paused", { server: { ...server, replayLsn: lsn("0/500"), isPaused: true } }, { ok: true, state: "paused" }],
  [
    "promoted there",
    { server: { ...server, inRecovery: false }, younger: left("0/500") },
    { ok: true, state: "recovered" },
  ],
  ["promoted short of it", { younger: left("0/4F8") }, { ok: false, state: "recovered", reachedLsn: "0/4F8" }],
  ["never recovered", { server: { ...server, inRecovery: false } }, { ok: false, state: "recovered" }],
  ["stopped too early", {}, { ok: false, state: "stopped in recovery", reachedLsn: "0/300" }],
  [
    "stopped there",
    { control: { ...control, minRecoveryLsn: lsn("0/500") } },
    { ok: true, state: "stopped in recovery" },
  ],
  ["another server", { server: { ...server, systemIdentifier: 8n } }, { ok: false, state: "foreign" }],
  ["another data directory", { control: { ...control, systemIdentifier: 8n } }, { ok: false, state: "foreign" }],
];

test.each(cases)("%s", (_title, changes, expected) => {
  expect(judgeRestore({ ...evidence, ...changes })).toMatchObject(expected);
});

test.each<
  [
    what: string,
    ok: boolean,
    state: RestoreVerdict["state"],
    promise: Partial<RestoreEvidence["promise"]>,
    more: boolean,
  ]
>([
  ["on its way", false, "recovering", {}, true],
  ["not started", false, "not started", {}, true],
  ["there, before its promotion", true, "recovering", {}, true],
  ["there, to be a standby", true, "recovering", { standby: true }, false],
  ["there, to be shut down", true, "recovering", { action: "shutdown" }, false],
  ["paused there", true, "paused", { action: "pause" }, false],
  ["promoted there", true, "recovered", {}, false],
  ["promoted short of it", false, "recovered", {}, false],
  ["stopped too early", false, "stopped in recovery", {}, false],
])("a wait for a server that is %s", (_what, ok, state, promise, more) => {
  expect(maySeeMore({ ok, state }, { ...evidence.promise, ...promise })).toBe(more);
});

test.each<[what: string, startedAtSeconds: number, port: number, isOurs: boolean]>([
  ["that holds the directory", 1000, 5432, true],
  ["that took a while to start", 1120, 5432, true],
  ["that was started earlier, such as production", 700, 5432, false],
  ["that was started later, in another place", 1121, 5432, false],
  ["at another port, such as production", 1000, 5433, false],
])("--dsn leads to a server %s", (_what, startedAtSeconds, port, isOurs) => {
  const postmaster = { pid: 1, startedAtSeconds: 1000, port: 5432, socketDir: "", isAlive: false };
  expect(isServerOf(postmaster, { ...server, startedAtSeconds, port })).toBe(isOurs);
});
