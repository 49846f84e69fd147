/** The connection as `seawall init` writes it: complete without the environment, its password in a file of its own. */
import { resolve } from "node:path";
import { SeawallError } from "../../errors.ts";
import { KEYWORDS } from "../../replication/conninfo-keywords.ts";
import { type ConninfoValues, formatConninfo, parseConninfoText } from "../../replication/conninfo-text.ts";
import { passfileLine } from "../../replication/passfile.ts";
import { type ConnectionSettings, passfileHost } from "../../replication/settings.ts";

export const DEFAULT_ROLE = "seawall";

/** The password to keep, and how it came. */
export interface KeptPassword {
  readonly text: string;
  readonly origin: "given" | "typed" | "made";
}

export interface InitServer {
  /** Without the password. */
  readonly values: ConninfoValues;
  readonly password: KeptPassword | undefined;
}

/** Keywords with the path of a file. */
const PATHS = ["passfile", "servicefile", "sslcert", "sslkey", "sslrootcert", "sslcrl"];

/** Fills in what the environment gives, and the role, and makes paths absolute: the file serves other accounts and services too. */
export function serverOf(dsn: string, env: Readonly<Record<string, string | undefined>>): InitServer {
  const values = parseConninfoText(dsn);
  const password = values.get("password");
  values.delete("password");
  for (const [keyword, { env: variable }] of Object.entries(KEYWORDS)) {
    const value = variable === undefined || keyword === "password" ? undefined : env[variable];
    if (value !== undefined && value !== "" && !values.has(keyword)) values.set(keyword, value);
  }
  for (const keyword of PATHS) {
    const path = values.get(keyword);
    if (path !== undefined && path !== "" && path !== "system") values.set(keyword, resolve(path));
  }
  const isService = values.has("service");
  if (!values.has("user") && !isService) values.set("user", DEFAULT_ROLE);
  const isKept = password !== undefined && password !== "";
  return { values, password: isKept ? keptPassword(password, "given") : undefined };
}

/** Throws `usage` for a password that no line of a password file can hold. */
export function keptPassword(text: string, origin: KeptPassword["origin"]): KeptPassword {
  if (!/\p{Cc}/u.test(text)) return { text, origin };
  throw new SeawallError("usage", "the password has a line break or another control character in it", {
    hint: "A password file cannot hold it: choose another password.",
  });
}

/** The connection string for this run. */
export function conninfoOf({ values, password }: InitServer): string {
  return formatConninfo(password === undefined ? values : [...values, ["password", password.text]]);
}

/** The connection string for the file. `passfile`: an absolute path. */
export function fileDsn({ values, password }: InitServer, passfile: string): string {
  return formatConninfo(password === undefined ? values : new Map([...values, ["passfile", passfile]]));
}

/** The text of the password file: a line for each host. */
export function passfileText({ values }: ConnectionSettings, password: string): string {
  const lines = values.hosts.map((target) =>
    passfileLine({ host: passfileHost(target), port: target.port, user: values.user }, password),
  );
  return `${[...new Set(lines)].join("\n")}\n`;
}
