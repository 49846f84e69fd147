/**
 * SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a second ends the process at once. For a scheduled job
 * the end of the daemon counts as a SIGTERM, however the daemon ended. SIGHUP does not end a command that reloads its
 * configuration.
 */
import { EXIT } from "../error-kinds.ts";
import { sharedController } from "../signals.ts";
import type { Io } from "./io.ts";
import { leaveAtOnce } from "./last-resort.ts";

export interface Signals {
  /** Aborted at the first signal. */
  readonly stop: AbortSignal;
  /** The exit status after a signal: 130 for SIGINT, 128 + number for the others. */
  readonly exit: () => number | undefined;
  /** Calls back at every SIGHUP, also for one that came before, where SIGHUP is not to end the command. */
  readonly onHangup: (handler: () => void) => void;
}

const STATUS = { SIGINT: EXIT.interrupted, SIGTERM: 143, SIGHUP: 129 } as const;

/** A job that has lost its daemon is ended after this time. */
export const ORPHAN_MS_MAX = 30_000;

export interface SignalOptions {
  readonly hangupReloads?: boolean;
  /** The process is a job of the daemon's routine (startedByDaemon). */
  readonly isJob?: boolean;
}

export function listenForSignals(io: Io, options: SignalOptions = {}): Signals {
  const stop = sharedController();
  let first: keyof typeof STATUS | undefined;
  let hungUp = false;
  let onHangup = (): void => void (hungUp = true);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (name === "SIGHUP" && options.hangupReloads === true) {
        onHangup();
        return;
      }
      if (first !== undefined) return leaveAtOnce(STATUS[name]);
      first = name;
      if (io.interactive) io.err(`\n${name}: stopping; once more to leave at once\n`);
      stop.abort(new Error(`received ${name}`));
    });
  }
  if (options.isJob === true) {
    process.on("disconnect", () => {
      setTimeout(() => leaveAtOnce(STATUS.SIGTERM), ORPHAN_MS_MAX).unref();
      first ??= "SIGTERM";
      stop.abort(new Error("the daemon that started this job is gone"));
    });
    // Listening keeps no finished command alive.
    process.channel?.unref();
  }
  return {
    stop: stop.signal,
    exit: () => (first === undefined ? undefined : STATUS[first]),
    onHangup: (handler) => {
      onHangup = handler;
      if (hungUp) handler();
    },
  };
}

/**
 * The daemon holds the other end of a channel to its jobs (daemon/jobs/process.ts). A process manager may do the same to the
 * daemon itself, which is not to end with it.
 */
export function startedByDaemon(command: string | undefined): boolean {
  return process.channel !== undefined && JOBS.some((job) => job === command);
}

const JOBS = ["backup", "expire", "verify", "drill"];
