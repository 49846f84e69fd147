/** The order of test files: what is written down about them is about files that exist. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "./build.ts";
import { SECONDS } from "./sequencer.ts";

test("each file whose duration is written down exists", () => {
  expect(Object.keys(SECONDS).filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});
