/**
 * Where and how to connect: conninfo.ts makes it and checks it once. Secrets stay inside: no message, no JSON and no
 * inspection of this object shows them.
 */
import { inspect } from "node:util";
import { type FileReader, findPassword, passfileProblem } from "./passfile.ts";

export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";
export type TargetSessionAttrs = "any" | "read-write" | "read-only" | "primary" | "standby" | "prefer-standby";
export type TlsVersion = "TLSv1" | "TLSv1.1" | "TLSv1.2" | "TLSv1.3";
export type AuthMethod = "none" | "password" | "md5" | "scram-sha-256";

export interface HostTarget {
  /** A name, an address, or an absolute path: the folder of a Unix socket. Empty: the default socket folders. */
  readonly host: string;
  /** The address to use instead of looking `host` up; the certificate is still checked against `host`. */
  readonly hostaddr?: string;
  readonly port: number;
}

export interface TlsSettings {
  readonly mode: SslMode;
  readonly negotiation: "postgres" | "direct";
  /** Paths; an explicit one must exist, a default one (`~/.postgresql/…`) is used when it does. */
  readonly rootCert: { readonly path: string; readonly explicit: boolean } | "system" | undefined;
  /** SSL_CERT_FILE: OpenSSL's own variable for the system's bundle, used with `system`. */
  readonly systemRootFile: string | undefined;
  readonly cert: { readonly path: string; readonly explicit: boolean } | undefined;
  readonly key: { readonly path: string; readonly explicit: boolean } | undefined;
  readonly crl: { readonly path: string; readonly explicit: boolean } | undefined;
  readonly certMode: "disable" | "allow" | "require";
  readonly sni: boolean;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion | undefined;
}

export interface IgnoredPart {
  readonly part: string;
  readonly reason: string;
}

export interface SettingsValues {
  readonly hosts: readonly HostTarget[];
  readonly user: string;
  /** The database that the string or the environment names; undefined without one. */
  readonly database: string | undefined;
  readonly applicationName: string;
  readonly options: string;
  readonly targetSessionAttrs: TargetSessionAttrs;
  readonly loadBalanceHosts: boolean;
  /** For each address tried, in milliseconds; 0 waits without limit. */
  readonly connectTimeoutMs: number;
  readonly keepalives: boolean;
  readonly keepalivesIdleMs: number;
  readonly channelBinding: "disable" | "prefer" | "require";
  /** Authentication methods the server may ask for; undefined allows all. */
  readonly requireAuth: ReadonlySet<AuthMethod> | undefined;
  readonly tls: TlsSettings;
  /** Parts of the connection string, or of its service, that have no effect here, such as `tcp_user_timeout=5000`. */
  readonly ignored: readonly IgnoredPart[];
}

export interface SettingsSecrets {
  readonly password: string | undefined;
  readonly sslPassword: string | undefined;
  readonly passfile: string | undefined;
  readonly files: FileReader;
  /** Learnt while connecting, and shared by all settings made from these. */
  isRawPassword?: boolean;
}

export interface FoundPassword {
  readonly password?: string;
  /** The file it came from. */
  readonly file?: string;
  /** A password file that exists but was not used, and why. */
  readonly warning?: string;
}

export class ConnectionSettings {
  readonly values: SettingsValues;
  readonly #secrets: SettingsSecrets;

  constructor(values: SettingsValues, secrets: SettingsSecrets) {
    this.values = values;
    this.#secrets = secrets;
  }

  get user(): string {
    return this.values.user;
  }

  /**
   * The password for one host: the given one, else the first that fits in the password file, which is read anew each time
   * so that a changed password needs no restart. `databases` are tried in order.
   */
  passwordFor(target: HostTarget, databases: readonly string[]): FoundPassword {
    const { password, passfile, files } = this.#secrets;
    if (password !== undefined && password !== "") return { password };
    const facts = passfile === undefined ? undefined : files(passfile);
    if (facts === undefined || passfile === undefined) return {};
    const problem = passfileProblem(facts);
    if (problem !== undefined) return { warning: `password file ${passfile} is ignored: ${problem}` };
    for (const database of databases) {
      const query = { host: passfileHost(target), port: target.port, database, user: this.values.user };
      const found = findPassword(facts.text, query);
      if (found !== undefined) return { password: found, file: passfile };
    }
    return {};
  }

  /** Whether the server was last found to have stored the password as it is, where SASLprep would change it. */
  get isRawPassword(): boolean {
    return this.#secrets.isRawPassword === true;
  }

  set isRawPassword(isRaw: boolean) {
    this.#secrets.isRawPassword = isRaw;
  }

  /** The passphrase of the client key. */
  get sslPassword(): string | undefined {
    return this.#secrets.sslPassword;
  }

  /** The same settings with some values replaced: another database, another application name. */
  with(changes: Partial<SettingsValues>): ConnectionSettings {
    return new ConnectionSettings({ ...this.values, ...changes }, this.#secrets);
  }

  /** One line for logs and messages: who, where, how; never a secret. */
  redacted(): string {
    const { values } = this;
    const hosts = values.hosts.map((target) => describeTarget(target)).join(",");
    const database = values.database === undefined ? "" : ` dbname=${values.database}`;
    const attrs = values.targetSessionAttrs === "any" ? "" : ` target_session_attrs=${values.targetSessionAttrs}`;
    return `${hosts} user=${values.user}${database} sslmode=${values.tls.mode}${attrs}`;
  }

  toJSON(): SettingsValues {
    return this.values;
  }

  toString(): string {
    return this.redacted();
  }

  [inspect.custom](): string {
    return `ConnectionSettings(${this.redacted()})`;
  }
}

/** `host:port`, `[::1]:port`, or the socket's path. */
export function describeTarget(target: HostTarget): string {
  if (isSocketFolder(target.host)) return `${target.host}/.s.PGSQL.${target.port}`;
  if (target.host === "" && target.hostaddr === undefined) return `local socket, port ${target.port}`;
  const name = target.host === "" ? (target.hostaddr ?? "") : target.host;
  return name.includes(":") ? `[${name}]:${target.port}` : `${name}:${target.port}`;
}

export function isSocketFolder(host: string): boolean {
  return host.startsWith("/");
}

/** Where servers put their socket by default: Debian's folder, then PostgreSQL's own. */
export const DEFAULT_SOCKET_FOLDERS = ["/var/run/postgresql", "/tmp"] as const;

/** `localhost` in a password file also means the default socket folder (docs: The Password File). */
export function passfileHost(target: HostTarget): string {
  if (target.host === "") return target.hostaddr ?? "localhost";
  return DEFAULT_SOCKET_FOLDERS.some((folder) => folder === target.host) ? "localhost" : target.host;
}
