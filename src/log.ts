/**
 * The log: JSON lines on stderr, or pretty on a terminal. Rooms take a `Log` as an argument; only `cli` creates one.
 *
 * pino is loaded when the first line is written, so that commands which say nothing (wal-fetch) do not pay for it. Secrets
 * are removed here, at the source, whatever a caller passes.
 */
import { createRequire } from "node:module";
import { Writable } from "node:stream";
import type * as Pino from "pino";
import type { PinoPretty } from "pino-pretty";
import { wantsColours } from "./colours.ts";
import { messageOf, SeawallError } from "./errors.ts";
import { LiveLine } from "./live-line.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
/** Facts of a line. bigint and Error are welcome: they are written as text, and as code, message and causes. */
export type LogFields = Readonly<Record<string, unknown>>;

/** error = a person must look; warn = odd, we went on; info = what an operator wants to read; debug = the rest. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The same log with `component` (and more fields) on every line. */
  child(component: string, fields?: LogFields): Log;
  /** Shows a text below all lines until the same owner gives another or none; absent where nothing can be drawn anew. */
  readonly live?: ((owner: object, text?: string) => void) | undefined;
}

export interface LogOptions {
  readonly level: LogLevel | "silent";
  readonly format: "auto" | "json" | "pretty";
  /**
   * Do not wait for stderr: for the daemon, which must go on when the reader of its log stalls. At most
   * `BACKLOG_BYTES_MAX` are kept, later lines are dropped. `flush` before leaving.
   */
  readonly buffered?: boolean;
  /** For tests: where lines go instead of stderr; implies JSON unless the format is `pretty`. */
  readonly destination?: { write(line: string): void };
}

export interface RootLog extends Log {
  /** Writes out what is buffered, synchronously, and removes the live line: other output follows. */
  flush(): void;
  /** Sets the level from now on, for its children as well. */
  setLevel(level: LogLevel | "silent"): void;
}

const BACKLOG_BYTES_MAX = 4 << 20;
const SEVERITY: Readonly<Record<LogLevel | "silent", number>> = {
  debug: 20,
  info: 30,
  warn: 40,
  error: 50,
  silent: 99,
};
const CAUSES_MAX = 5;

export function createLog(options: LogOptions): RootLog {
  let sink: { readonly logger: Pino.Logger; readonly flush: () => void } | undefined;
  const line = isForTerminal(options) ? terminalLine() : undefined;
  const logger = (): Pino.Logger => (sink ??= openSink(options, line)).logger;
  const limit = { severity: SEVERITY[options.level] };
  return {
    ...wrap({ logger, limit, line }, {}),
    flush: () => {
      line?.clear();
      sink?.flush();
    },
    setLevel: (level) => (limit.severity = SEVERITY[level]),
  };
}

/** A log that says nothing. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silentLog,
};

interface Output {
  readonly logger: () => Pino.Logger;
  readonly limit: { readonly severity: number };
  readonly line: LiveLine | undefined;
}

function wrap(output: Output, bound: LogFields): Log {
  const { logger, limit, line } = output;
  const write = (level: LogLevel, message: string, fields: LogFields | undefined): void => {
    if (SEVERITY[level] < limit.severity) return;
    logger()[level](printable({ ...bound, ...fields }), redactSecrets(message));
  };
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
    child: (component, fields) => wrap(output, { ...bound, component, ...fields }),
    ...(line === undefined ? {} : { live: liveOn(line, limit) }),
  };
}

function liveOn(line: LiveLine, limit: Output["limit"]): NonNullable<Log["live"]> {
  return (owner, text) => {
    const isShown = text !== undefined && SEVERITY.warn >= limit.severity;
    line.show(owner, isShown ? withoutControls(redactSecrets(text)) : undefined);
  };
}

/** Lines for people, on a terminal. */
function isForTerminal({ format, destination }: LogOptions): boolean {
  return destination === undefined && format !== "json" && process.stderr.isTTY;
}

/** Writes at once: the process may end right after. */
function terminalLine(): LiveLine {
  let stream: { write(text: string): unknown } | undefined;
  const open = (): NonNullable<typeof stream> => {
    // Cast: `require` is untyped; these are the package's own exported types.
    const pino = createRequire(import.meta.url)("pino") as typeof Pino;
    return pino.destination({ dest: 2, sync: true });
  };
  return new LiveLine({
    write: (text) => void (text === "" || (stream ??= open()).write(text)),
    width: () => process.stderr.columns || 80,
  });
}

function openSink(
  options: LogOptions,
  line: LiveLine | undefined,
): { readonly logger: Pino.Logger; readonly flush: () => void } {
  const require = createRequire(import.meta.url);
  // Casts: `require` is untyped; these are the packages' own exported types.
  const pino = require("pino") as typeof Pino;
  const wantsPretty = options.format === "pretty" || line !== undefined;
  const base = {
    level: "debug",
    base: null,
    // Errors are described here already, with their codes and hints.
    serializers: { err: (value: unknown) => value },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  if (wantsPretty) {
    const pretty = require("pino-pretty") as typeof PinoPretty;
    const stream = pretty({
      colorize: options.destination === undefined && wantsColours(process.stderr.isTTY),
      translateTime: "SYS:HH:MM:ss.l",
      messageFormat: (log, key) => {
        const component = typeof log["component"] === "string" ? `${log["component"]}: ` : "";
        return withoutControls(component + String(log[key]));
      },
      ignore: "component",
      ...prettyDestination(options, line),
    });
    return { logger: pino.pino(base, stream), flush: () => undefined };
  }
  if (options.destination !== undefined) {
    return { logger: pino.pino(base, options.destination), flush: () => undefined };
  }
  const sync = options.buffered !== true;
  const stream = pino.destination({ dest: 2, sync, minLength: 0, maxLength: BACKLOG_BYTES_MAX });
  // stderr has no reader any more; that cannot be reported, and must not end the process.
  stream.on("error", () => undefined);
  return { logger: pino.pino(base, stream), flush: () => (sync ? undefined : stream.flushSync()) };
}

function prettyDestination({ destination }: LogOptions, line: LiveLine | undefined): PinoPretty.PrettyOptions {
  if (destination !== undefined) return { destination };
  if (line === undefined) return { destination: 2, sync: true };
  const write: Writable["_write"] = (text, _encoding, written) => {
    line.writeLines(String(text));
    written();
  };
  return { destination: new Writable({ decodeStrings: false, write }) };
}

/** Makes values printable and takes secrets out, by name of the field and by shape of the text. */
function printable(fields: LogFields): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    result[name] = SECRET_NAME.test(name) ? REDACTED : printableValue(value, 0);
  }
  return result;
}

function printableValue(value: unknown, depth: number): unknown {
  if (typeof value === "string") return redactSecrets(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return describeError(value);
  if (value instanceof Date || typeof value !== "object" || value === null) return value;
  if (depth >= 4) return "…";
  if (Array.isArray(value)) return value.slice(0, 100).map((item) => printableValue(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [
      name,
      SECRET_NAME.test(name) ? REDACTED : printableValue(inner, depth + 1),
    ]),
  );
}

/** An error as facts: code, message, hint, details, and the messages of its causes; a stack only where it is a bug. */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: redactSecrets(String(error)) };
  const causes = causesOf(error).map((cause) => redactSecrets(cause.message));
  const isBug = error instanceof SeawallError ? error.code === "internal" : true;
  return {
    ...(error instanceof SeawallError ? { code: error.code } : { name: error.name }),
    message: redactSecrets(error.message),
    ...(causes.length > 0 ? { causes } : {}),
    ...(error instanceof SeawallError ? { hint: redactSecrets(error.hint) } : {}),
    ...(error instanceof SeawallError && Object.keys(error.details).length > 0
      ? { details: redactDetails(error.details) }
      : {}),
    ...(isBug && error.stack !== undefined ? { stack: redactSecrets(error.stack) } : {}),
  };
}

/** The details of an error without secrets: some are what a server said. */
export function redactDetails(details: SeawallError["details"]): Record<string, string | number | boolean> {
  return Object.fromEntries(
    Object.entries(details).map(([name, value]) => [name, typeof value === "string" ? redactSecrets(value) : value]),
  );
}

/** The chain of `cause`, nearest first, at most `CAUSES_MAX`. AggregateError counts its first error as a cause. */
export function causesOf(error: Error): Error[] {
  const causes: Error[] = [];
  let next: unknown = error;
  while (next instanceof Error && causes.length < CAUSES_MAX) {
    next = next.cause ?? (next instanceof AggregateError ? (next.errors[0] as unknown) : undefined);
    if (next instanceof Error) causes.push(next);
  }
  return causes;
}

/** Control sequences that the command line itself sends to a terminal: colours, and drawing over a line of progress. */
const OUR_CONTROLS = /(^\r|\u001b\[(?:0|2|31|32|33)m|\u001b\[K$)/;
/** C0 but tab and newline, DEL, C1, and what turns the direction of text around. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * The same text with control characters written as JSON writes them (`\\u001b`), but for our own. A name in an archive, or a
 * server's words, could otherwise move the cursor, hide lines or set the title of the terminal that shows them.
 */
export function withoutControls(text: string): string {
  const shown = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text
    .split(OUR_CONTROLS)
    .map((part, i) => (i % 2 === 1 ? part : part.replaceAll(CONTROLS, shown)))
    .join("");
}

/** An error as documents show it, such as `/status.json`. */
export interface ShownError {
  readonly at: string;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

/** The error for people, without secrets. Pure. */
export function shownError(error: unknown, atMs: number): ShownError {
  const known = error instanceof SeawallError ? error : undefined;
  return {
    at: new Date(atMs).toISOString(),
    code: known?.code ?? "internal",
    message: redactSecrets(messageOf(error)),
    hint: redactSecrets(known?.hint ?? ""),
  };
}

const REDACTED = "[redacted]";
const SECRET_NAME = /pass(word|phrase|wd)?$|secret|(access|session|auth).?(key|token)$|credential|^authorization$/i;
const SECRET_SHAPES: readonly (readonly [RegExp, string])[] = [
  // scheme://user:password@host; up to the last @, because people forget to escape one inside the password.
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s:@/]*):[^\s]*@/gi, `$1:${REDACTED}@`],
  // password=…, 'quoted' as libpq allows, in key=value lists, in query strings and as variables of the environment.
  [
    /\b((?:pg|ssl)?password|passwd|(?:aws_)?secret_?(?:access_?)?key|(?:aws_)?session_?token)(\s*=\s*)('(?:[^'\\]|\\.)*'|"[^"]*"|[^\s&'"]+)/gi,
    `$1$2${REDACTED}`,
  ],
  // "password": "…" in JSON.
  [/("[a-z_-]*(?:password|secret|token|access_?key)"\s*:\s*)"(?:[^"\\]|\\.)*"/gi, `$1"${REDACTED}"`],
  // Headers: the value of one that carries a secret, and credentials by themselves.
  [
    /\b((?:proxy-)?authorization|x-[a-z-]*(?:key|token|secret))(\s*:\s*)(?:(?:basic|bearer|token)\s+)?[^\s"',]+/gi,
    `$1$2${REDACTED}`,
  ],
  [/\b(basic|bearer) (?=\S*\d)[\w.~+/=-]{8,}/gi, `$1 ${REDACTED}`],
  [/\b(X-Amz-(?:Signature|Credential|Security-Token)=)[^\s&"]+/gi, `$1${REDACTED}`],
];

/** The same text without passwords, keys and signatures. */
export function redactSecrets(text: string): string {
  let result = text;
  for (const [shape, replacement] of SECRET_SHAPES) result = result.replace(shape, replacement);
  return result;
}
