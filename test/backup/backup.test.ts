/** Base backups of real servers: everything is in them, everything is checked, and they start. */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { encodeBackup } from "../../src/archive/backups/document.ts";
import { listBackups, readBackup } from "../../src/archive/backups/list.ts";
import { backupPrefix } from "../../src/archive/keys.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import { TarReader } from "../../src/codec/tar-reader.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { type PostgresServer, startPostgres, oracleOf, versionsUnderTest } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { until } from "../campaigns/campaign.ts";
import { receive } from "../receive/receiving.ts";
import {
  archiveOf,
  backupOptions,
  expectIntact,
  extractBackup,
  readIndex,
  readManifest,
  readObject,
  startRestored,
} from "./taking.ts";
import { keysBelow } from "../store/keys-below.ts";

const s3 = await startS3();

interface Place extends AsyncDisposable {
  readonly store: Store;
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  /** For tablespaces. */
  readonly scratch: string;
  /** Lets the server's account read what we have stored. */
  share(): Promise<void>;
}

async function filePlace(): Promise<Place> {
  const folder = makeTempDir("store");
  const store = new FileStore(folder);
  const scratch = makeTempDir("tblspc");
  return {
    store,
    scratch,
    url: `file://${folder}`,
    env: {},
    share: async () => void (await run("chmod", ["-R", "a+rX", folder])),
    [Symbol.asyncDispose]: async () => {
      await store.close();
      removeTree(folder);
      removeTree(scratch);
    },
  };
}

async function s3Place(): Promise<Place> {
  const bucket = await s3.bucket();
  const store = openStore(bucket.url, { env: s3.env });
  const scratch = makeTempDir("tblspc");
  return {
    store,
    scratch,
    url: bucket.url,
    env: s3.env,
    share: async () => undefined,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await bucket[Symbol.asyncDispose]();
      removeTree(scratch);
    },
  };
}

/** Two tablespaces, an unlogged table, a large object, several databases, and files with unusual names. */
async function fill(server: PostgresServer, parent: string): Promise<readonly string[]> {
  const folders = ["plain", "with space, comma and é"].map((name) => {
    const folder = join(parent, name);
    mkdirSync(folder);
    giveToServer(folder, 0o700);
    return folder;
  });
  for (const [index, folder] of folders.entries()) {
    await server.sql(`CREATE TABLESPACE space${index} LOCATION '${folder.replaceAll("'", "''")}'`);
  }
  await server.sql("CREATE TABLE here AS SELECT g, md5(g::text) FROM generate_series(1, 200000) g");
  await server.sql("CREATE TABLE there TABLESPACE space0 AS SELECT g, md5(g::text) FROM generate_series(1, 50000) g");
  await server.sql("CREATE TABLE empty (i int) TABLESPACE space1");
  await server.sql("CREATE UNLOGGED TABLE unlogged AS SELECT g FROM generate_series(1, 1000) g");
  await server.sql("SELECT lo_from_bytea(4711, decode(repeat('cafe', 5000), 'hex'))");
  await server.sql("CREATE DATABASE other TABLESPACE space1");
  // PostgreSQL backs up whatever is in its directory.
  const odd = [
    Buffer.from("odd 'name' \"with\" \\ and\nnewline"),
    // PostgreSQL before 17 fails on names that are not UTF-8 (failures.test.ts).
    ...(server.version < 17 ? [] : [Buffer.from([0x6c, 0x61, 0x74, 0x69, 0x6e, 0xe4])]),
    Buffer.from("x".repeat(90)),
  ];
  for (const name of odd) {
    const path = Buffer.concat([Buffer.from(`${server.dataDir}/base/`), name]);
    writeFileSync(path, "odd");
  }
  mkdirSync(join(server.dataDir, "empty directory"), { mode: 0o700 });
  giveToServer(join(server.dataDir, "empty directory"), 0o700);
  await run("chown", ["-R", "--reference", server.dataDir, join(server.dataDir, "base")]);
  return folders;
}

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  test.each([
    ["a directory", filePlace, true],
    ["S3", s3Place, s3.available],
  ])(
    "with tablespaces, odd names and checksums into %s: complete, and it starts",
    async (_title, open, available) => {
      if (!available) return;
      await using server = await startPostgres({
        version,
        segmentSizeMiB: 1,
        initdbArgs: ["--data-checksums"],
        settings: { wal_keep_size: "1GB" },
      });
      await using place = await open();
      const folders = await fill(server, place.scratch);
      const { store } = place;
      await using receiver = receive(server, store);
      const options = backupOptions(server, store, { label: "it's a label" });
      const backup = await takeBackup(options);

      // The document, as told and as stored.
      const archive = await archiveOf(store);
      expect(await readBackup(archive, backup.id)).toEqual(backup);
      expect(await listBackups(archive)).toEqual({ backups: [backup], leftovers: [], damaged: [] });
      expect(backup).toMatchObject({
        label: "it's a label",
        systemIdentifier: await server.systemIdentifier(),
        pgMajor: version,
        segmentSize: 1 << 20,
        timeline: 1,
        fromStandby: false,
        dataChecksums: true,
        manifest: { algorithm: "CRC32C" },
      });
      expect(backup.tablespaces.map(({ path }) => path).sort()).toEqual([...folders].sort());
      const keys = await keysBelow(store, backupPrefix("main", backup.id));
      const sizes = await Promise.all(keys.map(async (key) => (await store.head(key))?.bytes ?? 0));
      const documentBytes = encodeBackup(backup).length;
      expect(sizes.reduce((sum, bytes) => sum + bytes, 0)).toBe(backup.storedBytes + documentBytes);
      expect(keys.length).toBe(backup.parts.length + 3);

      // The file index: every file of the manifest and nothing else, in the part that it names.
      const manifest = await readManifest(store, backup);
      const index = await readIndex(store, backup);
      const files = index.filter(({ type }) => type === "file");
      expect(files.map(({ path }) => path).sort()).toEqual([...manifest.keys()].sort());
      expect(files.reduce((sum, { size }) => sum + size, 0)).toBe(backup.bytes);
      for (const { path, checksum } of files) {
        const listed = manifest.get(path);
        expect(checksum).toBe(`${listed?.algorithm}:${listed?.checksum}`);
      }
      expect(
        index
          .filter(({ type }) => type === "symlink")
          .map(({ linkTarget }) => linkTarget)
          .sort(),
      ).toEqual([...folders].sort());
      for (const part of backup.parts) {
        const seen: string[] = [];
        const prefix = part.tablespace === null ? "" : `pg_tblspc/${part.tablespace}/`;
        const reader = new TarReader({
          onEntry: ({ path, type }) => void (type === "file" && seen.push(prefix + path)),
          onData: () => undefined,
          onEntryEnd: () => undefined,
        });
        reader.push(await readObject(store, keys.find((key) => key.endsWith(part.name)) ?? "", part));
        reader.end();
        expect(seen).toEqual(files.filter((file) => file.part === part.name).map(({ path }) => path));
        expect(seen.length).toBe(part.files);
      }

      // Restored with public tools, and started.
      await receiver.stop();
      await place.share();
      const command = serverRestoreCommand(["--store", place.url, "--store-retry-for", "2s"], { env: place.env });
      await using restored = await startRestored(
        server,
        async (dataDir) => {
          await extractBackup(store, backup, dataDir);
          await expectIntact(store, backup, dataDir);
          expect(statSync(join(dataDir, "empty directory")).mode & 0o777).toBe(0o700);
          expect(readFileSync(join(dataDir, "backup_label"), "utf8")).toContain("LABEL: it's a label\n");
          expect(existsSync(join(dataDir, "postmaster.pid"))).toBe(false);
          const verify = await oracleOf(server, "pg_verifybackup");
          if (verify !== undefined) await run(verify, ["-n", dataDir]);
        },
        { restore_command: command },
      );
      await until("the end of recovery", async () => (await restored.value("SELECT pg_is_in_recovery()")) === "false");
      for (const table of ["here", "there", "empty"]) {
        const text = `SELECT md5(string_agg(t::text, ',')) || count(*) FROM (SELECT * FROM ${table} ORDER BY 1) t`;
        const count = `SELECT count(*)::text FROM ${table}`;
        expect(await restored.value(count)).toBe(await server.value(count));
        if (table !== "empty") expect(await restored.value(text)).toBe(await server.value(text));
      }
      expect(await restored.value("SELECT md5(lo_get(4711))")).toBe(await server.value("SELECT md5(lo_get(4711))"));
      expect(await restored.value("SELECT count(*)::text FROM unlogged")).toBe("0");
    },
    120_000,
  );
});
