/** What runs beside the receiver of a cluster: a bug there ends that cluster with it, and not the process. */
import { afterAll, expect, it } from "vitest";
import { CodecPool } from "../../src/codec/pool.ts";
import { loadSettings } from "../../src/config/load.ts";
import { openCluster } from "../../src/daemon/cluster.ts";
import { Journal } from "../../src/daemon/journal.ts";
import { silentLog } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/registry.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
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
    // Nobody is there: the receiver tries again and again.
    connection: parseConninfo({ dsn: "host=127.0.0.1 port=1 user=u", env: {}, files: () => undefined }),
    turn: async () => undefined,
    codecPool: new CodecPool({ threads: 1, level: 1 }),
    metrics: createMetrics({ cluster: "main", version: "0.1.0" }),
    journal: new BrokenJournal({ nowMs: () => Date.now(), onError: () => undefined }),
    ...{ log: silentLog, stop: stop.signal, kill: new AbortController().signal },
  });
  await expect(cluster.run()).rejects.toBe(bug);
});
