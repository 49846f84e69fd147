/** Shows an error to the user: what failed, why, what to do. Plain lines, or one JSON object with --json. */
import { messageOf, SeawallError } from "../errors.ts";
import { causesOf, redactDetails, redactSecrets } from "../log.ts";

export interface Failure {
  readonly text: string;
  readonly exit: number;
}

export interface FailureOptions {
  readonly json: boolean;
  /** The status of anything that is no `usage` error and has no status of its own here. */
  readonly unexpectedExit: number;
  readonly usageExit: number;
  /** All failures leave with `unexpectedExit` (wal-fetch). */
  readonly always?: boolean;
}

export function describeFailure(error: unknown, options: FailureOptions): Failure {
  const known = error instanceof SeawallError ? error : undefined;
  const exit = exitOf(known, options);
  const message = redactSecrets(messageOf(error));
  const causes = error instanceof Error ? causesOf(error).map((cause) => redactSecrets(cause.message)) : [];
  const isBug = known === undefined || known.code === "internal";
  const hint = redactSecrets(known?.hint ?? "This is a bug in Seawall: please report it with the lines above.");
  if (options.json) {
    const code = known?.code ?? "internal";
    const hasDetails = known !== undefined && Object.keys(known.details).length > 0;
    const details = hasDetails ? { details: redactDetails(known.details) } : {};
    return { text: `${JSON.stringify({ error: { code, message, causes, hint, ...details, exit } })}\n`, exit };
  }
  const code = known === undefined || known.code === "usage" ? "" : ` [${known.code}]`;
  const lines = [
    `error: ${message}${code}`,
    // Causes often repeat what the error says already.
    ...causes.filter((cause) => cause !== "" && !message.includes(cause)).map((cause) => `  because: ${cause}`),
    ...(isBug && error instanceof Error && error.stack !== undefined ? [redactSecrets(error.stack)] : []),
    ...(hint === "" ? [] : [`hint: ${hint}`]),
  ];
  return { text: `${lines.join("\n")}\n`, exit };
}

function exitOf(known: SeawallError | undefined, options: FailureOptions): number {
  if (known === undefined || options.always === true) return options.unexpectedExit;
  return known.code === "usage" ? options.usageExit : known.exit;
}
