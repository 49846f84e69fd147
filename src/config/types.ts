/**
 * The types of option values, each with one parser from text. Flags, environment and file all use them, so a value
 * means the same everywhere. Parsers throw `BadValue`; the loader adds the place.
 */
import { pathToFileURL } from "node:url";
import { SeawallError } from "../errors.ts";
import { schemeOf, STORE_URL_FORMS } from "../store/schemes.ts";
import { type Lsn, parseLsn } from "../wal/lsn.ts";

export type TypeName =
  | "string"
  | "path"
  | "name"
  | "dsn"
  | "url"
  | "integer"
  | "bytes"
  | "duration"
  | "boolean"
  | "enum"
  | "lsn"
  | "address";

/** A value that does not fit its type. The loader turns it into a `usage` error that names the place. */
export class BadValue extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

/** How one type reads: the word for the help, and the parser from text to value. */
export interface ValueType<T> {
  readonly type: TypeName;
  /** The placeholder behind the flag in the help: `--ship-interval <duration>`. */
  readonly placeholder: string;
  /** The range or the choices, for the help and docs/configuration.md. */
  readonly accepts: string;
  /** Every value that is accepted, where they can be counted. */
  readonly choices?: readonly string[];
  readonly parse: (text: string) => T;
}

export function text(placeholder: string, type: "string" | "path" | "dsn" = "string"): ValueType<string> {
  const accepts = type === "path" ? "a path" : type === "dsn" ? "a libpq URI or key=value list" : "text";
  return { type, placeholder, accepts, parse: (value) => notEmpty(value, accepts) };
}

/** A name that becomes part of keys or of server objects: checked against `pattern`. */
export function nameMatching(pattern: RegExp, accepts: string): ValueType<string> {
  return {
    type: "name",
    placeholder: "name",
    accepts,
    parse: (value) => {
      if (!pattern.test(value)) throw new BadValue(`"${value}" is not a valid name`, `Use ${accepts}.`);
      return value;
    },
  };
}

/** A store URL: only its shape is checked here, the store's own room reads the rest. */
export const storeUrl: ValueType<string> = {
  type: "url",
  placeholder: "url",
  accepts: STORE_URL_FORMS,
  parse: (value) => {
    const hint = `Write ${STORE_URL_FORMS}.`;
    const scheme = schemeOf(value);
    if (scheme === undefined) {
      throw new BadValue(
        `"${value}" is not a store URL`,
        value.startsWith("/") ? `Write ${pathToFileURL(value).href}` : hint,
      );
    }
    const malformed = scheme.malformed?.(value);
    if (malformed !== undefined) throw new BadValue(`"${value}" ${malformed.problem}`, malformed.hint);
    if (!URL.canParse(value)) throw new BadValue(`"${value}" is not a URL`, hint);
    return value;
  },
};

export function integer(range: { readonly min: number; readonly max: number }): ValueType<number> {
  const accepts = `${range.min} to ${range.max}`;
  return {
    type: "integer",
    placeholder: "n",
    accepts,
    parse: (value) => {
      if (!/^-?\d+$/.test(value)) throw new BadValue(`"${value}" is not a whole number`, `Write a number: ${accepts}.`);
      return inRange(Number(value), range, { value, accepts });
    },
  };
}

/** A whole number, or the word "auto". */
export function integerOrAuto(range: { readonly min: number; readonly max: number }): ValueType<number | "auto"> {
  const number = integer(range);
  const accepts = `${number.accepts}, or auto`;
  return {
    ...number,
    placeholder: "n|auto",
    accepts,
    parse: (value) => {
      if (value === "auto") return "auto";
      if (!/^-?\d+$/.test(value)) throw new BadValue(`"${value}" is not a whole number`, `Write a number: ${accepts}.`);
      return inRange(Number(value), range, { value, accepts });
    },
  };
}

const BYTE_UNITS = new Map([
  ["", 1],
  ["B", 1],
  ["KiB", 2 ** 10],
  ["MiB", 2 ** 20],
  ["GiB", 2 ** 30],
  ["TiB", 2 ** 40],
]);

export function bytes(range: { readonly min: number; readonly max: number }): ValueType<number> {
  const accepts = `${formatBytes(range.min)} to ${formatBytes(range.max)}`;
  return {
    type: "bytes",
    placeholder: "size",
    accepts,
    parse: (value) => {
      const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(value);
      const factor = BYTE_UNITS.get(match?.[2] ?? "?");
      if (match?.[1] === undefined || factor === undefined) {
        const decimal = /^[\d.]+ ?([KkMGT])B?$/.exec(value);
        const hint =
          decimal?.[1] === undefined
            ? "Write a size such as 64MiB or 16GiB."
            : `Write ${value.replace(/ ?[A-Za-z]+$/, "")}${decimal[1].toUpperCase()}iB: units of 1024, so that nothing is ambiguous.`;
        throw new BadValue(`"${value}" is not a size`, hint);
      }
      const result = Number(match[1]) * factor;
      if (!Number.isInteger(result)) throw new BadValue(`"${value}" is not a whole number of bytes`, `Use ${accepts}.`);
      return inRange(result, range, { value, accepts });
    },
  };
}

const DURATION_UNITS = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
  ["w", 7 * 86_400_000],
]);

/** Milliseconds. Zero needs no unit; anything else does. */
export function duration(range: { readonly min: number; readonly max: number }): ValueType<number> {
  const accepts = `${formatDuration(range.min)} to ${formatDuration(range.max)}`;
  return {
    type: "duration",
    placeholder: "duration",
    accepts,
    parse: (value) => {
      const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/.exec(value);
      const factor =
        match?.[2] === "" ? (Number(match[1]) === 0 ? 1 : undefined) : DURATION_UNITS.get(match?.[2] ?? "?");
      if (match?.[1] === undefined || factor === undefined) {
        if (match?.[1] !== undefined && match[2] === "") {
          throw new BadValue(`"${value}" has no unit`, `Write ${withUnits(match[1], range)}.`);
        }
        throw new BadValue(`"${value}" is not a duration`, "Write a duration such as 500ms, 10s, 5m, 1h, 7d or 2w.");
      }
      return inRange(Math.round(Number(match[1]) * factor), range, { value, accepts });
    },
  };
}

/** The number with each unit that puts it into the range: `5s, 5m`. */
function withUnits(number: string, range: { readonly min: number; readonly max: number }): string {
  const fits = [...DURATION_UNITS].filter(([unit, factor]) => {
    const ms = Number(number) * factor;
    return unit !== "min" && ms >= range.min && ms <= range.max;
  });
  return fits.length === 0
    ? "a duration such as 500ms, 10s, 5m, 1h, 7d or 2w"
    : fits.map(([unit]) => `${number}${unit}`).join(", ");
}

const TRUE = new Set(["true", "on", "yes", "1"]);
const FALSE = new Set(["false", "off", "no", "0"]);

export const boolean: ValueType<boolean> = {
  type: "boolean",
  placeholder: "",
  accepts: "true or false",
  parse: (value) => {
    const word = value.toLowerCase();
    if (TRUE.has(word)) return true;
    if (FALSE.has(word)) return false;
    throw new BadValue(`"${value}" is neither true nor false`, "Write true or false.");
  },
};

export function oneOf<const T extends string>(choices: readonly T[]): ValueType<T> {
  const accepts = choices.join(", ");
  return {
    type: "enum",
    placeholder: choices.join("|"),
    accepts,
    choices,
    parse: (value) => {
      const found = choices.find((choice) => choice === value);
      if (found === undefined) throw new BadValue(`"${value}" is not one of ${accepts}`, `Use one of ${accepts}.`);
      return found;
    },
  };
}

export const lsn: ValueType<Lsn> = {
  type: "lsn",
  placeholder: "lsn",
  accepts: "an LSN such as 16/B374D848",
  parse: (value) => {
    try {
      return parseLsn(value);
    } catch (error) {
      if (error instanceof SeawallError) throw new BadValue(error.message, error.hint);
      throw error;
    }
  },
};

/** Where an HTTP server listens. */
export type ListenAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "off" };

export const address: ValueType<ListenAddress> = {
  type: "address",
  placeholder: "host:port",
  accepts: "host:port, [ipv6]:port, unix:/absolute/path, or off",
  parse: (value) => {
    if (value === "off") return { kind: "off" };
    if (value.startsWith("unix:/")) return { kind: "unix", path: value.slice("unix:".length) };
    const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(value);
    const port = Number(match?.[3]);
    if (match === null || port > 65535) {
      throw new BadValue(`"${value}" is not an address to listen on`, "Write host:port, unix:/absolute/path, or off.");
    }
    const host = match[1] ?? match[2];
    // ":9848" means every interface, as it does for most daemons; it has to be asked for.
    return { kind: "tcp", host: host === undefined || host === "" ? "::" : host, port };
  },
};

export function formatAddress(value: ListenAddress): string {
  switch (value.kind) {
    case "off":
      return "off";
    case "unix":
      return `unix:${value.path}`;
    case "tcp":
      return value.host.includes(":") ? `[${value.host}]:${value.port}` : `${value.host}:${value.port}`;
  }
}

/** A size in the largest binary unit that keeps it whole. */
export function formatBytes(value: number): string {
  return inLargestUnit(value, [...BYTE_UNITS].slice(1).reverse()) ?? `${value}B`;
}

export function formatDuration(ms: number): string {
  const units = [...DURATION_UNITS].filter(([unit]) => unit !== "min" && unit !== "w").reverse();
  return ms === 0 ? "0" : (inLargestUnit(ms, units) ?? `${ms}ms`);
}

function inLargestUnit(value: number, units: readonly (readonly [string, number])[]): string | undefined {
  const found = units.find(([, factor]) => value >= factor && value % factor === 0);
  return found === undefined ? undefined : `${value / found[1]}${found[0]}`;
}

function notEmpty(value: string, accepts: string): string {
  if (value.trim() === "") throw new BadValue("the value is empty", `Write ${accepts}, or leave the option out.`);
  return value;
}

function inRange(
  result: number,
  range: { readonly min: number; readonly max: number },
  shown: { readonly value: string; readonly accepts: string },
): number {
  if (result < range.min || result > range.max) {
    throw new BadValue(`"${shown.value}" is out of range`, `Choose a value within ${shown.accepts}.`);
  }
  return result;
}
