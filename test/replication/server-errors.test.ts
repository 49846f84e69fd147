/** Every refusal of a real server that can be provoked: our code, and a remedy that works when it is followed. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { addBytes, type Lsn, parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { failure, settingsFor } from "./support.ts";

const HBA = [
  "local all all trust",
  "local replication all trust",
  "host all,replication postgres,plain,nologin,nosuch,limited 127.0.0.1/32 trust",
  "host all,replication scram 127.0.0.1/32 scram-sha-256",
  "host all,replication md5user 127.0.0.1/32 md5",
  "host all,replication cleartext 127.0.0.1/32 password",
  "host all,replication rejected 127.0.0.1/32 reject",
];

const ROLES = `
  CREATE ROLE plain LOGIN;
  CREATE ROLE "Needs Quotes" LOGIN;
  CREATE ROLE nologin REPLICATION;
  CREATE ROLE limited LOGIN REPLICATION;
  CREATE ROLE nohba LOGIN REPLICATION PASSWORD 'pw';
  CREATE ROLE rejected LOGIN REPLICATION;
  SET password_encryption = 'scram-sha-256';
  CREATE ROLE scram LOGIN REPLICATION PASSWORD 'right''s';
  CREATE ROLE cleartext LOGIN REPLICATION PASSWORD 'right';
  SET password_encryption = 'md5';
  CREATE ROLE md5user LOGIN REPLICATION PASSWORD 'right';
`;

describe.each(versionsUnderTest())("PostgreSQL %i refuses", (version) => {
  let server: PostgresServer;
  const dsn = (user: string, more = ""): string => `host=127.0.0.1 port=${server.port} user='${user}' ${more}`;
  const connect = (text: string) => ReplicationConnection.connect(settingsFor(text));
  beforeAll(async () => {
    server = await startPostgres({ version, segmentSizeMiB: 1, hba: HBA, settings: { wal_level: "logical" } });
    await server.sql(ROLES);
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("a user without the REPLICATION attribute, until the hint is run", async () => {
    const error = await failure(connect(dsn("plain")));
    expect(error).toMatchObject({ code: "server-no-replication-role", retryable: false, exit: 4 });
    expect(error.hint).toBe("ALTER ROLE plain REPLICATION;");
    await server.sql(error.hint);
    await using connection = await connect(dsn("plain"));
    expect((await connection.identifySystem()).timeline).toBe(1);
  });

  it("such a user with a name that needs quotes", async () => {
    const error = await failure(connect(`host=${server.socketDir} port=${server.port} user='Needs Quotes'`));
    expect(error.hint).toBe('ALTER ROLE "Needs Quotes" REPLICATION;');
  });

  it("a user without a line in pg_hba.conf, until the hint's line is there", async () => {
    const error = await failure(connect(dsn("nohba", "password=pw")));
    expect(error).toMatchObject({ code: "server-hba", retryable: false });
    const line = /Add to pg_hba.conf, above any line that refuses: (.*) — then/.exec(error.hint)?.[1] ?? "";
    expect(line).toBe("host replication nohba 127.0.0.1/32 scram-sha-256");
    await server.configure({}, [...HBA, line]);
    await using connection = await connect(dsn("nohba", "password=pw"));
    expect(connection.closed).toBe(false);
    await server.configure({}, HBA);
  });

  it("a user that pg_hba.conf rejects, and says so for SQL with the database's name", async () => {
    expect(await failure(connect(dsn("rejected")))).toMatchObject({ code: "server-hba" });
    const error = await failure(SqlConnection.connect(settingsFor(dsn("rejected", "dbname=postgres"))));
    expect(error.code).toBe("server-hba");
    expect(error.hint).toContain("host postgres rejected 127.0.0.1/32 scram-sha-256");
  });

  it.each([
    ["scram", "right's"],
    ["md5user", "right"],
    ["cleartext", "right"],
  ])("%s with a wrong or no password, and takes the right one", async (user, password) => {
    const wrong = await failure(connect(dsn(user, "password=wrong")));
    expect(wrong).toMatchObject({ code: "server-auth", retryable: false });
    expect(wrong.message).toContain("password authentication failed");
    const none = await failure(connect(dsn(user)));
    expect(none.code).toBe("server-auth");
    expect(none.message).toBe(`127.0.0.1:${server.port}: the server asks for a password, and none was given`);
    const settings = settingsFor(dsn(user), { PGPASSWORD: password });
    await using connection = await ReplicationConnection.connect(settings);
    await using sql = await SqlConnection.connect(settings.with({ database: "postgres" }));
    expect((await sql.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    expect(connection.closed).toBe(false);
  });

  it("a wrong password from a password file, naming the file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "seawall-passfile-"));
    try {
      const file = join(folder, "pass");
      writeFileSync(file, `127.0.0.1:${server.port}:replication:scram:right's\n*:*:*:*:wrong\n`, { mode: 0o600 });
      await using connection = await connect(dsn("scram", `passfile=${file}`));
      expect(connection.closed).toBe(false);
      const error = await failure(connect(dsn("md5user", `passfile=${file}`)));
      expect(error.hint).toBe(`The password came from ${file}: correct it there.`);
      chmodSync(file, 0o644);
      const warnings: string[] = [];
      const open = ReplicationConnection.connect(settingsFor(dsn("scram", `passfile=${file}`)), {
        onWarning: (text) => warnings.push(text),
      });
      expect((await failure(open)).hint).toContain("permissions must be u=rw (0600)");
      expect(warnings[0]).toContain(`password file ${file} is ignored`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("require_auth and channel_binding hold back the password from a server that asks in another way", async () => {
    const clear = await failure(connect(dsn("cleartext", "password=right require_auth=scram-sha-256")));
    expect(clear).toMatchObject({ code: "server-auth" });
    expect(clear.message).toContain("the server asks for password");
    const none = await failure(connect(dsn("limited", "require_auth=!none")));
    expect(none.message).toContain("the server asks for none");
    const binding = await failure(connect(dsn("scram", "password=right's channel_binding=require")));
    expect(binding.message).toContain("channel binding is required");
    await using connection = await connect(dsn("scram", String.raw`password=right\'s require_auth=scram-sha-256`));
    expect(connection.closed).toBe(false);
  });

  it("a role that does not exist or may not log in", async () => {
    const missing = await failure(connect(dsn("nosuch")));
    expect(missing).toMatchObject({ code: "server-auth" });
    expect(missing.hint).toBe("CREATE ROLE nosuch LOGIN REPLICATION PASSWORD '…';");
    const nologin = await failure(connect(dsn("nologin")));
    expect(nologin).toMatchObject({ code: "server-auth", hint: "ALTER ROLE nologin LOGIN;" });
  });

  it("a database that does not exist", async () => {
    const error = await failure(SqlConnection.connect(settingsFor(dsn("postgres", "dbname=nosuch"))));
    expect(error).toMatchObject({ code: "server-error" });
    expect(error.hint).toContain("postgres is the usual one");
  });

  it("a slot that is not there, to start and to drop", async () => {
    await using connection = await connect(dsn("postgres"));
    const { timeline, xlogpos } = await connection.identifySystem();
    const error = await failure(connection.startReplication({ slot: "nope", timeline, startLsn: xlogpos }));
    expect(error).toMatchObject({ code: "slot-missing", retryable: false });
    expect(error.hint).toContain("pg_create_physical_replication_slot('nope', true)");
    expect(await failure(connection.dropSlot("nope"))).toMatchObject({ code: "slot-missing" });
  });

  it("a logical slot", async () => {
    await server.sql("SELECT pg_create_logical_replication_slot('logical', 'test_decoding')").catch(async () =>
      // The packages from npm may lack test_decoding; pgoutput is in the server.
      server.sql("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')"),
    );
    await using connection = await connect(dsn("postgres"));
    const { timeline, xlogpos } = await connection.identifySystem();
    const error = await failure(connection.startReplication({ slot: "logical", timeline, startLsn: xlogpos }));
    expect(error).toMatchObject({ code: "slot-logical" });
    expect(await failure(connection.readSlot("logical"))).toMatchObject({ code: "slot-logical" });
    await connection.dropSlot("logical");
  });

  it("a slot that another receiver uses, until the hint's pg_terminate_backend", async () => {
    await using first = await connect(dsn("postgres"));
    await using second = await connect(dsn("postgres"));
    const { timeline, xlogpos } = await first.identifySystem();
    await first.createPhysicalSlot("busy");
    const start = { slot: "busy", timeline, startLsn: xlogpos };
    const stream = await first.startReplication(start);
    const error = await failure(second.startReplication(start));
    expect(error).toMatchObject({ code: "slot-active", retryable: true });
    expect(await failure(second.dropSlot("busy"))).toMatchObject({ code: "slot-active" });
    const call = /pg_terminate_backend\(\d+\)/.exec(error.hint)?.[0] ?? "";
    await server.sql(`SELECT ${call}`);
    expect(await failure(drain(stream))).toMatchObject({ code: "server-lost", retryable: true });
    await second.dropSlot("busy", { wait: true });
    expect(await second.readSlot("busy")).toBeUndefined();
  });

  it("WAL beyond its own, on a timeline it never had, and a history it has not", async () => {
    await using connection = await connect(dsn("postgres"));
    const { timeline, xlogpos } = await connection.identifySystem();
    // Only once the stream has begun does the server look where it would have to start.
    const stream = await connection.startReplication({ timeline, startLsn: addBytes(xlogpos, 1 << 30) });
    const ahead = await failure(drain(stream));
    expect(ahead).toMatchObject({ code: "wal-ahead", retryable: true });
    const other = await failure(connection.startReplication({ timeline: timelineOf(9), startLsn: xlogpos }));
    expect(other).toMatchObject({ code: "timeline-unrelated", retryable: false });
    expect(await failure(connection.timelineHistory(timelineOf(9)))).toMatchObject({ code: "history-missing" });
    expect((await connection.identifySystem()).timeline).toBe(timeline);
  });

  it("WAL that it has removed", async () => {
    const start = parseLsn(await server.value("SELECT pg_current_wal_lsn()"));
    await removeWal(server);
    await using connection = await connect(dsn("postgres"));
    const stream = await connection.startReplication({ timeline: timelineOf(1), startLsn: start });
    const error = await failure(drain(stream));
    expect(error).toMatchObject({ code: "wal-removed", retryable: false });
    expect(error.message).toMatch(/requested WAL segment [0-9A-F]{24} has already been removed/);
    expect((await connection.identifySystem()).timeline).toBe(1);
  });

  it("a slot that it has invalidated", async () => {
    await using connection = await connect(dsn("postgres"));
    await connection.createPhysicalSlot("lost");
    const slot = await connection.readSlot("lost");
    const startLsn = slot?.restartLsn ?? (0n as Lsn);
    await server.configure({ max_slot_wal_keep_size: "1MB" });
    await removeWal(server);
    expect(await server.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'lost'")).toBe("lost");
    const error = await failure(
      connection.startReplication({ slot: "lost", timeline: timelineOf(1), startLsn }).then(drain),
    );
    // Only from 18 on does a walsender look at the slot itself; before, it finds the WAL gone.
    expect(error.code).toBe(version >= 18 ? "slot-invalidated" : "wal-removed");
    expect(await connection.readSlot("lost")).toEqual({ restartLsn: undefined });
    await connection.dropSlot("lost");
    await server.configure({ max_slot_wal_keep_size: -1 });
  });

  it("names that no slot can have, before they reach it", async () => {
    await using connection = await connect(dsn("postgres"));
    for (const name of ["", "Upper", "a-b", 'x"; DROP', "ü", "x".repeat(64)]) {
      expect(await failure(connection.createPhysicalSlot(name))).toMatchObject({ code: "usage" });
    }
    await connection.createPhysicalSlot("x".repeat(63), { reserveWal: true, temporary: true });
    expect(await failure(connection.show("wal_level; DROP"))).toMatchObject({ code: "usage" });
    expect(await failure(connection.show("no_such_setting"))).toMatchObject({ code: "server-error" });
  });
});

describe.each(versionsUnderTest())("PostgreSQL %i at its limits", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({
      version,
      segmentSizeMiB: 1,
      settings: { max_wal_senders: 1, max_replication_slots: 1, max_connections: 5 },
    });
    await server.sql("CREATE ROLE plain LOGIN REPLICATION");
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("has no WAL sender, slot or connection left", async () => {
    await using first = await ReplicationConnection.connect(settingsFor(server.dsn));
    const senders = await failure(ReplicationConnection.connect(settingsFor(server.dsn)));
    expect(senders).toMatchObject({ code: "server-max-wal-senders", retryable: true });
    await first.createPhysicalSlot("one");
    expect(await failure(first.createPhysicalSlot("two"))).toMatchObject({ code: "slots-full", retryable: false });
    const plain = settingsFor(`host=${server.socketDir} port=${server.port} user=plain dbname=postgres`);
    const taken = await Promise.allSettled(Array.from({ length: 6 }, () => SqlConnection.connect(plain)));
    const refused = taken.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
    for (const outcome of taken) if (outcome.status === "fulfilled") await outcome.value.close();
    expect(refused.length).toBeGreaterThanOrEqual(1);
    expect(refused[0]).toMatchObject({ code: "server-busy", retryable: true });
  });

  it("writes too little WAL to be replicated at wal_level = minimal", async () => {
    await server.configure({ wal_level: "minimal", max_wal_senders: 0, max_replication_slots: 10 });
    await server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    await server.restart();
    const error = await failure(ReplicationConnection.connect(settingsFor(server.dsn)));
    expect(error).toMatchObject({ code: "server-wal-level", retryable: false });
    expect(error.hint).toContain("ALTER SYSTEM SET wal_level = replica");
    await using sql = await SqlConnection.connect(settingsFor(server.dsn));
    const slot = await failure(sql.query("SELECT pg_create_physical_replication_slot('s')"));
    expect(slot).toMatchObject({ code: "server-wal-level" });
  });
});

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  const events = stream[Symbol.asyncIterator]();
  while ((await events.next()).done !== true);
}

/** Writes some segments and checkpoints until the server has recycled what lies before. */
async function removeWal(server: PostgresServer): Promise<void> {
  await server.configure({ wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "2MB" });
  for (let round = 0; round < 6; round++) {
    await server.sql("SELECT pg_logical_emit_message(false, 'x', 'y')");
    await server.sql("SELECT pg_switch_wal()");
    await server.sql("CHECKPOINT");
  }
}
