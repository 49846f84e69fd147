/**
 * `seawall wal-fetch %f %p`: the restore_command. Quiet when all is well: what it writes to stderr lands in the server's
 * log, and a standby asks every few seconds.
 */
import { resolve } from "node:path";
import { EXIT } from "../error-kinds.ts";
import { NOT_THERE_TO_SHELL, SHELL_VARIABLE } from "../restore/restore-command.ts";
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
    if (fetched.kind === "fetched") return EXIT.done;
    return context.env[SHELL_VARIABLE] === undefined ? EXIT.no : NOT_THERE_TO_SHELL;
  } finally {
    await store.close();
  }
}
