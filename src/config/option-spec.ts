/** An option: the shape of a row in the table (options.ts), and the helper that makes one. */
import { nameMatching, type ValueType } from "./types.ts";

export const COMMAND_NAMES = [
  "receive",
  "slot create",
  "slot drop",
  "check",
  "status",
  "backup",
  "restore",
  "drill",
  "wal-fetch",
  "wal-prefetch",
  "wal-push",
  "list",
  "show",
  "verify",
  "expire",
  "delete",
  "pin",
  "unpin",
  "notify-test",
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
  /** May hold a password: shown redacted. */
  readonly secret?: true;
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

type Rest<T> = Omit<OptionSpec<T>, keyof ValueType<T>>;
/** An option that always has a value. */
type WithDefault<T> = OptionSpec<T> & { readonly default: T };

export function option<T>(
  type: ValueType<T>,
  rest: Rest<NoInfer<T>> & { readonly default: NoInfer<T> },
): WithDefault<T>;
export function option<T>(type: ValueType<T>, rest: Rest<NoInfer<T>>): OptionSpec<T>;
export function option<T>(type: ValueType<T>, rest: Rest<T>): OptionSpec<T> {
  return { ...type, ...rest };
}

/** PostgreSQL: slot.c, ReplicationSlotValidateName. */
export const slotName = nameMatching(/^[a-z0-9_]{1,63}$/, "lower-case letters, digits and underscores, at most 63");
