/** Settings of a role or a server that end sessions end none of ours; a pooler that refuses settings at the start is used without. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { ScriptedWalsender } from "../harness/scripted-walsender.ts";
import { failure, settingsFor } from "./support.ts";

describe.each(versionsUnderTest())("PostgreSQL %i with limits for sessions", (version) => {
  let server: PostgresServer;
  const dsn = (more = ""): string => `host=127.0.0.1 port=${server.port} user=limited dbname=postgres ${more}`;
  beforeAll(async () => {
    const settings = { idle_session_timeout: "300ms", idle_in_transaction_session_timeout: "300ms" };
    server = await startPostgres({ version, segmentSizeMiB: 1, settings });
    await server.sql("CREATE ROLE limited LOGIN REPLICATION");
    await server.sql("ALTER ROLE limited SET statement_timeout = '1ms'");
    await server.sql("ALTER ROLE limited SET lock_timeout = '1ms'");
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("an ordinary session waits and idles as long as it must", async () => {
    await using sql = await SqlConnection.connect(settingsFor(dsn()));
    await sql.query("SELECT pg_sleep(0.2)");
    await sleep(1_000);
    const { rows } = await sql.query("SELECT current_setting('lock_timeout') AS lock");
    expect(rows).toEqual([{ lock: "0" }]);
  });

  it("a replication connection idles between two commands", async () => {
    await using walsender = await ReplicationConnection.connect(settingsFor(dsn()));
    await walsender.identifySystem();
    await sleep(1_000);
    expect((await walsender.identifySystem()).timeline).toBe(1);
  });

  it("a setting in the connection string wins", async () => {
    await using sql = await SqlConnection.connect(settingsFor(dsn("options='-c statement_timeout=20ms'")));
    const late = await failure(sql.query("SELECT pg_sleep(5)"));
    expect(late).toMatchObject({ code: "server-busy", details: { sqlstate: "57014" } });
  });

  it.runIf(version >= 15)(
    "lc_messages is for roles that may set it, and refused to others before the start",
    async () => {
      const german = dsn("options='-c lc_messages=C'");
      expect(await failure(ReplicationConnection.connect(settingsFor(german)))).toMatchObject({
        code: "server-privilege",
      });
      await server.sql("GRANT SET ON PARAMETER lc_messages TO limited");
      await using walsender = await ReplicationConnection.connect(settingsFor(german));
      expect(await walsender.show("lc_messages")).toBe("C");
    },
  );
});

it("a pooler that refuses settings at the start is asked again without them", async () => {
  const seen: (string | undefined)[] = [];
  await using pooler = await ScriptedWalsender.start({
    ...{ systemIdentifier: 7n, timeline: 1, xlogpos: 0x3000000n },
    startup: (parameters) => {
      const options = parameters.get("options");
      seen.push(options);
      if (options?.includes("statement_timeout") !== true) return undefined;
      const message = "unsupported startup parameter in options: statement_timeout";
      return { error: { severity: "FATAL", code: "08P01", message } };
    },
  });
  await using connection = await ReplicationConnection.connect(settingsFor(`${pooler.dsn}&options=-c%20geqo%3Doff`));
  expect((await connection.identifySystem()).timeline).toBe(1);
  expect(seen).toEqual([expect.stringMatching(/^-c statement_timeout=0 .* -c geqo=off$/), "-c geqo=off"]);
});
