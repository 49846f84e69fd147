/**
 * Runs the commands of docs/cookbook.md on a real archive: the looks, the copy from before a mistake with its server and its table, and
 * the same again with --delta. Not run: what needs a second region, a lost machine, a second generation, or a sandbox (a drill); their
 * commands are parsed in pages.test.ts, and tests of their own run them.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { expect, test } from "vitest";
import { readPostmaster } from "../../src/restore/check.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { Archived } from "../restore/restored.ts";
import { type PageCommand, fencedCommands } from "./commands-of-pages.ts";

const PAGE = readFileSync(join(import.meta.dirname, "..", "..", "docs", "cookbook.md"), "utf8");

/** The commands below a heading. */
function commandsBelow(heading: string): readonly PageCommand[] {
  const at = PAGE.indexOf(`\n## ${heading}\n`);
  expect(at).toBeGreaterThan(0);
  const end = PAGE.indexOf("\n## ", at + 1);
  const found = fencedCommands(PAGE.slice(at, end === -1 ? undefined : end));
  expect(found.length).toBeGreaterThan(0);
  return found;
}

/** The rows of an isolated server, at its socket in the data directory. */
async function rowsAt(dataDir: string): Promise<number[]> {
  const port = (await readPostmaster(dataDir))?.port ?? 0;
  const client = new pg.Client({ host: dataDir, port, user: "postgres", database: "postgres" });
  await client.connect();
  try {
    const { rows } = await client.query<{ i: number }>("SELECT i FROM t ORDER BY i");
    return rows.map(({ i }) => i);
  } finally {
    await client.end();
  }
}

test("the recipes for a dropped table, a wrong target and a damaged archive work as written", async () => {
  await using archived = await Archived.start({});
  await archived.insert(1);
  await archived.backup();
  await archived.insert(2);
  const format = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;
  const before = await archived.server.value(`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', ${format})`);
  await archived.insert(3);
  await archived.stored();
  await archived.stopReceiving();
  await archived.share();
  const folder = makeTempDir("cookbook");
  const config = join(folder, "seawall.yaml");
  writeFileSync(
    config,
    `store: ${JSON.stringify(archived.url)}\ndsn: ${JSON.stringify(archived.server.dsn)}\nlisten: off\n`,
  );
  /** The page's words with the places and the time of this test. */
  const run = async ({ args }: PageCommand, dataDir: string): Promise<string> => {
    const isTime = (i: number): boolean => args[i - 1] === "--target-time";
    const own = args.map((word, i) =>
      isTime(i) ? before : word.replace("/etc/seawall.yaml", config).replace("/restore/data", dataDir),
    );
    if (own.includes("--target-dir")) own.push("--restore-command", archived.fetchCommand);
    const done = await runCli(own, { env: archived.env, timeoutMs: 120_000 });
    expect(done, `seawall ${own.join(" ")}`).toMatchObject({ code: 0 });
    return done.stdout;
  };

  const first = fencedCommands(PAGE).slice(0, 2);
  expect(first.map(({ args }) => args[0])).toEqual(["list", "status"]);
  for (const command of first) expect(await run(command, "")).toContain("main");

  const [restore, check] = commandsBelow("A table was dropped, or rows were deleted");
  const [again] = commandsBelow("The target was wrong");
  if (restore === undefined || check === undefined || again === undefined) throw new Error("the page lacks a command");
  for (const way of [[restore], [restore, again]]) {
    await using copy = await archived.server.fromDataDir(
      async (dataDir) => {
        for (const command of way) await run(command, dataDir);
      },
      { start: false },
    );
    await copy.start({ wait: false });
    expect(await run(check, copy.dataDir)).toMatch(/^reached/);
    expect(await rowsAt(copy.dataDir)).toEqual([1, 2]);
  }
  for (const command of commandsBelow("The archive has a gap or is damaged").slice(0, 1)) await run(command, "");
  removeTree(folder);
}, 240_000);
