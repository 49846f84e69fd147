/** Connection strings, environment, service and password files: what they mean, and which are refused. */
import { describe, expect, it } from "vitest";
import { type ConninfoSources, parseConninfo } from "../../src/replication/conninfo.ts";
import { parseConninfoText } from "../../src/replication/conninfo-text.ts";
import { type FileFacts, findPassword } from "../../src/replication/passfile.ts";

type Env = Record<string, string>;
type Files = Record<string, string | FileFacts>;

const sources = (dsn: string | undefined, env: Env = {}, files: Files = {}): ConninfoSources => ({
  dsn,
  env,
  osUser: "osuser",
  files: (path) => {
    const file = files[path];
    return typeof file === "string" ? { text: file, mode: 0o600, regular: true } : file;
  },
});

const parse = (dsn: string | undefined, env: Env = {}, files: Files = {}) => parseConninfo(sources(dsn, env, files));
const text = (dsn: string) => Object.fromEntries(parseConninfoText(dsn));

describe("keyword=value connection strings", () => {
  it.each<[string, string, Record<string, string>]>([
    ["plain values", "host=localhost port=5432 user=me", { host: "localhost", port: "5432", user: "me" }],
    ["spaces around the equals sign", "host = localhost  port= 5432", { host: "localhost", port: "5432" }],
    ["quoted values with spaces", "application_name='my app' user=me", { application_name: "my app", user: "me" }],
    ["escaped quotes and backslashes", String.raw`password='it\'s a \\ test'`, { password: String.raw`it's a \ test` }],
    ["escapes outside quotes", String.raw`password=it\'s\ here`, { password: "it's here" }],
    ["an empty quoted value", "host='' user=me", { host: "", user: "me" }],
    ["an empty value at the end", "user=me host=", { user: "me", host: "" }],
    ["an equals sign in a value", "options=-cwork_mem=1MB", { options: "-cwork_mem=1MB" }],
    ["newlines between pairs", "host=a\n  port=1\n", { host: "a", port: "1" }],
    ["the last of two", "port=1 port=2", { port: "2" }],
    ["nothing", "   ", {}],
  ])("hold %s", (_name, dsn, expected) => {
    expect(text(dsn)).toEqual(expected);
  });

  it.each<[string, string, RegExp]>([
    ["a word without a value", "localhost", /missing "=" after a keyword/],
    ["a quote that does not end", "password='secret", /unterminated quoted value/],
    ["an unknown keyword", "hots=localhost", /invalid connection option "hots"/],
    ["a keyword of an object's own", "constructor=x", /invalid connection option "constructor"/],
  ])("are refused for %s", (_name, dsn, message) => {
    expect(() => text(dsn)).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => text(dsn)).toThrow(message);
  });

  it("suggest the keyword that was probably meant", () => {
    const attempt = () => text("sslmod=require");
    expect(attempt).toThrow(expect.objectContaining({ hint: 'Did you mean "sslmode"? The keywords are libpq\'s.' }));
  });
});

describe("connection URIs", () => {
  it.each<[string, string, Record<string, string>]>([
    ["nothing but the scheme", "postgresql://", {}],
    ["the short scheme", "postgres://h", { host: "h" }],
    [
      "every part",
      "postgresql://me:pw@db.example:5433/mydb?sslmode=require",
      { user: "me", password: "pw", host: "db.example", port: "5433", dbname: "mydb", sslmode: "require" },
    ],
    [
      "percent-encoded parts",
      "postgresql://m%40e:p%3Aw%25@h/d%20b",
      { user: "m@e", password: "p:w%", host: "h", dbname: "d b" },
    ],
    ["a socket folder", "postgresql://%2Fvar%2Frun%2Fpg/db", { host: "/var/run/pg", dbname: "db" }],
    ["a socket folder as parameter", "postgresql:///db?host=/tmp", { host: "/tmp", dbname: "db" }],
    ["an IPv6 address", "postgresql://[2001:db8::1]:5433/db", { host: "2001:db8::1", port: "5433", dbname: "db" }],
    ["several hosts", "postgresql://a:1,b,c:3/db", { host: "a,b,c", port: "1,,3", dbname: "db" }],
    ["an IPv6 address among hosts", "postgresql://[::1]:1,b:2/", { host: "::1,b", port: "1,2" }],
    ["a user without a password", "postgresql://me@h", { user: "me", host: "h" }],
    ["an empty password", "postgresql://me:@h", { user: "me", host: "h" }],
    ["parameters after no database", "postgresql://h?user=me&port=1", { host: "h", user: "me", port: "1" }],
    ["an at sign after the slash", "postgresql://h/d@b", { host: "h", dbname: "d@b" }],
    ["JDBC's ssl=true", "postgresql://h?ssl=true", { host: "h", sslmode: "require" }],
    ["an encoded parameter value", "postgresql://h?options=-c%20geqo%3Doff", { host: "h", options: "-c geqo=off" }],
  ])("hold %s", (_name, dsn, expected) => {
    expect(text(dsn)).toEqual(expected);
  });

  it.each<[string, string, RegExp]>([
    ["a broken percent sign", "postgresql://me:p%ZZ@h", /invalid percent-encoded token/],
    ["a zero byte", "postgresql://me:p%00@h", /forbidden value %00/],
    ["bytes that are no UTF-8", "postgresql://me:p%FF@h", /not UTF-8/],
    ["an open bracket", "postgresql://[::1/db", /\[IPv6 address\]/],
    ["an empty address", "postgresql://[]/db", /empty IPv6 address/],
    ["a parameter without a value", "postgresql://h?user", /missing "=" in a query parameter/],
    ["two equals signs", "postgresql://h?user=a=b", /extra "=" in a query parameter/],
    ["an unknown parameter", "postgresql://h?foo=bar", /invalid connection option "foo"/],
    ["a password with an unencoded slash and at sign", "postgresql://me:se/cr@et@h", /invalid|host:port/],
  ])("are refused for %s", (_name, dsn, message) => {
    expect(() => parse(dsn)).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => parse(dsn)).toThrow(message);
  });
});

describe("what wins", () => {
  const service = { "/svc": "# comment\n[other]\nhost=o\n[main]\nhost=fromservice\nport=1111\nuser=su\n" };

  it("the string over the service, the service over the environment, the environment over the default", () => {
    const env = { PGSERVICE: "main", PGSERVICEFILE: "/svc", PGHOST: "fromenv", PGUSER: "envuser", PGDATABASE: "envdb" };
    const { values } = parse("port=2222", env, service);
    expect(values.hosts).toEqual([{ host: "fromservice", port: 2222 }]);
    expect(values.user).toBe("su");
    expect(values.database).toBe("envdb");
    expect(values.tls.mode).toBe("prefer");
  });

  it("an explicit empty host over the environment: the default socket", () => {
    expect(parse("host=''", { PGHOST: "fromenv" }).values.hosts).toEqual([{ host: "", port: 5432 }]);
  });

  it("the environment when there is no string at all", () => {
    const { values } = parse(undefined, {
      PGHOST: "h",
      PGPORT: "1",
      PGUSER: "u",
      PGSSLMODE: "disable",
      PGAPPNAME: "app",
      PGCONNECT_TIMEOUT: "7",
      PGOPTIONS: "-c geqo=off",
      PGTARGETSESSIONATTRS: "primary",
    });
    expect(values).toMatchObject({
      hosts: [{ host: "h", port: 1 }],
      user: "u",
      applicationName: "app",
      connectTimeoutMs: 7000,
      options: "-c geqo=off",
      targetSessionAttrs: "primary",
      tls: { mode: "disable" },
    });
  });

  it("nothing given: the user of the system, the default socket, our name, a bounded wait", () => {
    const { values } = parse(undefined);
    expect(values).toMatchObject({
      hosts: [{ host: "", port: 5432 }],
      user: "osuser",
      database: undefined,
      applicationName: "seawall",
      connectTimeoutMs: 30_000,
    });
  });

  it("connect_timeout=0 waits without limit, as in libpq", () => {
    expect(parse("connect_timeout=0").values.connectTimeoutMs).toBe(0);
    expect(parse("connect_timeout=-1").values.connectTimeoutMs).toBe(0);
  });

  it("fallback_application_name only where no application_name is given", () => {
    expect(parse("fallback_application_name=f").values.applicationName).toBe("f");
    expect(parse("fallback_application_name=f", { PGAPPNAME: "e" }).values.applicationName).toBe("e");
  });
});

describe("the service file", () => {
  const find = (text: string, dsn = "service=s", env: Env = {}) =>
    parse(dsn, { PGSERVICEFILE: "/f", ...env }, { "/f": text });

  it("is looked for where PGSERVICEFILE says, then at home, then in the system's folder", () => {
    expect(parse("service=s", { HOME: "/h" }, { "/h/.pg_service.conf": "[s]\nhost=home" }).values.hosts[0]?.host).toBe(
      "home",
    );
    const system = { "/etc/x/pg_service.conf": "[s]\nhost=system" };
    expect(parse("service=s", { HOME: "/h", PGSYSCONFDIR: "/etc/x" }, system).values.hosts[0]?.host).toBe("system");
  });

  it("keeps spaces around values out, and the first of two lines", () => {
    const { values } = find("  [s]  \n  host=a  \n\n  # no\nhost=b\nport=9\n[t]\nport=10");
    expect(values.hosts).toEqual([{ host: "a", port: 9 }]);
  });

  it.each<[string, string, RegExp]>([
    ["a missing section", "[t]\nhost=a", /definition of service "s" not found/],
    ["a line without an equals sign", "[s]\nhost", /line 2 of service file \/f is not keyword=value/],
    ["an unknown keyword", "[s]\nhots=a", /invalid connection option "hots" in line 2 of service file/],
    ["a nested service", "[s]\nservice=t", /cannot name another service/],
    ["an LDAP line", "[s]\nldap://x", /LDAP/],
  ])("is refused for %s", (_name, text, message) => {
    expect(() => find(text)).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => find(text)).toThrow(message);
  });

  it("is refused when PGSERVICEFILE names a file that is not there", () => {
    expect(() => parse("service=s", { PGSERVICEFILE: "/none" })).toThrow(/service file \/none not found/);
  });

  it("does not matter for errors in other sections", () => {
    expect(find("[t]\nrubbish\n[s]\nhost=a").values.hosts[0]?.host).toBe("a");
  });
});

describe("hosts, addresses, ports", () => {
  it.each<[string, string, unknown]>([
    [
      "one port for all hosts",
      "host=a,b port=1",
      [
        { host: "a", port: 1 },
        { host: "b", port: 1 },
      ],
    ],
    [
      "a port each, empty for the default",
      "host=a,b,c port=1,,3",
      [
        { host: "a", port: 1 },
        { host: "b", port: 5432 },
        { host: "c", port: 3 },
      ],
    ],
    [
      "addresses beside names",
      "host=a,b hostaddr=10.0.0.1,::1",
      [
        { host: "a", hostaddr: "10.0.0.1", port: 5432 },
        { host: "b", hostaddr: "::1", port: 5432 },
      ],
    ],
    ["addresses without names", "hostaddr=10.0.0.1", [{ host: "", hostaddr: "10.0.0.1", port: 5432 }]],
    [
      "a socket folder among names",
      "host=/tmp,b",
      [
        { host: "/tmp", port: 5432 },
        { host: "b", port: 5432 },
      ],
    ],
  ])("%s", (_name, dsn, hosts) => {
    expect(parse(dsn).values.hosts).toEqual(hosts);
  });

  it.each<[string, string, RegExp]>([
    ["more ports than hosts", "host=a port=1,2", /could not match 2 port numbers to 1 hosts/],
    ["fewer ports than hosts", "host=a,b,c port=1,2", /could not match 2 port numbers to 3 hosts/],
    ["hosts that do not match addresses", "host=a,b hostaddr=10.0.0.1", /could not match 2 host names to 1 hostaddr/],
    ["a port of zero", "port=0", /invalid port number: "0"/],
    ["a port beyond 65535", "port=65536", /invalid port number: "65536"/],
    ["a port in words", "port=five", /invalid port number: "five"/],
    ["a name as address", "hostaddr=localhost", /could not parse network address "localhost"/],
    ["a socket path that no socket can have", `host=/${"x".repeat(100)}`, /longer than 107 bytes/],
    ["an abstract socket", "host=@name", /abstract Unix socket/],
  ])("refuses %s", (_name, dsn, message) => {
    expect(() => parse(dsn)).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => parse(dsn)).toThrow(message);
  });
});

describe("values that cannot be meant", () => {
  it.each<[string, RegExp]>([
    ["sslmode=verify", /invalid sslmode value: "verify"/],
    ["sslmode=Require", /invalid sslmode value: "Require"/],
    ["target_session_attrs=master", /invalid target_session_attrs value: "master"/],
    ["load_balance_hosts=yes", /invalid load_balance_hosts value: "yes"/],
    ["channel_binding=on", /invalid channel_binding value: "on"/],
    ["connect_timeout=10s", /invalid integer value "10s" for connection option "connect_timeout"/],
    ["connect_timeout=99999999999", /invalid integer value/],
    ["keepalives_idle=1.5", /invalid integer value "1.5" for connection option "keepalives_idle"/],
    ["tcp_user_timeout=x", /invalid integer value "x" for connection option "tcp_user_timeout"/],
    ["sslrootcert=system sslmode=require", /weak sslmode "require" may not be used with sslrootcert=system/],
    ["sslnegotiation=direct sslmode=prefer", /weak sslmode "prefer" may not be used with sslnegotiation=direct/],
    ["ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", /invalid SSL protocol version range/],
    ["ssl_min_protocol_version=SSLv3", /invalid ssl_min_protocol_version value/],
    ["require_auth=scram-sha-256,!md5", /mixes methods/],
    ["require_auth=scram", /invalid require_auth value: "scram"/],
    ["requirepeer=postgres", /requirepeer=postgres is not supported/],
    ["gssencmode=require", /gssencmode=require is not supported/],
  ])("%s", (dsn, message) => {
    expect(() => parse(dsn)).toThrow(expect.objectContaining({ code: "usage", exit: 2 }));
    expect(() => parse(dsn)).toThrow(message);
  });

  it("a user that is not given", () => {
    expect(() => parseConninfo({ env: {}, files: () => undefined })).toThrow(/no user name/);
  });

  it("sslrootcert=system alone means verify-full", () => {
    expect(parse("sslrootcert=system").values.tls).toMatchObject({ mode: "verify-full", rootCert: "system" });
  });

  it("parts of the string without effect are named with the reason, not refused", () => {
    const { ignored } = parse("tcp_user_timeout=5000 client_encoding=LATIN1 keepalives_count=3 krbsrvname=x").values;
    expect(ignored.map(({ part }) => part)).toEqual([
      "tcp_user_timeout=5000",
      "client_encoding=LATIN1",
      "keepalives_count=3",
      "krbsrvname=x",
    ]);
    for (const { reason } of ignored) expect(reason).toMatch(/Node\.js|UTF-8/);
  });

  it.each([
    "tcp_user_timeout=0 client_encoding=utf8 sslcompression=0 keepalives_interval=0",
    "replication=database max_protocol_version=3.2",
    "host=a keepalives_idle=10",
  ])("%s asks for nothing else than what happens", (dsn) => {
    expect(parse(dsn).values.ignored).toEqual([]);
  });

  it("parts without effect are named from a service file too, and not from the environment", () => {
    const files = (path: string) =>
      path === "/services" ? { text: "[x]\nuser=u\ntcp_user_timeout=7\n", mode: 0o600, regular: true } : undefined;
    const env = { PGSERVICEFILE: "/services", PGKRBSRVNAME: "p", PGUSER: "u" };
    expect(parseConninfo({ dsn: "service=x", env, files }).values.ignored).toMatchObject([
      { part: "tcp_user_timeout=7" },
    ]);
  });

  it.each<[string, string[]]>([
    ["scram-sha-256", ["scram-sha-256"]],
    ["md5,scram-sha-256", ["md5", "scram-sha-256"]],
    ["!password,!md5", ["none", "scram-sha-256"]],
    ["gss", []],
  ])("require_auth=%s allows only its methods", (value, methods) => {
    expect([...(parse(`require_auth=${value}`).values.requireAuth ?? [])]).toEqual(methods);
  });
});

describe("the password file", () => {
  const lines = String.raw`# a comment
db.example:5432:postgres:me:first
db.example:*:*:me:second
*:*:replication:repl:for replication
localhost:5432:*:sock:of the socket
h\:1:5432:d\\b:u:p\:w\\d:ignored
bad line
::1:5432:*:six:never, as colons end fields
\:\:1:5432:*:six:sixth
`;
  const query = (host: string, port: number, database: string, user: string) => ({ host, port, database, user });

  it.each<[string, ReturnType<typeof query>, string | undefined]>([
    ["the first line that fits", query("db.example", 5432, "postgres", "me"), "first"],
    ["wildcards", query("db.example", 6000, "x", "me"), "second"],
    ["the replication pseudo-database", query("any", 1, "replication", "repl"), "for replication"],
    ["escaped colons and backslashes; the password ends at a colon", query("h:1", 5432, "d\\b", "u"), "p:w\\d"],
    ["escaped IPv6 addresses", query("::1", 5432, "x", "six"), "sixth"],
    ["no line that fits", query("db.example", 5432, "postgres", "you"), undefined],
  ])("knows %s", (_name, wanted, password) => {
    expect(findPassword(lines, wanted)).toBe(password);
  });

  const target = { host: "db.example", port: 5432 };

  it("is ~/.pgpass, or PGPASSFILE, or passfile; a password given elsewhere wins", () => {
    const files = { "/h/.pgpass": "*:*:*:*:home", "/env": "*:*:*:*:env", "/dsn": "*:*:*:*:dsn" };
    const of = (dsn: string, env: Env) => parse(dsn, env, files).passwordFor(target, ["postgres"]).password;
    expect(of("user=me", { HOME: "/h" })).toBe("home");
    expect(of("user=me", { HOME: "/h", PGPASSFILE: "/env" })).toBe("env");
    expect(of("user=me passfile=/dsn", { HOME: "/h", PGPASSFILE: "/env" })).toBe("dsn");
    expect(of("user=me", { HOME: "/h", PGPASSWORD: "given" })).toBe("given");
    expect(of("user=me password=''", { HOME: "/h" })).toBe("home");
  });

  it("is read anew for each connection, and tried for each database in order", () => {
    const files: Files = { "/p": "*:*:postgres:me:old" };
    const settings = parse("user=me passfile=/p", {}, files);
    expect(settings.passwordFor(target, ["replication", "postgres"]).password).toBe("old");
    files["/p"] = "*:*:replication:me:new";
    expect(settings.passwordFor(target, ["replication", "postgres"])).toEqual({ password: "new", file: "/p" });
  });

  it("says localhost for the default socket folder", () => {
    const settings = parse("user=sock passfile=/p", {}, { "/p": lines });
    for (const host of ["", "/tmp", "/var/run/postgresql"]) {
      expect(settings.passwordFor({ host, port: 5432 }, ["x"]).password).toBe("of the socket");
    }
    expect(settings.passwordFor({ host: "/other", port: 5432 }, ["x"]).password).toBeUndefined();
  });

  it.each<[string, FileFacts]>([
    ["group or others", { text: "*:*:*:*:pw", mode: 0o640, regular: true }],
    ["plain file", { text: "", mode: 0o600, regular: false }],
  ])("is ignored with a warning about %s", (word, facts) => {
    const found = parse("user=me passfile=/p", {}, { "/p": facts }).passwordFor(target, ["postgres"]);
    expect(found.password).toBeUndefined();
    expect(found.warning).toContain(word);
  });
});
