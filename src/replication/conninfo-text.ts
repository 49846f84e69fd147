/**
 * Takes the two written forms of a connection string apart into keywords and values. It knows neither meanings nor
 * defaults.
 *
 * Source: PostgreSQL docs "Connection Strings" (libpq); fe-connect.c, conninfo_parse and conninfo_uri_parse_options.
 */
import { SeawallError } from "../errors.ts";
import { nearest } from "../suggest.ts";
import { KEYWORDS } from "./conninfo-keywords.ts";

export type ConninfoValues = Map<string, string>;

/**
 * Parses `postgresql://…` / `postgres://…` or `keyword=value …`.
 * Throws `usage`; no message repeats any part of the string but keywords, as the rest may be a password.
 */
export function parseConninfoText(text: string): ConninfoValues {
  return /^postgres(ql)?:\/\//.test(text) ? parseUri(text) : parseKeyValue(text);
}

/** Writes `keyword=value …`, which `parseConninfoText` reads as the same values. */
export function formatConninfo(values: Iterable<readonly [string, string]>): string {
  return [...values].map(([keyword, value]) => `${keyword}=${written(value)}`).join(" ");
}

function written(value: string): string {
  return /^[^\s'\\]+$/.test(value) ? value : `'${value.replaceAll(/['\\]/g, "\\$&")}'`;
}

/** Complains about a keyword libpq does not know, with the nearest one that it does. */
export function unknownKeyword(keyword: string, where: string): SeawallError {
  const near = nearest(keyword, Object.keys(KEYWORDS));
  return new SeawallError("usage", `invalid connection option "${keyword}" in ${where}`, {
    hint:
      near === undefined
        ? "The keywords are libpq's: host, port, user, dbname, sslmode, …"
        : `Did you mean "${near}"? The keywords are libpq's.`,
  });
}

const broken = (what: string): SeawallError =>
  new SeawallError("usage", `malformed connection string: ${what}`, {
    hint: "Write postgresql://user@host:port/dbname?sslmode=… or host=… port=… user=…, as for psql.",
  });

const isSpace = (char: string | undefined): boolean => char !== undefined && /\s/.test(char);

function parseKeyValue(text: string): ConninfoValues {
  const values: ConninfoValues = new Map();
  let at = 0;
  const skipSpace = (): void => {
    while (isSpace(text[at])) at++;
  };
  for (skipSpace(); at < text.length; skipSpace()) {
    const start = at;
    while (at < text.length && text[at] !== "=" && !isSpace(text[at])) at++;
    const keyword = text.slice(start, at);
    skipSpace();
    // The word is not repeated: a password with an unquoted space in it ends up here.
    if (text[at] !== "=") throw broken('missing "=" after a keyword');
    at++;
    skipSpace();
    const [value, end] = text[at] === "'" ? quotedValue(text, at + 1) : plainValue(text, at);
    at = end;
    if (!Object.hasOwn(KEYWORDS, keyword)) throw unknownKeyword(keyword, "the connection string");
    values.set(keyword, value);
  }
  return values;
}

function plainValue(text: string, from: number): [string, number] {
  let value = "";
  let at = from;
  for (; at < text.length && !isSpace(text[at]); at++) {
    if (text[at] === "\\") at++;
    value += text[at] ?? "";
  }
  return [value, Math.min(at, text.length)];
}

function quotedValue(text: string, from: number): [string, number] {
  let value = "";
  for (let at = from; at < text.length; at++) {
    if (text[at] === "'") return [value, at + 1];
    if (text[at] === "\\") at++;
    value += text[at] ?? "";
  }
  throw broken("unterminated quoted value");
}

function parseUri(text: string): ConninfoValues {
  const values: ConninfoValues = new Map();
  const afterScheme = text.slice(text.indexOf("://") + 3);
  const question = afterScheme.indexOf("?");
  const hierarchy = question === -1 ? afterScheme : afterScheme.slice(0, question);
  const userEnd = /^[^@/]*@/.exec(hierarchy)?.[0].length ?? 0;
  const rest = hierarchy.slice(userEnd);
  const slash = rest.indexOf("/");
  if (userEnd > 0) storeUserInfo(values, hierarchy.slice(0, userEnd - 1));
  storeAuthority(values, slash === -1 ? rest : rest.slice(0, slash));
  if (slash !== -1 && slash + 1 < rest.length) values.set("dbname", percentDecode(rest.slice(slash + 1)));
  if (question !== -1) storeQuery(values, afterScheme.slice(question + 1));
  return values;
}

function storeUserInfo(values: ConninfoValues, userInfo: string): void {
  const colon = userInfo.indexOf(":");
  const user = colon === -1 ? userInfo : userInfo.slice(0, colon);
  if (user !== "") values.set("user", percentDecode(user));
  if (colon !== -1 && colon + 1 < userInfo.length) values.set("password", percentDecode(userInfo.slice(colon + 1)));
}

/** `host[:port][,…]`, where a host may be `[IPv6]` or a percent-encoded socket folder. */
function storeAuthority(values: ConninfoValues, authority: string): void {
  const hosts: string[] = [];
  const ports: string[] = [];
  for (const member of authority.split(",")) {
    const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(member);
    if (match === null) throw broken("host and port must be host:port, or [IPv6 address]:port");
    if (match[1] === "") throw broken("empty IPv6 address");
    hosts.push(percentDecode(match[1] ?? match[2] ?? ""));
    ports.push(percentDecode(match[3] ?? ""));
  }
  if (hosts.some((host) => host !== "") || hosts.length > 1) values.set("host", hosts.join(","));
  if (ports.some((port) => port !== "")) values.set("port", ports.join(","));
}

function storeQuery(values: ConninfoValues, query: string): void {
  if (query === "") return;
  for (const pair of query.split("&")) {
    const parts = pair.split("=");
    if (parts.length === 1) throw broken('missing "=" in a query parameter');
    if (parts.length > 2) throw broken('extra "=" in a query parameter');
    const keyword = percentDecode(parts[0] ?? "");
    const value = percentDecode(parts[1] ?? "");
    // JDBC's spelling, which libpq takes as well.
    if (keyword === "ssl" && value === "true") values.set("sslmode", "require");
    else if (Object.hasOwn(KEYWORDS, keyword)) values.set(keyword, value);
    else throw unknownKeyword(keyword, "the connection URI");
  }
}

function percentDecode(text: string): string {
  if (/%(?![0-9A-Fa-f]{2})/.test(text)) throw broken("invalid percent-encoded token");
  if (text.includes("%00")) throw broken("forbidden value %00");
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw new SeawallError("usage", "malformed connection string: percent-encoded bytes are not UTF-8", { cause });
  }
}
