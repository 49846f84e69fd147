/**
 * Passwords beyond ASCII, set by psql on a real server and used by both kinds of connection. PostgreSQL prepares a password
 * (SASLprep), and keeps it as it is where SASLprep refuses it. psql is the oracle: it must get in as well.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { hasTwoForms } from "../../src/replication/scram-raw.ts";
import { type PostgresServer, startPostgres, tool, newestUnderTest } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { failure, settingsFor } from "./support.ts";

const PASSWORDS = [
  { what: "changed by SASLprep: a soft hyphen goes", password: "soft\u00adhyphen", other: "softhyphen" },
  { what: "changed by SASLprep: a Roman number becomes letters", password: "\u2168", other: "IX" },
  { what: "changed by SASLprep: a space of no width", password: "a\u00a0b", other: "a b" },
  { what: "refused: left-to-right beside right-to-left", password: "\u00aa\u05d0", other: undefined },
  { what: "refused: a code point that Unicode 3.2 lacks", password: "\u{1f12b}x", other: undefined },
  { what: "refused: a forbidden character beside one that would change", password: "\u2168\u0007", other: undefined },
  { what: "the same either way", password: "pässwörd", other: undefined },
] as const;

const psql = tool("psql");

describe.skipIf(psql === undefined).each([newestUnderTest()])("PostgreSQL %i", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    const hba = ["local all all trust", "host all,replication odd 127.0.0.1/32 scram-sha-256"];
    server = await startPostgres({ version, segmentSizeMiB: 1, hba });
    await bySql("CREATE ROLE odd LOGIN REPLICATION");
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  const psqlAs = (user: string, host: string, text: string, env: Record<string, string> = {}): Promise<unknown> => {
    const place = ["-X", "-w", "-h", host, "-p", String(server.port), "-U", user, "-d", "postgres"];
    const options = { env: { ...process.env, PGCLIENTENCODING: "UTF8", ...env }, timeoutMs: 60_000 };
    return run(psql ?? "", [...place, "-v", "ON_ERROR_STOP=1", "-c", text], options);
  };
  const bySql = (text: string): Promise<unknown> => psqlAs("postgres", server.socketDir, text);
  const settings = (password: string) =>
    settingsFor(`host=127.0.0.1 port=${server.port} user=odd password='${password}' dbname=postgres`);

  it.each(PASSWORDS)("a password that is $what", async ({ password, other }) => {
    await bySql(`SET password_encryption = 'scram-sha-256'; ALTER ROLE odd PASSWORD '${password}'`);
    await psqlAs("odd", "127.0.0.1", "SELECT 1", { PGPASSWORD: password });
    const given = settings(password);
    // Twice: what the first connection has learnt is used by the second.
    for (let round = 0; round < 2; round += 1) {
      await using stream = await ReplicationConnection.connect(given);
      expect((await stream.identifySystem()).timeline).toBe(1);
      await using sql = await SqlConnection.connect(given);
      expect((await sql.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
    }
    if (other !== undefined) await (await SqlConnection.connect(settings(other))).close();
    const wrong = await failure(ReplicationConnection.connect(settings(`${password}!`)));
    expect(wrong).toMatchObject({ code: "server-auth" });
  });

  it("the form that was learnt is not the last word: the server may keep the other one later", async () => {
    const given = settings("\u00aa\u05d0");
    for (const kept of ["\u00aa\u05d0", "a\u05d0", "\u00aa\u05d0"]) {
      await bySql(`SET password_encryption = 'scram-sha-256'; ALTER ROLE odd PASSWORD '${kept}'`);
      await (await SqlConnection.connect(given)).close();
    }
  });
});

it.each([
  ["plain", false],
  ["with space", false],
  ["pässwörd", false],
  ["soft\u00adhyphen", true],
  ["a\u00a0b", true],
  ["\u2168", true],
  ["\u00aa\u05d0", true],
  ["\u1806", true],
])("%j has two forms: %s", (password, expected) => {
  expect(hasTwoForms(password)).toBe(expected);
});
