/**
 * The prefetcher in this process, beside the files of a server: what it fetches and what it never keeps, its bounds, and
 * when it ends. With a real server: recovery.test.ts.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { segmentKey } from "../../src/archive/keys.ts";
import { PrefetchFolder, type Session } from "../../src/restore/fetch/prefetch-folder.ts";
import { planPrefetch, positionAfter, segmentsWithin } from "../../src/restore/fetch/prefetch-plan.ts";
import { type PrefetchOptions, runPrefetcher } from "../../src/restore/fetch/prefetch.ts";
import type { ServerRun } from "../../src/restore/server-run.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import { addBytes, type SegmentNumber, segmentStart, timelineOf } from "../../src/wal/lsn.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { nameOf, recoveringServer, seal, SEGMENT_SIZE, segmentContent, smallArchive } from "./recovering.ts";
import { putChunkWithDigest } from "../archive/tail-archive.ts";

const MIB = 1 << 20;

describe("planPrefetch", () => {
  const at = (segment: number) => ({ timeline: timelineOf(1), segment: segment as SegmentNumber });
  const set = (...segments: number[]) => new Set(segments as SegmentNumber[]);
  const cases: {
    title: string;
    position: number;
    have: number[];
    missing?: number;
    fetch: number | undefined;
    remove: number[];
  }[] = [
    { title: "begins behind the position", position: 5, have: [], fetch: 6, remove: [] },
    { title: "goes on in order", position: 5, have: [6, 7], fetch: 8, remove: [] },
    { title: "fills a hole first", position: 5, have: [6, 8], fetch: 7, remove: [] },
    { title: "stops at its bound", position: 5, have: [6, 7, 8, 9], fetch: undefined, remove: [] },
    { title: "removes what recovery has passed", position: 7, have: [6, 7, 8], fetch: 9, remove: [6, 7] },
    { title: "removes what lies too far ahead now", position: 1, have: [6, 7], fetch: 2, remove: [6, 7] },
    {
      title: "asks for nothing behind a missing one",
      position: 5,
      have: [6],
      missing: 7,
      fetch: undefined,
      remove: [],
    },
    { title: "asks for what lies before a missing one", position: 5, have: [], missing: 7, fetch: 6, remove: [] },
  ];
  test.each(cases)("$title", ({ position, have, missing, fetch, remove }) => {
    const plan = planPrefetch({
      position: at(position),
      have: set(...have),
      missing: missing as SegmentNumber | undefined,
      segmentsMax: 4,
    });
    expect(plan).toEqual({ fetch, remove });
  });

  test("the position is the last segment taken, and never moves back by that", () => {
    const position = at(5);
    expect(positionAfter(position, [])).toBe(position);
    expect(positionAfter(position, [7, 6] as SegmentNumber[])).toEqual(at(7));
    expect(positionAfter(position, [4] as SegmentNumber[])).toBe(position);
  });

  test("bytes and number bound what may wait", () => {
    expect(segmentsWithin(256 * MIB, 16 * MIB)).toBe(16);
    expect(segmentsWithin(256 * MIB, MIB)).toBe(64);
    expect(segmentsWithin(256 * MIB, 1024 * MIB)).toBe(0);
  });
});

describe("the prefetcher", () => {
  let dir = "";
  let run: ServerRun;
  let store: FaultyStore;
  let archive: Archive;
  let session: Session;
  let stop: AbortController;
  let ended: Promise<void> = Promise.resolve();

  beforeEach(async () => {
    dir = makeTempDir("prefetch");
    run = await recoveringServer(dir);
    store = new FaultyStore(new MemoryStore());
    archive = await smallArchive(store);
    session = { run: run.id, flags: "--store x", source: "x main", config: "" };
    stop = new AbortController();
  });
  afterEach(async () => {
    stop.abort();
    await ended.catch(() => undefined);
    removeTree(dir);
  });

  function start(changes: Partial<PrefetchOptions> = {}): void {
    ended = runPrefetcher({
      store,
      cluster: "main",
      identities: runCodec.identities,
      run,
      session,
      after: nameOf(1),
      bytesMax: 4 * MIB,
      idleMsMax: 60_000,
      signal: stop.signal,
      ...changes,
    });
    ended.catch(() => undefined);
  }

  const root = () => join(dir, "pg_wal", ".seawall");
  const waiting = (): string[] => {
    const own = existsSync(root()) ? readdirSync(root()).find((name) => name.startsWith("ready-")) : undefined;
    return own === undefined ? [] : readdirSync(join(root(), own)).sort();
  };
  const target = () => join(dir, "pg_wal", "RECOVERYXLOG");
  const take = async (segment: number, timeline = 1): Promise<boolean> =>
    new PrefetchFolder(run).take(session, nameOf(segment, timeline), target());
  const sealUpTo = async (last: number): Promise<void> => {
    for (let segment = 1; segment <= last; segment++) await seal(archive, segment);
  };

  /** Two segments wait, and there are no more. */
  const begun = async (): Promise<void> => {
    await sealUpTo(3);
    start();
    await expect.poll(waiting).toEqual([nameOf(2), nameOf(3)]);
  };
  /** What it has made stays there, as when it is killed. */
  const killed = async (): Promise<void> => {
    renameSync(root(), `${root()}-copy`);
    stop.abort();
    await ended;
    renameSync(`${root()}-copy`, root());
    // No process has the dead one's ID now.
    writeFileSync(join(root(), "prefetcher"), "2147483646");
  };

  test("fetches the segments behind the position, so many and no more, and goes on as they are taken", async () => {
    await sealUpTo(12);
    start();
    await expect.poll(waiting).toEqual([2, 3, 4, 5].map((segment) => nameOf(segment)));
    for (let segment = 2; segment <= 12; segment++) {
      await expect.poll(async () => take(segment)).toBe(true);
      expect(readFileSync(target()).equals(segmentContent(segment))).toBe(true);
      expect(waiting().length).toBeLessThanOrEqual(4);
    }
    await expect.poll(waiting).toEqual([]);
  });

  test("never keeps that something is not there: it is there as soon as it is sealed and recovery has moved", async () => {
    await begun();
    expect(await take(4)).toBe(false);
    await seal(archive, 4);
    expect(await take(2)).toBe(true);
    await expect.poll(waiting).toEqual([nameOf(3), nameOf(4)]);
  });

  test("keeps no segment that is damaged, of another cluster or of another place, and none behind it", async () => {
    await seal(archive, 2);
    await seal(archive, 3, 1, segmentContent(3, 1, { systemIdentifier: 1n }));
    await seal(archive, 4);
    start({ bytesMax: 2 * MIB });
    await expect.poll(waiting).toEqual([nameOf(2)]);
    const place = { timeline: timelineOf(2), segment: 3 as SegmentNumber, segmentSize: SEGMENT_SIZE };
    await seal(archive, 2, 2);
    await seal(archive, 3, 2, segmentContent(4, 2));
    await new PrefetchFolder(run).noteAsked(nameOf(1, 2));
    await expect.poll(waiting, { timeout: 60_000 }).toEqual([nameOf(2, 2)]);
    expect(store.calls.some(({ key }) => key === segmentKey("main", place))).toBe(true);
  }, 300_000);

  test("follows recovery to another timeline and drops what waited on the old one", async () => {
    await sealUpTo(6);
    for (const segment of [3, 4, 5]) await seal(archive, segment, 2);
    start();
    await expect.poll(waiting).toEqual([2, 3, 4, 5].map((segment) => nameOf(segment)));
    await new PrefetchFolder(run).noteAsked(nameOf(3, 2));
    await expect.poll(waiting).toEqual([nameOf(4, 2), nameOf(5, 2)]);
    expect(await take(4)).toBe(false);
    expect(await take(4, 2)).toBe(true);
    expect(readFileSync(target()).equals(segmentContent(4, 2))).toBe(true);
  });

  describe("asked for what neither waits nor is on its way", () => {
    const wanted = async (file: string): Promise<string[]> => {
      const own = readdirSync(root()).find((name) => name.startsWith("ready-")) ?? "";
      const want = join(root(), own, `${file}.want.77`);
      writeFileSync(want, "");
      await expect.poll(() => existsSync(want)).toBe(false);
      return waiting().filter((name) => name.startsWith(file));
    };

    test("says to the asker that the archive ends before it; anew each time", async () => {
      await begun();
      expect(await wanted(nameOf(4))).toEqual([`${nameOf(4)}.gone.77`]);
      expect(await wanted("00000002.history")).toEqual(["00000002.history.gone.77"]);
      rmSync(join(root(), readdirSync(root()).find((name) => name.startsWith("ready-")) ?? "", `${nameOf(4)}.gone.77`));
      await seal(archive, 4);
      expect(await wanted(nameOf(4))).toEqual([nameOf(4)]);
      expect(await take(4)).toBe(true);
      expect(readFileSync(target()).equals(segmentContent(4))).toBe(true);
    });

    test("goes on from there", async () => {
      await begun();
      for (const segment of [7, 8, 9]) await seal(archive, segment);
      expect(await wanted(nameOf(7))).toEqual([nameOf(7)]);
      await expect.poll(waiting).toEqual([7, 8, 9].map((segment) => nameOf(segment)));
    });

    test("leaves a gap, a tail and an outage to wal-fetch, which says what is the matter or looks once more", async () => {
      await begun();
      await seal(archive, 6);
      expect(await wanted(nameOf(5))).toEqual([]);
      const place = { timeline: timelineOf(1), segment: 7 as SegmentNumber, segmentSize: SEGMENT_SIZE };
      const startLsn = segmentStart(place.segment, SEGMENT_SIZE);
      const endLsn = addBytes(startLsn, 4096);
      const facts = { startLsn, endLsn, verifiedLsn: endLsn };
      await putChunkWithDigest(archive, place, 0, segmentContent(7).subarray(0, 4096), facts, { confirm: false });
      expect(await wanted(nameOf(7))).toEqual([]);
      store.failpoint({ operation: ["get", "head", "list"], fault: "fail-before", times: Infinity });
      expect(await wanted(nameOf(8))).toEqual([]);
      store.heal();
      store.failpoint({ operation: ["get", "head", "list"], fault: "stall", times: Infinity });
      expect(await wanted(nameOf(8))).toEqual([]);
    });
  });

  test("a server that asks again for an earlier segment is followed back", async () => {
    await sealUpTo(9);
    start();
    await expect.poll(async () => take(5)).toBe(true);
    await expect.poll(waiting).toEqual([6, 7, 8, 9].map((segment) => nameOf(segment)));
    await new PrefetchFolder(run).noteAsked(nameOf(2));
    await expect.poll(waiting).toEqual([3, 4, 5, 6].map((segment) => nameOf(segment)));
  });

  test("what is being fetched is seen to be on its way, until it is there or not", async () => {
    await sealUpTo(3);
    const slow = store.failpoint({ operation: "get", key: /\/wal\//, fault: "stall", times: Infinity });
    start();
    await slow.reached;
    await expect.poll(waiting).toEqual([2, 3, 4, 5].map((segment) => `${nameOf(segment)}.part`));
    slow.remove();
    await expect.poll(waiting).toEqual([nameOf(2), nameOf(3)]);
  });

  test("an outage is waited out", async () => {
    await sealUpTo(3);
    const outage = store.failpoint({ operation: "get", key: /\/wal\//, fault: "fail-before", times: Infinity });
    start();
    await outage.reached;
    await expect.poll(waiting).toEqual([]);
    outage.remove();
    await expect.poll(waiting, { timeout: 60_000 }).toEqual([nameOf(2), nameOf(3)]);
  }, 300_000);

  test("a nearly full disk is left to the server", async () => {
    await sealUpTo(3);
    start({ bytesMax: 2 ** 50 });
    await expect.poll(() => existsSync(join(root(), "session"))).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(waiting()).toEqual([]);
    expect(store.calls.some(({ operation, key }) => operation === "get" && key.includes("/wal/"))).toBe(false);
  });

  test("a second one beside it leaves at once and touches nothing", async () => {
    await begun();
    const first = ended;
    start();
    await ended;
    ended = first;
    expect(waiting()).toEqual([nameOf(2), nameOf(3)]);
  });

  test("one that was announced is not started twice, and takes its place when it comes up", async () => {
    await sealUpTo(3);
    const folder = new PrefetchFolder(run);
    await folder.announce(process.pid, session, nameOf(2));
    expect(await folder.isPrefetching()).toBe(true);
    // Recovery waits for it from now on, in the folder that will be its own.
    expect(waiting()).toEqual([`${nameOf(2)}.part`]);
    const announced = readdirSync(root()).filter((name) => name.startsWith("ready-"));
    start();
    await expect.poll(waiting).toEqual([nameOf(2), nameOf(3)]);
    expect(readdirSync(root()).filter((name) => name.startsWith("ready-"))).toEqual(announced);
  });

  test("one that was announced and never came up is replaced", async () => {
    await sealUpTo(3);
    const folder = new PrefetchFolder(run);
    await folder.announce(2_147_483_646, session, nameOf(2));
    expect(await folder.isPrefetching()).toBe(false);
    start();
    await expect.poll(waiting).toEqual([nameOf(2), nameOf(3)]);
  });

  test("what a killed one has left is of no use to another start of the server, and is removed", async () => {
    await begun();
    await killed();
    const left = readdirSync(root()).find((name) => name.startsWith("ready-")) ?? "";
    expect(left).not.toBe("");

    run = await recoveringServer(dir, { startedAt: 1_700_000_001 });
    session = { ...session, run: run.id };
    expect(await take(2)).toBe(false);
    stop = new AbortController();
    start({ after: nameOf(2) });
    await expect.poll(waiting).toEqual([nameOf(3)]);
    expect(existsSync(join(root(), left))).toBe(false);
  });

  test("wal-fetch removes what a killed one has left when there is nothing to prefetch", async () => {
    await begun();
    await killed();
    writeFileSync(join(root(), "target-2147483646"), "half a segment");
    await new PrefetchFolder(run).sweep();
    expect(existsSync(root())).toBe(false);
  });

  const endings: { title: string; end: () => Promise<void> | void }[] = [
    { title: "it is told to", end: () => stop.abort() },
    { title: "recovery has ended", end: () => rmSync(join(dir, "recovery.signal")) },
    { title: "the server has ended", end: () => rmSync(join(dir, "postmaster.pid")) },
    { title: "the server was started again", end: async () => void (await recoveringServer(dir, { startedAt: 2 })) },
    { title: "another prefetcher has taken over", end: () => writeFileSync(join(root(), "prefetcher"), "1") },
  ];
  test.each(endings)("ends when $title, and leaves nothing", async ({ end }) => {
    await begun();
    await end();
    await ended;
    expect(waiting()).toEqual([]);
    const left = existsSync(root()) ? readdirSync(root()) : [];
    expect(left.filter((name) => name !== "prefetcher" && name !== "session")).toEqual([]);
  });

  test("ends after a long time without a request", async () => {
    await sealUpTo(3);
    start({ idleMsMax: 50 });
    await ended;
    expect(existsSync(root())).toBe(false);
  });

  test("ends when the configuration file changes", async () => {
    const config = join(dir, "seawall.yaml");
    writeFileSync(config, "cluster: main\n");
    session = { ...session, config };
    await sealUpTo(3);
    await new Promise((resolve) => setTimeout(resolve, 20));
    start();
    await expect.poll(waiting).toEqual([nameOf(2), nameOf(3)]);
    writeFileSync(config, "cluster: other\n");
    expect(await take(2)).toBe(false);
    await ended;
    expect(existsSync(root())).toBe(false);
  });

  test("refuses an archive of another cluster", async () => {
    run = await recoveringServer(dir, { systemIdentifier: 42n });
    start();
    await expect(ended).rejects.toMatchObject({ code: "foreign-cluster" });
    expect(existsSync(root())).toBe(false);
  });

  const others: { title: string; change: (session: Session) => Session }[] = [
    { title: "another start of the server", change: (own) => ({ ...own, run: `${own.run}0` }) },
    { title: "other options", change: (own) => ({ ...own, flags: "--store y" }) },
    { title: "another archive by the same options", change: (own) => ({ ...own, source: "y main" }) },
    { title: "another configuration file", change: (own) => ({ ...own, config: "/etc/other.yaml" }) },
  ];
  test.each(others)("what waits is not given to $title", async ({ change }) => {
    await begun();
    expect(await new PrefetchFolder(run).take(change(session), nameOf(2), target())).toBe(false);
    expect(existsSync(target())).toBe(false);
    expect(await take(2)).toBe(true);
  });
});
