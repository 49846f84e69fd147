/** A command's description: the shape of a row in the table (commands.ts), and the exit statuses that many share. */
import { EXIT } from "../error-kinds.ts";
import type { Command } from "./context.ts";

/** The groups of `seawall help`, in their order. */
export const HELP_GROUPS = ["Run", "Back up", "Recover", "Look", "Keep", "Set up"] as const;

export interface CommandArg {
  readonly name: string;
  readonly help: string;
  /** Every value that is accepted, where they can be counted. */
  readonly choices?: readonly string[];
  /** Words that completion offers beside values that only the user knows. */
  readonly suggests?: readonly string[];
}

export interface CommandSpec {
  readonly group: (typeof HELP_GROUPS)[number];
  /** One line, for the list of commands. */
  readonly summary: string;
  /** Paragraphs for the command's own help. */
  readonly description: string;
  readonly args?: readonly CommandArg[];
  readonly examples: readonly { readonly line: string; readonly does: string }[];
  readonly exits: readonly (readonly [number, string])[];
  /**
   * Exit status of whatever fails without a status of its own; 3 by default. `wal-fetch` must stay above 125 there:
   * PostgreSQL takes a lower one for the end of the archive.
   */
  readonly unexpectedExit?: number;
  /** Runs until it is stopped: its errors belong into its log. */
  readonly daemon?: true;
  /**
   * How a stop is bounded. Without this the program ends the command GRACE_MS after it was told to stop (last-resort.ts).
   * `own`: the command sets a limit of its own, after its --shutdown-timeout. `none`: leaving at once would do harm.
   */
  readonly endAfterStop?: "own" | "none";
  readonly load: () => Promise<{ readonly run: Command }>;
}

/** An argument that names a backup (archive/backups/named.ts). */
export const BACKUP_ARG = {
  name: "id",
  help: "id of the backup, from seawall list; a part that only it has; or latest",
  suggests: ["latest"],
} as const satisfies CommandArg;

export const USAGE = [EXIT.usage, "wrong options, environment or configuration file; nothing was touched"] as const;
export const OPERATIONAL = [EXIT.operational, "anything else that failed"] as const;
export const SERVER = [EXIT.server, "the server cannot be reached, refuses us, or lacks something"] as const;
export const STORE = [EXIT.store, "the store cannot be reached, refuses us, or lacks something"] as const;
export const DAMAGE = [
  EXIT.damage,
  "WAL or the archive is damaged, foreign or diverged; nothing doubtful was acknowledged",
] as const;
export const INTERRUPTED = [EXIT.interrupted, "interrupted (SIGINT); 143 for SIGTERM"] as const;
/** How a command on the store alone may fail. */
export const STORE_FAILURES = [USAGE, OPERATIONAL, STORE, INTERRUPTED] as const;
