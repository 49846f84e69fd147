/** The notifications of a cluster over its life and over those of its daemons: told once, remembered, never too much. */
import { describe, expect, test } from "vitest";
import { openArchiveFor } from "../../src/archive/archive.ts";
import { listNotices } from "../../src/archive/records/notices.ts";
import type { NoticeBody } from "../../src/daemon/notify/notice.ts";
import { Notifier } from "../../src/daemon/notify/notifier.ts";
import type { Attempt } from "../../src/daemon/notify/attempt.ts";
import { Channel } from "../../src/daemon/notify/channel.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { SeawallError } from "../../src/errors.ts";
import { silentLog } from "../../src/log.ts";
import { runCodec } from "../harness/encryption.ts";
import { MemoryStore } from "../harness/memory-store.ts";
import type { Store } from "../../src/store/store.ts";
import { FaultyStore } from "../harness/faulty-store.ts";
import { statusFixture, StatusStory } from "./fixture.ts";

const IDENTITY = { systemIdentifier: 7n, segmentSize: 1 << 20, pgMajor: 18, createdAt: "2026-01-01T00:00:00.000Z" };
const WELL: Partial<StatusDocument> = { state: "streaming", rpoSeconds: 0, errors: [] };
const AWAY: Partial<StatusDocument> = { state: "waiting", rpoSeconds: 60, errors: [] };
const MINUTE = 60_000;
const TUNING = { events: "all", scrub: (text: string) => text, notifyAfterMs: 2 * MINUTE };
const GAP = {
  ...{ timeline: 1, fromLsn: "0/3000000", toLsn: "0/5000000", reason: "removed" },
  ...{ detectedAt: "2026-11-20T10:00:30.000Z", coveredBy: null, lastCommitAt: null },
};

/** A machine on which daemons of one cluster come and go. */
class Machine {
  nowMs = Date.parse("2026-11-20T10:00:00.000Z");
  readonly sent: NoticeBody[] = [];
  #story = new StatusStory();
  answer: Attempt = { outcome: "accepted", detail: "ok" };
  readonly store: Store;
  readonly wanted: string;
  readonly host: string;
  notifier: Notifier;

  constructor(store: Store, wanted = "all", host = "db1") {
    this.store = store;
    this.wanted = wanted;
    this.host = host;
    this.notifier = this.start();
  }

  start(memory?: ConstructorParameters<typeof Notifier>[0]["memory"]): Notifier {
    const deliver = async (message: { readonly body: string }): Promise<Attempt> => {
      await Promise.resolve();
      if (this.answer.outcome === "accepted") this.sent.push(JSON.parse(message.body) as NoticeBody);
      return this.answer;
    };
    const common = { scrub: (text: string) => text, log: silentLog, nowMs: () => this.nowMs };
    const channel = new Channel({ ...common, name: "webhook", deliver, random: () => 1 });
    return (this.notifier = new Notifier(
      { ...common, cluster: "main", host: this.host, store: this.store, memory },
      { ...TUNING, events: this.wanted, channels: [channel] },
    ));
  }

  /** So long in that state, looked at every ten seconds. */
  async pass(minutes: number, changes: Partial<StatusDocument>): Promise<void> {
    for (let look = 0; look < minutes * 6; look++) {
      this.nowMs += 10_000;
      this.notifier.look(this.#story.at(this.nowMs, { cluster: "main", ...changes }));
      await settled();
    }
  }

  async restart(failure?: unknown): Promise<void> {
    await this.notifier.end(failure);
    this.#story = new StatusStory();
    this.start();
  }

  get events(): string[] {
    return this.sent.map(({ event }) => event);
  }
}

/** Memory stores answer within a few turns of the event loop. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function machineOn(store: Store = new MemoryStore(), events?: string): Promise<Machine> {
  await openArchiveFor(store, "main", IDENTITY, { codec: runCodec });
  return new Machine(store, events);
}

describe("an outage", () => {
  test("is told once, and its end once", async () => {
    const machine = await machineOn();
    await machine.pass(5, WELL);
    await machine.pass(60, AWAY);
    await machine.pass(5, WELL);
    await machine.notifier.end();
    expect(machine.events).toEqual(["receiver-stalled", "receiver-recovered"]);
    expect(machine.notifier.view).toMatchObject({ omitted: 0, channels: [{ channel: "webhook", delivered: 2 }] });
  });

  test("is told again a day later", async () => {
    const machine = await machineOn();
    await machine.pass(24 * 60, AWAY);
    expect(machine.events).toEqual(["receiver-stalled", "receiver-stalled"]);
    expect(new Set(machine.sent.map(({ id }) => id)).size).toBe(2);
  });

  test("that outlasts the daemon is not told again by the next one, but its end is", async () => {
    const machine = await machineOn();
    await machine.pass(5, AWAY);
    for (let start = 0; start < 5; start++) {
      await machine.restart();
      await machine.pass(5, AWAY);
    }
    await machine.restart();
    await machine.pass(5, WELL);
    await machine.restart();
    await machine.pass(5, WELL);
    expect(machine.events).toEqual(["receiver-stalled", "receiver-recovered"]);
  });

  test("in which the store is away, too, is told all the same", async () => {
    const store = new FaultyStore(new MemoryStore());
    const machine = await machineOn(store);
    for (const operation of ["get", "list", "put"] as const)
      store.failpoint({ operation, fault: "fail-before", times: Infinity });
    await machine.pass(5, AWAY);
    await machine.pass(5, WELL);
    expect(machine.events).toEqual(["receiver-stalled", "receiver-recovered"]);
  });
});

test("what is still on its way when the store comes back is not told again", async () => {
  const store = new FaultyStore(new MemoryStore());
  const machine = await machineOn(store);
  const point = store.failpoint({ operation: ["get", "list"], fault: "fail-before", times: Infinity });
  machine.answer = { outcome: "again", detail: "busy", notBeforeMs: 500 };
  await machine.pass(5, AWAY);
  point.remove();
  await machine.pass(3, { ...AWAY, gaps: [GAP] });
  machine.answer = { outcome: "accepted", detail: "ok" };
  await machine.notifier.end();
  expect(machine.events).toEqual(["receiver-stalled", "gap-recorded"]);
});

describe("a daemon that is started again and again", () => {
  test("tells of the same end once, until it has been well", async () => {
    const machine = await machineOn();
    const failure = new SeawallError("wal-corrupt", "record at 0/3000028 is torn");
    for (let start = 0; start < 30; start++) {
      await machine.pass(1, { state: "connecting", storedLsn: null, rpoSeconds: null });
      await machine.restart(failure);
    }
    expect(machine.events).toEqual(["receiver-failed"]);
    await machine.pass(5, WELL);
    await machine.restart(failure);
    expect(machine.events).toEqual(["receiver-failed", "receiver-recovered", "receiver-failed"]);
  });

  test("reports another end, and one that no channel has accepted yet", async () => {
    const machine = await machineOn();
    machine.answer = { outcome: "refused", detail: "HTTP status 403" };
    await machine.restart(new SeawallError("wal-corrupt", "torn"));
    machine.answer = { outcome: "accepted", detail: "ok" };
    await machine.restart(new SeawallError("wal-corrupt", "torn"));
    await machine.restart(new SeawallError("wal-corrupt", "torn"));
    await machine.restart(new SeawallError("segment-conflict", "two clusters"));
    expect(machine.sent.map(({ details }) => details["code"])).toEqual(["wal-corrupt", "segment-conflict"]);
  });

  test("tells of a gap and of a missed run once", async () => {
    const machine = await machineOn();
    const missed = {
      job: "verify",
      schedule: "0 2 * * *",
      timeZone: "UTC",
      nextAt: "2026-11-20T10:05:00.000Z",
    } as const;
    const counts = { waitingSince: null, runningSince: null, last: null, lastSuccessAt: null, runs: 0, failures: 0 };
    const jobs = [{ ...missed, ...counts, scheduledAt: "2026-11-20T02:00:00.000Z" }];
    for (let start = 0; start < 20; start++) {
      await machine.pass(1, { ...WELL, gaps: [GAP], jobs });
      await machine.restart();
    }
    expect(machine.events.sort()).toEqual(["gap-recorded", "schedule-missed"]);
  });
});

test("a second daemon that waits for the slot tells of itself, and takes no word from the first one's mouth", async () => {
  const first = await machineOn();
  const second = new Machine(first.store, "all", "db2");
  await first.pass(5, { ...WELL, gaps: [GAP] });
  await second.pass(5, AWAY);
  await first.restart();
  await first.pass(5, WELL);
  await first.pass(5, AWAY);
  await second.restart();
  // Its turn has come: what was told of the archive it does not repeat.
  await second.pass(5, { ...WELL, gaps: [GAP] });
  expect(first.events).toEqual(["gap-recorded", "receiver-stalled"]);
  expect(second.events).toEqual(["receiver-stalled", "receiver-recovered"]);
});

test("an event that is not asked for is not reported, and neither is its end", async () => {
  const machine = await machineOn(new MemoryStore(), "-receiver-stalled");
  await machine.pass(5, { ...AWAY, gaps: [GAP] });
  await machine.pass(5, { ...WELL, gaps: [GAP] });
  expect(machine.events).toEqual(["gap-recorded"]);
});

test("beyond thirty messages an hour the rest is counted, and the count is told when there is room again", async () => {
  const machine = await machineOn();
  const gaps = Array.from({ length: 45 }, (_, n) => ({ ...GAP, fromLsn: `0/${n + 10}00000` }));
  await machine.pass(10, { ...WELL, gaps });
  expect(machine.sent).toHaveLength(30);
  expect(machine.notifier.view).toMatchObject({ omitted: 15 });
  await machine.pass(60, { ...WELL, gaps });
  expect(machine.sent).toHaveLength(31);
  expect(machine.sent.at(-1)).toMatchObject({
    ...{ event: "notices-omitted", severity: "warning" },
    details: { omitted: 15, events: { "gap-recorded": 15 } },
  });
  // An end by an error is told, whatever the ceiling says.
  await machine.pass(1, { ...WELL, gaps: gaps.map((gap) => ({ ...gap, timeline: 2 })) });
  await machine.restart(new SeawallError("wal-corrupt", "torn"));
  expect(machine.events.at(-1)).toBe("receiver-failed");
});

test("what is remembered in the store is little, and documented", async () => {
  const machine = await machineOn();
  for (let n = 0; n < 10; n++) {
    await machine.pass(70, {
      ...WELL,
      gaps: Array.from({ length: 10 }, (_, i) => ({ ...GAP, timeline: n, fromLsn: `0/${i}000000` })),
    });
  }
  const archive = await openArchiveFor(machine.store, "main", IDENTITY, { codec: runCodec });
  const kept = await listNotices(archive, new Date());
  expect(kept).toHaveLength(64);
  expect(Object.keys(kept[0] ?? {}).sort()).toEqual(["event", "id", "kind", "state", "subject", "toldAt"]);
  expect(kept.at(-1)).toMatchObject({
    event: "gap-recorded",
    kind: "once",
    subject: expect.stringMatching(/^gap 9 /) as unknown,
  });
});

test("a reload changes whom it tells, and of what; what was told stays told", async () => {
  const machine = await machineOn();
  await machine.pass(5, AWAY);
  const told: string[] = [];
  const deliver = async ({ event }: { readonly event: string }): Promise<Attempt> => {
    await Promise.resolve();
    told.push(event);
    return { outcome: "accepted", detail: "ok" };
  };
  const common = { scrub: (text: string) => text, log: silentLog, nowMs: () => machine.nowMs };
  const channel = new Channel({ ...common, name: "command", deliver, random: () => 1 });
  machine.notifier.retune({ ...TUNING, events: "-gap-recorded", channels: [channel] });
  await machine.pass(5, { ...AWAY, gaps: [GAP] });
  await machine.pass(5, { ...WELL, gaps: [GAP] });
  expect(machine.events).toEqual(["receiver-stalled"]);
  expect(told).toEqual(["receiver-recovered"]);
  expect(machine.notifier.view?.channels).toMatchObject([{ channel: "command", delivered: 1 }]);
  machine.notifier.retune({ ...TUNING, channels: [] });
  await machine.notifier.end();
  expect(machine.notifier.view).toBeNull();
});

test("a status that makes no sense ends nothing", async () => {
  const machine = await machineOn();
  const strange = { ...WELL, durability: "spool", spoolBytes: 1, uploadedLsn: "nonsense" } as const;
  await machine.pass(1, strange);
  await machine.pass(5, AWAY);
  expect(machine.events).toEqual(["receiver-stalled"]);
});

test("without a channel nothing is looked at, asked or kept", async () => {
  const store = new FaultyStore(new MemoryStore());
  store.failpoint({ operation: "list", fault: "fail-before", times: Infinity });
  const common = { log: silentLog, nowMs: () => 0, store };
  const silent = new Notifier({ ...common, cluster: "main", host: "h" }, { ...TUNING, channels: [] });
  silent.look(statusFixture({ gaps: [GAP] }));
  await silent.end(new Error("x"));
  expect(silent.view).toBeNull();
});

describe("lives of one cluster in one process", () => {
  const gone = new SeawallError("store-missing", "the bucket is not there");

  test("do not repeat to each other what the store cannot keep", async () => {
    const machine = new Machine(new MemoryStore());
    const memory: NonNullable<ConstructorParameters<typeof Notifier>[0]["memory"]> = [];
    for (let life = 0; life < 5; life++) {
      machine.start(memory);
      await machine.notifier.end(gone);
      machine.nowMs += 5 * MINUTE;
    }
    expect(machine.events).toEqual(["receiver-failed"]);
    machine.start(memory);
    await machine.notifier.end(new SeawallError("wal-diverged", "another reason"));
    expect(machine.events).toEqual(["receiver-failed", "receiver-failed"]);
  });

  test("write nothing into an archive that is another cluster's", async () => {
    const machine = await machineOn();
    await machine.restart(new SeawallError("foreign-cluster", "it belongs to system identifier 7"));
    expect(machine.events).toEqual(["receiver-failed"]);
    const archive = await openArchiveFor(machine.store, "main", IDENTITY, { codec: runCodec });
    expect(await listNotices(archive, new Date())).toEqual([]);
  });
});
