/** `seawall wal-push %p`: the archive_command. Exits 0 only when the file is stored; PostgreSQL tries again otherwise. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { Codec } from "../../codec/codec.ts";
import { EXIT } from "../../error-kinds.ts";
import { walPush } from "../../receive/wal-push.ts";
import { type CommandContext, openPatientStore, printIfJson, requiredStore } from "../context.ts";
import { recipientsOf } from "../keys.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, args, log, signals } = context;
  const [path = ""] = args;
  // One segment in this thread: starting a worker would take longer than it saves.
  const codec = new Codec({ level: settings.compressLevel, recipients: await recipientsOf(settings) });
  const store = await openPatientStore(context, requiredStore(context));
  try {
    const result = await walPush({
      store,
      cluster: settings.cluster,
      path: resolve(path),
      codec,
      now: new Date(),
      takeOver: settings.takeOver,
      server: hostname(),
      signal: signals.stop,
    });
    log.debug("stored", { path, result });
    await printIfJson(context, { path, result });
    return EXIT.done;
  } finally {
    await store.close();
  }
}
