/** Settings that the primary changed after the backup: a restored server needs them, and wal_level=minimal ends every recovery. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { listBreaks } from "../../src/archive/wal/breaks.ts";
import { breakKey } from "../../src/archive/keys.ts";
import { configurationLines } from "../../src/replication/configuration-lines.ts";
import { serverAccount } from "../harness/account.ts";
import { oldestAndNewest } from "../harness/postgres.ts";
import { embeddedBinaries } from "../harness/postgres-binaries.ts";
import { runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 300_000;

/** What is wrong, and whether it names the reason. */
async function verified(args: readonly string[]): Promise<{ kind: string; says: boolean }[]> {
  const { stdout } = await runCli(["verify", ...args]);
  const { problems } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as {
    problems: { kind: string; message: string }[];
  };
  return problems.map(({ kind, message }) => ({ kind, says: message.includes("wal_level=minimal") }));
}

describe.each(oldestAndNewest())("PostgreSQL %i", (version) => {
  test(
    "settings raised after the backup, and lowered again: the restored server gets to its end, and so does the drill",
    async () => {
      const usual = { max_connections: 60, max_worker_processes: 8, max_wal_senders: 10 };
      const low = { ...usual, max_prepared_transactions: 0, max_locks_per_transaction: 64 };
      await using archived = await Archived.start({ version, settings: low });
      const { server } = archived;
      await archived.insert(1);
      await archived.backup();
      const high = { max_connections: 90, max_worker_processes: 12, max_wal_senders: 13 };
      const raised = { ...high, max_prepared_transactions: 5, max_locks_per_transaction: 80 };
      for (const [row, settings] of [raised, low].entries()) {
        await server.configure(settings);
        await server.restart();
        await archived.follow(server);
        await archived.insert(row + 2);
        await archived.stored();
      }
      await archived.stopReceiving();

      await using restored = await archived.restored([]);
      expect(await rowsOf(restored)).toEqual([1, 2, 3]);
      for (const [name, value] of Object.entries(raised)) {
        expect(`${name} ${await restored.value(`SHOW ${name}`)}`).toBe(`${name} ${value}`);
      }
      const check = await runCli(["restore", "--check", restored.dataDir, "--json"]);
      expect(JSON.parse(check.stdout)).toMatchObject({ ok: true, state: "recovered" });

      const scratch = makeTempDir("drill");
      const { binDir } = await embeddedBinaries(version);
      const account = serverAccount();
      const owner = account === undefined ? [] : ["--owner", account.name];
      const where = ["--store", archived.url, "--scratch-dir", scratch, "--pg-bin", binDir, "--log-level", "warn"];
      const command = ["--restore-command", archived.fetchCommand, "--no-amcheck", "--json"];
      const drilled = await runCli(["drill", ...where, ...owner, ...command], { timeoutMs: 180_000 });
      expect(drilled.code, drilled.stdout + drilled.stderr).toBe(0);
      expect(JSON.parse(drilled.stdout)).toMatchObject({ ok: true });
      removeTree(scratch);

      // The copy has them from the restore's own lines only, and a restore of the copy writes these anew.
      const own = makeTempDir("own");
      const store = ["--store", `file://${own}`, "--log-level", "warn"];
      const backup = ["backup", "--dsn", restored.dsn, "--with-wal", "--checkpoint", "fast", ...store];
      expect(await runCli(backup)).toMatchObject({ code: 0 });
      await run("chmod", ["-R", "a+rX", own]);
      await using again = await restored.fromDataDir(
        async (dataDir) => {
          const done = await runCli(["restore", "--target-dir", dataDir, "--restore-command", "false", ...store]);
          expect(done, done.stderr).toMatchObject({ code: 0 });
        },
        { start: false },
      );
      const written = configurationLines(readFileSync(join(again.dataDir, "postgresql.auto.conf"), "utf8"));
      const raisedAgain = written.filter(({ name }) => name in raised).map(({ name, value }) => [name, Number(value)]);
      expect(Object.fromEntries(raisedAgain)).toMatchObject(raised);
      removeTree(own);
    },
    TIMEOUT_MS,
  );

  test(
    "wal_level=minimal in between: a plan over it is refused with the reason, one before it and one from a later backup hold",
    async () => {
      await using archived = await Archived.start({ version, settings: { wal_keep_size: "1GB" } });
      const { server } = archived;
      await archived.insert(1);
      await archived.backup();
      const { after } = await archived.insert(2);
      await archived.stored();
      await archived.stopReceiving();
      await server.dropSlot("seawall");
      await server.configure({ wal_level: "minimal", max_wal_senders: 0 });
      await server.restart();
      await server.sql("CREATE TABLE bulk AS SELECT generate_series(1, 1000) g");
      await server.configure({ wal_level: "replica", max_wal_senders: 10 });
      await server.restart();
      await archived.follow(server);
      await archived.insert(3);
      await archived.stored();
      await archived.share();

      const target = ["--target-dir", join(archived.folder, "x"), "--dry-run"];
      const refused = await archived.run(target);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain("[target-unreachable]");
      expect(refused.stderr).toContain("wal_level=minimal");
      expect(refused.stderr).toMatch(/Nearest points on timeline 1 that can be reached: before it 0\//);
      // The window ends at the record, and a verification of either kind says it.
      const where = ["--store", archived.url, "--json", "--log-level", "warn"];
      const listed = JSON.parse((await runCli(["list", ...where])).stdout) as {
        windows: { toLsn: string; toTime: string }[];
        gaps: { fromLsn: string; reason: string }[];
      };
      expect(listed.gaps).toMatchObject([{ reason: expect.stringContaining("wal_level=minimal") as unknown }]);
      expect(listed.windows.map(({ toLsn }) => toLsn)).toEqual([listed.gaps[0]?.fromLsn]);
      // Its last commit is row 2's: the later ones in the same segment cannot be reached.
      const lastCommit = await server.value(
        `SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM t WHERE i = 3`,
      );
      expect(listed.windows.every(({ toTime }) => toTime < lastCommit)).toBe(true);
      expect(await verified(where)).toEqual([{ kind: "gap", says: true }]);
      // An archive of an earlier Seawall has no document of it.
      const archive = await archived.archive();
      for (const { fromLsn, toLsn, timeline } of await listBreaks(archive)) {
        await archived.store.delete([breakKey(archive.cluster, timeline, fromLsn, toLsn)]);
      }
      expect(await verified([...where, "--deep"])).toEqual([{ kind: "gap", says: true }]);
      expect(await verified([...where, "--deep"])).toEqual([{ kind: "gap", says: true }]);
      expect((await archived.run(target)).stderr).toContain("wal_level=minimal");
      await using early = await archived.restored(["--target-lsn", after]);
      expect(await rowsOf(early)).toEqual([1, 2]);

      await archived.backup();
      await archived.insert(4);
      await archived.stored();
      await archived.stopReceiving();
      await using late = await archived.restored([]);
      expect(await rowsOf(late)).toEqual([1, 2, 3, 4]);
      expect(await late.value("SELECT count(*)::text FROM bulk")).toBe("1000");
    },
    TIMEOUT_MS,
  );
});
