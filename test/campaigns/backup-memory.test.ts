/**
 * A base backup's memory is bounded, at full rate and with files of several segments; and large relations come back whole.
 * SEAWALL_TEST_FULL=1 makes it a relation of more than 1 GiB.
 */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { listBackups } from "../../src/archive/backups/list.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { archiveOf, expectIntact, extractBackup, readIndex } from "../backup/taking.ts";
import { startPostgres } from "../harness/postgres.ts";
import { startCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { FULL, minutes, report } from "./campaign.ts";

const RSS_MAX = 512 << 20;
const ROWS = FULL ? 1_200_000 : 150_000;

test(
  "less than 512 MiB, whatever the size of the cluster and its files",
  async () => {
    await using server = await startPostgres({ settings: { max_wal_size: "2GB" } });
    // A kilobyte a row: random enough that what is stored is as large as what is read.
    const random = "string_agg(md5(random()::text), '')";
    await server.sql("CREATE TABLE large (g int, text text)");
    await server.sql("ALTER TABLE large ALTER text SET STORAGE PLAIN");
    await server.sql(
      `INSERT INTO large SELECT g, r.text || g FROM generate_series(1, ${ROWS}) g,
       (SELECT ${random} AS text FROM generate_series(1, 30)) r`,
    );
    await server.sql("CHECKPOINT");
    const folder = makeTempDir("store");
    const store = new FileStore(folder);
    const target = makeTempDir("extracted");
    try {
      const where = ["--dsn", server.dsn, "--store", `file://${folder}`];
      await using backup = startCli([
        "backup",
        ...where,
        "--checkpoint",
        "fast",
        "--with-wal",
        "--compress-threads",
        "4",
      ]);
      let peak = 0;
      while (backup.running) {
        peak = Math.max(peak, backup.peakRssBytes());
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      expect(await backup.ended()).toEqual({ code: 0, signal: null });
      report("backup memory", { peakRssMiB: Math.round(peak / 2 ** 20), rows: ROWS });
      expect(peak).toBeGreaterThan(30 << 20);
      expect(peak).toBeLessThan(RSS_MAX);

      const [taken] = (await listBackups(await archiveOf(store))).backups;
      if (taken === undefined) throw new Error("no backup");
      const path = await server.value("SELECT pg_relation_filepath('large')");
      const segments = (await readIndex(store, taken)).filter((file) => file.path.replace(/\.\d+$/, "") === path);
      expect(segments.length).toBe(FULL ? 2 : 1);
      // A file as large as a part is alone in its part.
      for (const { part, size } of segments.filter(({ size }) => size >= 256 << 20)) {
        expect(taken.parts.find(({ name }) => name === part)).toMatchObject({ files: 1 });
        expect(size).toBeLessThanOrEqual(2 ** 30);
      }
      if (FULL) return;
      await extractBackup(store, taken, `${target}/data`);
      await expectIntact(store, taken, `${target}/data`);
    } finally {
      await store.close();
      execFileSync("rm", ["-rf", folder]);
      removeTree(target);
    }
  },
  minutes(10),
);
