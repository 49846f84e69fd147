/** Who may write to an archive: the decision about the line, as a table. */
import { describe, expect, test } from "vitest";
import type { LineClaim } from "../../src/archive/line/claims.ts";
import {
  contested,
  decideLine,
  judgeClaims,
  type LineDecision,
  type LineFacts,
} from "../../src/receive/line/decision.ts";
import type { Lsn, TimelineId } from "../../src/wal/lsn.ts";
import type { TimelineHistory } from "../../src/wal/timeline.ts";

const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const timelineOf = (value: number): TimelineId => value as TimelineId;

/** `[timeline, where it was left]`, oldest first. */
function history(timeline: number, ...entries: [number, number][]): TimelineHistory {
  const ends = entries.map(([from, at]) => ({ timeline: timelineOf(from), switchLsn: lsn(at), reason: "" }));
  return { timeline: timelineOf(timeline), entries: ends };
}

/** `over`: the line before, and where its WAL ended. */
function claim(number: number, timeline: number, over?: [number, number], restoredFrom?: string): LineClaim {
  return {
    ...{ number, timeline: timelineOf(timeline), parent: undefined, claimedAt: "2026-01-01T00:00:00.000Z" },
    ...{ why: over === undefined ? "first" : "failover", server: "db:5432", restoredFrom },
    over: over === undefined ? undefined : { timeline: timelineOf(over[0]), lsn: lsn(over[1]) },
  };
}

/** A claim by `--take-over`. */
function ordered(number: number, timeline: number, over: [number, number], restoredFrom?: string): LineClaim {
  return { ...claim(number, timeline, over, restoredFrom), why: "take-over" };
}

function server(own: TimelineHistory, restoredFrom?: string, inRecovery = false): LineFacts["server"] {
  return { timeline: own.timeline, history: own, restoredFrom, inRecovery };
}

/** A line on timeline 1 whose WAL ends at 100, and its own server. */
const calm: LineFacts = {
  line: timelineOf(1),
  lineHistory: history(1),
  lineEnd: lsn(100),
  claims: [claim(1, 1)],
  server: server(history(1)),
  streamedEnd: undefined,
  takeOver: undefined,
  claimsFirst: true,
};

const goesOn: LineDecision = { claim: undefined, watch: false };
const claims = (why: NonNullable<LineDecision["claim"]>, watch = false): LineDecision => ({ claim: why, watch });

describe("the decision about the line", () => {
  test.each<{ name: string; change: Partial<LineFacts>; decision: LineDecision }>([
    { name: "the line's own server goes on without a claim", change: {}, decision: goesOn },
    {
      name: "a second receiver of the line's server goes on without a claim, even with the flag",
      change: { takeOver: 1 },
      decision: goesOn,
    },
    {
      name: "the line's own server was restored once, and its mark is accepted by order",
      change: { server: server(history(1), "an earlier restore"), takeOver: 1 },
      decision: claims("take-over"),
    },
    {
      name: "the line's own server goes on when its mark is remembered",
      change: {
        claims: [claim(1, 1), claim(2, 1, undefined, "an earlier restore")],
        server: server(history(1), "an earlier restore"),
      },
      decision: goesOn,
    },
    {
      name: "a restored standby on the line's timeline goes on, and its mark is not accepted by that",
      change: { server: server(history(1), "this restore", true) },
      decision: goesOn,
    },
    {
      name: "the first server of an empty archive claims",
      change: { line: undefined, claims: [], server: server(history(4, [1, 50])) },
      decision: claims("first"),
    },
    {
      name: "the first receiver of an archive without claims claims the line that it follows",
      change: { claims: [] },
      decision: claims("first"),
    },
    {
      name: "a backup with its own WAL leaves an archive without claims as it is",
      change: { claims: [], claimsFirst: false },
      decision: goesOn,
    },
    {
      name: "a backup with its own WAL leaves it so after a failover too",
      change: { claims: [], claimsFirst: false, server: server(history(2, [1, 100])) },
      decision: goesOn,
    },
    {
      name: "a promoted standby that has all of the line's WAL is a failover",
      change: { server: server(history(2, [1, 100])) },
      decision: claims("failover"),
    },
    {
      name: "a promoted standby that was ahead of the archive is a failover",
      change: { server: server(history(2, [1, 120])) },
      decision: claims("failover"),
    },
    {
      name: "a promoted standby that lacks some of the line's WAL is a failover once that WAL does not grow",
      change: { server: server(history(2, [1, 90])) },
      decision: claims("failover", true),
    },
    {
      name: "a promoted standby of a line without WAL of its own is a failover",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 80]), lineEnd: undefined },
        server: server(history(3, [1, 80], [2, 80])),
      },
      decision: claims("failover"),
    },
    {
      name: "a failover of which the line's own history file is missing is one",
      change: { line: timelineOf(2), lineHistory: undefined, server: server(history(3, [1, 80], [2, 100])) },
      decision: claims("failover"),
    },
    {
      name: "a backup with its own WAL claims after a failover where there are claims",
      change: { claimsFirst: false, server: server(history(2, [1, 100])) },
      decision: claims("failover"),
    },
    {
      name: "a standby of a timeline that took over a second time is a failover",
      change: {
        ...{ line: timelineOf(4), lineHistory: history(4, [1, 60], [3, 90]), lineEnd: lsn(200) },
        claims: [
          ...[claim(1, 1), claim(2, 2, [1, 70]), { ...claim(3, 3, [2, 80]), why: "take-over" as const }],
          ...[
            { ...claim(4, 2, [3, 85]), why: "kept" as const },
            { ...claim(5, 4, [2, 95]), why: "take-over" as const },
          ],
        ],
        server: server(history(5, [1, 60], [3, 90], [4, 200])),
      },
      decision: claims("failover"),
    },
    {
      name: "two failovers at once are one",
      change: { server: server(history(3, [1, 100], [2, 110])) },
      decision: claims("failover"),
    },
    {
      name: "a line without any WAL of its own yet fails over without a look",
      change: {
        line: timelineOf(2),
        lineHistory: history(2, [1, 100]),
        lineEnd: undefined,
        server: server(history(3, [1, 100], [2, 110])),
      },
      decision: claims("failover"),
    },
    {
      name: "a restored copy takes the line over with the flag",
      change: { server: server(history(2, [1, 100]), "this restore"), takeOver: 1 },
      decision: claims("take-over"),
    },
    {
      name: "a copy with the flag does not wait for the line to end",
      change: { server: server(history(2, [1, 90]), "this restore"), takeOver: 1 },
      decision: claims("take-over"),
    },
    {
      name: "a standby of an accepted copy is a failover like any other",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 100]), lineEnd: lsn(150) },
        claims: [claim(1, 1), claim(2, 2, [1, 100], "this restore")],
        server: server(history(3, [1, 100], [2, 150]), "this restore"),
      },
      decision: claims("failover"),
    },
    {
      name: "a failover after a claim was taken back is one",
      change: {
        claims: [claim(1, 1), claim(2, 2, [1, 80]), { ...claim(3, 1, [2, 90]), why: "kept" }],
        server: server(history(3, [1, 100])),
      },
      decision: claims("failover"),
    },
    {
      name: "a clone whose claim was taken back takes over with the flag",
      change: {
        claims: [claim(1, 1), claim(2, 2, [1, 90]), { ...claim(3, 1, [2, 110]), why: "kept" }],
        ...{ server: server(history(2, [1, 90])), takeOver: 3 },
      },
      decision: claims("take-over"),
    },
    {
      name: "a sibling takes the line over with the flag",
      change: {
        line: timelineOf(2),
        lineHistory: history(2, [1, 80]),
        server: server(history(3, [1, 60])),
        takeOver: 1,
      },
      decision: claims("take-over"),
    },
    {
      name: "an ancestor takes the line over with the flag",
      change: { line: timelineOf(2), lineHistory: history(2, [1, 80]), takeOver: 1 },
      decision: claims("take-over"),
    },
    {
      name: "a copy takes over the line of an archive without claims",
      change: { claims: [], server: server(history(2, [1, 100]), "this restore"), takeOver: 0 },
      decision: claims("take-over"),
    },
    {
      name: "production that was streamed on through a copy's claim keeps the line",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 80]), streamedEnd: lsn(120) },
        claims: [claim(1, 1), claim(2, 2, [1, 100])],
      },
      decision: claims("kept"),
    },
    {
      name: "production keeps the line also when the history file of the copy's line is missing",
      change: {
        ...{ line: timelineOf(2), lineHistory: undefined, streamedEnd: lsn(120) },
        claims: [claim(1, 1), claim(2, 2, [1, 100])],
      },
      decision: claims("kept"),
    },
    {
      name: "a sibling that was streamed on through the claim keeps the line",
      change: {
        ...{ line: timelineOf(3), lineHistory: history(3, [1, 60]), streamedEnd: lsn(170) },
        claims: [claim(1, 1), claim(2, 2, [1, 80]), claim(3, 3, [2, 160])],
        server: server(history(2, [1, 80])),
      },
      decision: claims("kept"),
    },
    {
      name: "production keeps the line also when another claim came after the copy's",
      change: {
        ...{ line: timelineOf(3), lineHistory: history(3, [1, 80], [2, 90]), streamedEnd: lsn(120) },
        claims: [claim(1, 1), claim(2, 2, [1, 100]), claim(3, 3, [2, 90])],
      },
      decision: claims("kept"),
    },
  ])("$name", ({ change, decision }) => {
    expect(decideLine({ ...calm, ...change })).toEqual(decision);
  });

  test.each<{ name: string; change: Partial<LineFacts>; code: string }>([
    {
      name: "a restored copy",
      change: { server: server(history(2, [1, 100]), "this restore") },
      code: "timeline-copy",
    },
    {
      name: "a restored copy whose timeline has the number and the history of the line",
      change: {
        ...{ line: timelineOf(2), claims: [claim(1, 1), claim(2, 2, [1, 100])] },
        server: server(history(2, [1, 100]), "this restore"),
      },
      code: "timeline-copy",
    },
    {
      name: "such a copy with the order for an earlier claim",
      change: {
        ...{ line: timelineOf(2), claims: [claim(1, 1), claim(2, 2, [1, 100])] },
        ...{ server: server(history(2, [1, 100]), "this restore"), takeOver: 1 },
      },
      code: "timeline-copy",
    },
    {
      name: "an order for a claim that does not exist yet",
      change: { server: server(history(2, [1, 100])), takeOver: 2 },
      code: "usage",
    },
    {
      name: "the line's own server with such an order",
      change: { takeOver: 99 },
      code: "usage",
    },
    {
      name: "a restored copy in an archive without claims",
      change: { claims: [], server: server(history(2, [1, 100]), "this restore") },
      code: "timeline-copy",
    },
    {
      name: "a new copy of an accepted copy",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 100]) },
        claims: [claim(1, 1), claim(2, 2, [1, 100], "this restore")],
        server: server(history(3, [1, 100], [2, 150]), "another restore"),
      },
      code: "timeline-copy",
    },
    {
      name: "a clone whose claim was taken back",
      change: {
        claims: [claim(1, 1), claim(2, 2, [1, 90]), { ...claim(3, 1, [2, 110]), why: "kept" }],
        server: server(history(2, [1, 90])),
      },
      code: "line-contested",
    },
    {
      name: "a clone whose claim was taken back, as later that of another clone",
      change: {
        claims: [
          ...[claim(1, 1), claim(2, 2, [1, 90]), { ...claim(3, 1, [2, 110]), why: "kept" as const }],
          ...[claim(4, 7, [1, 120]), { ...claim(5, 1, [7, 130]), why: "kept" as const }],
        ],
        server: server(history(2, [1, 90])),
      },
      code: "line-contested",
    },
    {
      name: "a copy with the order for an earlier claim",
      change: { claims: [claim(1, 1), claim(2, 1)], server: server(history(2, [1, 100]), "this restore"), takeOver: 1 },
      code: "timeline-copy",
    },
    {
      name: "an accepted copy from which production took the line back by order, however quiet production is,",
      change: {
        claims: [claim(1, 1), ordered(2, 2, [1, 90], "this restore"), ordered(3, 1, [2, 110])],
        ...{ server: server(history(2, [1, 90]), "this restore"), takeOver: 1 },
      },
      code: "line-contested",
    },
    {
      name: "a clone of a promoted server whose claim was taken back",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 80]) },
        claims: [claim(1, 1), claim(2, 2, [1, 80]), claim(3, 3, [2, 90]), { ...claim(4, 2, [3, 110]), why: "kept" }],
        server: server(history(3, [1, 80], [2, 90])),
      },
      code: "line-contested",
    },
    {
      name: "a clone whose claim was taken back, while the line's history file is missing",
      change: {
        claims: [claim(1, 1), claim(2, 2, [1, 90]), { ...claim(3, 1, [2, 110]), why: "kept" }],
        ...{ lineHistory: undefined, server: server(history(2, [1, 90])) },
      },
      code: "line-contested",
    },
    {
      name: "production that was streamed on through a take-over that was ordered",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 80]), streamedEnd: lsn(120) },
        claims: [claim(1, 1), ordered(2, 2, [1, 100])],
      },
      code: "timeline-behind",
    },
    {
      name: "a standby of a clone whose claim was taken back",
      change: {
        claims: [claim(1, 1), claim(2, 2, [1, 90]), { ...claim(3, 1, [2, 110]), why: "kept" }],
        server: server(history(3, [1, 90], [2, 120])),
      },
      code: "line-contested",
    },
    {
      name: "an old primary after the failover",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 100]), streamedEnd: lsn(100) },
        claims: [claim(1, 1), claim(2, 2, [1, 100])],
      },
      code: "timeline-behind",
    },
    {
      name: "an old primary whose unreplicated WAL was stored before the failover",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 90]), streamedEnd: lsn(100) },
        claims: [claim(1, 1), claim(2, 2, [1, 100])],
      },
      code: "timeline-behind",
    },
    {
      name: "an old primary of which the new one brought the rest after the claim",
      change: {
        ...{ line: timelineOf(2), lineHistory: history(2, [1, 100]), streamedEnd: lsn(100) },
        claims: [claim(1, 1), claim(2, 2, [1, 70])],
      },
      code: "timeline-behind",
    },
    {
      name: "an old primary two failovers ago, whose last WAL the new one brought",
      change: {
        ...{ line: timelineOf(3), lineHistory: history(3, [1, 80], [2, 90]), streamedEnd: lsn(75) },
        claims: [claim(1, 1), claim(2, 2, [1, 70]), claim(3, 3, [2, 90])],
      },
      code: "timeline-behind",
    },
    {
      name: "an old primary whose WAL ends before the claim over it, and behind a later claim's place",
      change: {
        ...{ line: timelineOf(3), lineHistory: history(3, [1, 80], [2, 90]), streamedEnd: lsn(120) },
        claims: [claim(1, 1), claim(2, 2, [1, 130]), claim(3, 3, [2, 90])],
      },
      code: "timeline-behind",
    },
    {
      name: "an old primary that was streamed in an archive without claims",
      change: { claims: [], line: timelineOf(2), lineHistory: history(2, [1, 100]), streamedEnd: lsn(120) },
      code: "timeline-behind",
    },
    {
      name: "a server of another timeline, while the line's history file is missing",
      change: { line: timelineOf(2), lineHistory: undefined },
      code: "timeline-unrelated",
    },
    {
      name: "an old primary in an archive without claims",
      change: { claims: [], line: timelineOf(2), lineHistory: history(2, [1, 100]) },
      code: "timeline-behind",
    },
    {
      name: "a sibling of the line",
      change: { line: timelineOf(2), lineHistory: history(2, [1, 80]), server: server(history(3, [1, 60])) },
      code: "timeline-unrelated",
    },
    {
      name: "a recovery along the line's timeline that stopped before that began",
      change: { line: timelineOf(2), lineHistory: history(2, [1, 80]), server: server(history(3, [1, 80], [2, 60])) },
      code: "timeline-unrelated",
    },
  ])("$name is refused", ({ change, code }) => {
    expect(() => decideLine({ ...calm, ...change })).toThrowError(expect.objectContaining({ code }));
  });
});

test("a line that is still written is contested: the message says how far it is stored, and past which switch", () => {
  const two = timelineOf(2);
  const error = contested(two, lsn(0x500), lsn(0x600));
  expect(error).toMatchObject({ code: "line-contested", retryable: true });
  expect(error.message).toBe(
    "timeline 2 is still being written: its stored WAL has reached 0/600, past the switch at 0/500",
  );
  expect(contested(two, undefined, lsn(0x600)).message).toBe(
    "timeline 2 is still being written: its stored WAL has reached 0/600",
  );
});

describe("a newer claim, seen while timeline 1 is streamed,", () => {
  const fork = { timeline: timelineOf(1), lsn: lsn(120) };

  test.each<{ name: string; newer: readonly LineClaim[]; verdict: object }>([
    { name: "is none", newer: [], verdict: { kind: "ours" } },
    { name: "is this timeline's", newer: [claim(2, 1)], verdict: { kind: "ours" } },
    {
      name: "was taken back meanwhile",
      newer: [claim(2, 2, [1, 100]), { ...claim(3, 1, [2, 110]), why: "kept" }],
      verdict: { kind: "ours" },
    },
    { name: "was ordered", newer: [ordered(2, 2, [1, 100])], verdict: { kind: "lost" } },
    {
      name: "follows on one that was ordered",
      newer: [ordered(2, 2, [1, 100]), claim(3, 3, [2, 150])],
      verdict: { kind: "lost" },
    },
    { name: "took the line back", newer: [{ ...claim(2, 2, [1, 100]), why: "kept" }], verdict: { kind: "lost" } },
    { name: "took the line from another timeline", newer: [claim(3, 3, [2, 100])], verdict: { kind: "lost" } },
    {
      name: "was made by a failover: WAL up to what was stored then may be acknowledged",
      newer: [claim(2, 2, [1, 100])],
      verdict: { kind: "contested", limit: lsn(100) },
    },
    {
      name: "was made by a failover: WAL up to the fork is the line's",
      newer: [{ ...claim(2, 2, [1, 100]), parent: fork }],
      verdict: { kind: "contested", limit: lsn(120) },
    },
    {
      name: "was made by a failover, and one more failed over",
      newer: [claim(2, 2, [1, 100]), claim(3, 3, [2, 150])],
      verdict: { kind: "contested", limit: lsn(100) },
    },
  ])("$name", ({ newer, verdict }) => {
    expect(judgeClaims(newer, timelineOf(1))).toMatchObject(verdict);
  });
});
