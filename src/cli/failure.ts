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
  const shown = failureJson(error, options);
  const { message, causes, hint, exit } = shown;
  const isBug = known === undefined || known.code === "internal";
  if (options.json) return { text: `${JSON.stringify({ error: shown })}\n`, exit };
  const code = known === undefined || known.code === "usage" ? "" : ` [${known.code}]`;
  const lines = [
    `error: ${message}${code}`,
    ...newIn(causes, message).map((cause) => `  because: ${cause}`),
    ...(isBug && error instanceof Error && error.stack !== undefined ? [redactSecrets(error.stack)] : []),
    ...(hint === "" ? [] : [`hint: ${hint}`]),
  ];
  return { text: `${lines.join("\n")}\n`, exit };
}

/** Leaves out what the error, or a cause before it, says already. */
function newIn(causes: readonly string[], message: string): string[] {
  return causes.filter((cause, i) => {
    const before = [message, ...causes.slice(0, i)];
    return cause !== "" && !before.some((text) => text.includes(cause));
  });
}

export interface FailureJson {
  readonly code: string;
  readonly message: string;
  readonly causes: readonly string[];
  readonly hint: string;
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  readonly exit: number;
}

/** The error as `--json` shows it. */
export function failureJson(error: unknown, options: Omit<FailureOptions, "json">): FailureJson {
  const known = error instanceof SeawallError ? error : undefined;
  const hasDetails = known !== undefined && Object.keys(known.details).length > 0;
  return {
    code: known?.code ?? "internal",
    message: redactSecrets(messageOf(error)),
    causes: error instanceof Error ? causesOf(error).map((cause) => redactSecrets(cause.message)) : [],
    hint: redactSecrets(known?.hint ?? "This is a bug in Seawall: please report it with the lines above."),
    ...(hasDetails ? { details: redactDetails(known.details) } : {}),
    exit: exitOf(known, options),
  };
}

function exitOf(known: SeawallError | undefined, options: Omit<FailureOptions, "json">): number {
  if (known === undefined || options.always === true) return options.unexpectedExit;
  return known.code === "usage" ? options.usageExit : known.exit;
}
