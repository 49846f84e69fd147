/** `bin/seawall-wal-fetch` without Node.js: when it hands out what waits, and everything that must make it ask the program. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PrefetchFolder, type ReadySegments, type Session } from "../../src/restore/fetch/prefetch-folder.ts";
import { restoreCommand } from "../../src/restore/restore-command.ts";
import type { ServerRun } from "../../src/restore/server-run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { nameOf, recoveringServer } from "./recovering.ts";

const FLAGS = ["--store", "file:///backup", "--cluster", "it's"];
const NAME = nameOf(2);
/** Which shells this machine has; /bin/sh is one of them, the system's own choice. */
const SHELLS = ["/bin/sh", "/bin/dash", "/bin/bash", "/bin/busybox"].filter((path) => existsSync(path));

let dir = "";
let run: ServerRun;
let session: Session;
let ready: ReadySegments;

beforeEach(async () => {
  dir = makeTempDir("fast-path");
  run = await recoveringServer(dir);
  session = { run: run.id, flags: FLAGS.join(" "), source: "file:///backup it's", config: "" };
  // In the place of Node.js: it would be asked for what does not wait.
  writeFileSync(join(dir, "node"), "#!/bin/sh\necho asked\nexit 99\n");
  chmodSync(join(dir, "node"), 0o755);
  ready = await claim();
  await ready.add(NAME, Buffer.from("verified"));
  // No prefetcher answers here unless a test says so, and no script waits.
  sleepDoes("exit 1");
});
afterEach(() => removeTree(dir));

async function claim(): Promise<ReadySegments> {
  const claimed = await new PrefetchFolder(run).claim(session);
  if (claimed === undefined) throw new Error("another process is prefetching");
  return claimed;
}

interface Ask {
  readonly file?: string;
  readonly target?: string;
  readonly flags?: readonly string[];
  readonly shell?: string;
}

/** As PostgreSQL runs it, in its data directory. */
function ask({ file = NAME, target = "pg_wal/RECOVERYXLOG", flags = FLAGS, shell }: Ask = {}) {
  const line = restoreCommand({ flags, node: join(dir, "node") })
    .replaceAll("%f", file)
    .replaceAll("%p", target);
  const script = /exec (\S+)/.exec(line)?.[1] ?? "";
  const inShell =
    shell === undefined ? line : line.replace(script, `${shell}${shell.endsWith("box") ? " sh" : ""} ${script}`);
  const { status, stdout, stderr } = spawnSync("sh", ["-c", inShell], {
    cwd: dir,
    encoding: "utf8",
    // Where a test puts a program that is to be found instead of the system's.
    env: { PATH: `${join(dir, "bin")}:${process.env["PATH"] ?? ""}` },
  });
  return { status, asked: stdout.includes("asked"), stderr };
}

test.each(SHELLS)("%s hands out what waits, once, and says nothing", (shell) => {
  expect(ask({ shell })).toEqual({ status: 0, asked: false, stderr: "" });
  expect(readFileSync(join(dir, "pg_wal", "RECOVERYXLOG"), "utf8")).toBe("verified");
  expect(ask({ shell })).toEqual({ status: 1, asked: true, stderr: "" });
});

test("the program and the script agree on what a session is, whatever the options", async () => {
  for (const flags of [[], ["--cluster", "a  b"], ["--config", join(dir, "x y.yaml")], ["\\n", "$HOME", "`ls`", "*"]]) {
    session = { ...session, flags: flags.join(" ") };
    await ready.close();
    ready = await claim();
    await ready.add(NAME, Buffer.from("verified"));
    expect(ask({ flags }), flags.join(" ")).toEqual({ status: 0, asked: false, stderr: "" });
  }
});

test.each(SHELLS)("%s waits for one that is on its way", (shell) => {
  const path = join(dir, "pg_wal", ".seawall", onItsWay(), nameOf(4));
  sleepDoes(`mv ${path}.part ${path}`);
  expect(ask({ shell, file: nameOf(4) })).toEqual({ status: 0, asked: false, stderr: "" });
  expect(readFileSync(join(dir, "pg_wal", "RECOVERYXLOG"), "utf8")).toBe("half");
});

describe("what is neither there nor on its way", () => {
  const file = nameOf(4);
  /** In the midst of waiting: answers every question as the prefetcher would. */
  const answers = (does: string): void =>
    sleepDoes(`cd ${join(dir, "pg_wal", ".seawall")}/ready-* || exit 1\nfor want in *.want.*; do\n${does}\ndone`);
  const leftOver = () =>
    readdirSync(join(dir, "pg_wal", ".seawall"), { recursive: true, encoding: "utf8" }).filter((name) =>
      name.includes(".want."),
    );

  test.each(SHELLS)("%s asks the prefetcher for, and believes that the archive ends before it", (shell) => {
    answers('mv "$want" "${want%.want.*}.gone.${want##*.}"');
    for (const [name, target] of [
      [file, "pg_wal/RECOVERYXLOG"],
      ["00000002.history", "pg_wal/RECOVERYHISTORY"],
    ] as const) {
      expect(ask({ shell, file: name, target })).toEqual({ status: 1, asked: false, stderr: "" });
      expect(existsSync(join(dir, target))).toBe(false);
    }
  });

  test.each(SHELLS)("%s takes when it is there then", (shell) => {
    answers('echo late >"${want%.want.*}"; rm "$want"');
    expect(ask({ shell, file })).toEqual({ status: 0, asked: false, stderr: "" });
    expect(readFileSync(join(dir, "pg_wal", "RECOVERYXLOG"), "utf8")).toBe("late\n");
  });

  const others: { title: string; change: () => void }[] = [
    { title: "the prefetcher leaves it to the program", change: () => answers('rm "$want"') },
    { title: "the answer is to another question", change: () => answers('touch "${want%.want.*}.gone.1"; rm "$want"') },
    {
      title: "the answer is about another file",
      change: () => answers(`touch ${nameOf(5)}.gone."\${want##*.}"; rm "$want"`),
    },
    { title: "there is no answer for long", change: () => sleepDoes("exit 0") },
    { title: "the folder is gone", change: () => removeTree(join(dir, "pg_wal", ".seawall", onItsWay())) },
  ];
  test.each(others)("is asked of the program when $title", ({ change }) => {
    change();
    expect(ask({ file })).toMatchObject({ asked: true, status: 1, stderr: "" });
    expect(leftOver()).toEqual([]);
  });
});

/** Half of segment 4 is there; returns the folder of waiting segments. */
function onItsWay(): string {
  const folder = join(dir, "pg_wal", ".seawall");
  const own = readdirSync(folder).find((name) => name.startsWith("ready-")) ?? "";
  writeFileSync(join(folder, own, `${nameOf(4)}.part`), "half");
  return own;
}

/** What happens while the script waits. */
function sleepDoes(what: string): void {
  program("sleep", what);
}

/** A program that is found instead of the system's. */
function program(name: string, does: string): void {
  mkdirSync(join(dir, "bin"), { recursive: true });
  writeFileSync(join(dir, "bin", name), `#!/bin/sh\n${does}\n`);
  chmodSync(join(dir, "bin", name), 0o755);
}

describe("the program is asked", () => {
  const cases: { title: string; ask?: Ask; change?: () => unknown }[] = [
    { title: "for another segment", ask: { file: nameOf(3) } },
    { title: "for a history file", ask: { file: "00000002.history", target: "pg_wal/RECOVERYHISTORY" } },
    { title: "by pg_rewind, which names a place of its own", ask: { target: "pg_wal/000000010000000000000002" } },
    { title: "with other options", ask: { flags: ["--store", "file:///other"] } },
    { title: "with fewer options", ask: { flags: FLAGS.slice(0, 2) } },
    {
      title: "by a later start of the server",
      change: async () => recoveringServer(dir, { startedAt: 1_700_000_002 }),
    },
    { title: "without a server", change: () => removeTree(join(dir, "postmaster.pid")) },
    {
      title: "after a start of the machine",
      change: () => {
        const path = join(dir, "pg_wal", ".seawall", "session");
        const [first = "", ...rest] = readFileSync(path, "utf8").split("\n");
        writeFileSync(path, [`${first}0`, ...rest].join("\n"));
      },
    },
    { title: "when the prefetcher has gone", change: async () => ready.close() },
    {
      title: "when the session is cut short",
      change: () => writeFileSync(join(dir, "pg_wal/.seawall/session"), run.id),
    },
    { title: "when the session is empty", change: () => writeFileSync(join(dir, "pg_wal/.seawall/session"), "") },
    {
      title: "when the segment cannot be moved",
      change: () => program("mv", "exit 1"),
    },
    {
      title: "when its prefetcher was killed on the way",
      change: () => {
        const own = onItsWay();
        const dead = own.replace(/ready-\d+/, "ready-2147483646");
        const path = join(dir, "pg_wal", ".seawall");
        renameSync(join(path, own), join(path, dead));
        writeFileSync(join(path, "session"), readFileSync(join(path, "session"), "utf8").replace(own, dead));
      },
      ask: { file: nameOf(4) },
    },
    {
      title: "when the prefetcher gives it up",
      change: () => sleepDoes(`rm ${join(dir, "pg_wal", ".seawall", onItsWay(), `${nameOf(4)}.part`)}`),
      ask: { file: nameOf(4) },
    },
    {
      title: "when it has been on its way for long",
      change: () => {
        onItsWay();
        sleepDoes("exit 0");
      },
      ask: { file: nameOf(4) },
    },
    {
      title: "when it is on its way and sleep knows whole seconds only",
      change: () => {
        onItsWay();
        sleepDoes("echo invalid number >&2; exit 1");
      },
      ask: { file: nameOf(4) },
    },
  ];
  test.each(cases)("$title", async ({ ask: how, change }) => {
    await change?.();
    // The stand-in says "not there"; what counts is that nothing else did, and that nothing was handed out.
    expect(ask(how)).toMatchObject({ asked: true, status: 1 });
    expect(existsSync(join(dir, "pg_wal", "RECOVERYXLOG"))).toBe(false);
  });

  test("when the configuration file has changed since", async () => {
    const config = join(dir, "seawall.yaml");
    writeFileSync(config, "cluster: main\n");
    utimesSync(config, new Date(0), new Date(0));
    session = { ...session, config };
    await ready.close();
    ready = await claim();
    await ready.add(NAME, Buffer.from("verified"));
    utimesSync(config, new Date(), new Date(Date.now() + 60_000));
    expect(ask()).toMatchObject({ asked: true, status: 1 });
    utimesSync(config, new Date(0), new Date(0));
    expect(ask()).toMatchObject({ asked: false, status: 0 });
  });
});
