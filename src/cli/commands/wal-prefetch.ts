/**
 * `seawall wal-prefetch`: the process that wal-fetch starts beside a recovering server. It says nothing and always exits
 * with 0: a postmaster that is process 1 of a container adopts it, and takes other statuses for a crash of its own child.
 */
import { resolve } from "node:path";
import { EXIT } from "../../error-kinds.ts";
import type { Session } from "../../restore/fetch/prefetch-folder.ts";
import { findServerRun, type ServerRun } from "../../restore/server-run.ts";
import { joinSignals } from "../../signals.ts";
import { type CommandContext, openPatientStore, requiredStore } from "../context.ts";
import { identitiesOf } from "../keys.ts";

/** Longer than PostgreSQL takes to replay a segment, as a rule; when it is not, the next wal-fetch starts another one. */
const IDLE_MS_MAX = 30_000;

export async function run(context: CommandContext): Promise<number> {
  const { settings, args, log, signals } = context;
  const [after = "", target = ""] = args;
  const server = await findServerRun(resolve(target));
  if (server === undefined) return EXIT.done;
  // The server's immediate shutdown.
  const quit = new AbortController();
  process.once("SIGQUIT", () => quit.abort());
  const { runPrefetcher } = await import("../../restore/fetch/prefetch.ts");
  const identities = await identitiesOf(settings);
  const store = await openPatientStore(context, requiredStore(context));
  // Not `using`: beside it TypeScript 5.9 leaves the dynamic import's extension as it is.
  const either = joinSignals(signals.stop, quit.signal);
  try {
    await runPrefetcher({
      store,
      cluster: settings.cluster,
      run: server,
      session: prefetchSession(context, server),
      after,
      anyTimeline: settings.anyTimeline,
      identities,
      bytesMax: settings.prefetchMaxBytes,
      idleMsMax: IDLE_MS_MAX,
      signal: either.signal,
    });
  } catch (error) {
    log.debug("not prefetching", { error });
  } finally {
    either[Symbol.dispose]();
    await store.close();
  }
  return EXIT.done;
}

/** For whom segments wait: this start of this server, asking with these very options for this archive. */
export function prefetchSession(context: CommandContext, server: ServerRun): Session {
  const { settings, args, argv } = context;
  const [file, target] = args;
  const own = new Set(["wal-fetch", "wal-prefetch", file, target]);
  return {
    run: server.id,
    flags: argv.filter((arg) => !own.has(arg)).join(" "),
    source: `${requiredStore(context)} ${settings.cluster}`,
    config: settings.config === undefined ? "" : resolve(settings.config),
  };
}
