/** A spool whose disk has changed acknowledged WAL: what is said of it, and how the files behind the damage are saved. */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { peekWal } from "../../src/archive/wal/objects.ts";
import { FileStore } from "../../src/store/file/store.ts";
import { segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres } from "../harness/postgres.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "./receiving.ts";

const dir = makeTempDir("spool-damage");
afterAll(() => removeTree(dir));

test("files behind a flipped bit are named, and an import stores them, with a gap where the damage was", async () => {
  await using server = await startPostgres({ segmentSizeMiB: 1 });
  const [directory, root] = [join(dir, "spool"), join(dir, "store")];
  for (const folder of [directory, root]) mkdirSync(folder);
  const store = new FileStore(root);
  const away = new FaultyStore(store);
  const spool = { directory, spoolBytesMax: 1 << 30, uploadIntervalMs: 50 };
  {
    await using receiver = receive(server, away, { shipIntervalMs: 0 }, spool);
    await receiver.stored(await flushLsn(server));
    await expect.poll(() => receiver.state.snapshot().isUploaded, { timeout: 60_000 }).toBe(true);
    away.failpoint({ operation: "put", fault: "fail-before", times: Infinity });
    for (let i = 0; i < 6; i++) {
      await server.sql("SELECT pg_logical_emit_message(true, 'pad', repeat('x', 900000)); SELECT pg_switch_wal()");
    }
    await receiver.stored(await flushLsn(server));
    await receiver.kill();
  }
  // The server has that WAL no more.
  await server.sql("CHECKPOINT");
  const folder = join(directory, "main");
  const complete = readdirSync(folder).filter((name) => /^[0-9A-F]{24}$/.test(name));
  expect(complete.length).toBeGreaterThan(4);
  const damaged = complete[2] ?? "";
  const bytes = readFileSync(join(folder, damaged));
  bytes[400_000] = (bytes[400_000] ?? 0) ^ 1;
  writeFileSync(join(folder, damaged), bytes);
  {
    await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
    const behind = complete.slice(3)[0] ?? "";
    await expect(receiver.done).rejects.toMatchObject({
      code: "wal-corrupt",
      message: expect.stringMatching(
        new RegExp(`${damaged} is damaged behind .* of WAL from ${behind} on wait`),
      ) as unknown,
    });
  }
  expect(readdirSync(folder)).toEqual(expect.arrayContaining(complete.slice(2)));
  // As the hint says.
  const moved = join(dir, "moved");
  renameSync(folder, moved);
  await using receiver = receive(server, store, { shipIntervalMs: 0 }, spool);
  await server.sql("SELECT pg_switch_wal()");
  await receiver.stored(await flushLsn(server));
  await expect.poll(() => receiver.state.snapshot().isUploaded, { timeout: 60_000 }).toBe(true);
  const { stdout, stderr } = await runCli(["import", moved, "--store", `file://${root}`]);
  const archive = await openRunArchive(store, "main");
  const places = complete.map((name) => ({
    timeline: timelineOf(1),
    segment: Number.parseInt(name.slice(16), 16) as ReturnType<typeof segmentOf>,
    segmentSize: 1 << 20,
  }));
  const stored = await Promise.all(
    places.map(async (place) => (await peekWal(archive, "segment", place)) !== undefined),
  );
  expect(stored, stdout + stderr).toEqual(complete.map((name) => name !== damaged));
  const gaps = await listGaps(archive);
  expect(gaps.length, stdout + stderr).toBeGreaterThan(0);
  for (const { fromLsn, toLsn } of gaps) {
    expect(segmentOf(fromLsn, 1 << 20)).toBe(places[2]?.segment);
    expect(segmentOf(toLsn, 1 << 20)).toBe(places[3]?.segment);
  }
  await store.close();
});
