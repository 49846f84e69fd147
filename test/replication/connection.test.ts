/** A replication connection from outside: identify, settings, slots, a first stream, SQL beside it. */
import { getEventListeners } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { processConninfoSources } from "../../src/replication/conninfo-files.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { ReplicationConnection, SqlConnection } from "../../src/replication/connection.ts";
import { pgTimestamp } from "../../src/replication/wal-messages.ts";
import { addBytes, type Lsn, nextSegment, segmentOf, segmentStart } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { settingsFor } from "./support.ts";

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ version, segmentSizeMiB: 1 });
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("identifies itself over TCP and over its Unix socket", async () => {
    for (const dsn of [server.dsn, server.socketDsn]) {
      await using connection = await ReplicationConnection.connect(settingsFor(dsn));
      const { systemIdentifier, timeline } = await connection.identifySystem();
      const [row] = await server.sql("SELECT system_identifier::text AS id FROM pg_control_system()");
      expect(String(systemIdentifier)).toBe(row?.id);
      expect(timeline).toBe(1);
      expect(Math.floor(connection.serverVersion / 10000)).toBe(version);
      expect(await connection.walSegmentSize()).toBe(1 << 20);
      expect(await connection.show("wal_level")).toBe("replica");
    }
  });

  it("creates, reads and drops a physical slot", async () => {
    await using connection = await ReplicationConnection.connect(settingsFor(server.dsn));
    expect(await connection.readSlot("s1")).toBeUndefined();
    await connection.createPhysicalSlot("s1");
    expect((await connection.readSlot("s1"))?.restartLsn).toBeGreaterThan(0n);
    await expect(connection.createPhysicalSlot("s1")).rejects.toMatchObject({ code: "slot-exists" });
    await connection.dropSlot("s1", { wait: true });
    await expect(connection.dropSlot("s1")).rejects.toMatchObject({ code: "slot-missing" });
    expect((await connection.identifySystem()).timeline).toBe(1);
  });

  it("streams the bytes that are in pg_wal, stops cleanly and takes commands again", async () => {
    await using connection = await ReplicationConnection.connect(settingsFor(server.dsn));
    const { timeline, xlogpos } = await connection.identifySystem();
    const segment = segmentOf(xlogpos, server.segmentSize);
    const startLsn = segmentStart(segment, server.segmentSize);
    await server.sql(
      "CREATE TABLE IF NOT EXISTS filler AS SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i",
    );
    const stream = await connection.startReplication({ timeline, startLsn });
    const target = addBytes(startLsn, 2 * server.segmentSize);
    const received: Buffer[] = [];
    let position: Lsn = startLsn;
    for await (const event of stream) {
      if (event.kind !== "wal") continue;
      expect(event.startLsn).toBe(position);
      received.push(Buffer.from(event.bytes));
      position = addBytes(position, event.bytes.length);
      stream.sendStatus({ write: position, flush: position, apply: position, clock: pgTimestamp(Date.now()) });
      if (position >= target) break;
    }
    await stream.stop();
    expect(stream.reusable).toBe(true);
    expect((await connection.identifySystem()).timeline).toBe(timeline);
    const bytes = Buffer.concat(received).subarray(0, 2 * server.segmentSize);
    expect(bytes.length).toBe(2 * server.segmentSize);
    const files = [segment, nextSegment(segment)].map((each) => segmentFileName(timeline, each, server.segmentSize));
    for (const [index, name] of files.entries()) {
      const file = await server.readWalFile(name);
      expect(bytes.subarray(index * server.segmentSize, (index + 1) * server.segmentSize).equals(file)).toBe(true);
    }
  });

  it("is found through a service file and a home folder, as psql would find it", async () => {
    const home = makeTempDir("home");
    try {
      const service = `[ours]\nhost=127.0.0.1\nport=${server.port}\nuser=postgres\napplication_name=by service\n`;
      writeFileSync(join(home, ".pg_service.conf"), service);
      const settings = parseConninfo(processConninfoSources(undefined, { HOME: home, PGSERVICE: "ours" }));
      await using sql = await SqlConnection.connect(settings);
      expect((await sql.query("SHOW application_name")).rows).toEqual([{ application_name: "by service" }]);
      const aside = join(home, "elsewhere.conf");
      writeFileSync(aside, service.replace("by service", "by PGSERVICEFILE"));
      const env = { HOME: home, PGSERVICEFILE: aside };
      await using other = await SqlConnection.connect(parseConninfo(processConninfoSources("service=ours", env)));
      expect((await other.query("SHOW application_name")).rows).toEqual([{ application_name: "by PGSERVICEFILE" }]);
    } finally {
      removeTree(home);
    }
  });

  it("leaves no listener on a signal that outlives it", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const listeners = (): number => getEventListeners(signal, "abort").length;
    for (let round = 0; round < 3; round++) {
      const connection = await ReplicationConnection.connect(settingsFor(server.dsn), { signal });
      const { timeline, xlogpos } = await connection.identifySystem();
      const startLsn = segmentStart(segmentOf(xlogpos, server.segmentSize), server.segmentSize);
      const stream = await connection.startReplication({ timeline, startLsn, signal });
      await stream.next();
      if (round === 0) await stream.stop();
      if (round === 2) connection.destroy();
      await connection.close();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(listeners()).toBe(0);
  });

  it("runs SQL with the same settings", async () => {
    await using sql = await SqlConnection.connect(settingsFor(server.dsn));
    const { rows } = await sql.query<{ name: string }>("SELECT current_setting('application_name') AS name");
    expect(rows).toEqual([{ name: "seawall" }]);
  });
});
