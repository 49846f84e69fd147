/**
 * The first base backup. The replication slot comes first: it keeps the WAL behind the backup for the receiver, which may start
 * later. The backup brings its own WAL. When it fails, a slot that was made for it goes again.
 */
import { readFile } from "node:fs/promises";
import type { BackupDocument } from "../../archive/backups/document.ts";
import { type Loaded, loadSettings } from "../../config/load.ts";
import type { CommandName } from "../../config/options.ts";
import { deadline } from "../../signals.ts";
import { backedUp } from "../commands/backup.ts";
import { ensureSlot, type EnsuredSlot } from "../commands/slot-create.ts";
import { dropSlot } from "../commands/slot-drop.ts";
import type { CommandContext } from "../context.ts";
import type { InitPaths } from "./files.ts";

export interface FirstBackup {
  readonly document: BackupDocument;
  readonly slot: EnsuredSlot;
}

const DROP_MS = 10_000;

export async function firstBackup(context: CommandContext, { config }: InitPaths): Promise<FirstBackup> {
  const { env, settings, log } = context;
  const loaded = await loadedFrom(config, "backup", { env });
  const { json, logLevel, logFormat } = settings;
  const own = { withWal: true, checkpoint: "fast", json, logLevel, logFormat } as const;
  const ready = { ...context, origins: loaded.origins, settings: { ...loaded.settings, ...own } };
  const slot = await ensureSlot(ready);
  try {
    return { document: await backedUp(ready), slot };
  } catch (error) {
    if (slot.created) {
      // Not cancelled with the command: a slot without a receiver fills the server's disk.
      using limit = deadline(DROP_MS);
      await dropSlot(ready, limit.signal).catch((failure: unknown) => {
        log.warn("the slot made for the backup is still there: drop it with seawall slot drop", { error: failure });
      });
    }
    throw error;
  }
}

/** Loads the file as another command will, without variables of this process that would hide the file's values. */
export async function loadedFrom(
  config: string,
  command: CommandName,
  { env, text }: { readonly env: CommandContext["env"]; readonly text?: string },
): Promise<Loaded> {
  const others = Object.fromEntries(Object.entries(env).filter(([name]) => !/^SEAWALL_/i.test(name)));
  const read = async (path: string): Promise<string> => text ?? (await readFile(path, "utf8"));
  return loadSettings({ command, flags: new Map([["config", config]]), env: others, readFile: read });
}
