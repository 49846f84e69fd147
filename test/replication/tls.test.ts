/** sslmode and its companions against real servers with certificates of our own making. */
import { createPrivateKey } from "node:crypto";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { addBytes, parseLsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { type PostgresServer, startPostgres, newestUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { TestAuthority } from "./certificates.ts";
import { failure, settingsFor } from "./support.ts";

const authority = new TestAuthority("Seawall test CA");
const stranger = new TestAuthority("Another CA");
const goodCert = authority.issue({ commonName: "server", names: ["localhost"] });
const addressCert = authority.issue({ commonName: "server", names: ["127.0.0.1"] });
const elsewhereCert = authority.issue({ commonName: "server", names: ["elsewhere.example"] });
const expiredCert = authority.issue({
  commonName: "server",
  names: ["localhost"],
  notBefore: new Date(Date.now() - 48 * 3_600_000),
  notAfter: new Date(Date.now() - 24 * 3_600_000),
});
const clientCert = authority.issue({ commonName: "certuser" });

let folder: string;
const file = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = makeTempDir("tls");
  writeFileSync(file("root.crt"), authority.cert);
  writeFileSync(file("stranger.crt"), stranger.cert);
  writeFileSync(file("client.crt"), clientCert.cert);
  writeFileSync(file("client.key"), clientCert.key, { mode: 0o600 });
  const secret = createPrivateKey(clientCert.key).export({
    type: "pkcs8",
    format: "pem",
    cipher: "aes-256-cbc",
    passphrase: "open sesame",
  });
  writeFileSync(file("secret.key"), secret, { mode: 0o600 });
  writeFileSync(file("open.key"), clientCert.key, { mode: 0o644 });
  chmodSync(file("open.key"), 0o644);
  writeFileSync(file("broken.crt"), "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n");
  writeFileSync(file("revoked.crl"), authority.revoke([goodCert.serial]));
  writeFileSync(file("clean.crl"), authority.revoke([expiredCert.serial]));
});
afterAll(() => removeTree(folder));

/** Gives the server another certificate and has it read again. */
async function present(server: PostgresServer, issued: { cert: string; key: string }): Promise<void> {
  for (const [name, text] of [
    ["server.crt", issued.cert],
    ["server.key", issued.key],
    ["ca.crt", authority.cert],
  ] as const) {
    writeFileSync(join(server.dataDir, name), text);
    giveToServer(join(server.dataDir, name), 0o600);
  }
  await server.configure({ ssl: true, ssl_cert_file: "server.crt", ssl_key_file: "server.key", ssl_ca_file: "ca.crt" });
}

const encrypted = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

describe.each([newestUnderTest()])("TLS to PostgreSQL %i", (version) => {
  let server: PostgresServer;
  const dsn = (more: string): string => `host=localhost hostaddr=127.0.0.1 port=${server.port} user=postgres ${more}`;
  const connect = (more: string, env: Record<string, string> = {}) =>
    ReplicationConnection.connect(settingsFor(dsn(more), env));
  beforeAll(async () => {
    server = await startPostgres({ version, segmentSizeMiB: 1 });
    await server.sql("CREATE ROLE certuser LOGIN REPLICATION; CREATE ROLE tlsonly LOGIN REPLICATION PASSWORD 'pw'");
    await server.sql("CREATE ROLE plainonly LOGIN REPLICATION");
    await server.configure({}, [
      "hostssl all,replication certuser 127.0.0.1/32 cert",
      "hostssl all,replication tlsonly 127.0.0.1/32 scram-sha-256",
      "hostnossl all,replication plainonly 127.0.0.1/32 trust",
      "host all,replication postgres 127.0.0.1/32 trust",
    ]);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("is refused by a server without it, where sslmode requires it; prefer and allow do without", async () => {
    for (const mode of ["require", "verify-ca", "verify-full"]) {
      const error = await failure(connect(`sslmode=${mode} sslrootcert=${file("root.crt")}`));
      expect(error).toMatchObject({ code: "server-tls", retryable: false });
      expect(error.message).toContain("the server does not support TLS");
    }
    for (const mode of ["prefer", "allow", "disable"]) {
      await using connection = await connect(`sslmode=${mode}`);
      expect((await connection.identifySystem()).timeline).toBe(1);
    }
    await present(server, goodCert);
  });

  it.each([
    ["disable", false],
    ["allow", false],
    ["prefer", true],
    ["require", true],
  ])("with sslmode=%s is %s", async (mode, ssl) => {
    await using sql = await SqlConnection.connect(settingsFor(dsn(`sslmode=${mode} dbname=postgres`)));
    const { rows } = await sql.query<{ ssl: boolean }>(encrypted);
    expect(rows[0]?.ssl).toBe(ssl);
  });

  it("is never used over a Unix socket, whatever sslmode says", async () => {
    const text = `host=${server.socketDir} port=${server.port} user=postgres sslmode=verify-full dbname=postgres`;
    await using sql = await SqlConnection.connect(settingsFor(`${text} sslrootcert=${file("root.crt")}`));
    expect((await sql.query<{ ssl: boolean }>(encrypted)).rows[0]?.ssl).toBe(false);
  });

  it("verify-full accepts a certificate of its CA for its name, and carries WAL", async () => {
    await using connection = await connect(`sslmode=verify-full sslrootcert=${file("root.crt")}`);
    const { xlogpos } = await connection.identifySystem();
    const startLsn = segmentStart(segmentOf(xlogpos, 1 << 20), 1 << 20);
    await server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 3000000))");
    const until = await server.currentFlushLsn();
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    let position = startLsn;
    for await (const event of stream) {
      if (event.kind === "wal") {
        expect(event.startLsn).toBe(position);
        position = addBytes(position, event.bytes.length);
      }
      if (position >= until) break;
    }
    await stream.stop();
    expect(stream.reusable).toBe(true);
  });

  it("holds the server back without a pull, as without TLS", async () => {
    await using connection = await connect("sslmode=require");
    const { xlogpos } = await connection.identifySystem();
    const startLsn = segmentStart(segmentOf(xlogpos, 1 << 20), 1 << 20);
    await server.configure({ wal_keep_size: "100MB" });
    await server.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 1000000)) FROM generate_series(1, 40)");
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn });
    const first = await stream.next();
    expect(first.value?.kind).toBe("wal");
    await new Promise((resolve) => setTimeout(resolve, 700));
    const before = connection.bytesRead;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(connection.bytesRead).toBe(before);
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThanOrEqual(1 << 20);
    const sent = parseLsn(await server.value("SELECT sent_lsn FROM pg_stat_replication"));
    expect(sent).toBeLessThan(await server.currentFlushLsn());
    await stream.stop();
    expect(stream.reusable).toBe(true);
  });

  it.each(["verify-ca", "verify-full", "require"])("%s refuses a certificate of another CA", async (mode) => {
    const error = await failure(connect(`sslmode=${mode} sslrootcert=${file("stranger.crt")}`));
    expect(error).toMatchObject({ code: "server-tls", retryable: false });
    expect(error.message).toContain("does not verify");
    expect(error.hint).toContain("sslrootcert");
  });

  it("verify-full refuses a certificate for another name, which verify-ca accepts", async () => {
    await present(server, elsewhereCert);
    const error = await failure(connect(`sslmode=verify-full sslrootcert=${file("root.crt")}`));
    expect(error).toMatchObject({ code: "server-tls" });
    expect(error.message).toContain("for another host name");
    await using connection = await connect(`sslmode=verify-ca sslrootcert=${file("root.crt")}`);
    expect(connection.closed).toBe(false);
  });

  it("verify-full checks the name given, not the address it is reached at; an address needs its own entry", async () => {
    await present(server, elsewhereCert);
    const text = `host=elsewhere.example hostaddr=127.0.0.1 port=${server.port} user=postgres sslmode=verify-full`;
    await using byName = await ReplicationConnection.connect(settingsFor(`${text} sslrootcert=${file("root.crt")}`));
    expect(byName.closed).toBe(false);
    const numeric = `host=127.0.0.1 port=${server.port} user=postgres sslmode=verify-full sslrootcert=${file("root.crt")}`;
    expect(await failure(ReplicationConnection.connect(settingsFor(numeric)))).toMatchObject({ code: "server-tls" });
    await present(server, addressCert);
    await using byAddress = await ReplicationConnection.connect(settingsFor(numeric));
    expect(byAddress.closed).toBe(false);
    const nameless = `hostaddr=127.0.0.1 port=${server.port} user=postgres sslmode=verify-full`;
    const error = await failure(
      ReplicationConnection.connect(settingsFor(`${nameless} sslrootcert=${file("root.crt")}`)),
    );
    expect(error).toMatchObject({ code: "usage" });
  });

  it("an expired certificate is refused by verify-ca, and by require only where a root certificate is given", async () => {
    await present(server, expiredCert);
    for (const mode of ["verify-ca", "require"]) {
      const error = await failure(connect(`sslmode=${mode} sslrootcert=${file("root.crt")}`));
      expect(error.message).toContain("has expired");
    }
    await using connection = await connect("sslmode=require");
    expect(connection.closed).toBe(false);
    await present(server, goodCert);
  });

  it("a revoked certificate is refused with sslcrl", async () => {
    const verify = `sslmode=verify-full sslrootcert=${file("root.crt")}`;
    const error = await failure(connect(`${verify} sslcrl=${file("revoked.crl")}`));
    expect(error).toMatchObject({ code: "server-tls" });
    expect(error.message).toContain("revoked");
    await using connection = await connect(`${verify} sslcrl=${file("clean.crl")}`);
    expect(connection.closed).toBe(false);
  });

  it("a client certificate logs its user in, and its absence is told with a remedy", async () => {
    const user = dsn("").replace("user=postgres", "user=certuser") + " sslmode=require";
    const cert = `sslcert=${file("client.crt")} sslkey=${file("client.key")}`;
    await using connection = await ReplicationConnection.connect(settingsFor(`${user} ${cert}`));
    expect(connection.closed).toBe(false);
    const error = await failure(ReplicationConnection.connect(settingsFor(user)));
    expect(error).toMatchObject({ code: "server-tls" });
    expect(error.hint).toContain("sslcert=");
    const locked = `${user} sslcert=${file("client.crt")} sslkey=${file("secret.key")}`;
    await using unlocked = await ReplicationConnection.connect(settingsFor(`${locked} sslpassword='open sesame'`));
    expect(unlocked.closed).toBe(false);
    const wrong = await failure(ReplicationConnection.connect(settingsFor(`${locked} sslpassword=shibboleth`)));
    expect(wrong).toMatchObject({ code: "usage" });
    expect(wrong.message).not.toContain("shibboleth");
    const open = await failure(
      ReplicationConnection.connect(settingsFor(`${user} sslcert=${file("client.crt")} sslkey=${file("open.key")}`)),
    );
    // Owned by root the key may be read by root's group, but not by others.
    expect(open).toMatchObject({ code: "usage", message: expect.stringContaining("group or world access") as string });
  });

  it("files of the user's ~/.postgresql are used when they are there", async () => {
    const home = file(`home-${version}`);
    mkdirSync(join(home, ".postgresql"), { recursive: true });
    writeFileSync(join(home, ".postgresql", "root.crt"), authority.cert);
    await using connection = await connect("sslmode=verify-full", { HOME: home });
    expect(connection.closed).toBe(false);
    writeFileSync(join(home, ".postgresql", "root.crt"), stranger.cert);
    expect(await failure(connect("sslmode=require", { HOME: home }))).toMatchObject({ code: "server-tls" });
  });

  it.each<[string, string, RegExp]>([
    [
      "a root certificate that is not there",
      "sslmode=verify-full sslrootcert=/nonexistent/root.crt",
      /could not read sslrootcert/,
    ],
    ["no root certificate at all", "sslmode=verify-full", /root certificate file .* is missing/],
    ["a client certificate without its key", "sslmode=require sslcert=CLIENT", /could not read sslkey file/],
    ["a file that is no certificate", "sslmode=verify-full sslrootcert=BROKEN", /the sslrootcert file does not load/],
    ["a required client certificate that is not given", "sslmode=require sslcertmode=require", /no client certificate/],
  ])("is not attempted with %s", async (_name, more, message) => {
    const text = more.replace("CLIENT", file("client.crt")).replace("BROKEN", file("broken.crt"));
    const error = await failure(connect(text, { HOME: "/nonexistent" }));
    expect(error).toMatchObject({ code: "usage" });
    expect(error.message).toMatch(message);
  });

  it("prefer falls back to plain where pg_hba.conf wants it, allow goes up to TLS", async () => {
    const as = (user: string, more: string) =>
      SqlConnection.connect(settingsFor(dsn(`${more} dbname=postgres`).replace("user=postgres", `user=${user}`)));
    await using plain = await as("plainonly", "sslmode=prefer");
    expect((await plain.query<{ ssl: boolean }>(encrypted)).rows[0]?.ssl).toBe(false);
    await using tls = await as("tlsonly", "sslmode=allow password=pw");
    expect((await tls.query<{ ssl: boolean }>(encrypted)).rows[0]?.ssl).toBe(true);
    expect(await failure(as("plainonly", "sslmode=require"))).toMatchObject({ code: "server-hba" });
    const wrong = await failure(as("tlsonly", "sslmode=prefer password=wrong"));
    // Both ways were tried; what counts is what the server said of the password, not that plain is not allowed.
    expect(wrong.code).toBe("server-auth");
    expect(wrong.message).toContain("password authentication failed");
  });

  it("SCRAM binds to the channel, and can be required to", async () => {
    const text = dsn("password=pw channel_binding=require").replace("user=postgres", "user=tlsonly");
    await using connection = await ReplicationConnection.connect(settingsFor(`${text} sslmode=require`));
    expect(connection.closed).toBe(false);
    await using without = await ReplicationConnection.connect(
      settingsFor(text.replace("require", "disable") + " sslmode=require"),
    );
    expect(without.closed).toBe(false);
  });

  it("holds to the range of versions that is asked for", async () => {
    const { rows } = await withSql("sslmode=require ssl_max_protocol_version=TLSv1.2");
    expect(rows[0]?.version).toBe("TLSv1.2");
    await server.configure({ ssl_max_protocol_version: "TLSv1.2" });
    const error = await failure(connect("sslmode=require ssl_min_protocol_version=TLSv1.3"));
    expect(error).toMatchObject({ code: "server-tls" });
    expect(error.message).toContain("handshake failed");
    await server.configure({ ssl_max_protocol_version: "" });
  });

  it("starts at once with sslnegotiation=direct, from PostgreSQL 17 on", async () => {
    const work = withSql("sslmode=require sslnegotiation=direct");
    if (version >= 17) expect((await work).rows[0]?.ssl).toBe(true);
    else expect(["server-tls", "server-unreachable"]).toContain((await failure(work)).code);
  });

  async function withSql(more: string): Promise<{ readonly rows: readonly { ssl: boolean; version: string }[] }> {
    await using sql = await SqlConnection.connect(settingsFor(dsn(`${more} dbname=postgres`)));
    return await sql.query<{ ssl: boolean; version: string }>(encrypted);
  }
});
