/**
 * The only way to the terminal: results to stdout, everything else to stderr. Text from an archive or a server cannot
 * steer the terminal. A closed pipe is no error.
 */
import type { Writable } from "node:stream";
import { wantsColours } from "../colours.ts";
import { withoutControls } from "../log.ts";

export interface Io {
  /** Resolves when the text has been handed to the system. */
  out(text: string): Promise<void>;
  err(text: string): void;
  /** Whether stdout may have colours. */
  readonly colours: boolean;
  /** stderr is a terminal. */
  readonly interactive: boolean;
}

export function processIo(): Io {
  const out = quietPipe(process.stdout);
  const err = quietPipe(process.stderr);
  return {
    out: (text) => out(withoutControls(text)),
    err: (text) => void err(withoutControls(text)),
    colours: wantsColours(process.stdout.isTTY),
    interactive: process.stderr.isTTY,
  };
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
