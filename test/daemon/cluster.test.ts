/** What a cluster is to the process: a bug beside its receiver ends it and nothing else, and its end leaves nothing open. */
import { mkdirSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { CodecPool } from "../../src/codec/pool.ts";
import { loadSettings } from "../../src/config/load.ts";
import { openCluster } from "../../src/daemon/cluster.ts";
import { Journal } from "../../src/daemon/status/journal.ts";
import { silentLog } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { until } from "../campaigns/campaign.ts";
import { recipientsOf } from "../harness/encryption.ts";
import { startPostgres } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const dir = makeTempDir("cluster");
afterAll(() => removeTree(dir));

it("a status that cannot be told ends the run with what was thrown", async () => {
  const storeUrl = `file://${dir}`;
  const flags = new Map([["store", storeUrl]]);
  const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile: async () => "" });
  const bug = new TypeError("a bug");
  class BrokenJournal extends Journal {
    override errors(): never {
      throw bug;
    }
  }
  const stop = new AbortController();
  const cluster = openCluster({
    ...{ settings, storeUrl, env: {}, version: "0.1.0", program: "", routine: { settings, jobEnv: {} } },
    // No server listens there: the receiver tries again and again.
    connection: parseConninfo({ dsn: "host=127.0.0.1 port=1 user=u", env: {}, files: () => undefined }),
    turn: async () => undefined,
    codecPool: new CodecPool({ threads: 1 }),
    recipients: undefined,
    metrics: createMetrics({ cluster: "main", version: "0.1.0" }),
    journal: new BrokenJournal({ nowMs: () => Date.now(), onError: () => undefined }),
    ...{ log: silentLog, stop: stop.signal, kill: new AbortController().signal },
  });
  await expect(cluster.run()).rejects.toBe(bug);
});

it("with a spool leaves no file open when it ends", async () => {
  await using server = await startPostgres({ version: 17, segmentSizeMiB: 1 });
  const [archive, spool] = [join(dir, "archive"), join(dir, "spool")];
  for (const folder of [archive, spool]) mkdirSync(folder);
  const storeUrl = `file://${archive}`;
  const flags = new Map(Object.entries({ store: storeUrl, durability: "spool", "spool-dir": spool }));
  const { settings } = await loadSettings({ command: "receive", flags, env: {}, readFile: async () => "" });
  const stop = new AbortController();
  const cluster = openCluster({
    ...{ settings, storeUrl, env: {}, version: "0.1.0", program: "", routine: { settings, jobEnv: {} } },
    connection: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
    turn: async () => undefined,
    codecPool: new CodecPool({ threads: 1 }),
    recipients: await recipientsOf(),
    metrics: createMetrics({ cluster: "main", version: "0.1.0" }),
    journal: new Journal({ nowMs: () => Date.now(), onError: () => undefined }),
    ...{ log: silentLog, stop: stop.signal, kill: new AbortController().signal },
  });
  const running = cluster.run();
  await until("it streams", () => cluster.status().state === "streaming");
  await server.sql("CREATE TABLE t (i int)");
  await until("the store has WAL", () => cluster.status().uploadedLsn !== null && openBelow(dir).length > 0);
  stop.abort();
  await running;
  expect(openBelow(dir)).toEqual([]);
});

/** What this process has open in a folder. */
function openBelow(folder: string): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(`${folder}/`) ? [path] : [];
    } catch {
      return [];
    }
  });
}
