/** A server that speaks German: every error has the code that the same error has in English, and lost WAL is recorded. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openArchive } from "../../src/archive/archive.ts";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { SeawallError } from "../../src/errors.ts";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { addBytes, type Lsn, segmentStart, segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { until } from "../campaigns/campaign.ts";
import { startGermanPostgres } from "../harness/german.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { settingsFor } from "./support.ts";

const FORGETTING = { max_slot_wal_keep_size: "2MB", wal_keep_size: 0, min_wal_size: "2MB", max_wal_size: "4MB" };
const SEGMENT = 1 << 20;

test("WAL that a server removed, and said so in German, is a gap, and archiving goes on behind it", async () => {
  const store = new MemoryStore();
  await using server = await startGermanPostgres({ settings: FORGETTING });
  await server.sql("CREATE TABLE t (i int, pad text)");
  {
    await using receiver = receive(server, store);
    await receiver.stored(await flushLsn(server));
    await receiver.stop();
  }
  for (let round = 0; round < 8; round++) {
    await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i");
    await server.sql("CHECKPOINT");
  }
  await using receiver = receive(server, store);
  await server.sql("INSERT INTO t VALUES (2, 'hinter der Lücke')");
  await receiver.stored(await flushLsn(server));
  await receiver.stop();
  const [gap, ...others] = await listGaps(await openArchive(store, "main"));
  expect(others).toEqual([]);
  expect(gap?.reason).toContain("wurde schon entfernt");
});

describe("an error in German", () => {
  let server: PostgresServer;
  let removed: Lsn;

  beforeAll(async () => {
    server = await startGermanPostgres({
      settings: { ...FORGETTING, max_slot_wal_keep_size: -1, max_replication_slots: 2, max_wal_senders: 3 },
      hba: [
        "local all all trust",
        "local replication all trust",
        "host all,replication postgres 127.0.0.1/32 trust",
        "host all geheim 127.0.0.1/32 scram-sha-256",
      ],
    });
    await server.sql("CREATE ROLE plain LOGIN");
    await server.sql("CREATE ROLE locked NOLOGIN");
    await server.sql("CREATE ROLE geheim LOGIN REPLICATION PASSWORD 'richtig'");
    removed = segmentStart(segmentOf(await flushLsn(server), SEGMENT), SEGMENT);
    await server.sql("CREATE TABLE t (i int, pad text)");
    for (let round = 0; round < 8; round++) {
      await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i");
      await server.sql("CHECKPOINT");
    }
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  const socket = (rest: string): string => `host=${server.socketDir} port=${server.port} dbname=postgres ${rest}`;
  const connect = async (rest: string): Promise<void> => {
    await using connection = await ReplicationConnection.connect(settingsFor(socket(rest)));
    expect(connection.closed).toBe(false);
  };
  const stream = async (timeline: number, startLsn: Lsn, slot?: string): Promise<void> => {
    await using connection = await ReplicationConnection.connect(settingsFor(server.dsn));
    const walStream = await connection.startReplication({ timeline: timelineOf(timeline), startLsn, slot });
    for await (const event of walStream) if (event.kind === "wal") return;
  };
  const onSlot = async (work: (connection: ReplicationConnection) => Promise<unknown>): Promise<void> => {
    await using connection = await ReplicationConnection.connect(settingsFor(server.dsn));
    try {
      await work(connection);
    } finally {
      await server.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active");
    }
  };
  const sql = async (text: string, role = "postgres"): Promise<void> => {
    await using connection = await SqlConnection.connect(settingsFor(socket(`user=${role}`)));
    await connection.query(text);
  };

  const speak = async (language: string): Promise<void> => {
    await server.configure({ lc_messages: language });
    await until("the server's language", async () => (await server.value("SHOW lc_messages")) === language);
  };

  const CASES: readonly (readonly [name: string, provoke: () => Promise<unknown>, code: string])[] = [
    ["WAL that was removed", () => stream(1, removed), "wal-removed"],
    ["a timeline of another server", () => stream(7, removed), "timeline-unrelated"],
    ["a position ahead of the server", async () => stream(1, addBytes(await flushLsn(server), 64 << 20)), "wal-ahead"],
    ["no such slot", () => stream(1, removed, "fehlt"), "slot-missing"],
    ["dropping no such slot", () => onSlot((connection) => connection.dropSlot("fehlt")), "slot-missing"],
    [
      "a slot that exists",
      () =>
        onSlot(async (connection) => {
          await connection.createPhysicalSlot("einer");
          await connection.createPhysicalSlot("einer");
        }),
      "slot-exists",
    ],
    [
      "no slot left",
      () =>
        onSlot(async (connection) => {
          for (const name of ["einer", "zwei", "drei"]) await connection.createPhysicalSlot(name);
        }),
      "slots-full",
    ],
    [
      "no WAL sender left",
      async () => {
        const open: ReplicationConnection[] = [];
        try {
          for (let n = 0; n < 4; n++) open.push(await ReplicationConnection.connect(settingsFor(server.dsn)));
        } finally {
          for (const connection of open) await connection.close();
        }
      },
      "server-max-wal-senders",
    ],
    [
      "the history of no timeline",
      () => onSlot((connection) => connection.timelineHistory(timelineOf(9))),
      "history-missing",
    ],
    ["a role without REPLICATION", () => connect("user=plain"), "server-no-replication-role"],
    ["an unknown role", () => connect("user=niemand"), "server-auth"],
    ["a role that may not log in", () => connect("user=locked"), "server-auth"],
    [
      "an unknown database",
      () => sql("SELECT 1").then(() => SqlConnection.connect(settingsFor(socket("user=plain dbname=keine")))),
      "server-error",
    ],
    [
      "no line in pg_hba.conf",
      () => ReplicationConnection.connect(settingsFor(`host=127.0.0.1 port=${server.port} user=plain sslmode=disable`)),
      "server-hba",
    ],
    [
      "a wrong password",
      () =>
        SqlConnection.connect(
          settingsFor(`host=127.0.0.1 port=${server.port} user=geheim password=falsch dbname=postgres sslmode=disable`),
        ),
      "server-auth",
    ],
    ["what a role may not read", () => sql("SELECT pg_read_file('postgresql.conf')", "plain"), "server-privilege"],
  ];

  test.each(CASES)("%s", async (_name, provoke, code) => {
    const inGerman = await failure(provoke);
    await speak("C");
    const inEnglish = await failure(provoke);
    await speak("de_DE.UTF-8");
    expect(inGerman.message).not.toBe(inEnglish.message);
    expect([inGerman.code, inEnglish.code]).toEqual([code, code]);
    expect(inGerman.retryable).toBe(inEnglish.retryable);
  });
});

async function failure(provoke: () => Promise<unknown>): Promise<SeawallError> {
  try {
    await provoke();
  } catch (error) {
    if (error instanceof SeawallError) return error;
    throw error;
  }
  throw new Error("nothing failed");
}
