/**
 * Makes `ConnectionSettings` from a connection string, the environment and libpq's files. Precedence, defaults and
 * refusals are libpq's, so that a string that works for psql works here. Pure but for the given readers.
 *
 * Source: PostgreSQL docs "Database Connection Control Functions" (libpq); fe-connect.c, conninfo_add_defaults and
 * pqConnectOptions2.
 */
import { SeawallError } from "../errors.ts";
import { hostTargets } from "./conninfo-hosts.ts";
import { KEYWORDS, SECRET_KEYWORDS } from "./conninfo-keywords.ts";
import { type ConninfoValues, parseConninfoText } from "./conninfo-text.ts";
import { type FileReader, findService } from "./passfile.ts";
import {
  type AuthMethod,
  ConnectionSettings,
  type IgnoredPart,
  type SslMode,
  type TargetSessionAttrs,
  type TlsSettings,
  type TlsVersion,
} from "./settings.ts";

export interface ConninfoSources {
  /** `postgresql://…` or `keyword=value …`; empty or undefined: environment and defaults only. */
  readonly dsn?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly files: FileReader;
  /** The operating system's user name: the last resort for `user`. */
  readonly osUser?: string | undefined;
  /** Home folder when `HOME` is not in the environment. */
  readonly homeDir?: string | undefined;
}

/**
 * libpq waits without limit by default. A process that runs unattended must not: a lost SYN would stop it for ever.
 */
const CONNECT_TIMEOUT_DEFAULT_S = 30;

/** System-wide `pg_service.conf` where PGSYSCONFDIR does not say: Debian's place, then Red Hat's, then a source build's. */
const SYSCONF_FOLDERS = ["/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc"];

/** Throws `usage` with one clear sentence for anything that cannot mean what it says. Opens no connection. */
export function parseConninfo(sources: ConninfoSources): ConnectionSettings {
  const home = sources.env.HOME === undefined || sources.env.HOME === "" ? sources.homeDir : sources.env.HOME;
  const given = withService(parseConninfoText(sources.dsn ?? ""), sources, home);
  const values = withDefaults(given, sources);
  refuseUnsupported(values);

  const hosts = hostTargets(values);
  const user = values.get("user") ?? sources.osUser ?? "";
  if (user === "") {
    throw new SeawallError("usage", "no user name for the connection", { hint: "Add user=… to --dsn, or set PGUSER." });
  }
  const tls = tlsSettings(values, sources, home);
  const database = values.get("dbname");
  const settings = new ConnectionSettings(
    {
      hosts,
      user,
      database: database === "" ? undefined : database,
      applicationName: values.get("application_name") ?? values.get("fallback_application_name") ?? "seawall",
      options: values.get("options") ?? "",
      targetSessionAttrs: choice(values, "target_session_attrs", TARGET_SESSION_ATTRS),
      loadBalanceHosts: choice(values, "load_balance_hosts", ["disable", "random"]) === "random",
      connectTimeoutMs: Math.max(0, integer(values, "connect_timeout") ?? CONNECT_TIMEOUT_DEFAULT_S) * 1000,
      keepalives: integer(values, "keepalives") !== 0,
      keepalivesIdleMs: Math.max(0, integer(values, "keepalives_idle") ?? 0) * 1000,
      channelBinding: choice(values, "channel_binding", ["disable", "prefer", "require"]),
      requireAuth: authMethods(values.get("require_auth")),
      tls,
      ignored: ignoredParts(given),
    },
    {
      password: values.get("password"),
      sslPassword: values.get("sslpassword"),
      passfile: nonEmpty(values.get("passfile")) ?? (home === undefined ? undefined : `${home}/.pgpass`),
      files: sources.files,
    },
  );
  for (const keyword of ["keepalives_interval", "keepalives_count", "tcp_user_timeout"]) integer(values, keyword);
  return settings;
}

const TARGET_SESSION_ATTRS = [
  "any",
  "read-write",
  "read-only",
  "primary",
  "standby",
  "prefer-standby",
] as const satisfies readonly TargetSessionAttrs[];
const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const satisfies SslMode[];
const TLS_VERSIONS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const satisfies TlsVersion[];

/** The string, then the service that it or the environment names: the first that has a keyword wins. */
function withService(given: ConninfoValues, sources: ConninfoSources, home: string | undefined): ConninfoValues {
  const values = new Map(given);
  const service = given.get("service") ?? sources.env.PGSERVICE;
  if (service !== undefined) {
    for (const [keyword, value] of serviceValues(service, given.get("servicefile"), sources, home)) {
      if (!values.has(keyword)) values.set(keyword, value);
    }
  }
  return values;
}

/** Then the environment, then the compiled-in default. */
function withDefaults(given: ConninfoValues, sources: ConninfoSources): ConninfoValues {
  const values = new Map(given);
  for (const [keyword, { env, default: compiled }] of Object.entries(KEYWORDS)) {
    if (values.has(keyword)) continue;
    const value = (env === undefined ? undefined : sources.env[env]) ?? compiled;
    if (value !== undefined) values.set(keyword, value);
  }
  return values;
}

function serviceValues(
  service: string,
  file: string | undefined,
  sources: ConninfoSources,
  home: string | undefined,
): ConninfoValues {
  const named = file ?? sources.env.PGSERVICEFILE;
  const userFile = named ?? (home === undefined ? undefined : `${home}/.pg_service.conf`);
  const sysconf = sources.env.PGSYSCONFDIR === undefined ? SYSCONF_FOLDERS : [sources.env.PGSYSCONFDIR];
  const paths = [
    ...(userFile === undefined ? [] : [userFile]),
    ...sysconf.map((folder) => `${folder}/pg_service.conf`),
  ];
  for (const path of paths) {
    const facts = sources.files(path);
    if (facts === undefined && path === named) {
      throw new SeawallError("usage", `service file ${path} not found`, { hint: "Correct PGSERVICEFILE." });
    }
    const values = facts === undefined ? undefined : findService(facts.text, service, path);
    if (values !== undefined) return values;
  }
  throw new SeawallError("usage", `definition of service "${service}" not found`, {
    hint: `Looked into ${paths.join(", ")}.`,
  });
}

function refuseUnsupported(values: ConninfoValues): void {
  for (const [keyword, value] of values) {
    const refused = KEYWORDS[keyword]?.refused;
    if (refused === undefined || refused.unless.includes(value)) continue;
    const shown = SECRET_KEYWORDS.has(keyword) ? keyword : `${keyword}=${value}`;
    throw new SeawallError("usage", `connection option ${shown} is not supported`, { hint: refused.reason });
  }
}

/** The environment is not looked at: it often serves other programs too. */
function ignoredParts(given: ConninfoValues): IgnoredPart[] {
  return [...given].flatMap(([keyword, value]) => {
    const ignored = KEYWORDS[keyword]?.ignored;
    if (ignored === undefined || ignored.unless.includes(value)) return [];
    return [{ part: `${keyword}=${value}`, reason: ignored.reason }];
  });
}

function tlsSettings(values: ConninfoValues, sources: ConninfoSources, home: string | undefined): TlsSettings {
  const folder = home === undefined ? undefined : `${home}/.postgresql`;
  const file = (keyword: string, name: string): { path: string; explicit: boolean } | undefined => {
    const path = nonEmpty(values.get(keyword));
    if (path !== undefined) return { path, explicit: true };
    return folder === undefined ? undefined : { path: `${folder}/${name}`, explicit: false };
  };
  const system = values.get("sslrootcert") === "system";
  const modeText = nonEmpty(values.get("sslmode"));
  if (modeText === undefined) values.set("sslmode", system ? "verify-full" : "prefer");
  const mode = choice(values, "sslmode", SSL_MODES);
  if (system && mode !== "verify-full") {
    throw new SeawallError("usage", `weak sslmode "${mode}" may not be used with sslrootcert=system`, {
      hint: "Use sslmode=verify-full, or name a root certificate file.",
    });
  }
  const negotiation = choice(values, "sslnegotiation", ["postgres", "direct"] as const);
  if (negotiation === "direct" && (mode === "disable" || mode === "allow" || mode === "prefer")) {
    throw new SeawallError("usage", `weak sslmode "${mode}" may not be used with sslnegotiation=direct`, {
      hint: "Use sslmode=require, verify-ca or verify-full.",
    });
  }
  const minVersion = choice(values, "ssl_min_protocol_version", TLS_VERSIONS, "TLSv1.2");
  const maxText = nonEmpty(values.get("ssl_max_protocol_version"));
  const maxVersion = maxText === undefined ? undefined : choice(values, "ssl_max_protocol_version", TLS_VERSIONS);
  if (maxVersion !== undefined && TLS_VERSIONS.indexOf(maxVersion) < TLS_VERSIONS.indexOf(minVersion)) {
    throw new SeawallError("usage", "invalid SSL protocol version range", {
      hint: "ssl_min_protocol_version must not be above ssl_max_protocol_version.",
    });
  }
  return {
    mode,
    negotiation,
    rootCert: system ? "system" : file("sslrootcert", "root.crt"),
    systemRootFile: sources.env.SSL_CERT_FILE,
    cert: file("sslcert", "postgresql.crt"),
    key: file("sslkey", "postgresql.key"),
    crl: file("sslcrl", "root.crl"),
    certMode: choice(values, "sslcertmode", ["disable", "allow", "require"]),
    sni: values.get("sslsni") !== "0",
    minVersion,
    maxVersion,
  };
}

const AUTH_METHODS = ["none", "password", "md5", "scram-sha-256"] as const satisfies AuthMethod[];

/** `require_auth`: a list of methods, or of methods with `!` before each that are not allowed. */
function authMethods(text: string | undefined): ReadonlySet<AuthMethod> | undefined {
  if (text === undefined || text === "") return undefined;
  const members = text.split(",").map((member) => member.trim());
  const negated = members.filter((member) => member.startsWith("!")).length;
  if (negated !== 0 && negated !== members.length) {
    throw new SeawallError("usage", `require_auth "${text}" mixes methods with and without "!"`, {
      hint: "Either list what is allowed, or what is not.",
    });
  }
  const named = new Set(members.map((member) => member.replace(/^!/, "")));
  // gss and sspi are libpq's, never offered here: naming them allows nothing.
  const known: readonly string[] = [...AUTH_METHODS, "gss", "sspi", "oauth"];
  for (const method of named) {
    if (!known.includes(method)) throw badValue("require_auth", method, AUTH_METHODS);
  }
  return new Set(AUTH_METHODS.filter((method) => named.has(method) === (negated === 0)));
}

function choice<const T extends string>(
  values: ConninfoValues,
  keyword: string,
  allowed: readonly T[],
  whenEmpty?: NoInfer<T>,
): T {
  const value = values.get(keyword) ?? "";
  if (value === "") {
    const fallback = whenEmpty ?? KEYWORDS[keyword]?.default ?? "";
    const found = allowed.find((candidate) => candidate === fallback);
    if (found !== undefined) return found;
  }
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined) throw badValue(keyword, value, allowed);
  return found;
}

function badValue(keyword: string, value: string, allowed: readonly string[]): SeawallError {
  return new SeawallError("usage", `invalid ${keyword} value: "${value}"`, {
    hint: `One of: ${allowed.join(", ")}.`,
  });
}

function integer(values: ConninfoValues, keyword: string): number | undefined {
  const text = values.get(keyword);
  if (text === undefined || text === "") return undefined;
  if (!/^\s*[+-]?\d{1,10}\s*$/.test(text) || Math.abs(Number(text)) > 0x7fffffff) {
    throw new SeawallError("usage", `invalid integer value "${text}" for connection option "${keyword}"`, {
      hint: "Write a whole number, without a unit.",
    });
  }
  return Number(text);
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}
