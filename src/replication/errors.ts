/**
 * Maps errors of servers, sockets and TLS to our codes with the remedy: one table a source. Every error that leaves
 * this room passes here.
 *
 * The rows look at SQLSTATE, at the C function that raised the error (`routine`) and at whether there is a detail: no
 * lc_messages translates these. The English text only chooses the more telling of two codes that are handled alike.
 * Sources: PostgreSQL postinit.c, auth.c, proc.c, slot.c, walsender.c, timeline.c; docs Appendix A "Error Codes".
 */
import type { ErrorCode } from "../error-kinds.ts";
import { errnoOf, messageOf, SeawallError } from "../errors.ts";
import { createRole, hbaLine, type HbaClient, identifier, literal, singleAddress } from "./server-setup.ts";

/** The fields of an ErrorResponse that decide (docs: Error and Notice Message Fields). */
export interface ServerErrorFields {
  readonly message: string;
  readonly severity?: string | undefined;
  /** SQLSTATE. */
  readonly code?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  readonly routine?: string | undefined;
}

/** The activity, for the message and the remedy. */
export interface ErrorContext {
  readonly user: string;
  /** `describeTarget` of the server. */
  readonly server: string;
  /** A replication connection: `pg_hba.conf` and connection slots are different ones. */
  readonly replication: boolean;
  readonly database?: string | undefined;
  readonly slot?: string | undefined;
  /** The file the password came from, when it came from one. */
  readonly passfile?: string | undefined;
  readonly tls?: boolean | undefined;
}

interface ServerRow {
  readonly code: ErrorCode;
  readonly sqlstate: RegExp;
  readonly routine?: RegExp;
  /** A second sign beside the routine. */
  readonly text?: RegExp;
  /** The connection must be one for replication. */
  readonly replication?: true;
  /** The error must have a detail, or none: where one routine raises two errors with the same SQLSTATE. */
  readonly detail?: boolean;
  readonly hint?: (error: ServerErrorFields, context: ErrorContext) => string;
}

/** First row that fits wins. A row fits when its SQLSTATE does, its conditions hold, and its routine or its text fits. */
const SERVER_ROWS: readonly ServerRow[] = [
  // Connecting
  {
    code: "server-no-replication-role",
    sqlstate: /^42501$/,
    routine: /^InitPostgres$/,
    text: /replication role|start WAL sender/i,
    hint: (_error, { user }) => `ALTER ROLE ${identifier(user)} REPLICATION;`,
  },
  {
    code: "server-tls",
    sqlstate: /^28000$/,
    text: /valid client certificate/,
    hint: () => "pg_hba.conf asks for a client certificate: give sslcert=… and sslkey=….",
  },
  {
    code: "server-hba",
    sqlstate: /^28000$/,
    routine: /^ClientAuthentication$/,
    hint: (error, context) => hbaHint(error, context),
  },
  { code: "server-auth", sqlstate: /^(28P01|28000)$/, hint: (error, context) => authHint(error, context) },
  {
    code: "server-error",
    sqlstate: /^3D000$/,
    hint: () => "Name an existing database with dbname=…; postgres is the usual one.",
  },
  {
    code: "server-wal-level",
    sqlstate: /^53300$/,
    // The limit that the message names, in any language: none are allowed at all.
    text: /max_wal_senders\D+0\)/,
    hint: () =>
      "ALTER SYSTEM SET wal_level = replica; ALTER SYSTEM SET max_wal_senders = 10; and restart the server (wal_level = minimal allows no WAL senders).",
  },
  // proc.c, InitProcess: for a WAL sender it can only be max_wal_senders; for others it is max_connections.
  { code: "server-max-wal-senders", sqlstate: /^53300$/, routine: /^InitProcess$/, replication: true },
  { code: "server-busy", sqlstate: /^53300$/ },
  { code: "server-starting", sqlstate: /^57P03$/ },
  // admin_shutdown is also what pg_terminate_backend and an invalidated slot say: reconnecting finds out which.
  { code: "server-lost", sqlstate: /^57P0[1245]$/ },
  // Slots
  {
    code: "slot-active",
    sqlstate: /^55006$/,
    hint: (error) => slotActiveHint(error),
  },
  { code: "slots-full", sqlstate: /^53400$/, routine: /^ReplicationSlotCreate$/, text: /replication slots/ },
  {
    code: "slot-missing",
    sqlstate: /^42704$/,
    routine: /^(ReplicationSlotAcquire\w*|SearchNamedReplicationSlot|ReadReplicationSlot)$/,
    text: /replication slot/,
    hint: (_error, { slot }) =>
      `SELECT pg_create_physical_replication_slot(${literal(slot ?? "seawall")}, true); or run seawall slot create.`,
  },
  {
    code: "slot-exists",
    sqlstate: /^42710$/,
    routine: /^ReplicationSlotCreate$/,
    text: /replication slot/,
  },
  {
    code: "slot-invalidated",
    sqlstate: /^55000$/,
    routine: /^ReplicationSlotAcquire$/,
    text: /can no longer (access|get changes from) replication slot|(use|read from|copy) invalidated|has been invalidated/,
  },
  {
    code: "slot-logical",
    sqlstate: /^(55000|0A000)$/,
    routine: /^(StartReplication|ReadReplicationSlot)$/,
    text: /logical replication slot|logical slot/,
    hint: (_error, { slot }) =>
      `Choose another --slot; SELECT slot_type FROM pg_replication_slots WHERE slot_name = ${literal(slot ?? "seawall")}; shows its type.`,
  },
  {
    code: "server-wal-level",
    sqlstate: /^55000$/,
    routine: /^do_pg_(backup_start|start_backup)$/,
    text: /wal_level|WAL level not sufficient/,
  },
  // slot.c, CheckSlotRequirements: max_replication_slots = 0, or wal_level, which the row above tells by its name.
  { code: "slots-full", sqlstate: /^55000$/, routine: /^CheckSlotRequirements$/ },
  // Base backups
  {
    code: "backup-page-checksum",
    sqlstate: /^XX001$/,
    routine: /^(perform_base_backup|SendBaseBackup)$/,
    text: /checksum verification failure/,
  },
  {
    code: "server-error",
    sqlstate: /^(XX000|54000)$/,
    routine: /^_tarWriteHeader$/,
    text: /too long for tar format/,
    hint: () =>
      "The replication protocol sends tar: file names and tablespace locations of 100 bytes or more do not fit.",
  },
  {
    code: "server-error",
    sqlstate: /^22021$/,
    routine: /^report_invalid_encoding/,
    hint: () =>
      "A file in the data directory may have a name that is not UTF-8; before PostgreSQL 17 a base backup fails on it: rename or remove it.",
  },
  {
    code: "server-error",
    sqlstate: /^(0A000|42601)$/,
    routine: /^bbsink_(gzip|lz4|zstd)_new$/,
    text: /compression is not supported by this build|does not support compression/,
    hint: () => "The server was built without that library: use --network-compression none, or the other one.",
  },
  // Where to start
  {
    code: "wal-removed",
    // CheckXLogRemoved gives the class of an errno that may have nothing to do with it.
    sqlstate: /^(58P01|XX000)$/,
    routine: /^(WalSndSegmentOpen|CheckXLogRemoved)$/,
    text: /requested WAL segment|already been removed/,
    hint: (_error, { slot }) => walRemovedHint(slot),
  },
  { code: "history-missing", sqlstate: /^58P01$/, routine: /^SendTimeLineHistory$/, text: /\.history/ },
  // walsender.c, StartReplication: an unrelated timeline comes with a detail, a position ahead of the server without one.
  { code: "timeline-unrelated", sqlstate: /^XX000$/, routine: /^StartReplication$/, detail: true },
  { code: "wal-ahead", sqlstate: /^XX000$/, routine: /^StartReplication$/, detail: false },
  { code: "timeline-unrelated", sqlstate: /^XX000$/, routine: /^tliSwitchPoint$/ },
  // Everything else, by class: docs "PostgreSQL Error Codes"
  // errcode_for_file_access: the server itself may not read a file; no right of a role changes that.
  {
    code: "server-error",
    sqlstate: /^42501$/,
    routine: /^(sendFile|sendDir|AllocateDir|ReadDirExtended|OpenTransientFilePerm|read_binary_file)$/,
    hint: () => "The server's account may not read that file: correct the owner and the permissions of the file.",
  },
  {
    code: "server-privilege",
    sqlstate: /^42501$/,
    hint: (error, { user }) =>
      /^CheckSlotPermissions$/.test(error.routine ?? "") || /replication/i.test(error.message)
        ? `ALTER ROLE ${identifier(user)} REPLICATION;`
        : `Grant ${identifier(user)} what the message names; pg_monitor allows reading every statistic.`,
  },
  { code: "server-busy", sqlstate: /^(08|53|57|58|40|F0|XX001|XX002)/ },
];

/** An ErrorResponse as our error: the server's own words kept, with a code and a remedy. */
export function fromServer(error: ServerErrorFields, context: ErrorContext, cause?: unknown): SeawallError {
  const row = SERVER_ROWS.find((candidate) => fits(candidate, error, context));
  const code = row?.code ?? "server-error";
  const detail = error.detail === undefined ? "" : ` (${error.detail})`;
  const hint = row?.hint?.(error, context) ?? (code === "server-error" ? error.hint : undefined);
  return new SeawallError(code, `${context.server}: ${error.message}${detail}`, {
    cause: cause ?? error,
    hint,
    details: {
      server: context.server,
      ...(error.code === undefined ? {} : { sqlstate: error.code }),
      ...(error.routine === undefined ? {} : { routine: error.routine }),
    },
  });
}

function fits(row: ServerRow, error: ServerErrorFields, context: ErrorContext): boolean {
  if (!row.sqlstate.test(error.code ?? "")) return false;
  if (row.replication === true && !context.replication) return false;
  if (row.detail !== undefined && row.detail !== (error.detail !== undefined)) return false;
  const byRoutine = row.routine?.test(error.routine ?? "") ?? false;
  const byText = row.text?.test(error.message) ?? false;
  if (row.routine === undefined && row.text === undefined) return true;
  return byRoutine || byText;
}

function hbaHint(error: ServerErrorFields, { user, replication, database }: ErrorContext): string {
  const entry = /host "([^"]+)"/.exec(error.message)?.[1];
  const client: HbaClient =
    entry === undefined || entry === "[local]"
      ? { kind: "local", method: "scram-sha-256" }
      : { kind: "address", address: singleAddress(entry), tls: false };
  const line = hbaLine(user, replication ? "replication" : (database ?? "postgres"), client);
  const tls = /no encryption|SSL off/.test(error.message)
    ? " If the server only takes TLS, use sslmode=require or stronger."
    : "";
  return `Add to pg_hba.conf, above any line that refuses: ${line} — then SELECT pg_reload_conf();${tls}`;
}

function authHint(error: ServerErrorFields, context: ErrorContext): string {
  if (/not permitted to log in/.test(error.message)) return `ALTER ROLE ${identifier(context.user)} LOGIN;`;
  if (isUnknownRole(error)) return createRole(context.user, "'…'");
  // auth.c, auth_failed: passwords have an SQLSTATE of their own.
  if (error.code === "28000" && (error.routine === "auth_failed" || /Peer|Ident/.test(error.message))) {
    return "pg_hba.conf asks for the operating system user of that name; connect as that user, or use scram-sha-256 there.";
  }
  if (context.passfile !== undefined) return `The password came from ${context.passfile}: correct it there.`;
  return "Correct the password: PGPASSWORD, a ~/.pgpass with permissions 0600, or the keyword password of the connection string.";
}

/** The server knows no such role, or one that may not log in (miscinit.c, InitializeSessionUserId). */
function isUnknownRole({ code, routine }: Pick<ServerErrorFields, "code" | "routine">): boolean {
  return code === "28000" && routine === "InitializeSessionUserId";
}

/** The same of an error that came from `fromServer`. */
export function isRoleRefused({ details }: SeawallError): boolean {
  return details["sqlstate"] === "28000" && details["routine"] === "InitializeSessionUserId";
}

function slotActiveHint(error: ServerErrorFields): string {
  const pid = /PID (\d+)|(\d+)\D*$/.exec(error.message);
  const number = pid?.[1] ?? pid?.[2];
  const kill = number === undefined ? "" : ` SELECT pg_terminate_backend(${number}); frees it now.`;
  return `Another receiver uses this slot. If it is dead, the server frees the slot after wal_sender_timeout.${kill}`;
}

/** Before PostgreSQL 18 this is also how an invalidated slot shows itself: the walsender does not look at the slot. */
function walRemovedHint(slot: string | undefined): string {
  const backup = "The archive has a gap from here on: take a new base backup.";
  if (slot === undefined) return `Use a replication slot, which keeps WAL until it is stored. ${backup}`;
  const query = `SELECT wal_status FROM pg_replication_slots WHERE slot_name = ${literal(slot)};`;
  return `${query} says "lost" if the server has invalidated the slot (max_slot_wal_keep_size): drop and create it. ${backup}`;
}

interface SocketRow {
  readonly code: ErrorCode;
  readonly what: string;
  readonly hint: string | undefined;
}

const unreachable = (what: string, hint?: string): SocketRow => ({ code: "server-unreachable", what, hint });
const tls = (what: string, hint?: string): SocketRow => ({ code: "server-tls", what, hint });

/** Node's error codes (errno and OpenSSL's) while connecting. */
const SOCKET_ROWS: Readonly<Record<string, SocketRow>> = {
  ENOTFOUND: unreachable("host name not found", "Check the host name and DNS."),
  EAI_AGAIN: unreachable("host name lookup failed for now", "Check DNS on this machine."),
  ECONNREFUSED: unreachable("connection refused", "Is PostgreSQL running there, with that port and listen_addresses?"),
  ENOENT: unreachable(
    "no such Unix socket",
    "Is PostgreSQL running here? SHOW unix_socket_directories; says where its socket is.",
  ),
  ENOTSOCK: unreachable("not a socket"),
  EACCES: unreachable("permission denied on the socket"),
  EPERM: unreachable("not permitted by this machine's firewall or sandbox"),
  ECONNRESET: unreachable("connection reset by the other side"),
  EPIPE: unreachable("connection closed by the other side"),
  ETIMEDOUT: unreachable("connection timed out"),
  EHOSTUNREACH: unreachable("host unreachable"),
  ENETUNREACH: unreachable("network unreachable"),
  EADDRNOTAVAIL: unreachable("address not available"),
  ERR_TLS_CERT_ALTNAME_INVALID: tls(
    "the server's certificate is for another host name",
    "Connect by a name that the certificate holds (hostaddr= may give the address beside it), or use sslmode=verify-ca.",
  ),
  CERT_HAS_EXPIRED: tls("the server's certificate has expired", "Renew it."),
  CERT_NOT_YET_VALID: tls("the server's certificate is not valid yet", "Check the clocks."),
  CERT_REVOKED: tls("the server's certificate is revoked", "Install a new certificate."),
};

/** Node's names for "no chain to a trusted root", in their variants. */
const UNTRUSTED =
  /^(SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_\w+|CERT_\w+|INVALID_CA|HOSTNAME_MISMATCH)$/;

/** pg's words for it. */
const TLS_UNSUPPORTED = /does not support SSL/;

/** A failure below the protocol while connecting: name lookup, socket, TLS handshake, a closed connection. */
export function fromSocket(error: unknown, context: ErrorContext): SeawallError {
  if (error instanceof SeawallError) return error;
  const errno = errnoOf(error);
  const { code, what, hint } = SOCKET_ROWS[errno ?? ""] ?? socketRow(error, errno ?? "");
  const details = { server: context.server, ...(errno === undefined ? {} : { errno }) };
  return new SeawallError(code, `${context.server}: ${what}`, { cause: error, details, hint });
}

/** For the errors that have no code of their own. */
function socketRow(error: unknown, errno: string): SocketRow {
  const text = messageOf(error);
  if (UNTRUSTED.test(errno)) {
    return tls(
      `the server's certificate does not verify: ${text}`,
      "Name the CA's certificate with sslrootcert=… (or sslrootcert=system), or use sslmode=require to encrypt without verifying.",
    );
  }
  if (TLS_UNSUPPORTED.test(text)) {
    return tls(
      "the server does not support TLS, but sslmode requires it",
      "ALTER SYSTEM SET ssl = on; with a certificate on the server, or use sslmode=prefer.",
    );
  }
  if (/^(ERR_SSL|ERR_TLS|EPROTO|ERR_OSSL)/.test(errno) || /SSL|TLS/.test(text)) {
    return tls(`TLS handshake failed: ${tlsReason(error, text)}`);
  }
  if (/^SASL|SCRAM/.test(text)) return { code: "server-auth", what: text, hint: undefined };
  if (/Unknown authenticationOk message type/.test(text)) {
    return {
      code: "server-auth",
      what: "the server asks for an authentication method that is not supported (GSSAPI, SSPI, Kerberos or another)",
      hint: "Use scram-sha-256, or cert, in pg_hba.conf for this user.",
    };
  }
  return unreachable(/terminated unexpectedly/.test(text) ? "the server closed the connection" : text);
}

/** True for the answer "N" to our request for TLS: this server has none. */
export function isTlsUnsupported(error: SeawallError): boolean {
  return error.code === "server-tls" && error.cause instanceof Error && TLS_UNSUPPORTED.test(error.cause.message);
}

/** A connection that was up and broke. */
export function lostConnection(context: ErrorContext, doing: string, cause?: unknown): SeawallError {
  const why = cause instanceof Error ? `: ${cause.message}` : "";
  return new SeawallError("server-lost", `${context.server}: the connection was lost ${doing}${why}`, { cause });
}

function tlsReason(error: unknown, text: string): string {
  if (typeof error === "object" && error !== null && "reason" in error && typeof error.reason === "string") {
    return error.reason;
  }
  return text;
}
