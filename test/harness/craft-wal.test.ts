/** Each kind of WAL is what its name says, seen in the bytes of pg_wal and, where the server can tell, in its own account. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatLsn, type Lsn, segmentOf, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { pageFlagsOf } from "../../src/wal/format.ts";
import { WAL_CRAFTS, craftWal } from "./craft-wal.ts";
import { type PostgresServer, startPostgres, versionsUnderTest } from "./postgres.ts";
import { PAGE } from "./wal-placement.ts";

interface Page {
  readonly address: bigint;
  readonly contrecord: boolean;
  readonly overwrite: boolean;
  readonly remaining: number;
}

interface Crafted {
  readonly server: PostgresServer;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  /** Page headers from the start to the end, zero pages left out. */
  readonly pages: readonly Page[];
}

/** What must be seen of a kind; kinds that are not here show in the server's own account only, below. */
const EVIDENCE: Readonly<Record<string, (wal: Crafted) => void>> = {
  "records across segments": ({ pages, server }) => {
    const first = pages.filter(({ address }) => address % BigInt(server.segmentSize) === 0n);
    expect(first.filter(({ contrecord, remaining }) => contrecord && remaining > 20_000).length).toBeGreaterThanOrEqual(
      3,
    );
  },
  "a record larger than a segment": ({ pages, server }) => {
    expect(pages.some(({ remaining }) => remaining > server.segmentSize)).toBe(true);
  },
  "switch records at the border of a page": ({ pages, server, startLsn, endLsn }) => {
    // Five switches: five segments are left unfinished.
    expect(Number(endLsn - startLsn)).toBeGreaterThan(4 * server.segmentSize);
    expect(
      pages.filter(({ contrecord, remaining }) => contrecord && (remaining === 8 || remaining === 16)).length,
    ).toBe(2);
  },
  "switch records in the last bytes of a segment": ({ pages, server }) => {
    const first = pages.filter(({ address }) => address % BigInt(server.segmentSize) === 0n);
    expect(first.filter(({ contrecord, remaining }) => contrecord && remaining < 24).length).toBe(2);
  },
  "a crash that leaves an aborted continuation record at the border of a segment": ({ pages, server }) => {
    const marked = pages.filter(({ overwrite }) => overwrite);
    expect(marked.map(({ address }) => address % BigInt(server.segmentSize))).toContain(0n);
  },
  "a crash that leaves an aborted continuation record across segments": ({ pages, server }) => {
    const size = BigInt(server.segmentSize);
    const marked = pages.filter(({ overwrite, address }) => overwrite && address % size !== 0n);
    // The record began in the segment before: the marked page's own segment starts with more of it.
    const starts = marked.map(({ address }) => pages.find((page) => page.address === address - (address % size)));
    expect(starts).toContainEqual(expect.objectContaining({ contrecord: true }));
  },
  "a crash that leaves an aborted continuation record inside a segment": ({ pages }) => {
    expect(pages.some(({ overwrite }) => overwrite)).toBe(true);
  },
};

/** Resource managers and record types that pg_walinspect must count (PostgreSQL 15 and later). */
const ACCOUNT: Readonly<Record<string, readonly string[]>> = {
  "full-page images": ["Heap/UPDATE", "Heap/DELETE", "XLOG/CHECKPOINT_ONLINE"],
  "wal_compression with every method the server has": ["Heap/UPDATE"],
  "large objects": ["Heap/INSERT", "Btree/INSERT_LEAF"],
  "many tiny commits": ["Transaction/COMMIT"],
  "prepared transactions": ["Transaction/PREPARE", "Transaction/COMMIT_PREPARED", "Transaction/ABORT_PREPARED"],
  subtransactions: ["Transaction/COMMIT", "Transaction/ABORT", "Transaction/ASSIGNMENT"],
  "all kinds of indexes, DDL and maintenance": [
    "Gin/",
    "Gist/",
    "Hash/",
    "SPGist/",
    "BRIN/",
    "MultiXact/",
    "Database/",
  ],
};

describe.each(versionsUnderTest())("PostgreSQL %i writes", (version) => {
  describe.each([1, 16])("in segments of %i MiB", (segmentSizeMiB) => {
    // One server for all kinds, one after the other: the last of them lets go of the WAL of the others.
    let server: PostgresServer;
    beforeAll(async () => {
      server = await startPostgres({ version, segmentSizeMiB });
    });
    afterAll(async () => server[Symbol.asyncDispose]());

    test.each(WAL_CRAFTS)("$name", { timeout: 120_000 }, async ({ name }) => {
      const { startLsn, endLsn } = await craftWal(server, name);
      expect(endLsn).toBeGreaterThan(startLsn);
      EVIDENCE[name]?.({ server, startLsn, endLsn, pages: await readPages(server, startLsn, endLsn) });
      const expected = ACCOUNT[name];
      if (expected !== undefined && version >= 15) {
        const types = await recordTypes(server, startLsn, endLsn);
        for (const type of expected)
          expect(
            types.some((found) => found.startsWith(type)),
            type,
          ).toBe(true);
      }
    });
  });
});

test("a large segment takes every placement too", { timeout: 180_000 }, async () => {
  await using server = await startPostgres({ segmentSizeMiB: 64 });
  for (const name of ["records across segments", "a record larger than a segment"]) await craftWal(server, name);
  const { startLsn, endLsn } = await craftWal(server, "switch records in the last bytes of a segment");
  const pages = await readPages(server, startLsn, endLsn);
  EVIDENCE["switch records in the last bytes of a segment"]?.({ server, startLsn, endLsn, pages });
});

async function readPages(server: PostgresServer, from: Lsn, to: Lsn): Promise<Page[]> {
  const pages: Page[] = [];
  const size = server.segmentSize;
  for (
    let segment = segmentOf(from, size);
    segmentStart(segment, size) < to;
    segment = (segment + 1) as typeof segment
  ) {
    const bytes = Buffer.from(await server.readWalFile(segmentFileName(timelineOf(1), segment, size)));
    for (let at = 0; at < size; at += PAGE) {
      const address = segmentStart(segment, size) + BigInt(at);
      // A page that was never written in this round of a recycled file has another address, or none.
      if (address < from - BigInt(PAGE) || address >= to || bytes.readBigUInt64LE(at + 8) !== address) continue;
      const info = bytes.readUInt16LE(at + 2);
      const remaining = bytes.readUInt32LE(at + 16);
      pages.push({
        address,
        contrecord: (info & 1) !== 0,
        overwrite: (info & pageFlagsOf(server.version).overwrites) !== 0,
        remaining,
      });
    }
  }
  return pages;
}

async function recordTypes(server: PostgresServer, from: Lsn, to: Lsn): Promise<string[]> {
  await server.sql("CREATE EXTENSION IF NOT EXISTS pg_walinspect");
  const rows = await server.sql(
    "SELECT DISTINCT resource_manager || '/' || record_type AS type FROM pg_get_wal_records_info($1, $2)",
    [formatLsn(from), formatLsn(to)],
  );
  return rows.map(({ type }) => String(type));
}
