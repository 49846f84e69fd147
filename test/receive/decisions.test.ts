/** The receiver's pure decisions, as tables. */
import { describe, expect, test } from "vitest";
import { CommitAges } from "../../src/receive/commit-ages.ts";
import { type FeedbackState, decideFeedback } from "../../src/receive/feedback.ts";
import { Ledger } from "../../src/receive/ledger.ts";
import { reconnectDelay } from "../../src/receive/reconnect.ts";
import { parseMilliseconds } from "../../src/receive/server-facts.ts";
import { type StartFacts, decideStart, segmentAtSlot } from "../../src/receive/start-position.ts";
import { FANOUT, TailLevels } from "../../src/receive/tail-merge.ts";
import type { Lsn, SegmentNumber, TimelineId } from "../../src/wal/lsn.ts";
import type { TimelineHistory } from "../../src/wal/timeline.ts";

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const MIB = 1 << 20;

describe("the ledger", () => {
  test("moves over the contiguous prefix only, in whatever order PUTs end", () => {
    const ledger = new Ledger({ contiguous: lsn(0), stored: lsn(0) });
    expect(ledger.confirm({ from: lsn(20), to: lsn(30), verified: lsn(30) })).toBe(false);
    expect(ledger.confirm({ from: lsn(10), to: lsn(20), verified: lsn(20) })).toBe(false);
    expect(ledger.storedLsn).toBe(0n);
    expect(ledger.confirm({ from: lsn(0), to: lsn(10), verified: lsn(10) })).toBe(true);
    expect(ledger.storedLsn).toBe(30n);
  });

  test("counts a segment that ends inside a record as stored, but reports only up to the last record's end", () => {
    const ledger = new Ledger({ contiguous: lsn(0), stored: lsn(0) });
    ledger.confirm({ from: lsn(0), to: lsn(100), verified: lsn(80) });
    expect(ledger.storedLsn).toBe(80n);
    expect(ledger.contiguousLsn).toBe(100n);
    ledger.confirm({ from: lsn(100), to: lsn(200), verified: lsn(80) });
    expect(ledger.storedLsn).toBe(80n);
    ledger.confirm({ from: lsn(200), to: lsn(230), verified: lsn(230) });
    expect(ledger.storedLsn).toBe(230n);
  });

  test("never moves backwards, and a stretch confirmed twice changes nothing", () => {
    const ledger = new Ledger({ contiguous: lsn(0), stored: lsn(50) });
    expect(ledger.confirm({ from: lsn(0), to: lsn(40), verified: lsn(40) })).toBe(false);
    expect(ledger.storedLsn).toBe(50n);
    ledger.confirm({ from: lsn(0), to: lsn(90), verified: lsn(90) });
    expect(ledger.confirm({ from: lsn(10), to: lsn(60), verified: lsn(60) })).toBe(false);
    expect(ledger.storedLsn).toBe(90n);
  });

  test("a tail that grows for hours behind a hole takes no room", () => {
    const ledger = new Ledger({ contiguous: lsn(0), stored: lsn(0) });
    for (let at = 100; at < 100_000; at++) ledger.confirm({ from: lsn(at), to: lsn(at + 1), verified: lsn(at + 1) });
    expect(ledger.storedLsn).toBe(0n);
    ledger.confirm({ from: lsn(0), to: lsn(100), verified: lsn(90) });
    expect(ledger.storedLsn).toBe(100_000n);
  });

  test("in any order of any cut gives the end of the prefix that is there (seed 7)", () => {
    let seed = 7;
    const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
    for (let round = 0; round < 200; round++) {
      const cuts = [0, ...Array.from({ length: 20 }, () => 1 + random(999)), 1000].sort((a, b) => a - b);
      const stretches = cuts.slice(1).map((to, i) => ({ from: cuts[i] ?? 0, to }));
      const ledger = new Ledger({ contiguous: lsn(0), stored: lsn(0) });
      const done = new Set<number>();
      while (stretches.length > 0) {
        const [stretch] = stretches.splice(random(stretches.length), 1);
        if (stretch === undefined) break;
        ledger.confirm({ from: lsn(stretch.from), to: lsn(stretch.to), verified: lsn(stretch.to) });
        for (let byte = stretch.from; byte < stretch.to; byte++) done.add(byte);
        let prefix = 0;
        while (done.has(prefix)) prefix++;
        expect(ledger.storedLsn).toBe(BigInt(prefix));
      }
    }
  });
});

describe("feedback", () => {
  const limits = { statusIntervalMs: 10_000, askAfterMs: 30_000 };
  const calm: FeedbackState = {
    receivedLsn: lsn(200),
    storedLsn: lsn(100),
    nowMs: 100_000,
    lastSentMs: 95_000,
    lastFlush: lsn(100),
    lastHeardMs: 99_000,
    askedMs: undefined,
    replyDue: false,
    lastReplyMs: -Infinity,
    paused: false,
  };
  const status = { write: 200n, flush: 100n, apply: 100n, replyRequested: false };

  test.each<{ name: string; change: Partial<FeedbackState>; decision: object }>([
    { name: "nothing moved: waits for the interval", change: {}, decision: { kind: "wait", untilMs: 105_000 } },
    {
      name: "storedLsn moved: tells at once, apply equal to flush",
      change: { storedLsn: lsn(150) },
      decision: { kind: "send", status: { write: 200n, flush: 150n, apply: 150n, replyRequested: false } },
    },
    { name: "the interval is over", change: { lastSentMs: 90_000 }, decision: { kind: "send", status } },
    {
      name: "a server that shuts down asks again at once: the same answer waits a moment",
      change: { replyDue: true, lastReplyMs: 99_990 },
      decision: { kind: "wait", untilMs: 100_090 },
    },
    {
      name: "… and goes out at once when something was stored",
      change: { replyDue: true, lastReplyMs: 99_990, storedLsn: lsn(120) },
      decision: { kind: "send", status: { write: 200n, flush: 120n, apply: 120n, replyRequested: false } },
    },
    { name: "the server asks", change: { replyDue: true }, decision: { kind: "send", status } },
    {
      name: "what was reported is never taken back",
      change: { storedLsn: lsn(50), replyDue: true },
      decision: { kind: "send", status },
    },
    {
      name: "what is stored from before a reconnect counts as written too",
      change: { receivedLsn: lsn(20), replyDue: true },
      decision: { kind: "send", status: { write: 100n, flush: 100n, apply: 100n, replyRequested: false } },
    },
    {
      name: "silence: asks for a sign of life",
      change: { lastHeardMs: 70_000 },
      decision: { kind: "send", status: { ...status, replyRequested: true } },
    },
    {
      name: "asked, and still silent: waits its time",
      change: { lastHeardMs: 60_000, askedMs: 90_000 },
      decision: { kind: "wait", untilMs: 105_000 },
    },
    {
      name: "asked and no answer in time: dead",
      change: { lastHeardMs: 40_000, askedMs: 70_000 },
      decision: { kind: "dead", silentMs: 60_000 },
    },
    {
      name: "silence while we do not read proves nothing",
      change: { lastHeardMs: 10_000, askedMs: 20_000, paused: true },
      decision: { kind: "wait", untilMs: 105_000 },
    },
  ])("$name", ({ change, decision }) => {
    expect(decideFeedback({ ...calm, ...change }, limits)).toEqual(decision);
  });
});

describe("the start position", () => {
  const history = (timeline: number, ...entries: [number, number][]): TimelineHistory => ({
    timeline: timeline as TimelineId,
    entries: entries.map(([from, at]) => ({ timeline: from as TimelineId, switchLsn: lsn(at), reason: "" })),
  });
  const tip = (timeline: number, at: number): NonNullable<StartFacts["tip"]> => ({
    timeline: timeline as TimelineId,
    lsn: lsn(at),
    segment: Math.floor(at / MIB) as SegmentNumber,
    anchored: true,
  });
  const facts = (change: Partial<StartFacts>): StartFacts => ({
    tip: undefined,
    server: { timeline: 1 as TimelineId, flushLsn: lsn(9 * MIB + 5), inRecovery: false },
    history: history(1),
    slotRestartLsn: undefined,
    lacksSegmentAtSlot: false,
    ended: new Set(),
    segmentSize: MIB,
    ...change,
  });
  const server = (timeline: number, flush: number, inRecovery = false): StartFacts["server"] => ({
    timeline: timeline as TimelineId,
    flushLsn: lsn(flush),
    inRecovery,
  });

  test.each<{ name: string; change: Partial<StartFacts>; start: object }>([
    {
      name: "an empty archive without a slot: the server's flush LSN, rounded down",
      change: {},
      start: { timeline: 1, segment: 9, from: "server", unanchored: true },
    },
    {
      name: "an empty archive: the slot's restart LSN",
      change: { slotRestartLsn: lsn(4 * MIB + 7) },
      start: { timeline: 1, segment: 4, from: "slot", unanchored: true },
    },
    {
      name: "an empty archive of a promoted server: the timeline that owns the slot's restart LSN",
      change: { server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB]), slotRestartLsn: lsn(4 * MIB) },
      start: { timeline: 1, segment: 4 },
    },
    {
      name: "the archive's tip, before the slot",
      change: { tip: tip(1, 7 * MIB + 9), slotRestartLsn: lsn(4 * MIB) },
      start: { timeline: 1, segment: 7, storedLsn: 7n * BigInt(MIB) + 9n, from: "archive", unanchored: false },
    },
    {
      name: "the slot before the tip, when the archive lacks what the slot keeps: a hole below the tip",
      change: { tip: tip(1, 7 * MIB + 9), slotRestartLsn: lsn(5 * MIB + 1), lacksSegmentAtSlot: true },
      start: { timeline: 1, segment: 5, storedLsn: 5n * BigInt(MIB), from: "slot", unanchored: true },
    },
    {
      name: "the old timeline first, while its end is not stored",
      change: { tip: tip(1, 5 * MIB), server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB + 100]) },
      start: { timeline: 1, segment: 5, finish: undefined },
    },
    {
      name: "the old timeline from where it is stored, with WAL before it",
      change: { tip: tip(1, 5 * MIB + 50), server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB + 100]) },
      start: { timeline: 1, segment: 5, storedLsn: 5n * BigInt(MIB) + 50n, unanchored: false },
    },
    {
      name: "the old timeline of which nothing leads up to the tip",
      change: {
        tip: { ...tip(1, 5 * MIB + 50), anchored: false },
        ...{ server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB + 100]) },
      },
      start: { timeline: 1, segment: 5, unanchored: true },
    },
    {
      name: "the tip of a server that has nothing more than the archive",
      change: { tip: tip(1, 9 * MIB + 5) },
      start: { timeline: 1, segment: 9, storedLsn: 9n * BigInt(MIB) + 5n, from: "archive" },
    },
    {
      name: "a tip that nothing leads up to",
      change: { tip: { ...tip(1, 7 * MIB + 9), anchored: false } },
      start: { timeline: 1, segment: 7, unanchored: true, finish: undefined },
    },
    {
      name: "the next timeline in the segment of the switch point, once the old one is stored to its end",
      change: { tip: tip(1, 6 * MIB + 100), server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB + 100]) },
      start: {
        timeline: 2,
        segment: 6,
        storedLsn: 6n * BigInt(MIB) + 100n,
        finish: { timeline: 1, segment: 6 },
        unanchored: true,
      },
    },
    {
      name: "an old primary sent more than the new one has: the archive keeps it, flush starts at the switch",
      change: { tip: tip(1, 8 * MIB), server: server(2, 9 * MIB), history: history(2, [1, 6 * MIB + 100]) },
      start: { timeline: 2, segment: 6, storedLsn: 6n * BigInt(MIB) + 100n, finish: { timeline: 1, segment: 8 } },
    },
    {
      name: "the timeline after the tip's own, not the server's newest",
      change: { tip: tip(1, 6 * MIB), server: server(5, 9 * MIB), history: history(5, [1, 6 * MIB], [3, 7 * MIB]) },
      start: { timeline: 3, segment: 6 },
    },
    {
      name: "a timeline streamed to its end has ended, whatever lies between its last record and the switch point",
      change: {
        tip: tip(1, 6 * MIB),
        server: server(2, 9 * MIB),
        history: history(2, [1, 6 * MIB + 100]),
        ended: new Set([1 as TimelineId]),
      },
      start: { timeline: 2, segment: 6, storedLsn: 6n * BigInt(MIB) },
    },
  ])("$name", ({ change, start }) => {
    expect(decideStart(facts(change))).toMatchObject(start);
  });

  test.each<{ name: string; change: Partial<StartFacts>; segment: number | undefined }>([
    { name: "one before the tip's", change: { slotRestartLsn: lsn(5 * MIB + 1) }, segment: 5 },
    { name: "none when it is the tip's own", change: { slotRestartLsn: lsn(7 * MIB + 1) }, segment: undefined },
    { name: "none past the tip", change: { slotRestartLsn: lsn(8 * MIB) }, segment: undefined },
    { name: "none without a slot", change: {}, segment: undefined },
    { name: "none of an empty archive", change: { tip: undefined, slotRestartLsn: lsn(5 * MIB) }, segment: undefined },
    {
      name: "none on another timeline than the tip's",
      change: { history: history(2, [1, 6 * MIB]), slotRestartLsn: lsn(5 * MIB) },
      segment: undefined,
    },
  ])("of segments, the archive is asked for $name", ({ change, segment }) => {
    const own = change.history?.timeline ?? 1;
    expect(segmentAtSlot(facts({ tip: tip(own, 7 * MIB + 9), ...change }))).toBe(segment);
  });

  test.each<{ name: string; change: Partial<StartFacts>; code: string }>([
    {
      name: "a history without the tip's timeline",
      change: { tip: tip(2, 5 * MIB), server: server(3, 9 * MIB), history: history(3, [1, 4 * MIB]) },
      code: "timeline-unrelated",
    },
    { name: "a primary behind the tip", change: { tip: tip(1, 9 * MIB + 6) }, code: "wal-diverged" },
    {
      name: "a standby behind the tip, to be waited for",
      change: { tip: tip(1, 9 * MIB + 6), server: server(1, 9 * MIB, true) },
      code: "server-behind",
    },
  ])("$name is refused", ({ change, code }) => {
    expect(() => decideStart(facts(change))).toThrowError(expect.objectContaining({ code }));
  });
});

describe("merging the tail", () => {
  const chunk = (i: number): { key: string; start: number; end: number } => ({ key: `${i}`, start: i, end: i + 1 });

  test("nothing is merged before there is a full run, and then the whole run", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = 0; i < FANOUT - 1; i++) levels.add(0, chunk(i));
    expect(levels.take()).toBeUndefined();
    levels.add(0, chunk(FANOUT - 1));
    expect(levels.take()).toMatchObject({ level: 0, start: 0, end: FANOUT });
    expect(levels.take()).toBeUndefined();
  });

  test("a run with a chunk still on its way waits for it", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = 0; i <= FANOUT; i++) if (i !== 3) levels.add(0, chunk(i));
    expect(levels.take()).toBeUndefined();
    levels.add(0, chunk(3));
    expect(levels.take()).toMatchObject({ start: 0, end: FANOUT });
  });

  test("chunks are in their order, in whatever order their PUTs ended", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = FANOUT - 1; i >= 0; i--) levels.add(0, chunk(i));
    expect(levels.take()).toEqual({
      ...{ level: 0, start: 0, end: 32 },
      replaces: Array.from({ length: 32 }, (_, i) => chunk(i)),
    });
  });

  test("a merge that failed is put back, and due again with its chunks", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = 0; i < FANOUT + 1; i++) levels.add(0, chunk(i));
    const merge = levels.take();
    if (merge === undefined) throw new Error("no merge was due");
    levels.putBack(merge);
    expect(levels.take()).toEqual(merge);
    // The chunk behind the run is still there: it begins the next one.
    for (let i = FANOUT + 1; i < 2 * FANOUT; i++) levels.add(0, chunk(i));
    expect(levels.take()).toMatchObject({ start: 32, end: 64 });
  });

  test("merged chunks are merged again on their own level, while level 0 waits behind a hole", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = 0; i < FANOUT; i++) levels.add(1, { key: `m${i}`, start: i * FANOUT, end: (i + 1) * FANOUT });
    for (let i = 0; i <= FANOUT; i++) if (i !== 3) levels.add(0, chunk(i));
    expect(levels.take()).toMatchObject({ level: 1, start: 0, end: 1024 });
    expect(levels.take()).toBeUndefined();
  });

  test("a hole before the last chunk of a run holds the run up, and one behind it does not", () => {
    const levels = new TailLevels(1 << 20);
    for (let i = 0; i < FANOUT - 1; i++) levels.add(0, chunk(i));
    levels.add(0, chunk(FANOUT));
    expect(levels.take()).toBeUndefined();
    levels.add(0, chunk(FANOUT - 1));
    levels.add(0, chunk(FANOUT + 5));
    expect(levels.take()).toMatchObject({ start: 0, end: FANOUT });
  });

  test("chunks that would become too long together are left as they are, and do not hold up those behind them", () => {
    const levels = new TailLevels(3 * FANOUT);
    for (let i = 0; i < FANOUT; i++) levels.add(0, { key: `l${i}`, start: i * 10, end: (i + 1) * 10 });
    expect(levels.take()).toBeUndefined();
    for (let i = 0; i < FANOUT; i++) levels.add(0, { ...chunk(i + 320), key: `s${i}` });
    // Seven long ones and 25 short ones fit; eight and 24 do not.
    expect(levels.take()).toMatchObject({ level: 0, start: 250, end: 345 });
  });

  test("a hundred thousand chunks leave less than a hundred objects", () => {
    const levels = new TailLevels(1 << 20);
    const standing = new Set<string>();
    for (let i = 0; i < 100_000; i++) {
      levels.add(0, chunk(i));
      standing.add(`${i}`);
      for (let merge = levels.take(); merge !== undefined; merge = levels.take()) {
        for (const { key } of merge.replaces) standing.delete(key);
        const merged = { key: `${merge.start}-${merge.end}`, start: merge.start, end: merge.end };
        levels.add(merge.level + 1, merged);
        standing.add(merged.key);
      }
    }
    expect(standing.size).toBeLessThan(100);
  });
});

describe("the age of the oldest commit that is not stored", () => {
  test("counts from its arrival, also when it arrives again after a reconnect", () => {
    const ages = new CommitAges();
    expect(ages.oldestMs(0)).toBe(0);
    ages.arrived(lsn(10), 1000);
    ages.arrived(lsn(20), 2000);
    expect(ages.oldestMs(2500)).toBe(1500);
    ages.stored(lsn(10));
    expect(ages.oldestMs(2500)).toBe(500);
    ages.arrived(lsn(20), 9000);
    expect(ages.oldestMs(9000)).toBe(7000);
    ages.stored(lsn(20));
    expect(ages.oldestMs(9000)).toBe(0);
  });

  test("of which some arrived in the same millisecond counts from the first of them", () => {
    const ages = new CommitAges();
    ages.arrived(lsn(10), 1000);
    ages.arrived(lsn(20), 1000.5);
    ages.arrived(lsn(30), 1001);
    ages.stored(lsn(10));
    expect(ages.oldestMs(1500)).toBe(500);
    ages.stored(lsn(20));
    expect(ages.oldestMs(1500)).toBe(499);
    ages.stored(lsn(29));
    expect(ages.oldestMs(1500)).toBe(499);
    ages.stored(lsn(30));
    expect(ages.oldestMs(1500)).toBe(0);
  });

  test("that arrives again is no new one, even up to the same LSN", () => {
    const ages = new CommitAges();
    ages.arrived(lsn(20), 1000);
    ages.arrived(lsn(20), 2000);
    ages.arrived(lsn(15), 3000);
    ages.stored(lsn(19));
    expect(ages.oldestMs(3000)).toBe(2000);
    ages.stored(lsn(20));
    expect(ages.oldestMs(3000)).toBe(0);
  });

  test("that arrives again in the same millisecond does not hide what came before it", () => {
    const ages = new CommitAges();
    ages.arrived(lsn(20), 1000);
    ages.arrived(lsn(15), 1000.5);
    ages.stored(lsn(17));
    expect(ages.oldestMs(1500)).toBe(500);
  });

  test("is never below nothing, when the clock is asked for an earlier moment", () => {
    const ages = new CommitAges();
    ages.arrived(lsn(20), 1000);
    expect(ages.oldestMs(900)).toBe(0);
  });

  test("keeps 4096 arrivals apart; the next ones share the last entry", () => {
    const ages = new CommitAges();
    for (let i = 1; i <= 4100; i++) ages.arrived(lsn(i), i * 10);
    ages.stored(lsn(4095));
    expect(ages.oldestMs(50_000)).toBe(50_000 - 40_960);
    ages.stored(lsn(4099));
    expect(ages.oldestMs(50_000)).toBe(50_000 - 40_960);
    ages.stored(lsn(4100));
    expect(ages.oldestMs(50_000)).toBe(0);
  });

  test("is overstated rather than understated when arrivals must share an entry", () => {
    const ages = new CommitAges();
    for (let i = 1; i <= 10_000; i++) ages.arrived(lsn(i), i * 10);
    ages.stored(lsn(5000));
    expect(ages.oldestMs(100_000)).toBeGreaterThanOrEqual(50_000 - 10);
    ages.stored(lsn(10_000));
    expect(ages.oldestMs(100_000)).toBe(0);
  });
});

test.each([
  [1, 30_000, 0.5, 50],
  [3, 30_000, 1, 400],
  [30, 30_000, 1, 30_000],
  [1, 30_000, 0, 20],
])("after %i failures with a ceiling of %i ms and a draw of %f the delay is %i ms", (failures, max, draw, delay) => {
  expect(reconnectDelay(failures, max, draw)).toBe(delay);
});

test.each([
  ["0", 0],
  ["1min", 60_000],
  ["30s", 30_000],
  ["2500ms", 2500],
  ["1d", 86_400_000],
])("a server that shows %s means %i ms", (text, ms) => {
  expect(parseMilliseconds(text)).toBe(ms);
});
