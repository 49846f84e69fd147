/** Backups that must not become backups: damage on the server, on the way and in the store; and what they leave: nothing. */
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { type AddressInfo, type Server, type Socket, connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listBackups } from "../../src/archive/backups/list.ts";
import { encodeGap } from "../../src/archive/documents.ts";
import { backupsPrefix, gapKey } from "../../src/archive/keys.ts";
import type { BackupOptions } from "../../src/backup/options.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import type { SeawallError } from "../../src/errors.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { FaultyStore, type FailpointOptions } from "../harness/faulty-store.ts";
import { type PostgresServer, startPostgres, oldestAndNewest, versionsUnderTest } from "../harness/postgres.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { announcedRandom } from "../harness/random.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { receive } from "../receive/receiving.ts";
import { archiveOf, backupOptions, readIndex, readManifest } from "./taking.ts";
import { keysBelow } from "../store/keys-below.ts";

/** The error that a backup ends with; and that it has left nothing behind. */
async function failureOf(options: BackupOptions): Promise<SeawallError> {
  const error = await takeBackup(options).then(
    () => undefined,
    (thrown: unknown) => thrown as SeawallError,
  );
  if (error === undefined) throw new Error("the backup succeeded");
  expect(await keysBelow(options.store, backupsPrefix("main"))).toEqual([]);
  return error;
}

/** Between client and server: may change what the server sends, or hang up after so many bytes. */
class Meddler implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #passed = 0;

  constructor(port: number, meddle: (chunk: Buffer, passed: number) => Buffer | readonly Buffer[] | "cut") {
    this.#server = createServer((client) => {
      const upstream = connect(port, "127.0.0.1");
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket);
        socket.on("error", () => socket.destroy());
        socket.on("close", () => (client.destroy(), upstream.destroy()));
      }
      client.pipe(upstream);
      upstream.on("data", (chunk: Buffer) => {
        const passed = meddle(chunk, this.#passed);
        this.#passed += chunk.length;
        if (passed === "cut") return void client.destroy();
        client.setNoDelay(true);
        const pieces = Array.isArray(passed) ? (passed as readonly Buffer[]) : [passed as Buffer];
        if (!pieces.map((piece) => client.write(piece)).at(-1)) {
          upstream.pause();
          client.once("drain", () => upstream.resume());
        }
      });
    });
  }

  async listen(): Promise<{ readonly dsn: string }> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    // Listening on TCP, so the address is of this kind.
    const { port } = this.#server.address() as AddressInfo;
    return { dsn: `postgresql://postgres@127.0.0.1:${port}/postgres?sslmode=disable` };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

const MARKER = Buffer.from("a row that is changed on its way");

describe.each(oldestAndNewest())("PostgreSQL %i", (version) => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres({ version, initdbArgs: ["--data-checksums"], settings: { wal_keep_size: "1GB" } });
    await server.sql(`CREATE TABLE marked AS SELECT '${MARKER.toString()}' AS text`);
    await server.sql("CREATE TABLE t AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 30000) g");
    await server.sql("ALTER TABLE marked ALTER text SET STORAGE EXTERNAL");
  }, 300_000);
  afterAll(async () => server[Symbol.asyncDispose]());

  test("a byte changed on its way: the file is named, and its checksums", async () => {
    const path = await server.value("SELECT pg_relation_filepath('marked')");
    await using meddler = new Meddler(server.port, (chunk) => {
      const at = chunk.indexOf(MARKER);
      if (at >= 0) chunk.write("A", at);
      return chunk;
    });
    const error = await failureOf(backupOptions(await meddler.listen(), new MemoryStore()));
    expect(error.code).toBe("backup-mismatch");
    expect(error.message).toMatch(new RegExp(`^${path} came with CRC32C [0-9a-f]{8}, the manifest says CRC32C`));
  });

  test("whatever pieces the stream arrives in, the backup is the same", async () => {
    const random = announcedRandom("pieces");
    await using meddler = new Meddler(server.port, (chunk) => {
      const pieces: Buffer[] = [];
      for (let at = 0; at < chunk.length;) {
        const length = random.chance(0.9) ? random.between(1_000, 30_000) : random.between(1, 10);
        pieces.push(chunk.subarray(at, at + length));
        at += length;
      }
      return pieces;
    });
    const store = new MemoryStore();
    await using receiver = receive(server, store, { slot: `pieces_${version}` });
    const backup = await takeBackup(backupOptions(await meddler.listen(), store));
    await receiver.stop();
    const files = await readManifest(store, backup);
    expect((await readIndex(store, backup)).filter(({ type }) => type === "file").length).toBe(files.size);
  });

  test("a byte of the manifest changed on its way", async () => {
    await using meddler = new Meddler(server.port, (chunk) => {
      const at = chunk.indexOf('"Path": "PG_VERSION"');
      if (at >= 0) chunk.write("pg_version", at + 9);
      return chunk;
    });
    const error = await failureOf(backupOptions(await meddler.listen(), new MemoryStore()));
    expect(error.code).toBe("backup-corrupt");
    expect(error.message).toMatch(/^the server's backup manifest has the checksum/);
  });

  test("a connection that breaks off in the middle", async () => {
    await using meddler = new Meddler(server.port, (chunk, passed) => (passed > 6 << 20 ? "cut" : chunk));
    const store = new MemoryStore();
    const error = await failureOf(backupOptions(await meddler.listen(), store, { partBytes: 1 << 20 }));
    expect(error.code).toBe("server-lost");
  });

  test("a backup whose session is ended on the server", async () => {
    const store = new FaultyStore(new MemoryStore());
    const point = store.failpoint({ operation: "putStream", key: /00002\.tar/, fault: "stall" });
    const failing = failureOf(backupOptions(server, store, { partBytes: 1 << 20, maxRateBytes: 16 << 20 }));
    await point.reached;
    await server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE state = 'backup'");
    point.release();
    expect((await failing).code).toBe("server-lost");
  });

  test("pages with wrong checksums: the server's findings are the error, with the files named", async () => {
    const path = await server.value("SELECT pg_relation_filepath('t')");
    await server.stop();
    const file = join(server.dataDir, path);
    const before = readFileSync(file);
    const fd = openSync(file, "r+");
    for (const page of [3, 700]) writeSync(fd, Buffer.from([0xde, 0xad]), 0, 2, page * 8192 + 4000);
    closeSync(fd);
    await server.start();
    try {
      const options = backupOptions(server, new MemoryStore());
      const error = await failureOf(options);
      expect(error.code).toBe("backup-page-checksum");
      expect(error.message).toContain(path);
      expect(error.details["files"]).toBe(path);
      expect(error.details["warnings"]).toMatch(/block 3:.*block 700:/);
      // As it is, for those who want that.
      const store = new MemoryStore();
      await using receiver = receive(server, store, { slot: `as_it_is_${version}` });
      const backup = await takeBackup(backupOptions(server, store, { verifyChecksums: false }));
      await receiver.stop();
      expect((await listBackups(await archiveOf(store))).backups).toEqual([backup]);
    } finally {
      await server.stop();
      const whole = openSync(file, "r+");
      writeSync(whole, before);
      closeSync(whole);
      await server.start();
    }
  });

  describe("a store that fails", () => {
    const cases: readonly (readonly [string, FailpointOptions, RegExp])[] = [
      ["at a part", { operation: "putStream", key: /00003\.tar/, fault: "fail-before" }, /^store-unavailable$/],
      [
        "after it took a part",
        { operation: "putStream", key: /00002\.tar/, fault: "fail-after" },
        /^store-unavailable$/,
      ],
      ["at the first part, denied", { operation: "putStream", key: /00001\.tar/, fault: "deny" }, /^store-denied$/],
      ["by keeping half of a part", { operation: "putStream", key: /00002\.tar/, fault: "truncate" }, /^store-lied$/],
      ["by keeping nothing of a part", { operation: "putStream", key: /00002\.tar/, fault: "lie" }, /^store-lied$/],
      [
        "at the file index",
        { operation: "putStream", key: /files\.jsonl/, fault: "fail-before" },
        /^store-unavailable$/,
      ],
      ["at the manifest", { operation: "putStream", key: /backup_manifest/, fault: "truncate" }, /^store-lied$/],
      ["at the document", { operation: "put", key: /backup\.json/, fault: "fail-before" }, /^store-unavailable$/],
      [
        "after it took the document",
        { operation: "put", key: /backup\.json/, fault: "fail-after" },
        /^store-unavailable$/,
      ],
    ];
    // The store does not know which server's bytes these are: all of them on the newest, some on every other.
    test.each(version === versionsUnderTest().at(-1) ? cases : cases.slice(0, 2))(
      "%s",
      async (_title, failpoint, code) => {
        const store = new FaultyStore(new MemoryStore());
        await using receiver = receive(server, store, { slot: `failing_${version}` });
        store.failpoint(failpoint);
        const error = await failureOf(backupOptions(server, store, { partBytes: 1 << 20 }));
        expect(error.code).toMatch(code);
        // The same archive takes the next one.
        const backup = await takeBackup(backupOptions(server, store));
        await receiver.stop();
        expect((await listBackups(await archiveOf(store))).backups).toEqual([backup]);
      },
    );

    test("for good: the first cause is told, not that cleaning up failed as well", async () => {
      const store = new FaultyStore(new MemoryStore());
      await using receiver = receive(server, store, { slot: `failing_${version}` });
      store.failpoint({ operation: "put", key: /backup\.json/, fault: "deny" });
      store.failpoint({ operation: "delete", key: /backups/, fault: "fail-before", times: Number.POSITIVE_INFINITY });
      const options = backupOptions(server, store, { partBytes: 1 << 20 });
      await expect(takeBackup(options)).rejects.toMatchObject({ code: "store-denied" });
      const listing = await listBackups(await archiveOf(store));
      expect(listing).toMatchObject({ backups: [], leftovers: [{}] });
      await receiver.stop();
    });
  });

  test("WAL that is known to be lost: another backup is asked for, at once", async () => {
    const store = new MemoryStore();
    const gap = { timeline: timelineOf(1), fromLsn: parseLsn("0/0"), toLsn: parseLsn("FF/0") };
    const document = encodeGap({ ...gap, detectedAt: new Date().toISOString(), reason: "lost" });
    await store.put(gapKey("main", gap.timeline, gap.fromLsn, gap.toLsn), document);
    const error = await failureOf(backupOptions(server, store));
    expect(error.code).toBe("wal-gap");
    expect(error.hint).toContain("take another one");
  });

  test("a tablespace whose location does not fit a tar header: the server's words, and why", async () => {
    const folder = join(makeTempDir("tblspc"), "x".repeat(100));
    mkdirSync(folder);
    giveToServer(folder, 0o700);
    await server.sql(`CREATE TABLESPACE far LOCATION '${folder}'`);
    const error = await failureOf(backupOptions(server, new MemoryStore()));
    await server.sql("DROP TABLESPACE far");
    removeTree(dirname(folder));
    expect(error.message).toContain("too long for tar format");
    expect(error.hint).toContain("100 bytes or more do not fit");
  });

  test("a file name that is not UTF-8: before 17 the server fails on it, and the hint says so", async () => {
    const path = Buffer.concat([Buffer.from(`${server.dataDir}/base/`), Buffer.from([0x6c, 0xe4])]);
    writeFileSync(path, "odd");
    // Without its WAL the backup fails in any case, but only once all its data is good.
    const error = await failureOf(backupOptions(server, new MemoryStore(), { walTimeoutMs: 1 }));
    rmSync(path);
    if (version >= 17) return expect(error.code).toBe("backup-wal-missing");
    expect(error.message).toContain("invalid byte sequence");
    expect(error.hint).toContain("a name that is not UTF-8");
  });

  test("cancelled while it waits for WAL", async () => {
    const controller = new AbortController();
    const store = new MemoryStore();
    const options = backupOptions(server, store, { signal: controller.signal });
    const failing = failureOf(options);
    while (!options.news.some(({ kind }) => kind === "wal-wait")) await new Promise((next) => setTimeout(next, 10));
    controller.abort(new Error("enough"));
    expect((await failing).code).toBe("aborted");
  });

  test("cancelled while the store has stopped answering: it ends, and what it could not remove is seen as a leftover", async () => {
    const controller = new AbortController();
    const store = new FaultyStore(new MemoryStore());
    const silent = store.failpoint({ operation: "delete", fault: "stall", times: Number.POSITIVE_INFINITY });
    const options = backupOptions(server, store, { signal: controller.signal, shutdownTimeoutMs: 100 });
    const failing = takeBackup(options);
    while (!options.news.some(({ kind }) => kind === "wal-wait")) await new Promise((next) => setTimeout(next, 10));
    controller.abort(new Error("enough"));
    await silent.reached;
    await expect(failing).rejects.toMatchObject({ code: "aborted" });
    silent.remove();
    expect(await listBackups(await archiveOf(store))).toMatchObject({ backups: [], leftovers: [{}] });
  }, 50_000);

  test("cancelled while the store answers no call and heeds no signal: it ends", async () => {
    const controller = new AbortController();
    let isUploading = (): void => undefined;
    const uploading = new Promise<void>((resolve) => (isUploading = resolve));
    const store = new MemoryStore();
    store.putStream = async () => {
      isUploading();
      return new Promise(() => undefined);
    };
    const options = backupOptions(server, store, { signal: controller.signal, shutdownTimeoutMs: 100 });
    const failing = takeBackup(options);
    await uploading;
    controller.abort(new Error("enough"));
    await expect(failing).rejects.toMatchObject({ code: "aborted" });
  }, 50_000);

  test("cancelled before it begins", async () => {
    const error = await failureOf(backupOptions(server, new MemoryStore(), { signal: AbortSignal.abort() }));
    expect(error.code).toBe("aborted");
  });
});
