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
import { type ConnectionSettings, describeTarget, type FoundPassword, type HostTarget } from "./settings.ts";
import { type Encryption, type TlsMaterial, tlsOptionsFor } from "./tls.ts";

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

/** The longest delay a timer takes: as good as none. */
const TIMER_MS_MAX = 0x7fffffff;

/** Throws `server-…`, or `aborted`; no socket is left open then. */
export async function openOne(
  options: ConnectOptions,
  target: HostTarget,
  address: string,
  encryption: Encryption,
  material: TlsMaterial | undefined,
): Promise<Opened> {
  const { settings, signal, replication } = options;
  const { values } = settings;
  const database = values.database ?? "postgres";
  // libpq's own receivers look passwords up under "replication"; a line for the named database is as good.
  const found = settings.passwordFor(target, replication ? ["replication", database] : [database]);
  if (found.warning !== undefined) options.onWarning?.(found.warning);
  const context: ErrorContext = {
    ...contextFor(options, target),
    tls: encryption === "tls",
    ...(found.file === undefined ? {} : { passfile: found.file }),
  };
  const tls = encryption === "tls" && material !== undefined ? tlsOptionsFor(material, settings, target) : undefined;
  const guard = authenticationGuard(settings, tls !== undefined, context);
  const opening = new PgOpening(
    {
      address,
      port: target.port,
      tls,
      direct: tls !== undefined && values.tls.negotiation === "direct",
      user: values.user,
      password: () => passwordOrThrow(found, context),
      startup: {
        user: values.user,
        database: replication ? "replication" : database,
        application_name: values.applicationName,
        ...(replication ? { replication: "true" } : {}),
        ...(values.options === "" ? {} : { options: values.options }),
      },
      channelBinding: tls !== undefined && values.channelBinding !== "disable",
      keepalives: values.keepalives,
      keepalivesIdleMs: values.keepalivesIdleMs,
      onAuthentication: guard,
    },
    replication,
  );
  const timeoutMs = values.connectTimeoutMs;
  let timedOut = false;
  const timer = setTimeout(
    () => {
      timedOut = true;
      opening.destroy();
    },
    timeoutMs === 0 ? TIMER_MS_MAX : Math.min(timeoutMs, TIMER_MS_MAX),
  );
  const onAbort = (): void => opening.destroy();
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal?.aborted === true) throw aborted(context, signal);
    await opening.connect();
    return { opening, context, target, encryption };
  } catch (error) {
    opening.destroy();
    if (signal?.aborted === true) throw aborted(context, signal);
    if (timedOut) {
      throw new SeawallError("server-unreachable", `${context.server}: no connection within ${timeoutMs / 1000} s`, {
        hint: "Check address and firewall, or raise connect_timeout.",
      });
    }
    if (error instanceof DatabaseError) throw fromServer(error, context, error);
    throw fromSocket(error, context);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
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
