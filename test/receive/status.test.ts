/** What the receiver's state says of WAL that waits to be stored: the recovery point, and for how long the store takes nothing. */
import { describe, expect, test } from "vitest";
import { storePatienceMs } from "../../src/daemon/status/receiver-document.ts";
import { decideReadiness } from "../../src/daemon/health/probes.ts";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { SeawallError } from "../../src/errors.ts";
import type { Place } from "../../src/receive/journal/document.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { lsnOf, timelineOf } from "../../src/wal/lsn.ts";
import { statusFixture } from "../daemon/fixture.ts";

const problemOf = ({ health }: StatusDocument): string | undefined => health.findings[0]?.what;

const lsn = (offset: number): ReturnType<typeof lsnOf> => lsnOf(BigInt(0x1000000 + offset));

/** A receiver that streams from the start of a segment of which `stored` bytes are in the archive. */
function streaming(
  stored: number,
  durability: "store" | "spool" = "store",
): { state: ReceiverState; clock: { ms: number } } {
  const clock = { ms: 1_000_000 };
  const state = new ReceiverState({ cluster: "main", synchronous: false, durability, nowMs: () => clock.ms });
  state.streaming(timelineOf(1), lsn(0), lsn(stored));
  if (durability === "spool") state.spool = { tip: () => tipOf(state), leavesAt: () => undefined };
  return { state, clock };
}

function tipOf({ timeline, storedLsn }: ReceiverState): Place | undefined {
  return timeline === undefined || storedLsn === undefined ? undefined : { timeline, lsn: storedLsn };
}

const on = (timeline: number, offset: number): Place => ({ timeline: timelineOf(timeline), lsn: lsn(offset) });

describe("the recovery point", () => {
  test("after a restart on an idle server does not count from commits that are read again and stored already", () => {
    const { state, clock } = streaming(500);
    state.verified(lsn(300), lsn(300), 300, 3);
    state.verified(lsn(500), lsn(500), 200, 2);
    state.heard(lsn(500));
    clock.ms += 3_600_000;
    expect(state.rpo()?.seconds).toBe(0);
    expect(state.counters.commits).toBe(5);
  });

  test("counts from a commit that came after what is stored, until that is", () => {
    const { state, clock } = streaming(500);
    state.verified(lsn(500), lsn(500), 500, 5);
    state.verified(lsn(600), lsn(600), 100, 1);
    state.heard(lsn(600));
    clock.ms += 7_000;
    expect(state.rpo()?.seconds).toBe(7);
    state.stored(lsn(600));
    expect(state.rpo()?.seconds).toBe(0);
  });
});

describe("the recovery point without a stream", () => {
  test("of an idle server that crashed is at most the time since its last word", () => {
    const { state, clock } = streaming(500);
    state.verified(lsn(500), lsn(500), 500, 5);
    state.heard(lsn(500));
    clock.ms += 20_000;
    expect(state.rpo()).toEqual({ seconds: 0, isAtMost: false });
    state.phase = "waiting";
    clock.ms += 1_000;
    expect(state.rpo()).toEqual({ seconds: 21, isAtMost: true });
    expect(state.snapshot()).toMatchObject({ rpoSeconds: 21, rpoIsAtMost: true });
  });

  test("is the age of a commit that waits for the store, when that is older", () => {
    const { state, clock } = streaming(500);
    state.verified(lsn(600), lsn(600), 100, 1);
    clock.ms += 5_000;
    state.heard(lsn(600));
    state.phase = "waiting";
    clock.ms += 1_000;
    expect(state.rpo()).toEqual({ seconds: 6, isAtMost: false });
  });

  test("is not known while a receiver that was away catches up: the server's oldest WAL may be hours old", () => {
    const { state, clock } = streaming(500);
    state.heard(lsn(90_000));
    clock.ms += 5_000;
    state.verified(lsn(40_000), lsn(40_000), 39_500, 100);
    state.stored(lsn(40_000));
    expect(state.rpo()).toBeUndefined();
    state.verified(lsn(90_000), lsn(90_000), 50_000, 100);
    state.heard(lsn(90_000));
    state.stored(lsn(90_000));
    expect(state.rpo()).toEqual({ seconds: 0, isAtMost: false });
  });
});

test("after a failover to a server that is behind the old one, its own end of WAL counts, and only WAL received from it", () => {
  const { state, clock } = streaming(0);
  state.joined({ timeline: timelineOf(1), flushLsn: lsn(0) });
  state.verified(lsn(9_000), lsn(9_000), 9_000, 90);
  state.heard(lsn(9_000));
  state.stored(lsn(9_000));
  state.phase = "waiting";
  clock.ms += 60_000;
  state.joined({ timeline: timelineOf(2), flushLsn: lsn(700) });
  expect(state.rpo()).toEqual({ seconds: 60, isAtMost: true });
  state.streaming(timelineOf(2), lsn(0), lsn(100));
  expect(state.snapshot()).toMatchObject({ lagBytes: 600, rpoSeconds: 60 });
  state.verified(lsn(700), lsn(700), 700, 7);
  state.heard(lsn(600));
  expect(state.snapshot()).toMatchObject({ serverLsn: "0/10002BC" });
  state.stored(lsn(700));
  state.heard(lsn(700));
  expect(state.snapshot()).toMatchObject({ lagBytes: 0, rpoSeconds: 0 });
});

test("the recovery point counts while all buffers are full, as the server may have written commits that are not read", () => {
  const { state, clock } = streaming(500);
  state.verified(lsn(600), lsn(600), 100, 0);
  state.heard(lsn(600));
  state.waitingForStore = true;
  clock.ms += 60_000;
  expect(state.rpo()?.seconds).toBe(60);
  state.waitingForStore = false;
  state.stored(lsn(600));
  state.heard(lsn(600));
  expect(state.rpo()?.seconds).toBe(0);
});

describe("the wait for the store", () => {
  test("begins with WAL that is not stored, and again with each step that leaves some", () => {
    const { state, clock } = streaming(0);
    clock.ms += 60_000;
    expect(state.storeWaitSeconds()).toBe(0);
    state.verified(lsn(100), lsn(100), 100, 0);
    clock.ms += 4_000;
    state.verified(lsn(200), lsn(200), 100, 1);
    clock.ms += 4_000;
    expect(state.storeWaitSeconds()).toBe(8);
    state.stored(lsn(100));
    expect(state.storeWaitSeconds()).toBe(0);
    clock.ms += 2_000;
    state.stored(lsn(100));
    expect(state.storeWaitSeconds()).toBe(2);
    state.stored(lsn(200));
    clock.ms += 60_000;
    expect(state.storeWaitSeconds()).toBe(0);
  });

  test("with a spool lasts until the store behind it has everything", () => {
    const { state, clock } = streaming(0, "spool");
    state.uploaded(on(1, 0));
    state.verified(lsn(100), lsn(100), 100, 1);
    state.stored(lsn(100));
    clock.ms += 30_000;
    expect([state.storeWaitSeconds(), state.rpo()?.seconds]).toEqual([30, 0]);
    state.uploaded(on(1, 100));
    expect(state.storeWaitSeconds()).toBe(0);
  });

  test("after a failover, a long upload of the old timeline is no upload of the new one", () => {
    const { state, clock } = streaming(0, "spool");
    const shown = () => {
      const { uploadedLsn, isUploaded, storeWaitSeconds } = state.snapshot();
      return { uploadedLsn, isUploaded, storeWaitSeconds };
    };
    state.stored(lsn(900));
    state.uploaded(on(1, 900));
    expect(shown()).toEqual({ uploadedLsn: "0/1000384", isUploaded: true, storeWaitSeconds: 0 });
    // The server was promoted at 100: what lies past that is no WAL of timeline 2.
    state.spool = { tip: () => tipOf(state), leavesAt: (timeline) => (timeline === 1 ? lsn(100) : undefined) };
    state.streaming(timelineOf(2), lsn(0), lsn(100));
    expect(shown()).toEqual({ uploadedLsn: "0/1000064", isUploaded: false, storeWaitSeconds: 0 });
    state.stored(lsn(300));
    clock.ms += 30_000;
    expect(shown()).toEqual({ uploadedLsn: "0/1000064", isUploaded: false, storeWaitSeconds: 30 });
    state.uploaded(on(2, 100));
    expect(shown()).toEqual({ uploadedLsn: "0/1000064", isUploaded: false, storeWaitSeconds: 0 });
    state.uploaded(on(2, 300));
    expect(shown()).toEqual({ uploadedLsn: "0/100012C", isUploaded: true, storeWaitSeconds: 0 });
  });

  test("lasts for a spool that holds WAL of an earlier process, the server being away", () => {
    const clock = { ms: 0 };
    const durability = "spool" as const;
    const state = new ReceiverState({ cluster: "main", synchronous: false, durability, nowMs: () => clock.ms });
    expect(state.snapshot().isUploaded).toBeNull();
    state.spool = { tip: () => on(1, 500), leavesAt: () => undefined };
    expect(state.snapshot().isUploaded).toBe(false);
    state.uploaded(on(1, 100));
    clock.ms += 5_000;
    expect(state.storeWaitSeconds()).toBe(5);
    state.uploaded(on(1, 500));
    expect([state.snapshot().isUploaded, state.storeWaitSeconds()]).toEqual([true, 0]);
  });

  test.each([
    { title: "16 MiB", options: { synchronous: false, shipIntervalMs: 1000 }, segmentSize: 16 << 20, seconds: 11 },
    {
      title: "64 MiB, synchronous",
      options: { synchronous: true, shipIntervalMs: 1000 },
      segmentSize: 64 << 20,
      seconds: 16,
    },
    { title: "not known yet", options: { synchronous: false, shipIntervalMs: 60_000 }, segmentSize: null, seconds: 70 },
  ])("of $title may be $seconds s on a healthy store", ({ options, segmentSize, seconds }) => {
    expect(Math.round(storePatienceMs(options, segmentSize) / 1000)).toBe(seconds);
  });
});

test("a rival that still writes is a problem, and the receiver stays ready", () => {
  const rival = { timeline: 2, kind: "stray", endLsn: null, text: "timeline 2 was never the archive's line" } as const;
  const isActive = (active: boolean) => statusFixture({ errors: [], rivals: [{ ...rival, isActive: active }] });
  expect(problemOf(isActive(true))).toBe(
    "another server writes into this archive: timeline 2 was never the archive's line",
  );
  expect(problemOf(isActive(false))).toBeUndefined();
  expect(decideReadiness(isActive(true)).ok).toBe(true);
});

test("a secret in an error's text is shown neither as the last error nor as the reason why WAL waits", () => {
  const { state } = streaming(0, "spool");
  state.uploadFailed(
    new SeawallError("store-denied", "put https://key:geheim@host/x: 403", { hint: "password=geheim" }),
  );
  const { lastError, storeWaitError } = state.snapshot();
  for (const shown of [lastError, storeWaitError]) {
    expect(shown).toMatchObject({ message: "put https://key:[redacted]@host/x: 403", hint: "password=[redacted]" });
  }
});

test("a spool may lack nothing until it takes WAL, the store answers, or an upload fails", () => {
  const begin = () => streaming(0, "spool").state;
  expect(begin().mayLackNothing()).toBe(true);
  expect(streaming(0, "store").state.mayLackNothing()).toBe(false);
  const [taken, answered, failed] = [begin(), begin(), begin()];
  taken.stored(lsn(200));
  answered.uploaded(on(1, 0));
  failed.uploadFailed(new SeawallError("store-unavailable", "away"));
  expect([taken, answered, failed].map((state) => state.mayLackNothing())).toEqual([false, false, false]);
});

describe("why a spool waits", () => {
  const denied = new SeawallError("store-denied", "put main/wal/x: AccessDenied");
  const full = new SeawallError("store-full", "put main/tail/x: ENOSPC");

  test("is the refusal of its store, until an upload succeeds", () => {
    const { state } = streaming(0, "spool");
    expect(state.snapshot().storeWaitError).toBeNull();
    state.uploadFailed(denied);
    state.spoolFailed(full);
    expect(state.snapshot().storeWaitError).toMatchObject({ place: "store", code: "store-denied" });
    expect(state.snapshot().lastError).toMatchObject({ code: "store-full" });
    state.uploadsPass();
    expect(state.snapshot().storeWaitError).toMatchObject({ place: "spool", code: "store-full" });
  });

  test("is its own full disk, until it stores WAL again", () => {
    const { state } = streaming(0, "spool");
    state.spoolFailed(full);
    state.stored(lsn(0));
    expect(state.snapshot().storeWaitError).toMatchObject({ place: "spool" });
    state.stored(lsn(100));
    expect(state.snapshot().storeWaitError).toBeNull();
  });

  test("is named by the problem, and not an error of the store from before", () => {
    const at = "2026-11-20T10:00:00.000Z";
    const errors = [
      { at: "2026-11-20T09:59:00.000Z", code: "store-away", message: "the store is gone", hint: "", times: 1 },
    ];
    const waiting = { at, errors, isStoreStalled: true, storeWaitSeconds: 40 };
    const storeWaitError = {
      place: "spool" as const,
      at,
      code: "store-full",
      message: "ENOSPC in the spool",
      hint: "",
    };
    expect(problemOf(statusFixture({ ...waiting, storeWaitError }))).toBe(
      "the spool has confirmed nothing for 40.0 s, 1.00 MiB of WAL wait for it (last error: ENOSPC in the spool)",
    );
    const nothing = "the store has confirmed nothing for 40.0 s, 1.00 MiB of WAL wait for it";
    expect(problemOf(statusFixture(waiting))).toBe(nothing);
    const during = statusFixture({ ...waiting, storeWaitSeconds: 60 });
    expect(problemOf(during)).toContain("(last error: the store is gone)");
  });
});

describe("a store that hangs for 40 s", () => {
  const status = statusFixture({ isStoreStalled: true, storeWaitSeconds: 40, errors: [] });
  const said = "the store has confirmed nothing for 40.0 s, 1.00 MiB of WAL wait for it";

  test("is a problem, and the receiver is not ready, in the same words", () => {
    expect(problemOf(status)).toBe(said);
    expect(decideReadiness(status)).toEqual({ ok: false, reason: said });
    expect(problemOf(statusFixture())).toBeUndefined();
  });

  test("a server that shuts down meanwhile says more", () => {
    const stopping = statusFixture({ ...status, serverStoppingSince: "2026-11-20T09:59:48.500Z" });
    expect(problemOf(stopping)).toBe("the server is shutting down and has waited 12.0 s for the store");
  });
});
