/** `seawall unpin`: removes the pin of a backup. */
import { backupNamed } from "../../archive/backups/named.ts";
import { removePin } from "../../archive/backups/pins.ts";
import { EXIT } from "../../error-kinds.ts";
import { type CommandContext, printResult } from "../context.ts";
import { withArchive } from "../with-archive.ts";
import { backupArgument } from "./pin.ts";

export async function run(context: CommandContext): Promise<number> {
  const { signals, args } = context;
  const named = backupArgument(args[0]);
  return withArchive(context, { verb: "unpinning", backup: named }, async (archive) => {
    const options = { signal: signals.stop };
    const backup = await backupNamed(archive, named, options);
    const wasPinned = await removePin(archive, backup, options);
    const text = wasPinned ? `Backup ${backup} is not pinned any more.` : `Backup ${backup} was not pinned.`;
    await printResult(context, { backup, wasPinned }, text);
    return wasPinned ? EXIT.done : EXIT.no;
  });
}
