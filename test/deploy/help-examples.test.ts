/** The examples of the help, which docs/commands.md shows: each runs by itself, as it stands there. */
import { afterAll, beforeAll, describe, test } from "vitest";
import { tool } from "../harness/postgres.ts";
import { exampleOf } from "./help-preparations.ts";
import { blocksRunBy, type PageBlock } from "./page-blocks.ts";
import { runBlock } from "./page-run.ts";
import { PageSite } from "./page-site.ts";

/** A block for each example. */
const EXAMPLES: readonly PageBlock[] = blocksRunBy("test/deploy/help-examples.test.ts").flatMap((block) =>
  block.text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((text) => ({ ...block, text, language: /^\w+_command = /.test(text) ? "ini" : "sh" })),
);

describe.skipIf(tool("pg_dump") === undefined)("the help's example", () => {
  let site: PageSite;
  beforeAll(async () => {
    site = await PageSite.start();
  }, 300_000);
  afterAll(async () => site[Symbol.asyncDispose]());

  test.each(EXAMPLES.map((example) => [example.text, example] as const))(
    "%s",
    async (_, example) => runBlock(example, { site, prepare: exampleOf }),
    300_000,
  );
});
