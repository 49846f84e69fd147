/**
 * Recovery through the prefetching restore_command when things go wrong. Promise 6: an outage, a gap or damage stops
 * recovery and never ends it short of the tip; and whatever is killed, at any moment, no wrong WAL is handed out.
 */
import { existsSync, readdirSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection } from "node:net";
import { describe, expect, test } from "vitest";
import { segmentKey } from "../../src/archive/keys.ts";
import type { SegmentNumber } from "../../src/wal/lsn.ts";
import { parseWalFileName } from "../../src/wal/names.ts";
import { type PostgresServer, oldestAndNewest, versionsUnderTest } from "../harness/postgres.ts";
import { announcedRandom } from "../harness/random.ts";
import { startS3 } from "../harness/s3.ts";
import { startTcp } from "../store/scripted-s3.ts";
import {
  archivedPrimary,
  CountedCommand,
  directoryPlace,
  filesOpenIn,
  prefetchersOf,
  recovered,
  recoverThrough,
  rowsOf,
  s3Place,
} from "./servers.ts";

const s3 = await startS3();
/** A window of three segments, so that trouble in the middle is met in the middle; and little patience. */
const FLAGS = ["--prefetch-max", "3MiB", "--store-retry-for", "1s"];
const SEGMENT = 1 << 20;

/** Waits until recovery has been given so many segments. */
async function restoredSegments(server: PostgresServer, count: number): Promise<void> {
  while ((server.log().match(/restored log file/g)?.length ?? 0) < count) {
    if (!server.running) throw new Error(`recovery has ended:\n${server.log().slice(-2000)}`);
    await sleep(5);
  }
}

/** The server gives up by itself, and has neither promoted nor taken anything for the end of WAL. */
async function expectStopped(server: PostgresServer, reason: RegExp): Promise<void> {
  expect(await server.exited()).not.toBe(0);
  expect(server.log()).toMatch(reason);
  expect(server.log()).toMatch(/could not restore file "\w+" from archive: child process exited with exit code 200/);
  expect(server.log()).not.toContain("selected new timeline");
  expect(existsSync(join(server.walDir, "00000002.history"))).toBe(false);
}

async function expectComplete(server: PostgresServer, rows: number): Promise<void> {
  await recovered(server);
  expect(await rowsOf(server)).toBe(rows);
  await expect.poll(() => existsSync(join(server.walDir, ".seawall")), { timeout: 60_000 }).toBe(false);
}

describe.each(oldestAndNewest())("PostgreSQL %i", (version) => {
  test("the directory vanishes in the middle, a segment is missing, then damaged: recovery stops, and goes on when it is healed", async () => {
    await using place = await directoryPlace();
    await using archived = await archivedPrimary({ version, place, segments: 16 });
    const [copy] = archived.copies;
    if (copy === undefined) throw new Error("no copy");
    using counted = new CountedCommand(place, FLAGS);
    recoverThrough(copy, counted.command);

    await copy.start({ wait: false });
    await restoredSegments(copy, 3);
    renameSync(place.folder, `${place.folder}-away`);
    await expectStopped(copy, /archive-absent|store-/);
    renameSync(`${place.folder}-away`, place.folder);

    const last = archived.primary.walFiles().at(-4) ?? "";
    const parsed = parseWalFileName(last, SEGMENT);
    if (parsed?.kind !== "segment") throw new Error(`no segment: ${last}`);
    const segment = (parsed.segment - 1) as SegmentNumber;
    const key = segmentKey("main", { timeline: parsed.timeline, segment, segmentSize: SEGMENT });
    const found = await place.store.get(key);
    if (found === undefined) throw new Error(`${key} is not there`);
    await place.store.delete([key]);
    await copy.start({ wait: false });
    await expectStopped(copy, /wal-gap/);

    const damaged = Buffer.from(found.body);
    const middle = damaged.length >> 1;
    damaged[middle] = (damaged[middle] ?? 0) ^ 4;
    await place.store.put(key, damaged);
    await place.share();
    await copy.start({ wait: false });
    await expectStopped(copy, /object-corrupt/);

    await place.store.delete([key]);
    await place.store.put(key, found.body);
    await place.share();
    await copy.start();
    await expectComplete(copy, archived.rows);
  }, 300_000);
});

// What follows is the same for every version.
const newest = versionsUnderTest().at(-1) ?? 18;

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Ended meanwhile.
  }
}

test("SIGKILL for prefetchers and for the whole server, again and again: every row is there, nothing is left", async () => {
  const random = announcedRandom("killed recovery", 61);
  await using place = await directoryPlace();
  await using archived = await archivedPrimary({ version: newest, place, segments: 60 });
  const [copy] = archived.copies;
  if (copy === undefined) throw new Error("no copy");
  using counted = new CountedCommand(place, FLAGS);
  recoverThrough(copy, counted.command);
  for (let round = 0; round < 4 && !copy.log().includes("selected new timeline"); round++) {
    await copy.start({ wait: false });
    await expect.poll(() => prefetchersOf(place.url).length, { timeout: 60_000 }).toBeGreaterThan(0);
    await sleep(random.between(0, 400));
    const prefetchers = prefetchersOf(place.url);
    // Nothing of the server's: not its log, nor files whose space would not come back.
    const open = prefetchers.flatMap(filesOpenIn).filter((path) => path.startsWith(dirname(copy.dataDir)));
    // postmaster.pid and pg_control are looked at for a moment, again and again.
    expect(open.filter((path) => !/\/pg_wal\/\.seawall\/|\/(postmaster\.pid|pg_control)$/.test(path))).toEqual([]);
    if (random.chance(0.5)) prefetchers.forEach(kill);
    await sleep(random.between(0, 200));
    await copy.kill9();
  }
  await copy.start({ wait: false });
  prefetchersOf(place.url).forEach(kill);
  await copy.waitReady();
  await expectComplete(copy, archived.rows);
  await expect.poll(() => prefetchersOf(place.url), { timeout: 60_000 }).toEqual([]);
  expect(readdirSync(copy.walDir).filter((name) => name.includes("seawall"))).toEqual([]);
}, 300_000);

type Mode = "up" | "slow" | "down" | "denying";

/** In front of the S3 server; what it does can be changed at any time, also for connections that are open. */
async function startGate(): Promise<{ endpoint: string; mode: Mode } & AsyncDisposable> {
  const { hostname, port } = new URL(s3.endpoint);
  const gate = { mode: "up" as Mode };
  const server = await startTcp((socket) => {
    if (gate.mode === "down") return void socket.destroy();
    const onward = createConnection(Number(port), hostname);
    onward.on("error", () => socket.destroy());
    onward.on("close", () => socket.destroy());
    socket.on("close", () => onward.destroy());
    socket.on("data", (bytes: Buffer) => {
      if (gate.mode === "down") return void socket.destroy();
      if (gate.mode === "denying") {
        const body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        return void socket.end(
          `HTTP/1.1 403 Forbidden\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
        );
      }
      setTimeout(() => onward.write(bytes), gate.mode === "slow" ? 150 : 0);
    });
    onward.on("data", (bytes: Buffer) => void socket.write(bytes));
  });
  return Object.assign(gate, {
    endpoint: server.endpoint,
    [Symbol.asyncDispose]: async () => server[Symbol.asyncDispose](),
  });
}

test.skipIf(!s3.available)(
  "S3 goes down, denies, is slow: recovery stops, stops, and goes on to the end",
  async () => {
    await using place = await s3Place(s3);
    await using archived = await archivedPrimary({ version: newest, place, segments: 12 });
    await using gate = await startGate();
    const [copy] = archived.copies;
    if (copy === undefined) throw new Error("no copy");
    const { host } = new URL(gate.endpoint);
    const url = place.url.replace(encodeURIComponent(new URL(s3.endpoint).host), encodeURIComponent(host));
    expect(url).not.toBe(place.url);
    using counted = new CountedCommand(place, FLAGS, url);
    recoverThrough(copy, counted.command);
    for (const [mode, reason] of [
      ["down", /store-unavailable|store-/],
      ["denying", /store-denied/],
    ] as const) {
      const before = copy.log().match(/restored log file/g)?.length ?? 0;
      gate.mode = "up";
      await copy.start({ wait: false });
      await restoredSegments(copy, before + 2);
      gate.mode = mode;
      await expectStopped(copy, reason);
    }
    gate.mode = "slow";
    await copy.start();
    await expectComplete(copy, archived.rows);
    await expect.poll(() => prefetchersOf(url), { timeout: 60_000 }).toEqual([]);
  },
  90_000,
);
