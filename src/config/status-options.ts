/** The options of `seawall status` as a monitoring check: a part of the one table (options.ts). */
import { type CommandName, option } from "./option-spec.ts";
import { boolean, duration } from "./types.ts";

const STATUS: readonly CommandName[] = ["status"];
const SECOND = 1000;
const DAY = 86_400 * SECOND;

export const STATUS_OPTIONS = {
  statusCheck: option(boolean, {
    sharesName: true,
    commands: STATUS,
    default: false,
    flagOnly: true,
    help: "exit with 0, 1, 2 or 3 for ok, warning, critical or unknown, as monitoring plug-ins do",
    more: "The status of the worst cluster counts. Nothing else in Seawall exits in this way: a wrong option gives 3.",
  }),
  nagios: option(boolean, {
    commands: STATUS,
    default: false,
    flagOnly: true,
    help: "with --check: one line and performance data behind a bar, for Nagios, Icinga and their like",
  }),
  maxRpoMs: option(duration({ min: SECOND, max: 365 * DAY }), {
    commands: STATUS,
    help: "with --check: critical when the oldest commit that is not stored is older",
  }),
  maxBackupAgeMs: option(duration({ min: SECOND, max: 3650 * DAY }), {
    commands: STATUS,
    help: "with --check: critical when the last base backup, by hand or by schedule, is older",
    more: "It needs the store: give --store, or the file of the receiver.",
  }),
  maxDrillAgeMs: option(duration({ min: SECOND, max: 3650 * DAY }), {
    commands: STATUS,
    help: "with --check: critical when the last drill is older, or none was run",
    more: "It needs the store: give --store, or the file of the receiver.",
  }),
} as const;
