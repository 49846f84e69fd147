/** `seawall unpin`: removes the pin of a backup. */
import { removePin } from "../../archive/backups/pins.ts";
import { EXIT } from "../../error-kinds.ts";
import { type CommandContext, printResult } from "../context.ts";
import { withArchive } from "../with-archive.ts";
import { backupIdArgument } from "./pin.ts";

export async function run(context: CommandContext): Promise<number> {
  const { signals, args } = context;
  const backup = backupIdArgument(args[0]);
  return withArchive(context, { verb: "unpinning" }, async (archive) => {
    const wasPinned = await removePin(archive, backup, { signal: signals.stop });
    const text = wasPinned ? `Backup ${backup} is not pinned any more.` : `Backup ${backup} was not pinned.`;
    await printResult(context, { backup, wasPinned }, text);
    return wasPinned ? EXIT.done : EXIT.no;
  });
}
