/** What of the WAL a recovering server may replay: every combination that decides, as a sentence. */
import { expect, test } from "vitest";
import { decidePassage, type GateFacts } from "../../src/restore/tablespace-gate.ts";

const unknown: GateFacts = {
  ...{ place: undefined, link: undefined },
  ...{ isBeyondTarget: false, isPrepared: false, isEmptyDirectory: false },
};

const ROWS: readonly [sentence: string, location: string | undefined, facts: Partial<GateFacts>, passage: unknown][] = [
  ["inside the data directory: nothing to decide", "", {}, { kind: "as-is" }],
  ["mapped elsewhere", "/live", { place: "/own" }, { kind: "emptied", place: "/own" }],
  ["restored to where it was", "/live", { place: "/live" }, { kind: "as-is" }],
  ["mapped, its path unreadable", undefined, { place: "/own" }, { kind: "emptied", place: "/own" }],
  [
    "mapped, and linked by an earlier replay",
    "/live",
    { place: "/own", link: "/own" },
    { kind: "emptied", place: "/own" },
  ],
  ["behind the target: never replayed", "/live", { isBeyondTarget: true }, { kind: "emptied", place: undefined }],
  ["an operator's link leads elsewhere", "/live", { link: "/own" }, { kind: "emptied", place: undefined }],
  ["an earlier replay's link leads there", "/own", { link: "/own" }, { kind: "as-is" }],
  ["no order", "/live", {}, { kind: "refused" }],
  ["no order, and it is empty", "/live", { isEmptyDirectory: true }, { kind: "refused" }],
  ["a standby's directory, empty", "/own", { isPrepared: true, isEmptyDirectory: true }, { kind: "as-is" }],
  ["a standby on the primary's machine", "/live", { isPrepared: true }, { kind: "refused" }],
  ["a standby, the path unreadable", undefined, { isPrepared: true }, { kind: "refused" }],
];

test.each(ROWS)("%s", (_sentence, location, facts, passage) => {
  expect(decidePassage({ location }, { ...unknown, ...facts })).toEqual(passage);
});
