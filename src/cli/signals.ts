/**
 * SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a second ends the process at once. A command that does not
 * end within its grace is ended.
 */
import { setMaxListeners } from "node:events";
import { EXIT } from "../error-kinds.ts";
import type { Io } from "./io.ts";

export interface Signals {
  /** Aborted at the first signal. */
  readonly stop: AbortSignal;
  /** The exit status that tells of the signal, once there was one: 130 for SIGINT, 128 + number for the others. */
  readonly exit: () => number | undefined;
}

const STATUS = { SIGINT: EXIT.interrupted, SIGTERM: 143, SIGHUP: 129 } as const;

export function listenForSignals(io: Io): Signals {
  const stop = new AbortController();
  // One request listens for each object that is read at the same time: more than ten are no leak.
  setMaxListeners(0, stop.signal);
  let first: keyof typeof STATUS | undefined;
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      if (first !== undefined) process.exit(STATUS[name]);
      first = name;
      if (io.interactive) io.err(`\n${name}: stopping; once more to leave at once\n`);
      stop.abort(new Error(`received ${name}`));
    });
  }
  return { stop: stop.signal, exit: () => (first === undefined ? undefined : STATUS[first]) };
}
