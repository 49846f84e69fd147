/** When text is coloured: by terminal, NO_COLOR and FORCE_COLOR. */
import { expect, it } from "vitest";
import { wantsColours } from "../src/colours.ts";

const NONE: Readonly<Record<string, string>> = {};

it.each([
  ["a terminal", true, NONE, true],
  ["a pipe", undefined, NONE, false],
  ["a terminal with NO_COLOR", true, { NO_COLOR: "1" }, false],
  ["a terminal with an empty NO_COLOR", true, { NO_COLOR: "" }, true],
  ["a pipe with FORCE_COLOR", undefined, { FORCE_COLOR: "1" }, true],
  ["a pipe with an empty FORCE_COLOR", undefined, { FORCE_COLOR: "" }, false],
  ["a terminal with FORCE_COLOR=0", true, { FORCE_COLOR: "0" }, false],
  ["a terminal with FORCE_COLOR=false", true, { FORCE_COLOR: "false" }, false],
  ["both", undefined, { FORCE_COLOR: "1", NO_COLOR: "1" }, true],
])("%s", (_title, isTerminal, env, expected) => {
  expect(wantsColours(isTerminal, env)).toBe(expected);
});
