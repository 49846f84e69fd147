/** Reads the recovery target and the restore_command from the options of `restore` and `drill`. */
import { defaultText, OPTION_ROWS, type SettingKey } from "../config/options.ts";
import { restoreCommand } from "../restore/restore-command.ts";
import { parseTarget, type RecoveryTarget } from "../restore/target/target.ts";
import type { CommandContext } from "./context.ts";

/** Throws `usage`. */
export function recoveryTarget({ settings }: CommandContext, now: Date): RecoveryTarget {
  return parseTarget(
    {
      target: settings.target,
      time: settings.targetTime,
      lsn: settings.targetLsn,
      xid: settings.targetXid,
      name: settings.targetName,
      timeline: settings.targetTimeline,
      inclusive: settings.targetInclusive,
      exclusive: settings.targetExclusive,
      action: settings.targetAction,
    },
    now.getTime(),
  );
}

/**
 * The restored server's restore_command: its wal-fetch gets the options that we have, from wherever we have them. Never a
 * secret. A server that is to recover to one timeline may see all of them, and so takes a new timeline that none has.
 */
export function fetchCommand(
  { settings, origins, clusters }: Pick<CommandContext, "settings" | "origins" | "clusters">,
  { followsLine }: { readonly followsLine: boolean },
): string {
  if (settings.restoreCommand !== undefined) return settings.restoreCommand;
  const flags: string[] = [];
  for (const [key, spec] of OPTION_ROWS) {
    const origin = origins.get(key) ?? "default";
    // Of a file with clusters the name is said even where it has only one: another may come.
    const isName = key === "cluster" && clusters !== undefined;
    // The server runs it in its data directory, where a relative path in the file would mean another one.
    const isMoved = isKeyFile(key) && pathsOf(settings[key]).some((path) => !path.startsWith("/"));
    const isOurs = isName || isMoved || origin.startsWith("--") || origin.startsWith("SEAWALL_");
    if (
      key === "anyTimeline" ||
      !isOurs ||
      !spec.commands.includes("wal-fetch") ||
      spec.flagOnly === true ||
      spec.secret === true
    )
      continue;
    const value = settings[key];
    if (spec.repeatable === true && typeof value === "string") {
      for (const path of pathsOf(value)) flags.push(`--${spec.name}`, absolute(path));
      continue;
    }
    const isPath = key === "config" || key === "identityPassphraseFile";
    const given = defaultText({ ...spec, default: value });
    const text = isPath ? absolute(given ?? "") : given;
    if (spec.type === "boolean") flags.push(value === true ? `--${spec.name}` : `--no-${spec.name}`);
    else if (text !== undefined) flags.push(`--${spec.name}`, text);
  }
  if (!followsLine) flags.push("--any-timeline");
  return restoreCommand({ flags });
}

function isKeyFile(key: SettingKey): key is "identity" | "identityPassphraseFile" {
  return key === "identity" || key === "identityPassphraseFile";
}

function pathsOf(value: string | undefined): string[] {
  return value === undefined ? [] : value.split("\n");
}

function absolute(path: string): string {
  return path.startsWith("/") ? path : `${process.cwd()}/${path}`;
}
