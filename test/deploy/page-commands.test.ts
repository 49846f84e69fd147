/** The blocks of the pages that need a server, a receiver and an archive, and nothing else: each runs as it stands there. */
import { afterAll, beforeAll, describe, test } from "vitest";
import { tool } from "../harness/postgres.ts";
import { blocksRunBy } from "./page-blocks.ts";
import { preparationOf } from "./page-preparations.ts";
import { runBlock } from "./page-run.ts";
import { PageSite } from "./page-site.ts";

const BLOCKS = blocksRunBy("test/deploy/page-commands.test.ts");

describe.skipIf(tool("pg_dump") === undefined)("a block of", () => {
  let site: PageSite;
  beforeAll(async () => {
    site = await PageSite.start();
  }, 300_000);
  afterAll(async () => site[Symbol.asyncDispose]());

  test.each(BLOCKS.map((block) => [`${block.page}:${block.line}`, block] as const))(
    "%s",
    async (_, block) => runBlock(block, { site, prepare: preparationOf }),
    300_000,
  );
});
