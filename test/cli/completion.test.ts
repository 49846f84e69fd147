/** Completion in the real shells: the printed script is loaded, and the shell itself is asked what it would offer. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { COMMAND_NAMES, OPTION_ROWS } from "../../src/config/options.ts";
import { run } from "../harness/run.ts";
import { findPrograms } from "../harness/programs.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { inProcess } from "./cli.ts";

const programs = await findPrograms();
let dir = "";
beforeAll(async () => {
  dir = makeTempDir("completion");
  for (const [shell, file] of [
    ["bash", "bash"],
    ["zsh", "_seawall"],
    ["fish", "fish"],
  ] as const) {
    const { code, stdout } = await inProcess(["completion", shell]);
    expect(code).toBe(0);
    writeFileSync(join(dir, file), stdout);
  }
  writeFileSync(join(dir, "a file.yaml"), "");
});
afterAll(() => removeTree(dir));

/** The words offered when TAB is pressed behind `line`. */
type Ask = (line: string) => Promise<readonly string[]>;

const inBash: Ask = async (line) => {
  const script = `source "$1"; cd "$2"
    compopt() { :; }
    COMP_WORDS=("\${@:3}"); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _seawall
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run("bash", ["-c", script, "bash", join(dir, "bash"), dir, ...line.split(" ")]);
  return stdout.split("\n").filter((word) => word !== "");
};

const inFish: Ask = async (line) => {
  const script = `source ${dir}/fish; cd ${dir}; complete -C '${line}'`;
  const { stdout } = await run("fish", ["--no-config", "-c", script], { env: { ...process.env, HOME: dir } });
  return stdout
    .split("\n")
    .filter((word) => word !== "")
    .map((word) => word.split("\t")[0] ?? "");
};

/** zsh completes only in its line editor: one in a pseudo-terminal of its own lists what it offers. */
const inZsh: Ask = async (line) => {
  const script = `zmodload zsh/zpty
    zpty z zsh -f -i
    # Until $1 was seen, or for 30 s; into $seen.
    until_seen() {
      local part; seen=''
      for ((i = 0; i < 600; i++)); do
        while zpty -r -t z part 2>/dev/null; do seen+=$part; done
        [[ $seen == *$1* ]] && return
        sleep 0.05
      done
    }
    # The widget says when its completion is on the screen: a line editor with input to come draws nothing.
    zpty -w z 'PS1=; tabbed() { zle expand-or-complete; zle -R; print; print "TAB""BED" }; zle -N tabbed; bindkey "^I" tabbed'
    zpty -w z 'fpath=(${dir} $fpath); autoload -Uz compinit; compinit -u -D; cd ${dir}; setopt auto_list; LISTMAX=1000; print REA""DY'
    until_seen READY
    zpty -w -n z ${JSON.stringify(line)}$'\\t'
    until_seen TABBED
    offered=$seen
    zpty -w -n z $'\\x15'
    zpty -w z 'print E""ND'
    until_seen END
    print -r -- "$offered"
    zpty -d z`;
  const { stdout } = await run("zsh", ["-f", "-c", script], {
    env: { ...process.env, HOME: dir, TERM: "dumb", COLUMNS: "200" },
  });
  return stdout.split(/[\s=\u0007]+/);
};

const CASES: readonly { readonly line: string; readonly offers: readonly string[]; readonly not?: string }[] = [
  { line: "seawall re", offers: ["receive", "restore"], not: "list" },
  { line: "seawall slot ", offers: ["create", "drop"], not: "receive" },
  { line: "seawall slot create --sl", offers: ["--slot"], not: "--store" },
  { line: "seawall help rest", offers: ["restore"], not: "--help" },
  { line: "seawall help slot ", offers: ["create", "drop"] },
  { line: "seawall receive --log-level d", offers: ["debug"], not: "info" },
  { line: "seawall completion ", offers: ["bash", "zsh", "fish"], not: "receive" },
  { line: "seawall show ", offers: ["latest"] },
  { line: "seawall restore --backup l", offers: ["latest"] },
  { line: "seawall restore --target-timeline ", offers: ["latest", "current"] },
  { line: "seawall receive --no-create", offers: ["--no-create-slot"] },
];

describe.each([
  ["bash", inBash],
  ["zsh", inZsh],
  ["fish", inFish],
] as const)("%s", (shell, ask) => {
  const isMissing = shell !== "bash" && "unavailable" in programs;
  it.skipIf(isMissing).each(CASES)("$line", async ({ line, offers, not }) => {
    const offered = await ask(line);
    expect(offered).toEqual(expect.arrayContaining([...offers]));
    if (not !== undefined) expect(offered).not.toContain(not);
  });

  it.skipIf(isMissing)("a path is completed from the disk", async () => {
    const offered = await ask("seawall receive --config a");
    expect(offered.join(" ")).toMatch(/a\\? file\.yaml/);
  });
});

describe("bash", () => {
  it("an option that is joined to its value by = completes the value", async () => {
    // Bash splits the word at =.
    expect(await inBash("seawall receive --log-level = w")).toEqual(["warn"]);
    expect(await inBash("seawall receive --log-level =")).toEqual(["debug", "info", "warn", "error", "silent"]);
  });

  it("text that only the user knows offers nothing", async () => {
    expect(await inBash("seawall receive --store ")).toEqual([]);
  });

  it.each(COMMAND_NAMES)("offers every option of %s", async (name) => {
    const offered = await inBash(`seawall ${name} --`);
    const wanted = OPTION_ROWS.flatMap(([, option]) => (option.commands.includes(name) ? [`--${option.name}`] : []));
    expect(offered).toEqual(expect.arrayContaining(wanted));
  });
});

it("an unknown shell is refused", async () => {
  const { code, stderr } = await inProcess(["completion", "tcsh"]);
  expect(code).toBe(2);
  expect(stderr).toBe('error: there is no completion for "tcsh"\nhint: Use one of bash, zsh, fish.\n');
});
