/** The sentences about timelines that a restore does not follow, as a pure function; past-fork.test.ts asks real servers. */
import { expect, test } from "vitest";
import { afterRefusal, besidePlan, type OtherTimeline } from "../../src/restore/target/other-timelines.ts";
import { parseTarget, type TargetTexts } from "../../src/restore/target/target.ts";
import { parseLsn, timelineOf } from "../../src/wal/lsn.ts";
import { parsePgTime } from "../../src/wal/record-facts.ts";

const one = timelineOf(1);
const two: OtherTimeline = {
  ...{ timeline: timelineOf(2), partLsn: parseLsn("0/600000"), endLsn: parseLsn("0/9F0000"), hasBackup: true },
  commits: { first: parsePgTime("2026-03-01T10:00:00.000001Z"), last: parsePgTime("2026-03-01T12:00:00.000002Z") },
};
const REACH =
  "Timeline 2 differs from timeline 1 from 0/600000 on and reaches 0/9F0000, " +
  "with commits from 2026-03-01T10:00:00.000001Z to 2026-03-01T12:00:00.000002Z.";
const ALONG = "To restore along it: --target-timeline 2.";
const LOOK = "To look there: --target-timeline 2.";
const BEYOND = "The target lies beyond it, too.";
const at = (time: string): TargetTexts => ({ time: `2026-03-01T${time}Z` });
const lsn = (text: string): TargetTexts => ({ lsn: parseLsn(text) });
const target = (texts: TargetTexts) => parseTarget(texts, 0);

test.each<[string, TargetTexts, string | undefined, Partial<OtherTimeline>, string[]]>([
  ["a time before its last commit", at("11:00:00"), undefined, {}, [`${REACH} ${ALONG}`]],
  ["the time of its last commit", at("12:00:00.000002"), undefined, {}, [`${REACH} ${ALONG}`]],
  ["a time after its last commit", at("12:00:00.000003"), undefined, {}, [`${REACH} ${BEYOND}`]],
  ["an LSN at its end", lsn("0/9F0000"), undefined, {}, [`${REACH} ${ALONG}`]],
  ["an LSN past its end", lsn("0/9F0001"), undefined, {}, [`${REACH} ${BEYOND}`]],
  ["a target behind a gap past the fork", lsn("0/700000"), "0/700000", {}, [`${REACH} ${ALONG}`]],
  ["a target before the fork", lsn("0/500000"), "0/500000", {}, []],
  ["an unknown transaction", { xid: "700" }, undefined, {}, [`${REACH} ${LOOK}`]],
  ["an unknown name", { name: "x" }, undefined, {}, [`${REACH} ${LOOK}`]],
  ["the end of the archive, which lies behind a gap", {}, "0/800000", {}, [`${REACH} ${ALONG}`]],
  [
    "a timeline that no backup leads to",
    at("11:00:00"),
    undefined,
    { hasBackup: false },
    [`${REACH} No backup leads there.`],
  ],
  [
    "a timeline with a single commit",
    at("10:00:00"),
    undefined,
    {
      commits: { first: parsePgTime("2026-03-01T12:00:00.000000Z"), last: parsePgTime("2026-03-01T12:00:00.000000Z") },
    },
    [
      `Timeline 2 differs from timeline 1 from 0/600000 on and reaches 0/9F0000, with a commit at 2026-03-01T12:00:00.000000Z. ${ALONG}`,
    ],
  ],
  [
    "a timeline in which no commit was found",
    at("11:00:00"),
    undefined,
    { commits: undefined },
    [`Timeline 2 differs from timeline 1 from 0/600000 on and reaches 0/9F0000, without a known commit. ${LOOK}`],
  ],
])("a refusal of %s", (_, texts, landing, changes, sentences) => {
  const followed = {
    timeline: one,
    landing: landing === undefined ? undefined : parseLsn(landing),
    generation: undefined,
  };
  expect(afterRefusal(target(texts), followed, [{ ...two, ...changes }])).toEqual(sentences);
});

test("a refusal names every other timeline, and one that cannot be read with its damage", () => {
  const damaged = { timeline: timelineOf(3), damage: "history of timeline 3, line 1: no number" };
  const followed = { timeline: one, landing: undefined, generation: undefined };
  expect(afterRefusal(target(at("11:00:00")), followed, [damaged, two])).toEqual([
    "Timeline 3 cannot be read: history of timeline 3, line 1: no number.",
    `${REACH} ${ALONG}`,
  ]);
});

const TIME_TOO = "Timeline 2 also has commits up to 2026-03-01T11:00:00.000000Z, and this restore follows timeline 1.";
const LSN_TOO = "Timeline 2 also has LSN 0/700000, and this restore follows timeline 1.";

test.each<[string, TargetTexts, string, Partial<OtherTimeline>, string[]]>([
  ["a time after commits of the other one", at("11:00:00"), "0/680000", {}, [`${TIME_TOO} ${REACH} ${ALONG}`]],
  [
    "a time whose next commit is the first past the fork",
    at("11:00:00"),
    "0/600000",
    {},
    [`${TIME_TOO} ${REACH} ${ALONG}`],
  ],
  ["a time before all commits of the other one", at("10:00:00"), "0/680000", {}, []],
  ["a time before the fork", at("11:00:00"), "0/5FFFF8", {}, []],
  ["a time, without a known commit on the other one", at("11:00:00"), "0/680000", { commits: undefined }, []],
  ["an LSN that both have", lsn("0/700000"), "0/700040", {}, [`${LSN_TOO} ${REACH} ${ALONG}`]],
  ["an LSN past the end of the other one", lsn("0/9F0001"), "0/9F0040", {}, []],
  ["the LSN of the fork itself", lsn("0/600000"), "0/600040", {}, []],
  ["an LSN before the fork", lsn("0/500000"), "0/500040", {}, []],
  ["the end of the archive", {}, "0/800000", {}, []],
])("a plan for %s", (_, texts, landing, changes, sentences) => {
  const followed = { timeline: one, landing: parseLsn(landing), generation: undefined };
  expect(besidePlan(target(texts), followed, [{ ...two, ...changes }])).toEqual(sentences);
});

test("a plan is silent about a timeline that cannot be read", () => {
  const damaged = { timeline: timelineOf(3), damage: "damage" };
  expect(
    besidePlan(target(at("11:00:00")), { timeline: one, landing: parseLsn("0/680000"), generation: undefined }, [
      damaged,
    ]),
  ).toEqual([]);
});

test("in a cluster of several generations the advice names the one that was read", () => {
  const followed = { timeline: one, landing: parseLsn("0/680000"), generation: "main@1" };
  const along = "To restore along it: --cluster main@1 --target-timeline 2.";
  expect(besidePlan(target(at("11:00:00")), followed, [two])).toEqual([`${TIME_TOO} ${REACH} ${along}`]);
  expect(afterRefusal(target({ xid: "700" }), followed, [two])).toEqual([
    `${REACH} To look there: --cluster main@1 --target-timeline 2.`,
  ]);
});
