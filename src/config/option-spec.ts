/** An option: the shape of a row in the table (options.ts), and the helper that makes one. */
import { nameMatching, type ValueType } from "./types.ts";

export const COMMAND_NAMES = [
  "receive",
  "slot create",
  "slot drop",
  "cluster upgrade",
  "cluster remove",
  "cluster allow-plain",
  "init",
  "check",
  "status",
  "backup",
  "restore",
  "drill",
  "wal-fetch",
  "wal-prefetch",
  "wal-push",
  "import",
  "list",
  "show",
  "verify",
  "expire",
  "delete",
  "rekey",
  "pin",
  "unpin",
  "notify-test",
  "cost",
  "keygen",
  "completion",
] as const;
export type CommandName = (typeof COMMAND_NAMES)[number];

export interface OptionSpec<T> extends ValueType<T> {
  readonly name: string;
  readonly commands: readonly CommandName[];
  /** One line for the help. */
  readonly help: string;
  /** More for docs/configuration.md: sentences on when to change it. */
  readonly more?: string;
  readonly default?: T;
  /** Commands that do not run without a value. */
  readonly requiredBy?: readonly CommandName[];
  /** Another command has a different option of this name: the key begins with the command's name. */
  readonly sharesName?: true;
  /** Words that completion offers beside values that only the user knows. */
  readonly suggests?: readonly string[];
  /** May hold a password: shown redacted. */
  readonly secret?: true;
  /** A letter that stands for one value: `-v` for `--log-level debug`. */
  readonly short?: { readonly flag: string; readonly value: string };
  /** May be given several times: the texts arrive in one, a line each. */
  readonly repeatable?: true;
  /** Makes no sense inside the configuration file or the environment. */
  readonly flagOnly?: true;
  /**
   * Where there are several clusters in the file. `process`: one for all of them, so it cannot stand inside a cluster.
   * `own`: never the same for two of them, so a flag or a variable cannot give it to all.
   */
  readonly scope?: "process" | "own";
  /** The option belongs to the routine beside the receiver: a reload changes it without touching the stream. */
  readonly routine?: true;
}

/** A row of the table: an option but for its name, which follows from the row's key. */
type Row<T> = Omit<OptionSpec<T>, "name">;
type Rest<T> = Omit<Row<T>, keyof ValueType<T>>;
/** An option that always has a value. */
type WithDefault<T> = Row<T> & { readonly default: T };

export function option<T>(
  type: ValueType<T>,
  rest: Rest<NoInfer<T>> & { readonly default: NoInfer<T> },
): WithDefault<T>;
export function option<T>(type: ValueType<T>, rest: Rest<NoInfer<T>>): Row<T>;
export function option<T>(type: ValueType<T>, rest: Rest<T>): Row<T> {
  return { ...type, ...rest };
}

/** Gives each row the name that its key stands for: `shipIntervalMs`, a duration, is `ship-interval`. */
export function named<Table extends Readonly<Record<string, Row<unknown>>>>(
  table: Table,
): { readonly [K in keyof Table]: Table[K] & { readonly name: string } } {
  const rows = Object.entries(table).map(([key, row]) => {
    const unit = row.type === "duration" ? /Ms$/ : row.type === "bytes" ? /Bytes$/ : "";
    const words = key.replace(unit, "").replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    const name = row.sharesName === true ? words.replace(`${row.commands[0]}-`, "") : words;
    return [key, { ...row, name }];
  });
  // A cast: Object.fromEntries forgets which row stands under which key.
  return Object.fromEntries(rows) as { readonly [K in keyof Table]: Table[K] & { readonly name: string } };
}

/** PostgreSQL: slot.c, ReplicationSlotValidateName. */
export const slotName = nameMatching(/^[a-z0-9_]{1,63}$/, "lower-case letters, digits and underscores, at most 63");
