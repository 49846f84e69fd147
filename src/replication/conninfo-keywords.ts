/**
 * The connection parameters that libpq knows: keyword, environment variable, compiled-in default. A table, read by
 * conninfo.ts.
 *
 * Source: PostgreSQL docs "Parameter Key Words" and "Environment Variables" (libpq); fe-connect.c, PQconninfoOptions.
 */

export interface Keyword {
  readonly env?: string;
  readonly default?: string;
  /** Why a value other than the harmless ones cannot be honoured here; such a value is refused. */
  readonly refused?: { readonly unless: readonly string[]; readonly reason: string };
  /** Why the keyword has no effect here; `check` and `receive` warn of it, unless the value asks for what happens anyway. */
  readonly ignored?: { readonly unless: readonly string[]; readonly reason: string };
}

const NO_GSS = "GSSAPI is not available to Node.js here";
const NO_PROBES = "Node.js sets only the idle time before the first probe (keepalives_idle)";

export const KEYWORDS: Readonly<Record<string, Keyword>> = {
  service: { env: "PGSERVICE" },
  servicefile: { env: "PGSERVICEFILE" },
  user: { env: "PGUSER" },
  password: { env: "PGPASSWORD" },
  passfile: { env: "PGPASSFILE" },
  channel_binding: { env: "PGCHANNELBINDING", default: "prefer" },
  connect_timeout: { env: "PGCONNECT_TIMEOUT" },
  dbname: { env: "PGDATABASE" },
  host: { env: "PGHOST" },
  hostaddr: { env: "PGHOSTADDR" },
  port: { env: "PGPORT", default: "5432" },
  client_encoding: {
    env: "PGCLIENTENCODING",
    ignored: { unless: ["UTF8", "utf8", "UTF-8", "utf-8", "auto"], reason: "Seawall reads and writes UTF-8" },
  },
  options: { env: "PGOPTIONS", default: "" },
  application_name: { env: "PGAPPNAME" },
  fallback_application_name: {},
  keepalives: { default: "1" },
  keepalives_idle: { default: "0" },
  keepalives_interval: { default: "0", ignored: { unless: ["0"], reason: NO_PROBES } },
  keepalives_count: { default: "0", ignored: { unless: ["0"], reason: NO_PROBES } },
  tcp_user_timeout: {
    default: "0",
    ignored: {
      unless: ["0"],
      reason: "Node.js cannot set it; Seawall ends a silent connection by its own time limits",
    },
  },
  sslmode: { env: "PGSSLMODE" },
  sslnegotiation: { env: "PGSSLNEGOTIATION", default: "postgres" },
  sslcompression: {
    env: "PGSSLCOMPRESSION",
    default: "0",
    ignored: { unless: ["0"], reason: "Node.js compresses no TLS connection" },
  },
  sslcert: { env: "PGSSLCERT" },
  sslkey: { env: "PGSSLKEY" },
  sslpassword: {},
  sslcertmode: { env: "PGSSLCERTMODE", default: "allow" },
  sslrootcert: { env: "PGSSLROOTCERT" },
  sslcrl: { env: "PGSSLCRL" },
  sslcrldir: {
    env: "PGSSLCRLDIR",
    refused: { unless: [""], reason: "Put the revocation lists into one PEM file and name it with sslcrl." },
  },
  sslsni: { env: "PGSSLSNI", default: "1" },
  sslkeylogfile: { ignored: { unless: [""], reason: "Seawall writes no TLS keys to files" } },
  requirepeer: {
    env: "PGREQUIREPEER",
    refused: { unless: [""], reason: "Node.js cannot find the owner of the other end of a Unix socket." },
  },
  require_auth: { env: "PGREQUIREAUTH" },
  ssl_min_protocol_version: { env: "PGSSLMINPROTOCOLVERSION", default: "TLSv1.2" },
  ssl_max_protocol_version: { env: "PGSSLMAXPROTOCOLVERSION" },
  min_protocol_version: {
    env: "PGMINPROTOCOLVERSION",
    refused: { unless: ["", "3.0"], reason: "Seawall speaks protocol 3.0, which every supported server does." },
  },
  // Protocol 3.0 is below every limit.
  max_protocol_version: { env: "PGMAXPROTOCOLVERSION" },
  gssencmode: {
    env: "PGGSSENCMODE",
    default: "disable",
    refused: { unless: ["disable", "prefer"], reason: `${NO_GSS}: use TLS (sslmode) instead.` },
  },
  krbsrvname: { env: "PGKRBSRVNAME", ignored: { unless: [""], reason: NO_GSS } },
  gsslib: { env: "PGGSSLIB", ignored: { unless: [""], reason: NO_GSS } },
  gssdelegation: { env: "PGGSSDELEGATION", ignored: { unless: ["", "0"], reason: NO_GSS } },
  // Each connection sets its own.
  replication: {},
  target_session_attrs: { env: "PGTARGETSESSIONATTRS", default: "any" },
  load_balance_hosts: { env: "PGLOADBALANCEHOSTS", default: "disable" },
  scram_client_key: { refused: { unless: [""], reason: "Give a password instead." } },
  scram_server_key: { refused: { unless: [""], reason: "Give a password instead." } },
  oauth_issuer: { refused: { unless: [""], reason: "OAuth is not supported for an unattended receiver." } },
  oauth_client_id: { refused: { unless: [""], reason: "OAuth is not supported for an unattended receiver." } },
  oauth_client_secret: { refused: { unless: [""], reason: "OAuth is not supported for an unattended receiver." } },
  oauth_ca_file: {
    env: "PGOAUTHCAFILE",
    refused: { unless: [""], reason: "OAuth is not supported for an unattended receiver." },
  },
  oauth_scope: { refused: { unless: [""], reason: "OAuth is not supported for an unattended receiver." } },
};

/** Keywords whose values are never shown. */
export const SECRET_KEYWORDS: ReadonlySet<string> = new Set([
  "password",
  "sslpassword",
  "scram_client_key",
  "scram_server_key",
  "oauth_client_secret",
]);
