/** A restore at full rate stays in bounded memory, whatever the size of the files, and of the parts. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { FULL, minutes, report } from "../campaigns/campaign.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const LIMIT_BYTES = 512 << 20;
/** In a full run a relation of several files of 1 GiB. */
const ROWS = FULL ? 300_000 : 20_000;

test(
  "a restore of large files that do not compress, eight parts at a time, takes less than 512 MiB",
  async () => {
    await using server = await startPostgres({ settings: { max_wal_size: "4GB", autovacuum: false } });
    const folder = makeTempDir("memory");
    try {
      await server.sql("CREATE TABLE noise (data bytea); ALTER TABLE noise ALTER data SET STORAGE EXTERNAL");
      const block = "(SELECT string_agg(sha512((g || '-' || i)::bytea), NULL) FROM generate_series(1, 125) i)";
      await server.sql(`INSERT INTO noise SELECT ${block} FROM generate_series(1, ${ROWS}) g`);
      const store = ["--store", `file://${folder}/`, "--log-level", "warn", "--json"];
      const backup = await runCli(
        ["backup", "--dsn", server.dsn, "--with-wal", "--checkpoint", "fast", "--part-size", "16MiB", ...store],
        { timeoutMs: minutes(10) },
      );
      expect(backup).toMatchObject({ code: 0 });
      await using child = startCli(["restore", "--target-dir", join(folder, "target"), "--jobs", "8", ...store]);
      while (child.running) {
        child.peakRssBytes();
        await sleep(5);
      }
      expect(await child.ended()).toEqual({ code: 0, signal: null });
      const peak = child.peakRssBytes();
      const { bytes } = JSON.parse(child.stdout) as { bytes: number };
      report("memory of a restore", { restoredMiB: Math.round(bytes / 2 ** 20), peakMiB: Math.round(peak / 2 ** 20) });
      expect(bytes).toBeGreaterThan(ROWS * 8000);
      expect(peak).toBeGreaterThan(0);
      expect(peak).toBeLessThan(LIMIT_BYTES);
    } finally {
      removeTree(folder);
    }
  },
  minutes(20),
);
