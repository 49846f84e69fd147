/** Signals: what a command leaves with, how soon, and that a second one is never waited for. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startPostgres, type PostgresServer } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { startProxy, startTcp, TEST_ENV, type TestServer } from "../store/scripted-s3.ts";

const s3 = await startS3();

/** Accepts connections and says nothing. */
let silent: TestServer;
let connections = 0;
let dir = "";
beforeAll(async () => {
  silent = await startTcp(() => (connections += 1));
  dir = makeTempDir("signals");
});
afterAll(async () => {
  await silent[Symbol.asyncDispose]();
  removeTree(dir);
});

const connected = async (): Promise<void> => {
  const before = connections;
  while (connections === before) await new Promise((resolve) => setTimeout(resolve, 20));
};
const silentDsn = (): string =>
  `host=127.0.0.1 port=${new URL(silent.endpoint).port} user=x sslmode=disable connect_timeout=3600`;
const silentStore = (): string => `s3://bucket/?region=r&endpoint=${encodeURIComponent(silent.endpoint)}`;

describe("a command that waits for a silent server", () => {
  const rows = [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const;
  it.each(rows)("check leaves with the status of %s: %i", async (signal, status) => {
    await using command = startCli(["check", "--dsn", silentDsn()]);
    await connected();
    expect(await command.end(signal)).toEqual({ code: status, signal: null });
    expect(command.stdout + command.stderr).toBe("");
  });

  it.each(rows.slice(0, 2))(
    "wal-fetch leaves with the status of %s: %i, and without a half-written target",
    async (signal, status) => {
      const target = join(dir, `target-${signal}`);
      const args = ["wal-fetch", "--store", silentStore(), "000000010000000000000001", target];
      await using command = startCli(args, { env: TEST_ENV });
      await connected();
      expect(await command.end(signal)).toEqual({ code: status, signal: null });
      expect(readdirSync(dir).filter((name) => name.startsWith("target"))).toEqual([]);
    },
  );

  it("receive is not ended by SIGHUP: without a file it says that there is nothing to reload, and goes on", async () => {
    const args = [
      "receive",
      "--listen",
      "off",
      "--dsn",
      silentDsn(),
      "--store",
      `file://${dir}`,
      "--log-format",
      "json",
    ];
    await using command = startCli(args);
    await connected();
    for (let i = 0; i < 2; i++) command.signal("SIGHUP");
    await command.waitForLine(/no file to reload/);
    expect(command.running).toBe(true);
    expect(await command.end("SIGTERM")).toEqual({ code: 0, signal: null });
  });

  it("receive that has nothing yet ends with 0 at the first signal", async () => {
    await using command = startCli(["receive", "--listen", "off", "--dsn", silentDsn(), "--store", `file://${dir}`]);
    await connected();
    expect(await command.end("SIGTERM")).toEqual({ code: 0, signal: null });
  });
});

describe.skipIf(!s3.available)("receive while the store refuses every write", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ segmentSizeMiB: 1 });
  });
  afterAll(async () => server[Symbol.asyncDispose]());

  it("the first signal waits for the store, the second ends it at once; a restart stores what was left", async () => {
    await using bucket = await s3.bucket();
    let refusing = false;
    await using proxy = await startProxy(s3.endpoint, ({ method }) =>
      refusing && method === "PUT" ? { kind: "answer", answer: { status: 503 } } : undefined,
    );
    const url = bucket.url.replace(encodeURIComponent(s3.endpoint), encodeURIComponent(proxy.endpoint));
    expect(url).not.toBe(bucket.url);
    const args = ["receive", "--listen", "off", "--dsn", server.dsn, "--store", url, "--ship-interval", "100ms"];
    await using command = startCli([...args, "--shutdown-timeout", "1h", "--store-retry-for", "1h"], { env: s3.env });
    await command.waitForLine(/"msg":"starting to stream"/);
    refusing = true;
    await server.sql("CREATE TABLE lost (i int)");
    const [now] = await server.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn");
    const lsn = String(now?.["lsn"]);
    await command.waitForLine(/trying again/);
    command.signal("SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(command.running).toBe(true);
    expect(await command.end("SIGINT", 5_000)).toEqual({ code: 130, signal: null });

    refusing = false;
    await using again = startCli(args, { env: s3.env });
    const acknowledged = async (): Promise<unknown> => {
      const [row] = await server.sql(
        "SELECT bool_or(flush_lsn >= $$LSN$$::pg_lsn) AS done FROM pg_stat_replication".replace("LSN", lsn),
      );
      return row?.["done"];
    };
    while ((await acknowledged()) !== true) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await again.end("SIGTERM")).toEqual({ code: 0, signal: null });
    const [row] = await server.sql("SELECT pg_walfile_name(pg_current_wal_flush_lsn()) AS name");
    const target = join(dir, "tail");
    const fetched = await runCli(["wal-fetch", "--store", url, String(row?.["name"]), target], { env: s3.env });
    expect(fetched).toMatchObject({ code: 0, stderr: "" });
  });
});
