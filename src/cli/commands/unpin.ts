/** `seawall unpin`: removes the pin of a backup. */
import { openArchive } from "../../archive/archive.ts";
import { removePin } from "../../archive/backups/pins.ts";
import { EXIT } from "../../error-kinds.ts";
import { type CommandContext, openPatientStore, printResult, requiredStore } from "../context.ts";
import { backupIdArgument } from "./pin.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, signals, args } = context;
  const backup = backupIdArgument(args[0]);
  const store = await openPatientStore(context, requiredStore(context), { interactive: true });
  try {
    const options = { signal: signals.stop };
    const archive = await openArchive(store, settings.cluster, options);
    const wasPinned = await removePin(archive, backup, options);
    const text = wasPinned ? `Backup ${backup} is not pinned any more.` : `Backup ${backup} was not pinned.`;
    await printResult(context, { backup, wasPinned }, text);
    return wasPinned ? EXIT.done : EXIT.no;
  } finally {
    await store.close();
  }
}
