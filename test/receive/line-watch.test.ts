/** What a receiver that streams makes of claims that come later, and of a store that does not say. */
import { expect, test } from "vitest";
import { type Archive, openArchiveFor } from "../../src/archive/archive.ts";
import { type LineClaim, putClaim } from "../../src/archive/line/claims.ts";
import type { SeawallError } from "../../src/errors.ts";
import { declareSuccessor, planSuccessor } from "../../src/archive/successor.ts";
import { silentLog } from "../../src/log.ts";
import { LineWatch } from "../../src/receive/line/watch.ts";
import { writingCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Lsn, TimelineId } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const timelineOf = (value: number): TimelineId => value as TimelineId;

function claim(number: number, timeline: number, why: LineClaim["why"], over?: [number, number]): LineClaim {
  return {
    ...{ number, timeline: timelineOf(timeline), parent: undefined, claimedAt: "2026-01-01T00:00:00.000Z", why },
    ...{ server: "db:5432", restoredFrom: undefined },
    over: over === undefined ? undefined : { timeline: timelineOf(over[0]), lsn: lsn(over[1]) },
  };
}

/** A receiver of timeline 1 that has acknowledged up to 100 and stored up to 150, by a clock of its own. */
async function watching(joined: { readonly claim: number | undefined }, open?: () => Promise<Archive>) {
  const store = new FaultyStore(new MemoryStore());
  const identity = { systemIdentifier: 1n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
  const archive: Archive = await openArchiveFor(store, "main", identity, { codec: writingCodec });
  if (joined.claim !== 0) await putClaim(archive, claim(1, 1, "first"));
  const at = { nowMs: 0, releases: 0, lost: undefined as SeawallError | undefined };
  const watch = new LineWatch({
    ...{ openArchive: open ?? (async () => archive), claim: joined.claim, timeline: timelineOf(1), log: silentLog },
    ...{ storedLsn: () => lsn(150), reportedLsn: () => lsn(100), nowMs: () => at.nowMs },
    onRelease: () => void at.releases++,
    onLost: (error) => void (at.lost ??= error),
  });
  /** WAL arrives after so many seconds; the look that begins has ended. */
  const receive = async (afterSeconds: number): Promise<void> => {
    at.nowMs += afterSeconds * 1000;
    const { releases } = at;
    watch.received();
    for (let i = 0; i < 1000 && at.releases === releases && at.lost === undefined; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { store, archive, at, watch, receive };
}

test("after a pause the acknowledgement waits for the look; while WAL flows it does not", async () => {
  const { store, at, watch } = await watching({ claim: 1 });
  const stalled = store.failpoint({ operation: "head", key: /line/, fault: "stall" });
  at.nowMs = 6_000;
  watch.received();
  await stalled.reached;
  expect(watch.acknowledgeable(lsn(150))).toBe(150n);
  stalled.release();
  while (at.releases === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const again = store.failpoint({ operation: "head", key: /line/, fault: "stall" });
  at.nowMs += 60_000;
  watch.received();
  await again.reached;
  expect([watch.acknowledgeable(lsn(150)), watch.releasable(lsn(150))]).toEqual([100n, 100n]);
  again.release();
  while (at.releases === 1) await new Promise((resolve) => setTimeout(resolve, 10));
  expect([watch.acknowledgeable(lsn(150)), watch.releasable(lsn(150))]).toEqual([150n, 150n]);
});

test("an archive that was removed while its receiver was idle is not acknowledged as stored", async () => {
  const { store, at, watch, receive } = await watching({ claim: 1 });
  await receive(60);
  expect([at.lost, watch.acknowledgeable(lsn(150))]).toEqual([undefined, 150n]);
  for await (const { key } of store.list("main/")) await store.delete([key]);
  await receive(60);
  expect(at.lost).toMatchObject({ code: "archive-vanished", retryable: true });
  expect([watch.acknowledgeable(lsn(150)), watch.releasable(lsn(150))]).toEqual([100n, 100n]);
});

test("an archive without claims, as `backup --with-wal` makes one, is there until it is removed", async () => {
  const { store, at, receive } = await watching({ claim: 0 });
  await receive(60);
  await receive(60);
  expect(at.lost).toBeUndefined();
  for await (const { key } of store.list("main/")) await store.delete([key]);
  await receive(60);
  expect(at.lost).toMatchObject({ code: "archive-vanished" });
});

test("an archive that is removed while WAL flows is noticed within fifteen seconds", async () => {
  const { store, at, receive } = await watching({ claim: 1 });
  const keys: string[] = [];
  for await (const { key } of store.list("main/")) keys.push(key);
  await store.delete(keys);
  await receive(5);
  await receive(5);
  expect(at.lost).toBeUndefined();
  await receive(5);
  expect(at.lost).toMatchObject({ code: "archive-vanished" });
});

test("a generation that ended under its receiver is acknowledged no further, and not tried again", async () => {
  const { store, archive, at, watch, receive } = await watching({ claim: 1 });
  await receive(60);
  expect(at.lost).toBeUndefined();
  const successor = { ...archive.identity, systemIdentifier: 2n };
  const plan = await planSuccessor(store, "main", successor);
  if (plan.kind !== "successor") throw new Error("it is the newest already");
  await declareSuccessor(store, plan, successor, { codec: archive.codec });
  await receive(60);
  expect(at.lost).toMatchObject({ code: "generation-ended", retryable: false });
  expect(at.lost?.hint).toContain("seawall cluster remove --cluster main@2 --confirm main@2");
  expect(watch.acknowledgeable(lsn(150))).toBe(100n);
});

test("a store that does not answer for the line holds up no acknowledgement for good, and is asked again", async () => {
  const { store, archive, at, watch, receive } = await watching({ claim: 1 });
  store.failpoint({ operation: "head", key: /line/, fault: "fail-before" });
  await receive(60);
  expect(watch.acknowledgeable(lsn(150))).toBe(150n);
  const stalled = store.failpoint({ operation: "head", key: /line/, fault: "stall" });
  await receive(60);
  expect(stalled.hits).toBe(1);
  expect(watch.acknowledgeable(lsn(150))).toBe(150n);
  stalled.release();
  await putClaim(archive, claim(2, 2, "take-over", [1, 150]));
  await receive(5);
  expect(at.lost).toMatchObject({ code: "line-taken", retryable: true });
  expect(watch.acknowledgeable(lsn(150))).toBe(100n);
});

test("a directory behind a spool that answers no call: WAL is acknowledged, no second call hangs, the stream can end", async () => {
  let calls = 0;
  const hanging = async (): Promise<Archive> => {
    calls++;
    return new Promise(() => undefined);
  };
  const { at, watch, receive } = await watching({ claim: 1 }, hanging);
  await receive(60);
  expect(watch.acknowledgeable(lsn(150))).toBe(150n);
  at.nowMs += 60_000;
  watch.received();
  expect(watch.acknowledgeable(lsn(150))).toBe(150n);
  expect(calls).toBe(1);
  await watch.end();
}, 60_000);

test("no request is sent without WAL, nor more than one in five seconds", async () => {
  const { store, at, watch, receive } = await watching({ claim: 1 });
  const looks = store.failpoint({ operation: "head", key: /line/, fault: "late", nth: 1, times: Infinity });
  looks.release();
  at.nowMs = 4_999;
  for (let i = 0; i < 100; i++) watch.received();
  expect(looks.hits).toBe(0);
  await receive(1);
  for (let i = 0; i < 100; i++) watch.received();
  await watch.end();
  expect(looks.hits).toBe(1);
});

test("a failover's claim stops acknowledgements at what it knew, and WAL that was stored past that ends the stream", async () => {
  const { archive, at, watch, receive } = await watching({ claim: 1 });
  await putClaim(archive, claim(2, 2, "failover", [1, 150]));
  await receive(5);
  expect(at.lost).toBeUndefined();
  expect([lsn(140), lsn(160)].map((stored) => watch.acknowledgeable(stored))).toEqual([140n, 150n]);
  // The archive is there: bytes that it has need not stay in a spool.
  expect(watch.releasable(lsn(160))).toBe(160n);
  watch.stored(lsn(160));
  expect(at.lost).toMatchObject({ code: "line-taken" });
  expect([watch.acknowledgeable(lsn(160)), watch.releasable(lsn(160))]).toEqual([100n, 100n]);
});

test("a failover's claim over WAL that is stored already ends the stream at once", async () => {
  const { archive, at, receive } = await watching({ claim: 1 });
  await putClaim(archive, claim(2, 2, "failover", [1, 120]));
  await receive(5);
  expect(at.lost).toMatchObject({ code: "line-taken" });
});

test.each([
  { line: 1, lost: false },
  { line: 2, lost: true },
])("a spool that began while its store was away finds timeline $line as the line", async ({ line, lost }) => {
  const { archive, at, receive } = await watching({ claim: undefined });
  if (line === 2) await putClaim(archive, claim(2, 2, "take-over", [1, 100]));
  await receive(0);
  expect(at.lost !== undefined).toBe(lost);
});
