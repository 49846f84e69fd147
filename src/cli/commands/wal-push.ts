/** `seawall wal-push %p`: the archive_command. Exits 0 only when the file is stored; PostgreSQL tries again otherwise. */
import { hostname } from "node:os";
import { resolve } from "node:path";
import { encodeObject } from "../../codec/object.ts";
import type { Encoder } from "../../archive/archive.ts";
import { EXIT } from "../../error-kinds.ts";
import { walPush } from "../../receive/wal-push.ts";
import { type CommandContext, openPatientStore, printIfJson, requiredStore } from "../context.ts";

export async function run(context: CommandContext): Promise<number> {
  const { settings, args, log, signals } = context;
  const [path = ""] = args;
  const store = await openPatientStore(context, requiredStore(context));
  // One segment in this thread: starting a worker would take longer than it saves.
  const encoder: Encoder = { encode: async (raw, meta) => encodeObject(raw, meta, settings.compressLevel) };
  try {
    const result = await walPush({
      store,
      cluster: settings.cluster,
      path: resolve(path),
      encoder,
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
