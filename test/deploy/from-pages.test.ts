/**
 * The commands that the pages for users of other tools put beside those of that tool: each is run on the archive that is kept, and
 * ends well. Those that ask a server are only read here (pages.test.ts); they are run on real servers by tests of their own.
 */
import { mkdirSync, readFileSync, readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inProcess } from "../cli/cli.ts";
import { layOut, OLDER, SEGMENT } from "../fixtures/damaged-archive.ts";
import { ROOT } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inlineCommands } from "./commands-of-pages.ts";

/** Commands that ask a server, or read another tool's archive. */
const ELSEWHERE = /^(?:receive|backup|check|status|slot (?:create|drop)|drill|cluster upgrade|import)(?: |$)/;
/** The command's name in a sentence. */
const NAMED = "restore";
/** The kept archive has no tablespace: test/restore/tablespaces.test.ts maps some. */
const MAPPING = "--tablespace-mapping";

const pages = readdirSync(join(ROOT, "docs")).filter((name) => /^from-.*\.md$/.test(name));
const lines = new Set(
  pages
    .flatMap((name) => inlineCommands(readFileSync(join(ROOT, "docs", name), "utf8")))
    .map(({ args }) => args.join("\n")),
);
const commands = [...lines].map((line) => line.split("\n")).filter((args) => !args.includes(MAPPING));
const here = commands.filter((args) => !ELSEWHERE.test(args.join(" ")) && args.join(" ") !== NAMED);

let dir: string;
beforeAll(() => void (dir = makeTempDir("from-pages")));
afterAll(() => removeTree(dir));

/** A copy of the kept archive, as old as it is; one backup in it is pinned, as the command may want. */
async function archiveFor(
  command: string,
  number: number,
): Promise<{ readonly place: string; readonly store: string }> {
  const place = join(dir, String(number));
  const archive = join(place, "archive");
  for (const path of [archive, join(place, "pg_wal")]) mkdirSync(path, { recursive: true });
  layOut(archive, { name: "nothing at all", changes: [] });
  const madeAt = new Date("2025-03-06T09:00:00Z");
  for (const name of readdirSync(archive, { recursive: true, encoding: "utf8" })) {
    utimesSync(join(archive, name), madeAt, madeAt);
  }
  const store = `file://${archive}`;
  if (command !== "unpin") expect(await inProcess(["unpin", OLDER, "--store", store])).toMatchObject({ code: 0 });
  return { place, store };
}

describe("a command of a page works on an archive", () => {
  test("the pages have commands of both kinds", () => {
    expect(here.length).toBeGreaterThan(20);
    expect(commands.length - here.length).toBeGreaterThan(15);
  });

  test.each(here.map((args, number) => [args.join(" "), args, number] as const))(
    "seawall %s",
    async (_, args, number) => {
      const [command = ""] = args;
      const { place, store } = await archiveFor(command, number);
      const segment = join(place, "pg_wal", SEGMENT);
      if (command === "wal-push") {
        expect(await inProcess(["wal-fetch", SEGMENT, segment, "--store", store])).toMatchObject({ code: 0 });
      }
      const own: Readonly<Record<string, string>> = {
        ...{ ID: OLDER, "./data": join(place, "data"), "/wal/main": join(place, "wal"), "%f": SEGMENT, "%p": segment },
        "5 minutes ago": "2025-03-05T08:00:01Z",
      };
      const ran = await inProcess(
        args.map((word) => own[word] ?? word),
        { SEAWALL_STORE: store, SEAWALL_LOG_LEVEL: "warn" },
      );
      expect(ran.code, ran.stderr).toBe(0);
    },
  );
});
