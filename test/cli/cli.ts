/** The program in this process, without a start-up: for tables of input. Real runs: test/harness/process.ts. */
import { runProgram } from "../../src/cli/program.ts";
import { runKeys } from "../harness/encryption.ts";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function inProcess(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  let stdout = "";
  let stderr = "";
  const code = await runProgram({
    args,
    env: { ...runKeys(), ...env },
    usageExit: args.includes("wal-fetch") ? 200 : 2,
    signals: { stop: new AbortController().signal, exit: () => undefined, onHangup: () => undefined },
    io: {
      out: async (text) => void (stdout += text),
      err: (text) => void (stderr = cleared(stderr + text)),
      colours: false,
      interactive: true,
    },
  });
  if (args.includes("--json")) (await import("../harness/json-output.ts")).holdToSchema(args, { stdout, stderr });
  return { code, stdout, stderr };
}

/** Leaves out progress, as a terminal that cleared its line: only a slow machine shows any. */
function cleared(text: string): string {
  return text.replace(/\r[^\r\n]*\u001b\[K|^\{"event":"progress".*\n/gm, "");
}
