/** What a restored copy must not do to its original: write into its archive, or pass for it. */
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SeawallError } from "../../src/errors.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import { ReplicationConnection } from "../../src/replication/connection.ts";
import { MARK_SETTING } from "../../src/replication/restore-mark.ts";
import { type PostgresServer, newestUnderTest } from "../harness/postgres.ts";
import { canMount, cliWithBind } from "../harness/own-mount.ts";
import { runCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { makeTablespaceFolder } from "../harness/tablespace-folder.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived, rowsOf } from "./restored.ts";

const TIMEOUT_MS = 180_000;

/** The mark as a receiver reads it; undefined without one. */
async function markOf(server: PostgresServer): Promise<string | undefined> {
  const connection = await ReplicationConnection.connect(
    parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
  );
  try {
    return await connection.show(MARK_SETTING);
  } catch (error) {
    if (error instanceof SeawallError) return undefined;
    throw error;
  } finally {
    await connection[Symbol.asyncDispose]();
  }
}

test.each([newestUnderTest()])(
  "PostgreSQL %i: a copy says from which backup it was restored, also after a restart, ALTER SYSTEM and in copies of it",
  async (version) => {
    await using archived = await Archived.filled({ version });
    expect(await markOf(archived.server)).toBeUndefined();
    await using copy = await archived.restored([]);
    const mark = await markOf(copy);
    expect(mark).toMatch(/^main \d{8}T\d{6}Z-[0-9a-f]{8} \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    await copy.sql("ALTER SYSTEM SET work_mem = '5MB'");
    await copy.restart();
    expect(await markOf(copy)).toBe(mark);
    await using second = await copy.clone({ start: false });
    expect(readFileSync(join(second.dataDir, "postgresql.auto.conf"), "utf8")).toContain(`'${mark}'`);

    // A standby takes the place of its primary: it has the mark of its primary, here none.
    await using standby = await archived.restored(["--standby"], "started");
    expect(await markOf(standby)).toBeUndefined();
  },
  TIMEOUT_MS,
);

test.each([newestUnderTest()])(
  "PostgreSQL %i: a copy of a cluster with an archive_command archives nothing until it is told to; a standby keeps it",
  async (version) => {
    await using archived = await Archived.start({ version });
    const log = join(archived.folder, "archived");
    const settings = { archive_mode: "on", archive_command: `echo %f >> ${log}` };
    await archived.server.configure(settings);
    await archived.server.restart();
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    const flags = ["--restore-command", archived.fetchCommand];
    const configured = async (...more: string[]): Promise<{ written: string; said: string }> => {
      let said = "";
      const copy = await archived.server.fromDataDir(
        async (dataDir) => void ({ stdout: said } = await archived.run(["--target-dir", dataDir, ...flags, ...more])),
        { start: false },
      );
      const written = readFileSync(join(copy.dataDir, "postgresql.auto.conf"), "utf8");
      await copy[Symbol.asyncDispose]();
      return { written, said };
    };
    const plain = await configured();
    expect(plain.written).toContain("archive_mode = 'off'\n");
    expect(plain.said).toContain("Archiving is off");
    for (const more of ["--keep-archiving", "--standby"]) {
      const kept = await configured(more);
      expect(kept.written).not.toContain("archive_mode");
      expect(kept.said).not.toContain("Archiving is off");
    }
    await using copy = await archived.restored([]);
    await copy.sql("INSERT INTO t VALUES (3); SELECT pg_switch_wal()");
    expect(await copy.value("SHOW archive_mode")).toBe("off");
    expect(await copy.value("SELECT archived_count + failed_count FROM pg_stat_archiver")).toBe("0");
    expect(await rowsOf(copy)).toEqual([1, 2, 3]);
  },
  TIMEOUT_MS,
);

test.each([newestUnderTest()])(
  "PostgreSQL %i: --delta on a copied data directory leaves the tablespace alone that its running original uses",
  async (version) => {
    await using archived = await Archived.start({ version });
    const folder = makeTempDir("tablespace");
    const place = makeTablespaceFolder(join(folder, "space"));
    await archived.server.sql(`CREATE TABLESPACE space LOCATION '${place}'`);
    await archived.server.sql("CREATE TABLE kept (i int) TABLESPACE space");
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    await archived.server.sql("INSERT INTO kept VALUES (1), (2)");
    await archived.server.sql("CHECKPOINT");

    const copy = join(folder, "copy");
    await run("cp", ["-a", archived.server.dataDir, copy]);
    rmSync(join(copy, "postmaster.pid"));
    const flags = ["--target-dir", copy, "--delta", "--restore-command", archived.fetchCommand];
    for (const more of [[], ["--tablespaces-in-place"]]) {
      const onCopy = await archived.run([...flags, ...more]);
      expect(onCopy).toMatchObject({ code: 3, stdout: "" });
      expect(onCopy.stderr).toContain(
        `is used by another data directory, ${archived.server.dataDir}, in which process`,
      );
      expect(onCopy.stderr).toContain(`--tablespace-mapping ${place}=/another/directory`);
    }
    if (canMount()) {
      // The same directory by another path, as a container mounts it.
      const alias = join(folder, "alias");
      mkdirSync(alias);
      const link = join(copy, "pg_tblspc", readdirSync(join(copy, "pg_tblspc"))[0] ?? "");
      rmSync(link);
      symlinkSync(alias, link);
      const args = ["restore", "--store", archived.url, ...flags, "--tablespace-mapping", `${place}=${alias}`];
      const bound = cliWithBind({ source: place, alias }, args, archived.env);
      expect(bound).toMatchObject({ code: 3, stdout: "" });
      expect(bound.stderr).toContain(`is used by another data directory, ${archived.server.dataDir}, in which process`);
    }
    await archived.server.restart();
    expect((await archived.server.sql("SELECT i FROM kept ORDER BY i")).map(({ i }) => i as number)).toEqual([1, 2]);

    const mapped = await archived.run([...flags, "--tablespace-mapping", `${place}=${join(folder, "own")}`]);
    expect(mapped).toMatchObject({ code: 0 });
    await archived.server.stop();
    // The original is a data directory of its own: its link is an order to restore where it leads.
    const original = ["--target-dir", archived.server.dataDir, "--delta", "--restore-command", archived.fetchCommand];
    expect(await archived.run(original)).toMatchObject({ code: 0 });
    await archived.server.start();
    expect(await archived.server.sql("SELECT i FROM kept")).toEqual([]);
    removeTree(folder);
  },
  TIMEOUT_MS,
);

test.each([newestUnderTest()])(
  "PostgreSQL %i: a copy whose timeline has the number and the history of production's is refused, and production goes on",
  async (version) => {
    await using archived = await Archived.start({ version });
    await archived.insert(1);
    await archived.backup();
    await using standby = await archived.server.cloneAsStandby();
    await archived.insert(2);
    await archived.server.stop("fast");
    await archived.stopReceiving();
    await using copy = await archived.restored(["--keep-archiving"]);
    await standby.promote();
    const historyOf = (server: PostgresServer): string =>
      readFileSync(join(server.dataDir, "pg_wal", "00000002.history"), "utf8");
    expect(historyOf(copy)).toBe(historyOf(standby));
    await archived.follow(standby);
    await standby.sql("INSERT INTO t VALUES (3)");
    await archived.share();

    const store = ["--store", archived.url];
    const claims = (): string[] => readdirSync(join(archived.folder, "s", "main", "line"));
    const before = claims();
    const said = /the server is a restored copy, and its timeline 2 has the number of the archive's line/;
    const check = await runCli(["check", "--dsn", copy.dsn, ...store]);
    expect(check.code).toBe(1);
    expect(check.stdout).toMatch(said);
    const received = await runCli(["receive", "--dsn", copy.dsn, "--no-loop", "--listen", "off", ...store]);
    expect(received.code).toBe(6);
    expect(received.stderr).toMatch(/timeline-copy/);
    const future = await runCli([
      "receive",
      "--dsn",
      copy.dsn,
      "--no-loop",
      "--listen",
      "off",
      "--take-over",
      "9",
      ...store,
    ]);
    expect(future.code).toBe(2);
    expect(future.stderr).toMatch(/--take-over 9: the archive's newest claim is 2/);
    expect(await copy.value("SELECT count(*) FROM pg_replication_slots")).toBe("0");

    await copy.sql("INSERT INTO t VALUES (90)");
    const segment = await copy.value("SELECT pg_walfile_name(pg_switch_wal())");
    const path = join(copy.dataDir, "pg_wal", segment);
    const pushed = await runCli(["wal-push", path, ...store]);
    expect(pushed.code).toBe(6);
    expect(pushed.stderr).toMatch(
      /is of a restored copy, and the archive has a timeline 2 of another server.*timeline-copy/,
    );
    // Without its data directory the file names no copy: the chunks that a receiver has stored tell.
    const elsewhere = makeTempDir("elsewhere");
    await run("cp", [path, join(elsewhere, segment)]);
    const bare = await runCli(["wal-push", join(elsewhere, segment), ...store]);
    expect(bare.code).toBe(6);
    expect(bare.stderr).toMatch(/differs at byte \d+ from the WAL of the same segment that a receiver has stored/);
    removeTree(elsewhere);
    expect(claims()).toEqual(before);

    await archived.follow(standby);
    await standby.sql("INSERT INTO t VALUES (4)");
    await standby.sql("SELECT pg_switch_wal()");
    await standby.sql("INSERT INTO t VALUES (5)");
    await archived.follow(standby);
    await archived.stopReceiving();
    await using restored = await archived.restored([]);
    expect(await rowsOf(restored)).toEqual([1, 2, 3, 4, 5]);
  },
  TIMEOUT_MS,
);
