/**
 * The setup that a server needs before Seawall may connect: a role with the fewest rights, and its lines in pg_hba.conf.
 * `seawall init` writes both, and findings and hints name them. Pure.
 *
 * Source: PostgreSQL docs "CREATE ROLE", "The pg_hba.conf File".
 */

/** All that the role needs. */
export const ROLE_ATTRIBUTES = "LOGIN REPLICATION";

export function identifier(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replace(/"/g, '""')}"`;
}

export function literal(text: string): string {
  return `'${text.replace(/'/g, "''")}'`;
}

/** The statement that makes the role; `password` as it stands behind PASSWORD, with its quotes. */
export function createRole(user: string, password?: string): string {
  return `CREATE ROLE ${identifier(user)} ${ROLE_ATTRIBUTES}${password === undefined ? "" : ` PASSWORD ${password}`};`;
}

/** How the role gets its password: by a SCRAM verifier, typed into psql, or not at all. */
export type RolePassword =
  { readonly kind: "verifier"; readonly verifier: string } | { readonly kind: "ask" } | { readonly kind: "none" };

/** A script for psql that makes the role or changes the existing one, and reloads pg_hba.conf. */
export function roleScript(user: string, password: RolePassword): string {
  const role = identifier(user);
  const alter = `ALTER ROLE ${role} ${ROLE_ATTRIBUTES}`;
  const withPassword = password.kind === "verifier" ? `${alter} PASSWORD ${literal(password.verifier)};` : `${alter};`;
  return [
    `-- The role of Seawall: ${ROLE_ATTRIBUTES} and no other right. A superuser runs this file with psql.`,
    ...(password.kind === "verifier"
      ? ["-- The line with PASSWORD holds a SCRAM verifier, from which the password cannot be read."]
      : []),
    "\\set ON_ERROR_STOP on",
    `SELECT ${literal(`CREATE ROLE ${role}`)}`,
    `  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ${literal(user)}) \\gexec`,
    withPassword,
    ...(password.kind === "ask" ? [`\\password ${role}`] : []),
    "SELECT pg_catalog.pg_reload_conf();",
    "",
  ].join("\n");
}

/** The origin of connections. */
export type HbaClient =
  | { readonly kind: "local"; readonly method: "peer" | "scram-sha-256" }
  /** `address` as pg_hba.conf takes it: with a mask length, or a word such as `samenet`. */
  | { readonly kind: "address"; readonly address: string; readonly tls: boolean };

/** One line of pg_hba.conf for the role. `database`: a name, or the word `replication`. */
export function hbaLine(user: string, database: string, client: HbaClient): string {
  const target = database === "replication" ? database : identifier(database);
  if (client.kind === "local") return `local ${target} ${identifier(user)} ${client.method}`;
  return `${client.tls ? "hostssl" : "host"} ${target} ${identifier(user)} ${client.address} scram-sha-256`;
}

/** One address as pg_hba.conf takes it. */
export function singleAddress(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "").replace(/%.*$/, "");
  return `${plain}/${plain.includes(":") ? 128 : 32}`;
}
