/**
 * `seawall wal-fetch %f %p`: the restore_command, by itself or behind `bin/seawall-wal-fetch`. Quiet when all is well: what
 * it writes to stderr lands in the server's log, and a standby asks every few seconds.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { EXIT } from "../../error-kinds.ts";
import { PrefetchFolder } from "../../restore/fetch/prefetch-folder.ts";
import { NOT_THERE_TO_SHELL, SHELL_VARIABLE } from "../../restore/restore-command.ts";
import { findServerRun } from "../../restore/server-run.ts";
import { type AskingServer, type Fetched, walFetch } from "../../restore/fetch/wal-fetch.ts";
import { type CommandContext, openPatientStore, printIfJson, requiredStore } from "../context.ts";
import { identitiesOf } from "../keys.ts";
import { prefetchSession } from "./wal-prefetch.ts";

type Answer = Fetched | { readonly kind: "prefetched" };

export async function run(context: CommandContext): Promise<number> {
  const { args, log, env } = context;
  const [fileName = ""] = args;
  const answer = await answerFor(context);
  log.debug(answer.kind === "beyond-tip" ? "beyond the archive's tip" : "fetched", { fileName, ...answer });
  await printIfJson(context, { file: fileName, ...answer });
  if (answer.kind !== "beyond-tip") return EXIT.done;
  return env[SHELL_VARIABLE] === undefined ? EXIT.no : NOT_THERE_TO_SHELL;
}

/** Answers from what waits in pg_wal, else from the store; then starts the prefetcher for the segments behind it. */
async function answerFor(context: CommandContext): Promise<Answer> {
  const { settings, args, signals } = context;
  const [fileName = "", path = ""] = args;
  const targetPath = resolve(path);
  const server = await askingServer(context, targetPath);
  if (server !== undefined && settings.prefetch) {
    const session = prefetchSession(context, server.run);
    if (await server.folder.take(session, fileName, targetPath)) return { kind: "prefetched" };
  }
  const identities = await identitiesOf(settings);
  const store = await openPatientStore(context, requiredStore(context));
  let fetched: Fetched;
  try {
    fetched = await walFetch({
      store,
      cluster: settings.cluster,
      fileName,
      targetPath,
      anyTimeline: settings.anyTimeline,
      identities,
      server,
      signal: signals.stop,
    });
  } finally {
    await store.close();
  }
  if (server !== undefined) await lookAhead(context, server, fetched);
  return fetched;
}

async function askingServer(context: CommandContext, targetPath: string): Promise<AskingServer | undefined> {
  const run = await findServerRun(targetPath);
  if (run === undefined) return undefined;
  const folder = new PrefetchFolder(run);
  const pid = Number(context.env[SHELL_VARIABLE] ?? process.ppid);
  const wantsNext = context.settings.prefetch && !(await folder.isPrefetching());
  return { run, folder, pid, wantsNext };
}

/** Tells the prefetcher where recovery is, or starts it. Without a next segment, removes the files of earlier prefetchers. */
async function lookAhead(context: CommandContext, server: AskingServer, fetched: Fetched): Promise<void> {
  const [fileName = ""] = context.args;
  const isSealed = fetched.kind === "fetched" && fetched.from === "segment";
  const next = isSealed ? fetched.next : undefined;
  const hasOne = context.settings.prefetch && !server.wantsNext;
  if (next !== undefined || (isSealed && hasOne)) await server.folder.noteAsked(fileName);
  else await server.folder.sweep();
  if (next !== undefined) await startPrefetcher(context, server, next);
}

/**
 * It stays in our process group, to which the server sends its shutdown, and holds none of our files: not the server's log,
 * whose end the server's logger waits for.
 */
async function startPrefetcher(context: CommandContext, server: AskingServer, next: string): Promise<void> {
  const [program = ""] = process.argv.slice(1);
  const args = context.argv.map((arg) => (arg === "wal-fetch" ? "wal-prefetch" : arg));
  const child = spawn(process.execPath, [...process.execArgv, program, ...args], { stdio: "ignore", env: context.env });
  child.unref();
  // Without it everything is slower and as right.
  await Promise.race([once(child, "spawn"), once(child, "error")]).catch(() => undefined);
  if (child.pid !== undefined) await server.folder.announce(child.pid, prefetchSession(context, server.run), next);
}
