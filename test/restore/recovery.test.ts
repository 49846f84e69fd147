/** Real servers recover through the prefetching restore_command: quickly, completely, each for itself, leaving nothing. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { versionsUnderTest } from "../harness/postgres.ts";
import { startS3 } from "../harness/s3.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import {
  archivedPrimary,
  CountedCommand,
  directoryPlace,
  fill,
  type Place,
  prefetchersOf,
  recovered,
  recoverThrough,
  ROWS_A_SEGMENT,
  rowsOf,
  s3Place,
} from "./servers.ts";

const s3 = await startS3();
const SEGMENTS = 24;

describe.each(versionsUnderTest())("PostgreSQL %i", (version) => {
  describe.each([
    { where: "a directory", available: true, open: async (): Promise<Place> => directoryPlace() },
    { where: "S3", available: s3.available, open: async () => s3Place(s3) },
  ])("from $where", ({ available, open }) => {
    test.skipIf(!available)(
      "recovers with a few starts of Node.js, up to the tail, and leaves nothing",
      async () => {
        await using place = await open();
        await using archived = await archivedPrimary({ version, place, segments: SEGMENTS });
        const [copy] = archived.copies;
        if (copy === undefined) throw new Error("no copy");
        using counted = new CountedCommand(place);
        recoverThrough(copy, counted.command);
        await copy.start();
        await recovered(copy);
        expect(await rowsOf(copy)).toBe(archived.rows);
        expect(copy.log().match(/restored log file/g)?.length).toBeGreaterThanOrEqual(SEGMENTS);
        // History files, the first segments, the tail, what lies beyond it: the same for any number of segments.
        expect(counted.starts).toBeLessThan(SEGMENTS / 2);
        await expect.poll(() => prefetchersOf(place.url), { timeout: 60_000 }).toEqual([]);
        expect(existsSync(join(copy.walDir, ".seawall"))).toBe(false);
      },
      60_000,
    );
  });
});

// What follows is the same for every version.
const version = versionsUnderTest().at(-1) ?? 18;

describe("each recovery gets its own", () => {
  test("two servers from one archive and one from another recover side by side, each its own", async () => {
    await using place = await directoryPlace();
    await using other = await directoryPlace();
    await using archived = await archivedPrimary({ version, place, segments: 12, copies: 2 });
    await using foreign = await archivedPrimary({ version, place: other, segments: 9 });
    const jobs = [
      ...archived.copies.map((copy) => ({ copy, place, rows: archived.rows })),
      ...foreign.copies.map((copy) => ({ copy, place: other, rows: foreign.rows })),
    ];
    await Promise.all(
      jobs.map(async (job) => {
        using counted = new CountedCommand(job.place);
        recoverThrough(job.copy, counted.command);
        await job.copy.start();
        await recovered(job.copy);
        expect(await rowsOf(job.copy)).toBe(job.rows);
      }),
    );
  }, 300_000);

  test("an archive of another cluster stops recovery at once", async () => {
    await using place = await directoryPlace();
    await using other = await directoryPlace();
    await using archived = await archivedPrimary({ version, place, segments: 2 });
    await using foreign = await archivedPrimary({ version, place: other, segments: 2 });
    const [copy] = archived.copies;
    if (copy === undefined || foreign.copies.length === 0) throw new Error("no copy");
    using counted = new CountedCommand(other);
    recoverThrough(copy, counted.command);
    await copy.start({ wait: false });
    expect(await copy.exited()).not.toBe(0);
    expect(copy.log()).toMatch(/foreign-cluster/);
    expect(copy.log()).not.toContain("selected new timeline");
  }, 300_000);

  test("repeated recoveries to different timelines get each its own of the segments that bear one number", async () => {
    await using place = await directoryPlace();
    await using archived = await archivedPrimary({ version, place, segments: 8, copies: 3 });
    const [early, old, latest] = archived.copies;
    if (early === undefined || old === undefined || latest === undefined) throw new Error("no copies");
    using counted = new CountedCommand(place);
    // To the middle, onto timeline 2, and as far again: the same segment numbers on both timelines.
    const middle = await archived.primary.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
    const half = 5 * ROWS_A_SEGMENT;
    const [row] = await archived.primary.sql(
      "SELECT xmin::text AS xid FROM t ORDER BY xmin::text::bigint LIMIT 1 OFFSET $1",
      [half - 1],
    );
    recoverThrough(early, counted.command, {
      recovery_target_xid: String(row?.["xid"]),
      recovery_target_action: "promote",
    });
    await early.start();
    await recovered(early);
    expect(await rowsOf(early)).toBe(half);
    {
      await using receiver = receive(early, place.store);
      for (let i = 0; i < 8; i++) {
        await fill(early);
        await early.sql("SELECT pg_switch_wal()");
      }
      await receiver.stored(await flushLsn(early));
      await receiver.stop();
      await place.share();
    }
    const onTwo = await early.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
    expect(onTwo.slice(0, 8)).toBe("00000002");
    expect(onTwo.slice(8) > middle.slice(8)).toBe(true);

    recoverThrough(old, counted.command, { recovery_target_timeline: "1" });
    await old.start();
    await recovered(old);
    expect(await rowsOf(old)).toBe(archived.rows);
    recoverThrough(latest, counted.command);
    await latest.start();
    await recovered(latest);
    expect(await rowsOf(latest)).toBe(half + 8 * ROWS_A_SEGMENT);
  }, 300_000);

  test.skipIf(!s3.available)(
    "a standby at the tip is given each tail as it grows and each segment as it is sealed",
    async () => {
      await using place = await s3Place(s3);
      await using archived = await archivedPrimary({ version, place, segments: 6, copies: 0 });
      const { primary } = archived;
      using counted = new CountedCommand(place);
      await using receiver = receive(primary, place.store);
      const settings = { restore_command: counted.command, wal_retrieve_retry_interval: "100ms", hot_standby: true };
      await using standby = await primary.clone({ signal: "standby", settings });
      for (let i = 1; i <= 4; i++) {
        await fill(primary);
        if (i % 2 === 0) await primary.sql("SELECT pg_switch_wal()");
        await receiver.stored(await flushLsn(primary));
        await expect.poll(async () => rowsOf(standby), { timeout: 60_000 }).toBe(archived.rows + i * ROWS_A_SEGMENT);
      }
      await standby.stop("fast");
      await expect.poll(() => prefetchersOf(place.url), { timeout: 60_000 }).toEqual([]);
      expect(existsSync(join(standby.walDir, ".seawall"))).toBe(false);
    },
    90_000,
  );

  test.skipIf(!s3.available)(
    "a standby at the tip of a receiver that stores every commit, and bulk loads between them, lives and catches up",
    async () => {
      await using place = await s3Place(s3);
      await using archived = await archivedPrimary({ version, place, segments: 2, copies: 0 });
      const { primary } = archived;
      using counted = new CountedCommand(place);
      await using receiver = receive(primary, place.store, { shipIntervalMs: 0 });
      const settings = { restore_command: counted.command, wal_retrieve_retry_interval: "1ms", hot_standby: true };
      await using standby = await primary.clone({ signal: "standby", settings });
      let rows = archived.rows;
      for (let round = 0; round < 3; round++) {
        // Each a chunk of its own, several of them between any two looks of wal-fetch.
        for (let i = 0; i < 300; i++) await primary.sql("INSERT INTO t VALUES (0, '')");
        // Faster than segments are stored one by one.
        for (let i = 0; i < 8; i++) await fill(primary);
        rows += 300 + 8 * ROWS_A_SEGMENT;
      }
      await receiver.stored(await flushLsn(primary));
      await expect.poll(async () => rowsOf(standby), { timeout: 60_000 }).toBe(rows);
      expect(standby.log()).not.toMatch(/wal-gap/);
    },
    180_000,
  );
});
