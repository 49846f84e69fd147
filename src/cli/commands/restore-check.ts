/** `seawall restore --check D`: exit 0 when the restored server has reached what was promised, 1 when it has not. */
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EXIT } from "../../error-kinds.ts";
import { SeawallError } from "../../errors.ts";
import {
  gatherEvidence,
  isServerOf,
  judgeRestore,
  maySeeMore,
  parseServerAnswer,
  readPostmaster,
  type RestoreEvidence,
  type RestoreVerdict,
  SERVER_QUERY,
  type ServerAnswer,
} from "../../restore/check.ts";
import { type CommandContext, printResult } from "../context.ts";
import { shownTime } from "../views/time.ts";
import { painted } from "../views/painted.ts";
import { columns } from "../views/layout.ts";
import { Progress } from "../views/progress.ts";
import { bytesBetween, type Lsn, parseLsn } from "../../wal/lsn.ts";

export async function checkRestored(context: CommandContext, dataDir: string): Promise<number> {
  const path = resolve(dataDir);
  const { settings } = context;
  if (!settings.wait && context.origins.get("waitForMs") !== "default") {
    throw new SeawallError("usage", "--wait-for has no meaning without --wait", { hint: "Add --wait." });
  }
  const look = async (): Promise<RestoreEvidence> => gatherEvidence(path, await askServer(context, path));
  const verdict = settings.wait ? await untilSettled(context, look) : judgeRestore(await look());
  const { ok, state, message, promised, reachedLsn } = verdict;
  const rows = [
    [painted(ok ? "reached" : "not reached", ok ? "green" : "red", context.io.colours), message],
    ["state", state],
    [
      "promised",
      `${promised.lsn} on timeline ${promised.timeline}${promised.commitTime === null ? "" : `, last commit at ${shownTime(promised.commitTime, "exact")}`}`,
    ],
    ["reached", reachedLsn ?? "unknown"],
  ];
  await printResult(
    context,
    { ...verdict, reachedLsn: reachedLsn ?? null, dataDir: path },
    columns(rows, context.io.width).join("\n"),
  );
  return ok ? EXIT.done : EXIT.no;
}

/** Looks again while that may show more, and gives the last verdict, at the latest after --wait-for. */
async function untilSettled(context: CommandContext, look: () => Promise<RestoreEvidence>): Promise<RestoreVerdict> {
  const { settings, signals, io } = context;
  const nowMs = (): number => performance.now();
  const endMs = nowMs() + settings.waitForMs;
  const progress = new Progress({ io, json: settings.json, verb: "recovering", nowMs });
  let seen: Lsn | undefined;
  for (let pauseMs = LOOK_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, LOOK_MAX_MS)) {
    const evidence = await look();
    const verdict = judgeRestore(evidence);
    const leftMs = endMs - nowMs();
    if (!maySeeMore(verdict, evidence.promise) || leftMs <= 0) {
      progress.end();
      return verdict;
    }
    if (verdict.reachedLsn !== undefined) {
      const lsn = parseLsn(verdict.reachedLsn);
      if (seen === undefined) progress.begin(bytesBetween(lsn, parseLsn(verdict.promised.lsn)));
      else progress.advance(Math.max(0, bytesBetween(seen, lsn)));
      seen = lsn;
    }
    progress.detail(verdict.ok ? "waiting for the promotion" : verdict.state);
    await sleep(Math.min(pauseMs, leftMs), undefined, { signal: signals.stop }).catch(() => undefined);
    if (signals.stop.aborted) {
      progress.end();
      throw new SeawallError("aborted", "the wait was cancelled", { cause: signals.stop.reason });
    }
  }
}

/** Between two looks; each is a connection to the server. */
const LOOK_FIRST_MS = 250;
const LOOK_MAX_MS = 5_000;

/**
 * Asks the server that holds the directory: at the socket in its postmaster.pid, or at --dsn where that reaches the same
 * server. Undefined when no server runs there or none answers; then the files decide.
 */
async function askServer(context: CommandContext, dataDir: string): Promise<ServerAnswer | undefined> {
  const { settings, env, log } = context;
  const postmaster = await readPostmaster(dataDir);
  if (postmaster === undefined) return undefined;
  const { socketDir, port } = postmaster;
  const user = env["PGUSER"] === undefined ? " user=postgres" : "";
  const places = [
    ...(postmaster.isAlive ? [`host='${socketDir}' port=${port} dbname=postgres${user}`] : []),
    ...(settings.dsn === undefined ? [] : [settings.dsn]),
  ];
  for (const dsn of places) {
    const isOurs = dsn !== settings.dsn;
    try {
      const answer = await ask(context, dsn);
      if (isServerOf(postmaster, answer)) return answer;
      log.debug("another server answers there: it is not asked about this directory", { port: answer.port });
    } catch (error) {
      if (!(error instanceof SeawallError) || error.code === "aborted") throw error;
      log[isOurs ? "debug" : "warn"]("the server could not be asked: judging by its files", { error });
    }
  }
  return undefined;
}

async function ask({ env, signals }: CommandContext, dsn: string): Promise<ServerAnswer> {
  const { parseConninfo } = await import("../../replication/conninfo.ts");
  const { processConninfoSources } = await import("../../replication/conninfo-files.ts");
  const { SqlConnection } = await import("../../replication/connection.ts");
  const connection = parseConninfo(processConninfoSources(dsn, env));
  const server = await SqlConnection.connect(connection, { signal: signals.stop });
  try {
    const { rows } = await server.query<Record<string, string | null>>(SERVER_QUERY, [], { signal: signals.stop });
    return parseServerAnswer(Object.values(rows[0] ?? {}));
  } finally {
    await server[Symbol.asyncDispose]();
  }
}
