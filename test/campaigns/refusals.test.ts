/** Servers that do not continue the archive are refused; WAL that is lost before it could be archived is a loud gap. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { listGaps } from "../../src/archive/wal/gaps.ts";
import { findTip } from "../../src/archive/wal/tip.ts";
import { walFetch } from "../../src/restore/fetch/wal-fetch.ts";
import { openRunArchive, runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { segmentOf, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { type PostgresServer, startPostgres, twoInTurn } from "../harness/postgres.ts";
import type { PostgresVersion } from "../harness/postgres-binaries.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { ArchiveAudit } from "./audit.ts";

const LOAD = "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i";
const KEEPING = { wal_keep_size: "512MB", autovacuum: false };
const FORGETTING = { wal_keep_size: 0, max_slot_wal_keep_size: "2MB", max_wal_size: "4MB", min_wal_size: "2MB" };

async function archiveAll(server: PostgresServer, store: MemoryStore): Promise<void> {
  await using receiver = receive(server, store);
  await receiver.stored(await flushLsn(server));
  await receiver.stop();
}

/** The server's files as they are now are put back later, after more was written and archived: no new timeline tells. */
async function rolledBack(
  server: PostgresServer,
  store: MemoryStore,
  change: { readonly before: readonly string[]; readonly after: string },
): Promise<void> {
  const copy = makeTempDir("copy");
  try {
    await server.stop("fast");
    await run("cp", ["-a", `${server.dataDir}/.`, join(copy, "data")]);
    await server.start();
    for (const text of change.before) await server.sql(text);
    await archiveAll(server, store);
    await server.stop("fast");
    rmSync(server.dataDir, { recursive: true });
    await run("cp", ["-a", join(copy, "data"), server.dataDir]);
    await server.start();
    if (change.after !== "") await server.sql(change.after);
  } finally {
    removeTree(copy);
  }
}

/** Rows of a table, each on two versions; `first` is the number of its first row among this file's tests. */
function onVersions<Row extends object>(
  first: number,
  rows: readonly Row[],
): (Row & { readonly version: PostgresVersion })[] {
  return rows.flatMap((row, at) => twoInTurn(first + at).map((version) => ({ ...row, version })));
}

const ROLLED_BACK = [
  { title: "and is behind the archive", before: [LOAD], after: "", message: /lies past the server's/ },
  {
    title: "and has written other WAL past the tip",
    message: /differs from the archive's/,
    before: [LOAD],
    after: `${LOAD.replaceAll("'x'", "'y'")}; ${LOAD}`,
  },
  {
    title: "and has written other WAL past a tip that lies at a segment's border",
    message: /does not continue the archive/,
    // One by one: in a single query the commit would follow the switch.
    before: [LOAD, "SELECT pg_switch_wal()"],
    after: `${LOAD.replaceAll("'x'", "'y'")}; ${LOAD}; ${LOAD}; ${LOAD}; ${LOAD}; ${LOAD}`,
  },
];

describe("servers that do not continue the archive", () => {
  test.each(onVersions(0, ROLLED_BACK))(
    "PostgreSQL $version: a server that was rolled back in place $title is refused, and nothing is overwritten",
    async ({ version, before, after, message }) => {
      const store = new MemoryStore();
      await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: KEEPING });
      await server.sql("CREATE TABLE t (i int, pad text)");
      await archiveAll(server, store);
      await rolledBack(server, store, { before, after });
      const tip = await findTip(await openRunArchive(store, "main"));
      await expect(receive(server, store, { once: true }).done).rejects.toMatchObject({
        code: "wal-diverged",
        message: expect.stringMatching(message) as string,
      });
      expect(await findTip(await openRunArchive(store, "main"))).toEqual(tip);
    },
  );

  test.each(twoInTurn(3))(
    "PostgreSQL %i: an old primary that comes back is refused, and the new one's archive is left as it is",
    async (version) => {
      const store = new MemoryStore();
      await using first = await startPostgres({ version, segmentSizeMiB: 1, settings: KEEPING });
      await first.sql("CREATE TABLE t (i int, pad text)");
      await archiveAll(first, store);
      await using second = await first.cloneAsStandby();
      await first.kill9();
      await second.promote();
      await second.sql(LOAD);
      await archiveAll(second, store);
      await first.start();
      await first.sql(LOAD);
      const tip = await findTip(await openRunArchive(store, "main"));
      await expect(receive(first, store, { once: true }).done).rejects.toMatchObject({ code: "timeline-behind" });
      expect(await findTip(await openRunArchive(store, "main"))).toEqual(tip);
    },
  );

  test.each(onVersions(4, [{ how: "invalidated" }, { how: "dropped" }]))(
    "PostgreSQL $version: after the slot was $how the lost WAL is a recorded gap, archiving goes on, and recovery into the gap is refused",
    async ({ version, how }) => {
      const store = new MemoryStore();
      await using server = await startPostgres({ version, segmentSizeMiB: 1, settings: FORGETTING });
      await server.sql("CREATE TABLE t (i int, pad text)");
      await archiveAll(server, store);
      const archive = await openRunArchive(store, "main");
      const tip = await findTip(archive);
      if (tip === undefined) throw new Error("nothing was archived");
      if (how === "dropped") await server.dropSlot("seawall");
      for (let i = 0; i < 12; i++) await server.sql(`${LOAD}; SELECT pg_switch_wal()`);
      await server.sql("CHECKPOINT");
      await server.sql("CHECKPOINT");
      expect(server.walFiles()).not.toContain(segmentFileName(tip.timeline, tip.segment, server.segmentSize));

      await using receiver = receive(server, store);
      await server.sql(LOAD);
      const lsn = await flushLsn(server);
      await receiver.stored(lsn);
      await receiver.stop();
      expect(receiver.state.counters.gaps).toBe(1);
      const [gap, ...others] = await listGaps(archive);
      expect(others).toEqual([]);
      if (gap === undefined) throw new Error("no gap was recorded");
      expect(gap.fromLsn).toBe(tip.lsn);
      expect(await findTip(archive)).toMatchObject({ lsn });
      await expectFetches(store, server, gap);
    },
  );
});

async function expectFetches(
  store: MemoryStore,
  server: PostgresServer,
  gap: { readonly fromLsn: bigint; readonly toLsn: bigint },
): Promise<void> {
  const folder = makeTempDir("fetch");
  try {
    const fetch = async (lsn: bigint) => {
      const segment = segmentOf(lsn as never, server.segmentSize);
      const fileName = segmentFileName(timelineOf(1), segment, server.segmentSize);
      const targetPath = join(folder, "RECOVERYXLOG");
      return walFetch({ store, cluster: "main", fileName, targetPath, identities: runCodec.identities });
    };
    // Inside of the hole, and past it.
    const inside = gap.fromLsn + BigInt(server.segmentSize);
    expect(inside).toBeLessThan(gap.toLsn);
    await expect(fetch(inside)).rejects.toMatchObject({ code: "wal-gap" });
    expect(await fetch(gap.toLsn)).toMatchObject({ kind: "fetched" });
    expect(await fetch(gap.toLsn + (1n << 40n))).toEqual({ kind: "beyond-tip" });
    await new ArchiveAudit({ store, walDir: server.walDir }).check().catch((error: unknown) => {
      // The server has recycled what lies before the gap: what it still has is equal.
      expect(String(error)).toContain("to compare with");
    });
  } finally {
    removeTree(folder);
  }
}
