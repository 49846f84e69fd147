/**
 * `seawall wal-fetch %f %p`: the restore_command. Quiet when all is well: what it writes to stderr lands in the server's
 * log, and a standby asks every few seconds.
 */
import { resolve } from "node:path";
import { EXIT } from "../error-kinds.ts";
import { walFetch } from "../restore/wal-fetch.ts";
import { type CommandContext, openPatientStore, printIfJson, requiredStore } from "./context.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, args, log, signals } = context;
  const [fileName = "", target = ""] = args;
  const store = await openPatientStore(context, requiredStore(context));
  try {
    const fetched = await walFetch({
      store,
      cluster: settings.cluster,
      fileName,
      targetPath: resolve(target),
      signal: signals.stop,
    });
    log.debug(fetched.kind === "fetched" ? "fetched" : "beyond the archive's tip", { fileName, ...fetched });
    await printIfJson(context, { file: fileName, ...fetched });
    return fetched.kind === "fetched" ? EXIT.done : EXIT.no;
  } finally {
    await store.close();
  }
}
