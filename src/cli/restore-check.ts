/** `seawall restore --check D`: exit 0 when the restored server has reached what was promised, 1 when it has not. */
import { resolve } from "node:path";
import { EXIT } from "../error-kinds.ts";
import { SeawallError } from "../errors.ts";
import {
  gatherEvidence,
  judgeRestore,
  parseServerAnswer,
  runningServer,
  SERVER_QUERY,
  type ServerAnswer,
} from "../restore/check.ts";
import { type CommandContext, printResult } from "./context.ts";
import { columns, painted } from "./table.ts";

export async function checkRestored(context: CommandContext, dataDir: string): Promise<number> {
  const path = resolve(dataDir);
  const verdict = judgeRestore(await gatherEvidence(path, await askServer(context, path)));
  const { ok, state, message, promised, reachedLsn } = verdict;
  const rows = [
    [painted(ok ? "reached" : "not reached", ok ? "green" : "red", context.io.colours), message],
    ["state", state],
    [
      "promised",
      `${promised.lsn} on timeline ${promised.timeline}${promised.commitTime === null ? "" : `, last commit at ${promised.commitTime}`}`,
    ],
    ["reached", reachedLsn ?? "unknown"],
  ];
  await printResult(context, { ...verdict, reachedLsn: reachedLsn ?? null, dataDir: path }, columns(rows).join("\n"));
  return ok ? EXIT.done : EXIT.no;
}

/** By --dsn, whose failure is an error; else by the socket in postmaster.pid, where the files have to do if nobody answers. */
async function askServer(context: CommandContext, dataDir: string): Promise<ServerAnswer | undefined> {
  const { settings, env, signals, log } = context;
  const running = await runningServer(dataDir);
  if (settings.dsn === undefined && running === undefined) return undefined;
  const { parseConninfo } = await import("../replication/conninfo.ts");
  const { processConninfoSources } = await import("../replication/conninfo-files.ts");
  const { SqlConnection } = await import("../replication/connection.ts");
  const local = `host='${running?.socketDir ?? ""}' port=${running?.port ?? 0} dbname=postgres`;
  const dsn = settings.dsn ?? `${local}${env["PGUSER"] === undefined ? " user=postgres" : ""}`;
  try {
    const connection = parseConninfo(processConninfoSources(dsn, env));
    await using server = await SqlConnection.connect(connection, { signal: signals.stop });
    const { rows } = await server.query<Record<string, string | null>>(SERVER_QUERY, [], { signal: signals.stop });
    return parseServerAnswer(Object.values(rows[0] ?? {}));
  } catch (error) {
    if (settings.dsn !== undefined || !(error instanceof SeawallError) || error.code === "aborted") throw error;
    log.debug("the server could not be asked: judging by its files", { error });
    return undefined;
  }
}
