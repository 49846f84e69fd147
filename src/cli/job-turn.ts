/**
 * Runs one job of a kind at a time, even after the daemon died: its orphaned job needs a moment to stop, and the next
 * daemon may already begin the same one. Each job holds a name that the kernel frees when the process ends.
 *
 * Source: unix(7), abstract sockets. Other systems than Linux have none: there the orphan ends by itself all the same.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, SeawallError } from "../errors.ts";
import type { Log } from "../log.ts";
import { ORPHAN_MS_MAX } from "./signals.ts";

export interface JobTurn {
  readonly job: string;
  readonly store: string;
  readonly cluster: string;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const ASK_MS = 200;
/** No orphan lives that long: another program holds the name then. */
const WAIT_MS_MAX = ORPHAN_MS_MAX + 5_000;

/** Resolves when no other job of this kind is left; dispose of the result at the end. Throws `aborted`. */
export async function takeTurn({ job, store, cluster, log, signal }: JobTurn): Promise<AsyncDisposable> {
  const digest = createHash("sha256").update(`${store}\n${cluster}`).digest("hex").slice(0, 32);
  const untilMs = performance.now() + WAIT_MS_MAX;
  let isFirst = true;
  for (;;) {
    if (signal.aborted) throw new SeawallError("aborted", "the job was cancelled", { cause: signal.reason });
    const server = process.platform === "linux" ? await hold(`\0seawall-${job}-${digest}`) : undefined;
    if (server !== "taken") return { [Symbol.asyncDispose]: async () => void server?.close() };
    if (isFirst) log.warn("an earlier run of this job, whose daemon is gone, is still ending: waiting for it", { job });
    isFirst = false;
    if (performance.now() > untilMs) {
      log.warn("it has not ended: going on", { job });
      return { [Symbol.asyncDispose]: async () => undefined };
    }
    await sleep(ASK_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function hold(name: string): Promise<Server | "taken"> {
  const server = createServer((socket) => socket.destroy());
  server.unref();
  server.listen(name);
  try {
    await once(server, "listening");
    return server;
  } catch (error) {
    if (errnoOf(error) !== "EADDRINUSE") throw error;
    return "taken";
  }
}
