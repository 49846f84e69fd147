/** The command line without a server: help, version, bad input, exit statuses, pipes, and that usage errors touch nothing. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/commands.ts";
import { COMMAND_NAMES, OPTION_ROWS } from "../../src/config/options.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { ROOT } from "../harness/build.ts";
import { runCli } from "../harness/process.ts";
import { inProcess } from "./cli.ts";

const MAIN = join(ROOT, "dist", "cli", "main.js");

let dir = "";
beforeAll(() => (dir = makeTempDir("cli")));
afterAll(() => removeTree(dir));

describe("help", () => {
  it.each(COMMAND_NAMES)("%s --help has a description, every option, examples and exit statuses", async (name) => {
    const { code, stdout, stderr } = await inProcess([...name.split(" "), "--help"]);
    const spec = COMMANDS[name];
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`Usage: seawall ${name}`);
    for (const [, option] of OPTION_ROWS.filter(([, o]) => o.commands.includes(name))) {
      expect(stdout).toMatch(new RegExp(`--(no-)?${option.name}\\b`));
    }
    expect(spec.examples.length).toBeGreaterThan(0);
    for (const { line, does } of spec.examples) expect(stdout).toContain(`  # ${does}\n  ${line}\n`);
    for (const [exit, meaning] of spec.exits) expect(stdout).toMatch(new RegExp(`\\n  ${exit} +${escape(meaning)}\\n`));
  });

  it("the list of commands names each with its summary", async () => {
    const { code, stdout } = await inProcess(["--help"]);
    expect(code).toBe(0);
    for (const name of ["receive", "slot", "check", "status", "wal-fetch", "wal-push"])
      expect(stdout).toContain(`  ${name}`);
  });

  it("the list of commands has groups", async () => {
    const { stdout } = await inProcess(["help"]);
    const headings = stdout.match(/^[A-Z][a-z ]+:$/gm);
    expect(headings).toEqual(["Options:", "Run:", "Back up:", "Recover:", "Look:", "Keep:", "Set up:", "Exit status:"]);
  });

  it("help of a command of two words is its own help", async () => {
    const [a, b] = [await inProcess(["help", "slot", "create"]), await inProcess(["slot", "create", "--help"])];
    expect(a).toEqual(b);
    expect(a.stdout).toContain("Usage: seawall slot create");
  });

  it("help receive is receive --help", async () => {
    const [a, b] = [await inProcess(["help", "receive"]), await inProcess(["receive", "--help"])];
    expect(a).toEqual(b);
  });

  it("every example in the help is a line the program itself accepts", async () => {
    for (const name of COMMAND_NAMES) {
      for (const { line } of COMMANDS[name].examples) {
        const command = /(seawall (?:'[^']*'|"[^"]*"|[^|>)])*)/.exec(
          line.replace("seawall-wal-fetch", "seawall wal-fetch"),
        )?.[1];
        const words = (command?.match(/'[^']*'|"[^"]*"|\S+/g) ?? []).map((word) =>
          word.replace(/^(["'])(.*)\1$/, "$2"),
        );
        // A file that is not there ends each of them before anything is done, and after all flags were understood.
        const args = words.slice(1).filter((word, i, all) => word !== "--config" && all[i - 1] !== "--config");
        const { stderr } = await inProcess([...args, "--config", join(dir, "none", "not-there.yaml")]);
        expect(stderr, line).toMatch(/cannot (?:read|write) the configuration file/);
      }
    }
  });

  it("no command is a usage error that shows the help on stderr", async () => {
    const { code, stdout, stderr } = await inProcess([]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: seawall");
  });
});

describe("bad input is one error line with a hint, and exit status 2", () => {
  const rows: readonly (readonly [string, readonly string[], string, RegExp])[] = [
    ["an unknown command", ["recieve"], 'unknown command "recieve"', /Did you mean receive\?/],
    ["an unknown command unlike any", ["frobnicate"], 'unknown command "frobnicate"', /seawall --help/],
    ["an unknown subcommand", ["slot", "creat"], 'unknown command "slot creat"', /Did you mean slot create\?/],
    ["help for an unknown command", ["help", "nonsense"], 'unknown command "nonsense"', /seawall --help/],
    ["help for a mistyped command", ["help", "recieve"], 'unknown command "recieve"', /Did you mean receive\?/],
    ["help for an unknown subcommand", ["help", "slot", "creat"], 'unknown command "slot creat"', /slot create\?/],
    [
      "help for an unknown word of a group",
      ["help", "cluster", "xyz"],
      '"cluster xyz"',
      /Run seawall cluster --help\./,
    ],
    ["an unknown command with --help", ["nonsense", "--help"], 'unknown command "nonsense"', /seawall --help/],
    ["-v without a command", ["-v"], 'unknown option "-v"', /The version is seawall -V\./],
    [
      "an unknown option",
      ["receive", "--ship-intervall", "1s"],
      'unknown option "--ship-intervall"',
      /Did you mean --ship-interval\?/,
    ],
    ["another command's option", ["wal-push", "--slot", "x", "p"], 'unknown option "--slot"', /./],
    [
      "an option before the command",
      ["--store", "file:///x", "receive"],
      'unknown option "--store"',
      /Options follow the command/,
    ],
    [
      "an option without its value",
      ["receive", "--store"],
      'option "--store <url>" argument missing',
      /receive --help/,
    ],
    [
      "an argument too many",
      ["receive", "now"],
      'too many arguments for "receive". Expected 0 arguments but got 1',
      /receive --help/,
    ],
    ["a missing argument", ["wal-push", "--store", "file:///x"], 'missing required argument "path"', /wal-push --help/],
    ["no store", ["receive"], "seawall receive needs --store", /SEAWALL_STORE/],
    ["a malformed store", ["receive", "--store", "bucket"], '--store: "bucket" is not a store URL', /s3:\/\//],
    ["a store of no kind", ["receive", "--store", "s3://"], "", /./],
    ["a malformed dsn", ["receive", "--store", "file:///x", "--dsn", "host"], "", /./],
    ["an unknown connection option", ["receive", "--store", "file:///x", "--dsn", "hots=db"], "", /./],
    [
      "a bad sslmode",
      ["receive", "--store", "file:///x", "--dsn", "host=db sslmode=maybe"],
      'invalid sslmode value: "maybe"',
      /verify-full/,
    ],
    [
      "a bad slot name",
      ["slot", "create", "--slot", "My Slot"],
      '--slot: "My Slot" is not a valid name',
      /underscores/,
    ],
    [
      "a config file that is not there",
      ["check", "--config", "/nonexistent.yaml"],
      "cannot read the configuration file",
      /--config/,
    ],
  ];
  it.each(rows)("%s", async (_, args, message, hint) => {
    const { code, stdout, stderr } = await inProcess(args);
    const [first = "", second = "", ...rest] = stderr.trimEnd().split("\n");
    expect(first).toMatch(/^error: /);
    expect(first).toContain(message);
    expect(second).toMatch(/^hint: /);
    expect(second).toMatch(hint);
    expect([code, stdout, rest]).toEqual([2, "", []]);
  });

  it("with --json it is one JSON object on stderr", async () => {
    const { code, stderr } = await inProcess(["receive", "--json", "--ship-interval", "1"]);
    expect(code).toBe(2);
    expect(JSON.parse(stderr)).toEqual({
      error: {
        code: "usage",
        message: '--ship-interval: "1" has no unit',
        causes: [],
        hint: "Write 1ms, 1s, 1m, 1h.",
        exit: 2,
      },
    });
  });

  it("a password in a refused connection string is not shown", async () => {
    const { stderr } = await inProcess(["check", "--dsn", "postgres://me:hunter2@db:notaport/"]);
    expect(stderr).toMatch(/^error: /);
    expect(stderr).not.toContain("hunter2");
  });

  it("nothing is written before the input is right", async () => {
    const store = join(dir, "untouched");
    await inProcess(["receive", "--store", `file://${store}`, "--ship-interval", "soon"]);
    await inProcess(["wal-push", "--store", `file://${store}`, "/nonexistent/000000010000000000000001"]);
    expect(existsSync(store)).toBe(false);
  });
});

describe("the process", () => {
  it("--version is one line and exit status 0", async () => {
    for (const args of [["--version"], ["-V"]]) {
      expect(await runCli(args)).toEqual({ code: 0, signal: null, stdout: "seawall 0.2.0\n", stderr: "" });
    }
  });

  it("wal-fetch fails above 125 whatever is wrong: PostgreSQL must not take it for the end of the archive", async () => {
    const file = "000000010000000000000001";
    const rows: readonly (readonly string[])[] = [
      ["wal-fetch", "--stor", "file:///x", file, "t"],
      ["wal-fetch", "--store", "file:///x", file],
      ["wal-fetch", file, "t"],
      ["wal-fetch", "--store", "nonsense", file, "t"],
      ["wal-fetch", "--store", `file://${dir}/none`, file, "t"],
      ["wal-fetch", "--config", "/nonexistent.yaml", file, "t"],
      ["wal-fetch", "--store", `file://${dir}`, "not-a-wal-file", "t"],
      // A slip in the command's own name would otherwise exit with 2.
      ["wal-fecth", "--store", "file:///x", file, "t"],
      ["walfetch", "00000002.history", "t"],
    ];
    for (const args of rows) {
      const { code, stderr } = await runCli(args, { cwd: dir });
      expect(stderr, args.join(" ")).toMatch(/^error: /);
      expect(code, args.join(" ")).toBe(200);
    }
  });

  it("wal-fetch that cannot even load its modules exits above 125", async () => {
    const broken = join(dir, "broken");
    const { cpSync, mkdirSync, rmSync } = await import("node:fs");
    mkdirSync(broken);
    writeFileSync(join(broken, "package.json"), '{"type":"module","version":"0.0.0"}');
    cpSync(join(MAIN, "..", ".."), join(broken, "dist"), { recursive: true });
    rmSync(join(broken, "dist", "program.js"));
    const { run } = await import("../harness/run.ts");
    const accept = [1, 3, 200];
    const fetch = await run(process.execPath, [join(broken, "dist/cli/main.js"), "wal-fetch", "a", "b"], { accept });
    const other = await run(process.execPath, [join(broken, "dist/cli/main.js"), "check"], { accept });
    expect([fetch.code, other.code]).toEqual([200, 3]);
  });

  it("a reader that closes the pipe early is no error", async () => {
    const child = spawn(process.execPath, [MAIN, "receive", "--help"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.stdout.destroy();
    const code = await new Promise((resolve) => child.once("close", resolve));
    expect([code, stderr]).toEqual([0, ""]);
  });

  it("status without anything to look at says so, with exit status 3", async () => {
    const { code, stdout, stderr } = await runCli(["status", "--listen", "127.0.0.1:1"]);
    expect([code, stdout]).toEqual([3, ""]);
    expect(stderr).toMatch(
      /^error: no receiver answers: 127\.0\.0\.1:1: no process listens there \[receiver-unreachable\]\nhint: /,
    );
  });

  it("an environment variable that is nearly one of ours is refused", async () => {
    const { code, stderr } = await runCli(["status"], { env: { SEAWALL_STOER: "file:///x" } });
    expect(code).toBe(2);
    expect(stderr).toBe("error: unknown environment variable SEAWALL_STOER\nhint: Did you mean SEAWALL_STORE?\n");
  });

  it("leaves no file behind in the folder it runs in", () => {
    expect(readdirSync(dir).sort()).toEqual([".owner", "broken"]);
  });
});

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
