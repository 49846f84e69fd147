/** The end of every help page: the ways to give options, examples, exit statuses. */
import { EXIT } from "../error-kinds.ts";

interface Example {
  readonly line: string;
  readonly does: string;
}

export function helpTail(examples: readonly Example[], exits: readonly (readonly [number, string])[]): string {
  const parts = [
    "\nEvery option is also an environment variable (--ship-interval: SEAWALL_SHIP_INTERVAL) and a key in\nthe file of --config (ship-interval:). docs/configuration.md has them all.",
  ];
  if (examples.length > 0) {
    parts.push(`\nExamples:\n${examples.map(({ line, does }) => `  # ${does}\n  ${line}`).join("\n")}`);
  }
  parts.push(
    `\nExit status:\n${exits.map(([exit, meaning]) => `  ${String(exit).padEnd(4)} ${meaning}`).join("\n")}\n`,
  );
  return parts.join("\n");
}

/** For the help of `seawall` itself. */
export function describeExits(): (readonly [number, string])[] {
  return [
    [EXIT.done, "done"],
    [EXIT.no, "the answer is no: a check failed, there is nothing there"],
    [EXIT.usage, "wrong options, environment or configuration file"],
    [EXIT.operational, "something failed"],
    [EXIT.server, "the server: not reachable, refuses us, or lacks something"],
    [EXIT.store, "the store: not reachable, refuses us, or lacks something"],
    [EXIT.damage, "WAL or the archive is damaged, foreign or diverged"],
    [EXIT.interrupted, "interrupted by SIGINT; 143 by SIGTERM"],
    [EXIT.abortRecovery, "wal-fetch failed: PostgreSQL stops recovery"],
  ];
}
