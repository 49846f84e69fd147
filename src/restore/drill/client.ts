/**
 * Connects to the drill's server that answers queries. The first connection removes settings of roles and databases
 * that are not on the allow-list. Only then queries and pg_amcheck run.
 *
 * Source: PostgreSQL docs, ALTER ROLE, pg_db_role_setting; postinit.c (process_startup_options, process_settings).
 */
import { SeawallError } from "../../errors.ts";
import { parseConninfo } from "../../replication/conninfo.ts";
import { SqlConnection } from "../../replication/connection.ts";
import { isRoleRefused } from "../../replication/errors.ts";
import { plainSessionOptions, TAKEN_OVER } from "./isolation.ts";

export interface DrillClientOptions {
  readonly socketDir: string;
  readonly port: number;
  /** A superuser of the cluster. */
  readonly user: string;
  readonly major: number;
  readonly signal: AbortSignal;
}

export interface DrillClient {
  readonly maintenanceDatabase: string;
  /** A session as the cluster's users have it, with the settings that the allow-list leaves. */
  connect(database: string): Promise<SqlConnection>;
  /** A session with PostgreSQL's own defaults. */
  connectPlain(database: string): Promise<SqlConnection>;
  /** For a client program, such as pg_amcheck. */
  readonly env: Readonly<Record<string, string>>;
}

/** Where every cluster can be connected to, unless it was dropped or closed. */
const USUAL_DATABASES = ["postgres", "template1"];
/** SQLSTATE of a database that is not there, and of one that lets no session in. */
const CLOSED_DATABASE = ["3D000", "55000"];

/** Opens the server to queries. Throws `usage` for a role that is none or no superuser, and what the server says. */
export async function openToQueries(options: DrillClientOptions, others: readonly string[]): Promise<DrillClient> {
  const { socketDir, port, user, major } = options;
  const connectPlain = async (database: string): Promise<SqlConnection> =>
    connect(options, database, plainSessionOptions(major));
  for (const database of new Set([...USUAL_DATABASES, ...others])) {
    try {
      await using connection = await connectPlain(database);
      await dropSessionSettings(connection, options);
    } catch (error) {
      if (!(error instanceof SeawallError)) throw error;
      if (CLOSED_DATABASE.includes(String(error.details["sqlstate"]))) continue;
      if (!isRoleRefused(error)) throw error;
      throw notSuperuser(`the recovered server has no role "${user}" that may log in`, error);
    }
    return {
      maintenanceDatabase: database,
      connect: async (name) => connect(options, name, ""),
      connectPlain,
      env: { PGHOST: socketDir, PGPORT: String(port), PGUSER: user, PGCONNECT_TIMEOUT: "10" },
    };
  }
  throw new SeawallError("usage", `the recovered server has none of the databases ${USUAL_DATABASES.join(", ")}`, {
    hint: "Name one with --sql 'database: SELECT true'.",
  });
}

async function connect(options: DrillClientOptions, database: string, session: string): Promise<SqlConnection> {
  const { socketDir, port, user, signal } = options;
  const quote = (text: string): string => `'${text.replaceAll(/[\\']/g, "\\$&")}'`;
  const words = { host: socketDir, port: String(port), user, dbname: database, application_name: "seawall" };
  const dsn = Object.entries({ ...words, ...(session === "" ? {} : { options: session }) });
  const text = dsn.map(([name, value]) => `${name}=${quote(value)}`).join(" ");
  return SqlConnection.connect(parseConninfo({ dsn: text, env: {}, files: () => undefined }), { signal });
}

async function dropSessionSettings(connection: SqlConnection, options: DrillClientOptions): Promise<void> {
  const { user, signal } = options;
  const superuser = "SELECT rolsuper AS is FROM pg_roles WHERE rolname = current_user";
  const { rows } = await connection.query<{ is: boolean }>(superuser, [], { signal });
  if (rows[0]?.is !== true) throw notSuperuser(`the role "${user}" of the recovered server is no superuser`, undefined);
  const isKept = "lower(split_part(setting, '=', 1)) = ANY ($1)";
  const kept = `ARRAY(SELECT setting FROM unnest(setconfig) setting WHERE ${isKept})`;
  // The server cannot read an empty array there.
  for (const text of [
    `DELETE FROM pg_db_role_setting WHERE ${kept} = '{}'`,
    `UPDATE pg_db_role_setting SET setconfig = ${kept}`,
  ]) {
    await connection.query(text, [TAKEN_OVER], { signal });
  }
}

function notSuperuser(message: string, cause: unknown): SeawallError {
  return new SeawallError("usage", message, {
    hint: "Name a superuser of the cluster with --superuser.",
    cause,
  });
}
