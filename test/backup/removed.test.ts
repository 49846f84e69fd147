/** A backup that was silent for so long that an expiry took it for dead, and that ends after all. */
import { expect, test } from "vitest";
import { expire } from "../../src/archive/retention/expire.ts";
import { type Decide, planExpiry } from "../../src/archive/retention/expiry-plan.ts";
import { planRetention } from "../../src/archive/retention/plan.ts";
import { takeBackup } from "../../src/backup/take-backup.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { startPostgres } from "../harness/postgres.ts";
import { flushLsn, receive } from "../receive/receiving.ts";
import { archiveOf, backupOptions } from "./taking.ts";
import { keysBelow } from "../store/keys-below.ts";

const inTwoDays = (): Date => new Date(Date.now() + 2 * 86_400_000);
const decide: Decide = (facts) => planRetention(facts, { keepFull: 1 }, inTwoDays());

test.each<[string, (store: FaultyStore) => Promise<void>]>([
  ["the expiry has ended before it", async () => undefined],
  [
    "the expiry is still at it",
    async (store) => {
      // Nothing of it is deleted yet, but it is marked.
      store.failpoint({ operation: "delete", key: /parts/, fault: "fail-before" });
    },
  ],
])("it fails, and nothing of it stays: %s", async (_, prepare) => {
  await using server = await startPostgres({ segmentSizeMiB: 1 });
  const store = new FaultyStore(new MemoryStore());
  await using receiver = receive(server, store);
  await receiver.stored(await flushLsn(server));
  const document = store.failpoint({ operation: "put", key: /backup\.json$/, fault: "stall" });
  const taking = takeBackup(backupOptions(server, store));
  const failed = expect(taking).rejects.toMatchObject({ code: "backup-removed" });
  await document.reached;
  await prepare(store);
  const archive = await archiveOf(store);
  const expiring = planExpiry(archive, decide, { ignoreStandstill: true }).then((planned) =>
    expire(archive, planned, { now: inTwoDays, decide, withWal: true }),
  );
  await expiring.catch(() => undefined);
  document.release();
  await failed;
  expect(await keysBelow(store, "main/backups/")).toEqual([]);
});
