/** Decides which files `seawall init` writes, and which commands come next. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { RolePassword } from "../../replication/server-setup.ts";
import { scramVerifier } from "../../replication/scram-verifier.ts";
import { OPTIONS } from "../../config/options.ts";
import { schemeName } from "../../store/schemes.ts";
import { parseS3Url } from "../../store/s3/url.ts";
import { findingsText } from "../check/run.ts";
import type { CommandContext } from "../context.ts";
import { requiredStore } from "../context.ts";
import { hbaClientOf, isLoopback, isSocket, localSocket, osUser, peerMethod } from "./client.ts";
import {
  configFile,
  type ConfigValues,
  findingsFile,
  hbaFile,
  type InitFile,
  type InitPaths,
  passwordFile,
  policyFiles,
  roleFile,
} from "./files.ts";
import type { Looked } from "./look.ts";
import { type NextFacts, programName, type SuperuserWay } from "./next.ts";
import { fileDsn, passfileText } from "./server.ts";

export interface Plan {
  readonly ok: boolean;
  readonly values: ConfigValues;
  /** In the order in which they are written: the configuration is the last. */
  readonly files: readonly InitFile[];
  /** Files with what is to be done on the server. */
  readonly todo: readonly InitFile[];
  readonly notes: readonly string[];
  readonly next: Omit<NextFacts, "hasBackup">;
}

/** No script sets the superuser's password. */
const SUPERUSER = "postgres";
const SALT_BYTES = 16;

export async function planOf(context: CommandContext, looked: Looked, paths: InitPaths): Promise<Plan> {
  const { settings } = context;
  const { server, connection, ok } = looked;
  const store = requiredStore(context);
  const values = { dsn: fileDsn(server, paths.passfile), store, cluster: settings.cluster, slot: settings.slot };
  const [role, hba] = await serverFiles(context, looked, paths);
  const onServer = [hba, role].filter((file) => file !== undefined);
  const todo = onServer.filter((file) => file === role || looked.needsHba);
  const isPassed = looked.findings.every(({ verdict }) => verdict === "ok");
  const secret = server.password;
  const config = configFile(paths.config, values);
  const files = [
    ...onServer,
    ...policiesFor(context, paths),
    ...(isPassed ? [] : [findingsFile(paths.setup, findingsText(looked.findings, { colours: false }))]),
    ...(secret === undefined ? [] : [passwordFile(paths.passfile, passfileText(connection, secret.text))]),
    config,
  ];
  const next = {
    program: program(context),
    config: settings.initConfig,
    ok,
    way: superuserWay(looked),
    roleFile: role?.path,
    hbaFile: looked.needsHba ? hba?.path : undefined,
    again: looked.isReached || config.isSecret ? undefined : wordsOf(settings, values),
  };
  return { ok, values, files, todo, notes: notesOn(context, looked, paths), next };
}

/** The command of this run, without what is the default. */
function wordsOf(
  { initConfig, initBackup }: CommandContext["settings"],
  { dsn, store, cluster, slot }: ConfigValues,
): readonly string[] {
  return [
    ...["init", "--force", "--config", initConfig, "--dsn", dsn, "--store", store],
    ...(cluster === OPTIONS.cluster.default ? [] : ["--cluster", cluster]),
    ...(slot === OPTIONS.slot.default ? [] : ["--slot", slot]),
    ...(initBackup ? ["--backup"] : []),
  ];
}

async function serverFiles(
  { signals }: CommandContext,
  looked: Looked,
  { setup }: InitPaths,
): Promise<readonly [role: InitFile | undefined, hba: InitFile | undefined]> {
  const { connection, needsRole, needsHba, clientAddress } = looked;
  const { user, values } = connection;
  const isOurs = needsRole && user !== SUPERUSER;
  const role = isOurs ? roleFile(setup, user, rolePassword(looked)) : undefined;
  if (!needsRole && !needsHba) return [role, undefined];
  const client = await hbaClientOf(connection, clientAddress, signals.stop);
  return [role, hbaFile(setup, user, values.database ?? "postgres", client)];
}

function rolePassword({ connection, password }: Looked): RolePassword {
  const [target] = connection.values.hosts;
  const isPeer = target !== undefined && isSocket(target) && peerMethod(connection) === "peer";
  if (password === undefined) return isPeer ? { kind: "none" } : { kind: "ask" };
  const verifier = scramVerifier(password, randomBytes(SALT_BYTES));
  return verifier === undefined ? { kind: "ask" } : { kind: "verifier", verifier };
}

function policiesFor(context: CommandContext, { setup }: InitPaths): readonly InitFile[] {
  const store = requiredStore(context);
  if (schemeName(store) !== "s3") return [];
  const { bucket, prefix } = parseS3Url(new URL(store));
  return policyFiles(setup, { bucket, prefix: prefix.replace(/\/$/, ""), cluster: context.settings.cluster });
}

function superuserWay({ connection }: Pick<Looked, "connection">): SuperuserWay {
  const [target = { host: "", port: 5432 }] = connection.values.hosts;
  const { host, hostaddr, port } = target;
  const isHere = isSocket(target) || isLoopback(target);
  const folder = isSocket(target) && host !== "" ? host : localSocket(port);
  return { host: hostaddr ?? host, port, socket: isHere ? folder : undefined, account: osUser() };
}

function program({ env }: CommandContext): string {
  const folders = (env["PATH"] ?? "").split(delimiter);
  const isInPath = (name: string): boolean => folders.some((folder) => existsSync(join(folder, name)));
  return programName({ env, node: process.execPath, script: process.argv[1] ?? "", isInPath });
}

function notesOn(
  context: CommandContext,
  { server, connection, ok, needsRole, needsHba, password }: Looked,
  paths: InitPaths,
): readonly string[] {
  const { env, settings } = context;
  const isRoot = process.getuid?.() === 0;
  const fromEnvironment = server.password === undefined && password !== undefined && password === env["PGPASSWORD"];
  const { socket } = superuserWay({ connection });
  return [
    ...(settings.initBackup && !ok && !settings.dryRun ? ["No backup was taken, because a check failed."] : []),
    ...(needsRole && connection.user === SUPERUSER
      ? ["The server refuses the superuser postgres. Name a role of its own, such as seawall, in --dsn."]
      : []),
    ...(needsHba && socket === undefined
      ? [`Add the lines of ${paths.setup}/pg_hba.conf to the server's pg_hba.conf, and reload it.`]
      : []),
    ...(server.password?.origin === "made"
      ? [`The password of ${connection.user} is made at random. ${paths.passfile} alone has it.`]
      : []),
    ...(server.password !== undefined && isRoot
      ? [`${paths.passfile} belongs to root. Give it to the account that runs Seawall: chown seawall ${paths.passfile}`]
      : []),
    ...(fromEnvironment ? ["The password comes from PGPASSWORD: set it wherever Seawall runs."] : []),
    ...(schemeName(requiredStore(context)) === "s3"
      ? [
          `S3 credentials are found as the AWS SDK finds them. ${paths.setup} has a policy for each role; receive with backups needs receiver and keeper.`,
        ]
      : []),
  ];
}
