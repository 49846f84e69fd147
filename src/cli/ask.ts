/**
 * Asks on the terminal, one line at a time: questions go to stderr, so that stdout has the result alone. Ctrl-C ends the command
 * as a SIGINT does; the end of the input is an error.
 */
import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { SeawallError } from "../errors.ts";
import { onAbort } from "../signals.ts";

export interface AskOptions {
  /** Show nothing of what is typed. */
  readonly isHidden?: boolean;
  readonly signal: AbortSignal;
}

/** Gives the line without its end. Throws `aborted`, and `usage` where the input ends. */
export type Ask = (question: string, options: AskOptions) => Promise<string>;

export function askThrough(input: NodeJS.ReadStream, show: (text: string) => void): Ask {
  return async (question, { isHidden = false, signal }) => {
    const output = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        if (!isHidden) process.stderr.write(chunk);
        done();
      },
    });
    // In raw mode the terminal echoes nothing; readline shows what may be shown.
    const lines = createInterface({ input, output, terminal: true, historySize: 0 });
    const answer = new Promise<string>((resolve, reject) => {
      lines.on("line", resolve);
      lines.on("close", () => reject(ended()));
      lines.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
    });
    using _stopping = onAbort(signal, () => lines.close());
    if (isHidden) show(question);
    else lines.setPrompt(question);
    if (!signal.aborted) lines.prompt();
    try {
      return await answer;
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new SeawallError("aborted", "the question was cancelled", { cause: signal.reason });
    } finally {
      lines.close();
      if (isHidden) show("\n");
    }
  };
}

function ended(): SeawallError {
  return new SeawallError("usage", "the input ended before the question was answered", {
    hint: "Answer the question, or give the answers as flags (seawall init --help).",
  });
}
