/** The options of the daemon's routine: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { duration, integer, oneOf, text } from "./types.ts";

const RECEIVE: readonly CommandName[] = ["receive"];
const CRON =
  "A cron expression: minute, hour, day of the month, month, day of the week (`30 2 * * *`), with names, `L`, `W` and `#`; " +
  "seconds may stand in front.";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;

export const SCHEDULE_OPTIONS = {
  backupSchedule: option(text("cron"), {
    routine: true,
    commands: RECEIVE,
    help: "when the daemon takes base backups; without it, never",
    more: `${CRON} Where there is no backup yet, the first one is taken at once. A run that was missed is made up for, once; jobs never overlap, and of several daemons of a cluster only the one that streams runs them.`,
  }),
  expireSchedule: option(text("cron"), {
    routine: true,
    commands: RECEIVE,
    help: "when the daemon deletes what the retention rules do not keep; without it, never",
    more: "The rules are `keep-full`, `recovery-window`, `keep-daily` and so on, in the same file or in the environment.",
  }),
  verifySchedule: option(text("cron"), {
    routine: true,
    commands: RECEIVE,
    help: "when the daemon verifies the archive; without it, never",
  }),
  drillSchedule: option(text("cron"), {
    routine: true,
    commands: RECEIVE,
    help: "when the daemon runs a drill; without it, never",
    more: "It needs PostgreSQL's programs and room for the whole cluster: `pg-bin`, `scratch-dir`.",
  }),
  onGap: option(oneOf(["backup", "none"]), {
    routine: true,
    commands: RECEIVE,
    help: "whether the daemon takes a base backup at once when WAL was lost",
    more: "A gap cannot be passed by any restore until a base backup that begins behind it is complete. The default is `backup` where `backup-schedule` is set, and `none` otherwise. The backup begins with a fast checkpoint, and never overlaps with a scheduled one. A backup that fails is tried again with growing pauses; one that ends well is not repeated.",
  }),
  scheduleTimeZone: option(text("zone"), {
    routine: true,
    commands: RECEIVE,
    default: "UTC",
    help: "time zone of the schedules, such as Europe/Berlin",
  }),
  scheduleJitterMs: option(duration({ min: 0, max: DAY }), {
    routine: true,
    commands: RECEIVE,
    default: MINUTE,
    help: "each job begins at random up to so much later, so that many daemons do not begin together",
  }),
  jobTimeoutMs: option(duration({ min: MINUTE, max: 20 * DAY }), {
    routine: true,
    commands: RECEIVE,
    default: 2 * DAY,
    help: "a scheduled job that takes longer is stopped, and has failed",
    more: "So a job that hangs cannot hold up all others for ever. Make it longer where a base backup or a drill takes days.",
  }),
  jobsAtOnce: option(integer({ min: 1, max: 64 }), {
    scope: "process",
    commands: RECEIVE,
    default: 2,
    help: "most jobs of all clusters of the file that run at the same time",
    more: "The jobs of one cluster never overlap. Jobs of several clusters begin in the order in which they came due.",
  }),
} as const;
