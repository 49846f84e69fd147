/** An archive that is removed under its receiver (a bucket emptied by hand, `cluster remove`): the receiver notices and makes it anew. */
import { expect, test } from "vitest";
import { readClaims } from "../../src/archive/line/claims.ts";
import { until } from "../campaigns/campaign.ts";
import { openRunArchive } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { newestUnderTest, startPostgres } from "../harness/postgres.ts";
import { expectEqualsServer, flushLsn, receive } from "./receiving.ts";

test("WAL that follows the removal of an idle receiver's archive is acknowledged only in a whole archive", async () => {
  await using server = await startPostgres({ version: newestUnderTest(), segmentSizeMiB: 1 });
  const store = new MemoryStore();
  await using receiver = receive(server, store);
  await server.sql("CREATE TABLE t (i int, pad text)");
  await receiver.stored(await flushLsn(server));
  const keys: string[] = [];
  for await (const { key } of store.list("main/")) keys.push(key);
  await store.delete(keys);
  const insert = "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 100) i";
  await until("the receiver notices", async () => {
    await server.sql(insert);
    return receiver.state.lastError !== undefined;
  });
  expect(receiver.state.lastError?.error).toMatchObject({ code: "archive-vanished", retryable: true });
  await until("the archive is there again", () => store.head("main/cluster.json").then((found) => found !== undefined));
  // Past the end of a segment, which is sealed then.
  await server.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i");
  await receiver.stored(await flushLsn(server));
  expect(await readClaims(await openRunArchive(store, "main"))).toHaveLength(1);
  expect(await expectEqualsServer(server, store)).toBeGreaterThan(1);
});
