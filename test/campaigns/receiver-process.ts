/** `seawall receive` as a process of its own, to be killed at any moment. */
import { type CliProcess, startCli } from "../harness/process.ts";

export interface ReceiverProcessOptions {
  readonly dsn: string;
  readonly storeUrl: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Further flags, such as `--synchronous`. */
  readonly flags?: readonly string[];
  /** Options for Node.js itself. */
  readonly nodeArgs?: readonly string[];
}

export function startReceiver(options: ReceiverProcessOptions): CliProcess {
  const { dsn, storeUrl, env = {}, flags = [], nodeArgs = [] } = options;
  const args = ["receive", "--dsn", dsn, "--store", storeUrl, "--listen", "off", "--log-format", "json", ...flags];
  return startCli(args, { env, nodeArgs });
}
