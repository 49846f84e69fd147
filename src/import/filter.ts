/**
 * Sends a stream through a program that reads from its standard input and writes to its standard output. The program is gone
 * when the iteration ends, however it ends.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { errnoOf, messageOf } from "../errors.ts";
import { abortedError, throwIfAborted } from "../store/signal.ts";
import { onAbort } from "../signals.ts";
import { UnreadableFile } from "./source.ts";

/** A program that neither takes nor gives anything for so long is ended. */
const SILENCE_MS = 60_000;
const COMPLAINT_CHARS_MAX = 300;

interface Child {
  readonly process: ChildProcessWithoutNullStreams;
  /** Resolves with what is wrong about its end, undefined when nothing is. */
  readonly ended: Promise<Error | undefined>;
}

/** Throws `UnreadableFile` where the program is missing or hangs, an error with its words where it fails, `aborted`, and what `pieces` throws. */
export async function* runFilter(
  program: string,
  args: readonly string[],
  pieces: AsyncIterable<Uint8Array>,
  { signal }: { readonly signal?: AbortSignal | undefined },
): AsyncGenerator<Uint8Array> {
  throwIfAborted(signal);
  const child = start(program, args);
  const { stdout, stdin } = child.process;
  let isSilent = false;
  const kill = (): void => void child.process.kill("SIGKILL");
  const silence = setTimeout(() => {
    isSilent = true;
    kill();
  }, SILENCE_MS);
  const stopped = onAbort(signal, kill);
  const fed = feed(stdin, pieces, silence);
  fed.catch(kill); // Thrown below.
  try {
    for await (const piece of stdout) {
      silence.refresh();
      yield piece as Uint8Array;
    }
  } catch {
    // The program's end says more than the end of its pipe.
  } finally {
    clearTimeout(silence);
    stopped[Symbol.dispose]();
    // Nothing after its end of output counts but its status; a reader that has left wants neither.
    if (!stdout.readableEnded) kill();
  }
  const problem = await child.ended;
  if (signal?.aborted === true) throw abortedError(signal.reason);
  await fed;
  if (isSilent) throw new UnreadableFile(`${program} has done nothing for ${SILENCE_MS / 1000} seconds`);
  if (problem !== undefined) throw problem;
}

function start(program: string, args: readonly string[]): Child {
  const path = process.env["PATH"] ?? "/usr/bin:/bin";
  const started = spawn(program, [...args], { env: { PATH: path, LC_ALL: "C" }, stdio: "pipe" });
  // It may end before it has read everything; its exit status says why.
  started.stdin.on("error", () => undefined);
  let complaint = "";
  started.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(0, COMPLAINT_CHARS_MAX);
  });
  const ended = new Promise<Error | undefined>((resolve) => {
    started.once("error", (error) => {
      const missing = `the program ${program} is needed to unpack it, and is not installed`;
      const problem = errnoOf(error) === "ENOENT" ? missing : `${program} cannot be started: ${messageOf(error)}`;
      resolve(new UnreadableFile(problem));
      started.stdout.destroy();
    });
    started.once("close", (code, by) => {
      const said = complaint.replaceAll(/[\p{Cc}\s]+/gu, " ").trim();
      const status = code === null ? `was ended by ${by ?? "a signal"}` : `ended with status ${code}`;
      resolve(code === 0 ? undefined : new Error(`${program} ${status}${said === "" ? "" : `: ${said}`}`));
    });
  });
  return { process: started, ended };
}

async function feed(
  stdin: ChildProcessWithoutNullStreams["stdin"],
  pieces: AsyncIterable<Uint8Array>,
  silence: NodeJS.Timeout,
): Promise<void> {
  for await (const piece of pieces) {
    silence.refresh();
    if (stdin.destroyed) return;
    if (!stdin.write(piece)) await Promise.race([once(stdin, "drain"), once(stdin, "close")]).catch(() => undefined);
  }
  stdin.end();
}
