/**
 * The only way to the terminal: results to stdout, everything else to stderr. Text from an archive or a server cannot
 * steer the terminal. A closed pipe is no error.
 */
import type { Writable } from "node:stream";
import { wantsColours } from "../colours.ts";
import { withoutControls } from "../log.ts";
import type { Look } from "./views/layout.ts";
import { type Ask, askThrough } from "./ask.ts";

/** The width is that of stdout; unknown where that is no terminal and COLUMNS is not set. */
export interface Io extends Look {
  /** Resolves when the text has been handed to the system. */
  out(text: string): Promise<void>;
  err(text: string): void;
  /** stderr is a terminal. */
  readonly interactive: boolean;
  /** The columns of the terminal at stderr, as they are now. */
  readonly errWidth?: (() => number | undefined) | undefined;
  /** Asks the user; undefined where stdin or stderr is no terminal. */
  readonly ask?: Ask;
}

export function processIo(): Io {
  const out = quietPipe(process.stdout);
  const err = quietPipe(process.stderr);
  return {
    out: (text) => out(withoutControls(text)),
    err: (text) => void err(withoutControls(text)),
    colours: wantsColours(process.stdout.isTTY),
    width: terminalWidth(process.stdout, process.env),
    interactive: process.stderr.isTTY,
    errWidth: () => terminalWidth(process.stderr, process.env),
    ...(process.stdin.isTTY && process.stderr.isTTY
      ? { ask: askThrough(process.stdin, (text) => void err(withoutControls(text))) }
      : {}),
  };
}

/** `COLUMNS` has precedence, as in other programs: `watch` sets it for a command whose output it reads from a pipe. */
export function terminalWidth(
  stream: { readonly isTTY?: boolean; readonly columns?: number },
  env: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const asked = Number(env["COLUMNS"]);
  if (Number.isInteger(asked) && asked > 0) return asked;
  return stream.isTTY === true && stream.columns !== undefined && stream.columns > 0 ? stream.columns : undefined;
}

/** `seawall status | head -1` closes the pipe while we write: the rest is not written, and that is no error. */
function quietPipe(stream: Writable): (text: string) => Promise<void> {
  let closed = false;
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    closed = true;
  });
  return (text) =>
    new Promise((resolve) => {
      if (closed) resolve();
      else stream.write(text, () => resolve());
    });
}
