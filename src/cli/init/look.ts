/** Looks at server and store as `seawall check` does, and finds the password. Nothing is written but the check's own probe. */
import { randomBytes } from "node:crypto";
import type { ConnectionSettings } from "../../replication/settings.ts";
import type { Finding } from "../check/findings.ts";
import { allPassed, serverCheck, storeFindings } from "../check/run.ts";
import type { ServerCheck } from "../check/server.ts";
import { type CommandContext, connectionSettings } from "../context.ts";
import { isSocket, peerMethod } from "./client.ts";
import { conninfoOf, type InitServer, keptPassword, serverOf } from "./server.ts";

export interface Looked {
  readonly server: InitServer;
  readonly connection: ConnectionSettings;
  readonly findings: readonly Finding[];
  readonly ok: boolean;
  /** The server answered; a refusal is an answer. */
  readonly isReached: boolean;
  /** The server refuses the role, or does not know it. */
  readonly needsRole: boolean;
  /** The server refuses connections from here. */
  readonly needsHba: boolean;
  readonly clientAddress: string | undefined;
  /** The password that connections from here use, wherever it is kept. */
  readonly password: string | undefined;
}

const PASSWORD_BYTES = 18;

/** `context.settings` has the answers. `passfile`: of an earlier run; it may be absent. */
export async function lookAt(context: CommandContext, dsn: string, passfile: string): Promise<Looked> {
  let server = serverOf(dsn, context.env);
  let connection = await connectionSettings(context, conninfoOf(server));
  let checked = await serverCheck(context, connection);
  if (lacksPassword(checked, connection)) {
    const earlier = { ...server, values: new Map([...server.values, ["passfile", passfile]]) };
    const isKept = passwordOf(await connectionSettings(context, conninfoOf(earlier))) !== undefined;
    server = isKept ? earlier : { ...server, password: await newPassword(context, connection) };
    connection = await connectionSettings(context, conninfoOf(server));
    if (server.password?.origin !== "made") checked = await serverCheck(context, connection);
  }
  const findings = [...checked.findings, ...(await storeFindings(context, checked))];
  return {
    server,
    connection,
    findings,
    ok: allPassed(findings),
    isReached: !has(findings, ["connection"], "fail"),
    clientAddress: checked.clientAddress,
    needsRole: has(findings, ["authentication", "pg_hba.conf", "role"], "fail"),
    needsHba: has(findings, ["pg_hba.conf"], "fail") || has(findings, ["ordinary connection"], "warn"),
    password: passwordOf(connection),
  };
}

function has(findings: readonly Finding[], names: readonly string[], verdict: Finding["verdict"]): boolean {
  return findings.some((one) => one.group === "server" && names.includes(one.name) && one.verdict === verdict);
}

/** The server asks for a password, or soon will, and there is none. */
function lacksPassword({ findings }: ServerCheck, connection: ConnectionSettings): boolean {
  if (!has(findings, ["authentication", "pg_hba.conf"], "fail") || passwordOf(connection) !== undefined) return false;
  const [target] = connection.values.hosts;
  return target !== undefined && !(isSocket(target) && peerMethod(connection) === "peer");
}

function passwordOf(connection: ConnectionSettings): string | undefined {
  const [target] = connection.values.hosts;
  if (target === undefined) return undefined;
  return connection.passwordFor(target, ["replication", connection.values.database ?? "postgres"]).password;
}

async function newPassword(
  { io, signals }: CommandContext,
  { user }: ConnectionSettings,
): Promise<InitServer["password"]> {
  const question = `Password of the role ${user} (not shown; empty: make one): `;
  const typed = (await io.ask?.(question, { isHidden: true, signal: signals.stop })) ?? "";
  if (typed !== "") return keptPassword(typed, "typed");
  return keptPassword(randomBytes(PASSWORD_BYTES).toString("base64url"), "made");
}
