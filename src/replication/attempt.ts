/**
 * One attempt at one address, with or without TLS: from a socket to an authenticated connection, within connect_timeout.
 * connect.ts decides what is tried, and in which order.
 *
 * Source: PostgreSQL docs "Message Flow", "Start-up".
 */
import { DatabaseError } from "pg-protocol";
import { SeawallError } from "../errors.ts";
import { type ErrorContext, fromServer, fromSocket } from "./errors.ts";
import { type AuthenticationRequest, PgOpening } from "./pg-internals.ts";
import { hasTwoForms } from "./scram-raw.ts";
import { type ConnectionSettings, describeTarget, type FoundPassword, type HostTarget } from "./settings.ts";
import { type Encryption, type TlsMaterial, tlsOptionsFor } from "./tls.ts";
import { deadline, joinSignals, onAbort } from "../signals.ts";

export interface ConnectOptions {
  readonly settings: ConnectionSettings;
  /** A physical replication connection, whose socket is taken over; otherwise a pg Client. */
  readonly replication: boolean;
  /** Cancels at any moment: no socket is left open. */
  readonly signal?: AbortSignal | undefined;
  /** Things worth a warning, such as an ignored password file. */
  readonly onWarning?: ((message: string) => void) | undefined;
  /** For load_balance_hosts=random. */
  readonly random?: () => number;
}

export interface Opened {
  readonly opening: PgOpening;
  readonly context: ErrorContext;
  readonly target: HostTarget;
  readonly encryption: Encryption;
}

export interface Way {
  readonly target: HostTarget;
  readonly address: string;
  readonly encryption: Encryption;
  readonly material: TlsMaterial | undefined;
}

/** How one attempt presents itself to the server. */
interface Manner {
  readonly isRawPassword: boolean;
  /** Send SESSION_OPTIONS. */
  readonly isOwnSession: boolean;
}

/** SQLSTATE invalid_password. */
const INVALID_PASSWORD = "28P01";
/** SQLSTATE protocol_violation: what PgBouncer says of a start-up parameter that it does not know. */
const PROTOCOL_VIOLATION = "08P01";

/**
 * Switches off for our sessions what ends sessions of a role, a database or a server: each question has a deadline of its
 * own here, and a replication connection may wait for the store between two commands. Every role may set these; `options`
 * of the connection string come later in the start-up packet and win. `lc_messages` is not among them: only a superuser may
 * set it, and a server refuses the whole connection for a setting that the role may not set (docs/connecting.md).
 */
const SESSION_OPTIONS = [
  "statement_timeout",
  "lock_timeout",
  "idle_session_timeout",
  "idle_in_transaction_session_timeout",
]
  .map((name) => `-c ${name}=0`)
  .join(" ");

/**
 * Opens a connection. A refused password that SASLprep may change is tried in its other form: PostgreSQL keeps a password
 * unchanged where SASLprep refuses it. A pooler that refuses start-up parameters is asked again without ours. Throws
 * `server-…`, or `aborted`; no socket is left open then.
 */
export async function openOne(options: ConnectOptions, way: Way): Promise<Opened> {
  const { settings } = options;
  let manner: Manner = { isRawPassword: settings.isRawPassword, isOwnSession: true };
  for (;;) {
    try {
      const opened = await openAs(options, way, manner);
      settings.isRawPassword = manner.isRawPassword;
      return opened;
    } catch (error) {
      const other = error instanceof SeawallError ? otherManner(error, manner, { options, way }) : undefined;
      if (other === undefined) throw error;
      manner = other;
    }
  }
}

/** The manner to try after this refusal; undefined when each that could help has been tried. */
function otherManner(
  { details }: SeawallError,
  manner: Manner,
  { options, way }: { readonly options: ConnectOptions; readonly way: Way },
): Manner | undefined {
  const { settings } = options;
  if (details["sqlstate"] === PROTOCOL_VIOLATION && manner.isOwnSession) return { ...manner, isOwnSession: false };
  const isFirstForm = manner.isRawPassword === settings.isRawPassword;
  if (details["sqlstate"] !== INVALID_PASSWORD || !isFirstForm) return undefined;
  const { password = "" } = passwordFor(options, way.target);
  return hasTwoForms(password) ? { ...manner, isRawPassword: !manner.isRawPassword } : undefined;
}

/** libpq's own receivers look passwords up under "replication"; a line for the named database is as good. */
function passwordFor({ settings, replication }: ConnectOptions, target: HostTarget): FoundPassword {
  const database = settings.values.database ?? "postgres";
  return settings.passwordFor(target, replication ? ["replication", database] : [database]);
}

async function openAs(options: ConnectOptions, way: Way, { isRawPassword, isOwnSession }: Manner): Promise<Opened> {
  const { target, address, encryption, material } = way;
  const { settings, signal, replication } = options;
  const { values } = settings;
  const database = values.database ?? "postgres";
  const found = passwordFor(options, target);
  if (found.warning !== undefined) options.onWarning?.(found.warning);
  const context: ErrorContext = {
    ...contextFor(options, target),
    tls: encryption === "tls",
    ...(found.file === undefined ? {} : { passfile: found.file }),
  };
  const tls = encryption === "tls" && material !== undefined ? tlsOptionsFor(material, settings, target) : undefined;
  const guard = authenticationGuard(settings, tls !== undefined, context);
  const sessionOptions = [isOwnSession ? SESSION_OPTIONS : "", values.options].filter((text) => text !== "").join(" ");
  const opening = new PgOpening(
    {
      address,
      port: target.port,
      tls,
      direct: tls !== undefined && values.tls.negotiation === "direct",
      user: values.user,
      password: () => passwordOrThrow(found, context),
      isRawPassword,
      startup: {
        user: values.user,
        database: replication ? "replication" : database,
        application_name: values.applicationName,
        ...(replication ? { replication: "true" } : {}),
        ...(sessionOptions === "" ? {} : { options: sessionOptions }),
      },
      channelBinding: tls !== undefined && values.channelBinding !== "disable",
      keepalives: values.keepalives,
      keepalivesIdleMs: values.keepalivesIdleMs,
      onAuthentication: guard,
    },
    replication,
  );
  const timeoutMs = values.connectTimeoutMs;
  using limit = timeoutMs === 0 ? joinSignals(signal) : deadline(timeoutMs, signal);
  using _destroying = onAbort(limit.signal, () => opening.destroy());
  try {
    if (signal?.aborted === true) throw aborted(context, signal);
    await opening.connect();
    return { opening, context, target, encryption };
  } catch (error) {
    opening.destroy();
    if (signal?.aborted === true) throw aborted(context, signal);
    if (limit.isOverdue) {
      throw new SeawallError("server-unreachable", `${context.server}: no connection within ${timeoutMs / 1000} s`, {
        hint: "Check address and firewall, or raise connect_timeout.",
      });
    }
    if (error instanceof DatabaseError) throw fromServer(error, context, error);
    throw fromSocket(error, context);
  }
}

function passwordOrThrow(found: FoundPassword, context: ErrorContext): string {
  if (found.password !== undefined) return found.password;
  throw new SeawallError("server-auth", `${context.server}: the server asks for a password, and none was given`, {
    hint:
      found.warning ??
      "Set PGPASSWORD, write a line into ~/.pgpass (permissions 0600), or add password= to the connection string.",
  });
}

/** Holds the server to `require_auth` and `channel_binding=require` before a password leaves this process. */
function authenticationGuard(
  settings: ConnectionSettings,
  tls: boolean,
  context: ErrorContext,
): (request: AuthenticationRequest) => void {
  const { requireAuth, channelBinding } = settings.values;
  let asked = false;
  const refuse = (message: string): never => {
    throw new SeawallError("server-auth", `${context.server}: ${message}`, {
      hint: "Change pg_hba.conf on the server, or require_auth and channel_binding in the connection string.",
    });
  };
  return ({ method, mechanisms }) => {
    const name = method === "sasl" ? "scram-sha-256" : method === "ok" ? "none" : method;
    if (method === "ok" && asked) return;
    if (method !== "ok") asked = true;
    if (requireAuth !== undefined && !([...requireAuth] as string[]).includes(name)) {
      refuse(`authentication method requirement is not met: the server asks for ${name}`);
    }
    if (channelBinding !== "require") return;
    if (!tls) refuse("channel binding is required, but the connection is not encrypted");
    if (!mechanisms.includes("SCRAM-SHA-256-PLUS"))
      refuse("channel binding is required, but the server does not offer it");
  };
}

export function contextFor({ settings, replication }: ConnectOptions, target: HostTarget): ErrorContext {
  return {
    user: settings.user,
    server: describeTarget(target),
    replication,
    database: settings.values.database ?? "postgres",
  };
}

export function aborted(context: ErrorContext, signal: AbortSignal): SeawallError {
  return new SeawallError("aborted", `${context.server}: connecting was cancelled`, { cause: signal.reason });
}
