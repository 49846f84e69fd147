/**
 * The commands of every page are commands that the program takes: their names, options, values and arguments. Nothing is run.
 * Pages whose commands are run on real servers have tests of their own beside this one. Links between the pages lead somewhere.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it, test } from "vitest";
import { inProcess } from "../cli/cli.ts";
import { OPTION_ROWS } from "../../src/config/options.ts";
import { commandsOf, fencedCommands, inlineCommands } from "./commands-of-pages.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const DOCS = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
const PAGES = ["README.md", ...DOCS.map((name) => `docs/${name}`)];

/** Pages for users of other tools. They name Seawall's commands in tables, so the code in their text counts too. */
const COMING = PAGES.filter((page) => /^docs\/(from-.*|switch|comparison)\.md$/.test(page));

function pageAt(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** What the program says against a command; undefined if it takes it. A file that is not there ends it before it begins. */
async function refusalOf(args: readonly string[]): Promise<string | undefined> {
  const config = (word: string, i: number, all: readonly string[]) => word === "--config" || all[i - 1] === "--config";
  const given = args.filter((word, i, all) => !config(word, i, all));
  const alone = given.length === 1 && ["--version", "help"].includes(given[0] ?? "");
  const { code, stderr } = await inProcess(alone ? given : [...given, "--config", "/nonexistent/seawall.yaml"]);
  if (alone && code === 0) return undefined;
  return /cannot (?:read|write) the configuration file/.test(stderr) ? undefined : stderr;
}

describe("the commands of a page are taken by the program", () => {
  test.each(PAGES)("%s", async (path) => {
    const page = pageAt(path);
    const refused: string[] = [];
    for (const { line, args } of [...fencedCommands(page), ...(COMING.includes(path) ? inlineCommands(page) : [])]) {
      const refusal = await refusalOf(args);
      if (refusal !== undefined) refused.push(`${path}:${line}: seawall ${args.join(" ")}: ${refusal}`);
    }
    expect(refused).toEqual([]);
  });

  it.each(["recieve", "receive --ship-intervall 1s", "expire --keep-full seven", "show", "list latest", "slot creat"])(
    "seawall %s is refused",
    async (line) => expect(await refusalOf(line.split(" "))).toMatch(/^error: /),
  );
});

/** Links of a page to files that are not there, or to headings that their page lacks. */
function brokenLinks(path: string, page = pageAt(path)): string[] {
  const links = [...withoutBlocks(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
  return links.filter((link) => {
    const [file = "", anchor] = link.split("#");
    if (/^[a-z]+:/.test(link)) return false;
    const target = join(dirname(path), file);
    if (file !== "" && !existsSync(join(ROOT, target))) return true;
    return anchor !== undefined && !anchorsOf(file === "" ? page : pageAt(target)).includes(anchor);
  });
}

/** A heading's anchor as GitHub makes it: letters, digits, underscores and dashes in lower case, and dashes for spaces. */
function anchorsOf(page: string): string[] {
  const headings = [...withoutBlocks(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading);
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

function withoutBlocks(page: string): string {
  return page.replaceAll(/^ *```[\s\S]*?^ *```$/gm, "");
}

describe("the links of a page lead somewhere", () => {
  test.each([...PAGES, "CHANGELOG.md", "CONTRIBUTING.md", "src/README.md", "test/README.md"])("%s", (path) => {
    expect(brokenLinks(path)).toEqual([]);
  });

  it("a missing file and a missing heading are found", () => {
    const page =
      "## A `b`?\n[1](#a-b) [2](#a) [3](gone.md) [4](import.md#gone) [5](../README.md) [6](https://a.example/b)";
    expect(brokenLinks("docs/x.md", page)).toEqual(["#a", "gone.md", "import.md#gone"]);
  });
});

/** Every command of each tool for PostgreSQL, from its documents of 2026. Those that only the tool itself calls are left out. */
const COMMANDS_OF: Readonly<Record<string, string>> = {
  "wal-e": "backup-fetch backup-list backup-push wal-fetch wal-prefetch wal-push version",
  "wal-g": `backup-fetch backup-list backup-mark backup-push catchup-fetch catchup-list catchup-push catchup-receive
    catchup-send completion copy daemon flags help wal-fetch wal-prefetch wal-push wal-receive
    wal-restore wal-show wal-g-exporter`,
  barman: `archive-wal backup check check-backup check-wal-archive cloud-wal-archive cloud-wal-restore config-switch config-update cron delete
    diagnose export-backup generate-manifest get-wal help import-backup keep list-backups list-files list-processes list-servers lock-directory-cleanup put-wal rebuild-xlogdb
    receive-wal recover replication-status restore show-backup show-servers status switch-wal switch-xlog sync-backup sync-info
    sync-wals terminate-process verify verify-backup barman-wal-archive barman-wal-restore barman-cloud-backup
    barman-cloud-backup-delete barman-cloud-backup-keep barman-cloud-backup-list barman-cloud-backup-show
    barman-cloud-check-wal-archive barman-cloud-restore barman-cloud-wal-archive barman-cloud-wal-restore`,
  pgbackrest: `annotate archive-get archive-push check expire help info repo-get repo-ls restore server server-ping stanza-create
    stanza-delete stanza-upgrade start stop verify version`,
};

/** Commands of two words, or with the option that decides. */
const FORMS_OF: Readonly<Record<string, readonly string[]>> = {
  "wal-e": ["delete before NAME", "delete retain N", "delete old-versions", "delete everything"],
  "wal-g": [
    ...["delete before TIME", "delete retain FULL N", "delete target NAME", "delete garbage", "delete everything"],
    ...["pgbackrest backup-list", "pgbackrest wal-fetch", "wal-verify integrity", "wal-verify timeline"],
    ...["st ls", "st stat", "st get", "st cat", "st put", "st rm", "st copy", "st transfer", "st check"],
  ],
  pgbackrest: ["backup --type=full", "backup --type=diff"],
};

describe("the page of a tool", () => {
  test.each(Object.entries(COMMANDS_OF))("names every command of %s in the first column of a table", (tool, names) => {
    const cells = pageAt(`docs/from-${tool}.md`)
      .split("\n")
      .flatMap((line) => /^\| ([^|]*) \|/.exec(line)?.[1] ?? []);
    const codes = new Set(cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code)));
    const missing = [...names.split(/\s+/), ...(FORMS_OF[tool] ?? [])].filter((name) => {
      return ![...codes].some((code) => code === name || code?.startsWith(`${name} `));
    });
    expect(missing).toEqual([]);
  });

  test.each(COMING.filter((path) => path.includes("/from-")))("%s names only options that Seawall has", (path) => {
    const known = new Set(["help", ...OPTION_ROWS.map(([, { name }]) => name)]);
    const last = pageAt(path)
      .split("\n")
      .flatMap((line) => /^\|.*\| ([^|]*) \|$/.exec(line)?.[1] ?? []);
    const named = last.flatMap((cell) => [...cell.matchAll(/`(?:--(?:no-)?([a-z-]+)[^`]*|([a-z-]+): [^`]*)`/g)]);
    const names = named.map(([, flag, key]) => flag ?? key ?? "");
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !known.has(name) && !known.has(`no-${name}`))).toEqual([]);
  });
});

describe("commands are found in", () => {
  const rows: readonly (readonly [string, string, readonly (readonly string[])[]])[] = [
    ["a line with a comment", "seawall list   --all     # seawall show x", [["list", "--all"]]],
    ["a prompt", "$ seawall check", [["check"]]],
    ["a loop", "until npx seawall restore --check ./x; do sleep 1; done", [["restore", "--check", "./x"]]],
    ["a line in the background", "npx seawall receive &     # streams", [["receive"]]],
    ["a variable and a pipe", "A_B=c seawall list --json | jq -r '.x[] | .y'", [["list", "--json"]]],
    ["two commands", "seawall list && seawall show latest", [["list"], ["show", "latest"]]],
    ["a substitution", "source <(seawall completion bash)", [["completion", "bash"]]],
    [
      "quotes",
      `seawall drill --sql 'shop: SELECT "a b" > 0' --keep`,
      [["drill", "--sql", 'shop: SELECT "a b" > 0', "--keep"]],
    ],
    ["a URL with a question mark", "seawall list --store 's3://a/b?c=d#e'", [["list", "--store", "s3://a/b?c=d#e"]]],
    ["a setting", "archive_command = 'seawall wal-push %p'   # isn't it", [["wal-push", "%p"]]],
    ["the quick form", "restore_command = 'exec /opt/seawall-wal-fetch \"%f\" %p'", [["wal-fetch", "%f", "%p"]]],
    [
      "dots for a value and for the rest",
      "seawall receive --dsn … --no-slot …",
      [["receive", "--dsn", "host=db", "--no-slot"]],
    ],
    ["a redirection", 'seawall wal-fetch "$1" "$wal" >&2 || exit', [["wal-fetch", "$1", "$wal"]]],
    ["no other word", "systemctl stop seawall; psql -c 'CREATE ROLE seawall LOGIN'; host all seawall md5", []],
  ];
  it.each(rows)("%s", (_, line, expected) => expect(commandsOf(line)).toEqual(expected));

  it("fenced blocks and code in the text, each in its own way", () => {
    const page = "`seawall list`, `seawall COMMAND`\n```sh\nseawall show \\\n  latest\n```\n seawall check\n";
    expect(fencedCommands(page)).toEqual([{ line: 4, args: ["show", "latest"] }]);
    expect(inlineCommands(page)).toEqual([{ line: 1, args: ["list"] }]);
  });
});
