/** A publisher, and a subscriber with an archive: a copy of the subscriber could use up the publisher's slot. */
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { until } from "../campaigns/campaign.ts";
import { Archived } from "./restored.ts";

export interface Subscribed extends AsyncDisposable {
  readonly publisher: PostgresServer;
  readonly place: Archived;
  /** Takes a backup, stops the subscriber, and publishes rows 2 and 3 that it does not get. */
  leaveBehind(): Promise<void>;
  /** Where the slot stands, and whether it is in use. */
  slot(): Promise<string>;
}

/** Row 1 of the table `m` has reached the subscriber. */
export async function subscribed(version: 14 | 15 | 16 | 17 | 18 | 19): Promise<Subscribed> {
  const publisher = await startPostgres({ version, freshIdentifier: true, settings: { wal_level: "logical" } });
  const place = await Archived.start({ version });
  await publisher.sql("CREATE TABLE m (a int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE m; INSERT INTO m VALUES (1)");
  await place.server.sql("CREATE TABLE m (a int PRIMARY KEY)");
  await place.server.sql(`CREATE SUBSCRIPTION s CONNECTION '${publisher.socketDsn}' PUBLICATION p`);
  await until("the first row", async () => (await place.server.value("SELECT count(*) FROM m")) === "1");
  return {
    publisher,
    place,
    async leaveBehind() {
      await place.backup();
      await place.stored();
      await place.stopReceiving();
      await place.server.stop();
      await publisher.sql("INSERT INTO m VALUES (2), (3)");
    },
    slot: async () => publisher.value("SELECT confirmed_flush_lsn::text || active FROM pg_replication_slots"),
    async [Symbol.asyncDispose]() {
      await place[Symbol.asyncDispose]();
      await publisher[Symbol.asyncDispose]();
    },
  };
}
