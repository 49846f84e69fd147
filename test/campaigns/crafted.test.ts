/** Byte for byte: every crafted workload, on every version and segment size, archived while it is written. */
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../harness/memory-store.ts";
import { formatLsn } from "../../src/wal/lsn.ts";
import { startPostgres, versionsUnderTest } from "../harness/postgres.ts";
import { receive } from "../receive/receiving.ts";
import { ArchiveAudit } from "./audit.ts";
import { minutes, report } from "./campaign.ts";
import { WORKLOADS, WORKLOAD_SETTINGS } from "./workloads.ts";

const SIZES = [1, 16, 64];
const VERSIONS = versionsUnderTest();
/** Every size on the newest version, and in a full matrix; the others share the sizes out. */
const CASES = VERSIONS.flatMap((version, at) => {
  const isWhole = VERSIONS.length !== 3 || at === VERSIONS.length - 1;
  const sizes = isWhole ? SIZES : SIZES.filter((_, index) => index % 2 === at);
  return sizes.map((segmentSizeMiB) => ({ version, segmentSizeMiB }));
});

describe("the archive equals the server's WAL byte for byte", () => {
  test.each(CASES)(
    "PostgreSQL $version, segments of $segmentSizeMiB MiB",
    async ({ version, segmentSizeMiB }) => {
      await using server = await startPostgres({ version, segmentSizeMiB, settings: WORKLOAD_SETTINGS });
      const store = new MemoryStore();
      await using receiver = receive(server, store);
      const audit = new ArchiveAudit({ store, walDir: server.walDir });
      for (const { title, write } of WORKLOADS) {
        await write(server);
        const lsn = await server.currentFlushLsn();
        await receiver.stored(lsn, 120_000);
        const audited = await audit.check();
        expect(audited.tip?.lsn, `after ${title}`).toBeGreaterThanOrEqual(lsn);
        expect(audited.verifiedLsn, `after ${title}`).toBe(audited.tip?.lsn);
        expect(audited.behindHole, `after ${title}`).toBe(0);
      }
      await receiver.stop();
      const audited = await audit.check();
      report("crafted", {
        version,
        segmentSizeMiB,
        workloads: WORKLOADS.length,
        segments: audited.sealed,
        tip: audited.tip === undefined ? "none" : formatLsn(audited.tip.lsn),
      });
    },
    minutes(10),
  );
});
