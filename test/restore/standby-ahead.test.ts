/** A standby that has streamed more than the archive has of the open segment keeps what it has. */
import { expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { oldestAndNewest } from "../harness/postgres.ts";
import { Archived, rowsOf } from "./restored.ts";

test.each(oldestAndNewest())(
  "PostgreSQL %i: a restored standby that is ahead of the archive's tail is promoted with all it has streamed",
  async (version) => {
    await using archived = await Archived.start({ version });
    const { server } = archived;
    await archived.insert(1);
    await archived.backup();
    await archived.insert(2);
    await archived.stored();
    await archived.stopReceiving();
    // The archive never hears of this.
    await archived.insert(3);
    const flags = ["--standby", "--primary-conninfo", server.socketDsn];
    await using standby = await archived.restored(flags, "started");
    await until("the row", async () => (await rowsOf(standby)).includes(3));
    await server.stop("fast");
    expect(await standby.promote()).toBe(2);
    expect(await rowsOf(standby)).toEqual([1, 2, 3]);
  },
  120_000,
);
