/**
 * Makes an authenticated connection from settings: each host in order, each of its addresses, each encryption that sslmode
 * allows, until one server has the wanted session attributes. The only place that decides what is tried next.
 *
 * Source: PostgreSQL docs "Specifying Multiple Hosts", "SSL Support" (libpq); fe-connect.c, PQconnectPoll.
 */
import { lookup } from "node:dns/promises";
import { existsSync } from "node:fs";
import { isIP } from "node:net";
import { DatabaseError } from "pg-protocol";
import { SeawallError } from "../errors.ts";
import { deadline, joinSignals, onAbort } from "../signals.ts";
import { aborted, type ConnectOptions, contextFor, type Opened, openOne } from "./attempt.ts";
import { fromSocket, isTlsUnsupported } from "./errors.ts";
import { matchesSessionAttrs, serverVersionNumber } from "./session-attrs.ts";
import { DEFAULT_SOCKET_FOLDERS, type HostTarget, isSocketFolder } from "./settings.ts";
import { encryptionOrder, loadTlsMaterial, type TlsMaterial } from "./tls.ts";

/** The oldest server whose protocol and views Seawall knows. */
const VERSION_MIN = 140000;
/** Addresses of one name that are tried. */
const ADDRESSES_MAX = 16;

/** Throws one SeawallError that names every host tried. */
export async function openConnection(given: ConnectOptions): Promise<Opened> {
  const options = { ...given, onWarning: onceEach(given.onWarning) };
  const { settings, signal } = options;
  const { values } = settings;
  // Read before anything is attempted: a missing certificate is a mistake in the settings, not a server's failure.
  const needsTls = values.hosts.some((host) => encryptionOrder(values.tls.mode, host).includes("tls"));
  const material = needsTls ? loadTlsMaterial(settings) : undefined;
  const hosts = values.loadBalanceHosts ? shuffled(values.hosts, options.random ?? Math.random) : values.hosts;
  // prefer-standby: first round standbys only, second round anything (docs: target_session_attrs).
  const rounds =
    values.targetSessionAttrs === "prefer-standby" ? (["standby", "any"] as const) : [values.targetSessionAttrs];
  const failures: SeawallError[] = [];
  for (const [round, attrs] of rounds.entries()) {
    if (round > 0) failures.length = 0;
    for (const host of hosts) {
      const outcome = await tryHost(options, host, material, attrs);
      if (!(outcome instanceof SeawallError)) return outcome;
      if (signal?.aborted === true) throw outcome;
      failures.push(outcome);
      if (!goesOn(outcome)) throw combined(failures);
    }
  }
  throw combined(failures);
}

/** Authentication and TLS failures end the search as in libpq; unreachable, starting and unfit servers do not. */
function goesOn(error: SeawallError): boolean {
  return (
    error.code === "server-unreachable" || error.code === "server-starting" || error.code === "server-session-attrs"
  );
}

async function tryHost(
  options: ConnectOptions,
  target: HostTarget,
  material: TlsMaterial | undefined,
  attrs: string,
): Promise<Opened | SeawallError> {
  const { settings, signal } = options;
  const context = contextFor(options, target);
  let addresses: readonly string[];
  try {
    addresses = await addressesOf(target, signal, settings.values.connectTimeoutMs);
  } catch (error) {
    return signal?.aborted === true ? aborted(context, signal) : fromSocket(error, context);
  }
  let failure: SeawallError | undefined;
  for (const address of addresses) {
    const outcome = await tryAddress(options, target, address, material);
    if (!(outcome instanceof SeawallError)) {
      return refuseUnfit(outcome, attrs) ?? outcome;
    }
    failure = outcome;
    if (failure.code !== "server-unreachable") break;
  }
  return failure ?? fromSocket(new Error("the host has no address"), context);
}

/** Each encryption in turn; the second only after a failure that the first could have caused. */
async function tryAddress(
  options: ConnectOptions,
  target: HostTarget,
  address: string,
  material: TlsMaterial | undefined,
): Promise<Opened | SeawallError> {
  const failures: SeawallError[] = [];
  const order = encryptionOrder(options.settings.values.tls.mode, target);
  for (const encryption of order) {
    try {
      return await openOne(options, { target, address, encryption, material });
    } catch (error) {
      const failure = error instanceof SeawallError ? error : fromSocket(error, contextFor(options, target));
      // A server without TLS is no failure where sslmode can do without.
      if (order.length > 1 && isTlsUnsupported(failure)) continue;
      failures.push(failure);
      // What the other way could change: TLS that failed, a server that refused. Not: no server, no password, our own rules.
      const refused = failure.code === "server-tls" || failure.cause instanceof DatabaseError;
      if (!refused || failure.code === "server-starting") break;
    }
  }
  const [first, second] = failures;
  if (first === undefined) return fromSocket(new Error("no encryption to try"), contextFor(options, target));
  if (second === undefined) return first;
  // What the server said about us tells more than that TLS did not work, or that it wants TLS after all.
  const better = first.code === "server-tls" || second.code === first.code ? second : first;
  const other = better === first ? second : first;
  if (other.message === better.message) return better;
  return new SeawallError(better.code, `${better.message}; ${otherAttempt(better === first)}: ${other.message}`, {
    cause: better.cause,
    hint: better.hint,
    details: better.details,
  });
}

const otherAttempt = (afterwards: boolean): string =>
  afterwards ? "then, tried the other way" : "first, tried the other way";

/** Closes a server that is too old or has not the wanted attributes, and says so; undefined when it is fit. */
function refuseUnfit(opened: Opened, attrs: string): SeawallError | undefined {
  const { parameters } = opened.opening;
  const version = serverVersionNumber(parameters.get("server_version"));
  let error: SeawallError | undefined;
  if (version < VERSION_MIN) {
    const text = parameters.get("server_version") ?? "unknown";
    error = new SeawallError("server-version", `${opened.context.server}: PostgreSQL ${text} is not supported`);
  } else if (!matchesSessionAttrs(attrs, parameters)) {
    error = new SeawallError("server-session-attrs", `${opened.context.server}: session is not ${attrs}`);
  }
  if (error !== undefined) opened.opening.dismiss();
  return error;
}

/** Numeric addresses, or one socket folder. */
async function addressesOf(
  target: HostTarget,
  signal: AbortSignal | undefined,
  timeoutMs: number,
): Promise<readonly string[]> {
  if (target.hostaddr !== undefined) return [target.hostaddr];
  if (isSocketFolder(target.host) || isIP(target.host) !== 0) return [target.host];
  if (target.host === "") {
    const found = DEFAULT_SOCKET_FOLDERS.find((folder) => existsSync(`${folder}/.s.PGSQL.${target.port}`));
    return [found ?? DEFAULT_SOCKET_FOLDERS[0]];
  }
  // A lookup cannot be cancelled, only left alone.
  const addresses = await untilAborted(lookup(target.host, { all: true }), signal, timeoutMs);
  return addresses.slice(0, ADDRESSES_MAX).map(({ address }) => address);
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal | undefined, timeoutMs: number): Promise<T> {
  using limit = timeoutMs === 0 ? joinSignals(signal) : deadline(timeoutMs, signal);
  const stop = limit.signal;
  stop.throwIfAborted();
  return await new Promise<T>((resolve, reject) => {
    onAbort(stop, () => reject(new Error("host name lookup took too long")));
    work.then(resolve, reject);
  });
}

function combined(failures: readonly SeawallError[]): SeawallError {
  const [only, ...others] = failures;
  if (only === undefined) return new SeawallError("internal", "no host was tried");
  if (others.length === 0) return only;
  const last = failures.at(-1) ?? only;
  // A final refusal ended the search; otherwise an unfit server says more than one that is down.
  const telling = goesOn(last) ? (failures.find((failure) => failure.code === "server-session-attrs") ?? last) : last;
  return new SeawallError(telling.code, failures.map((failure) => failure.message).join("; "), {
    cause: telling.cause,
    hint: telling.hint,
    details: telling.details,
  });
}

/** Several attempts find the same things odd: each is said once. */
function onceEach(onWarning: ConnectOptions["onWarning"]): (message: string) => void {
  const said = new Set<string>();
  return (message) => {
    if (said.has(message)) return;
    said.add(message);
    onWarning?.(message);
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}
