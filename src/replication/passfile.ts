/**
 * The two files libpq reads beside a connection string: the password file and the connection service file. Pure: text in,
 * values out; conninfo.ts reads the files.
 *
 * Source: PostgreSQL docs "The Password File", "The Connection Service File"; fe-connect.c, passwordFromFile and
 * parseServiceFile. The `pgpass` package that pg brings is not used: it reads the process environment, writes warnings to
 * stderr, ignores comments that start in column one only by accident, and is on its way out of pg.
 */
import { SeawallError } from "../errors.ts";
import { KEYWORDS } from "./conninfo-keywords.ts";
import { type ConninfoValues, unknownKeyword } from "./conninfo-text.ts";

/** Facts of one file that decide whether its secrets may be used. */
export interface FileFacts {
  readonly text: string;
  /** Permission bits, as in `stat.st_mode & 0o777`. */
  readonly mode: number;
  readonly regular: boolean;
}

/** Reads a file, or gives undefined when there is none. The only window on the file system that parsing has. */
export type FileReader = (path: string) => FileFacts | undefined;

export interface PasswordQuery {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/** Why a password file is not used although it exists; libpq warns in the same cases. */
export function passfileProblem(facts: FileFacts): string | undefined {
  if (!facts.regular) return "it is not a plain file";
  if ((facts.mode & 0o077) !== 0) return "group or others have access; permissions must be u=rw (0600) or less";
  return undefined;
}

/** The password on the first line whose host, port, database and user fit; `*` fits anything. */
export function findPassword(text: string, query: PasswordQuery): string | undefined {
  const wanted = [query.host, String(query.port), query.database, query.user];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    const fields = splitFields(line);
    if (fields === undefined) continue;
    const [patterns, password] = fields;
    if (patterns.every((pattern, index) => pattern === "*" || unescape(pattern) === wanted[index])) {
      return unescape(password);
    }
  }
  return undefined;
}

/** Four fields that end at an unescaped colon, and the password, which ends at the next one or at the line's end. */
function splitFields(line: string): [string[], string] | undefined {
  const fields: string[] = [];
  let start = 0;
  for (let at = 0; at < line.length && fields.length < 5; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === ":") {
      fields.push(line.slice(start, at));
      start = at + 1;
    }
  }
  if (fields.length === 4) fields.push(line.slice(start));
  const password = fields[4];
  return password === undefined ? undefined : [fields.slice(0, 4), password];
}

/** One line of a password file, for every database of a server. */
export function passfileLine({ host, port, user }: Omit<PasswordQuery, "database">, password: string): string {
  return [host, String(port), "*", user, password]
    .map((field, at) => (at === 2 ? field : field.replaceAll(/[:\\]/g, "\\$&")))
    .join(":");
}

function unescape(field: string): string {
  return field.replace(/\\(.)/g, "$1");
}

/**
 * The values of `[service]` in a service file; undefined when it has no such section.
 * Throws `usage` for a line that libpq would refuse; `path` names the file in messages.
 */
export function findService(text: string, service: string, path: string): ConninfoValues | undefined {
  let values: ConninfoValues | undefined;
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    if (line.startsWith("[")) {
      if (values !== undefined) break;
      if (line === `[${service}]`) values = new Map();
      continue;
    }
    if (values === undefined) continue;
    const where = `line ${index + 1} of service file ${path}`;
    const equals = line.indexOf("=");
    if (line.startsWith("ldap")) {
      throw new SeawallError("usage", `${where}: LDAP lookup of connection parameters is not supported`, {
        hint: "Write the parameters into the service file.",
      });
    }
    // The line itself is not repeated: it may be a password.
    if (equals === -1) {
      throw new SeawallError("usage", `${where} is not keyword=value`, { hint: "Write one keyword=value a line." });
    }
    const keyword = line.slice(0, equals);
    if (keyword === "service" || keyword === "servicefile") {
      throw new SeawallError("usage", `${where}: a service cannot name another service`, {
        hint: "Write the parameters of that service here.",
      });
    }
    if (!Object.hasOwn(KEYWORDS, keyword)) throw unknownKeyword(keyword, where);
    // As in libpq, the first of two lines for one keyword holds.
    if (!values.has(keyword)) values.set(keyword, line.slice(equals + 1));
  }
  return values;
}
