/**
 * The restore_command line and the script it runs, without a server: quoting, and that no failure of a shell, of Node.js or
 * of the program ends with a status from 1 to 125, which PostgreSQL would take for the end of the archive.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { quoteSetting } from "../../src/restore/recovery-config.ts";
import { restoreCommand } from "../../src/restore/restore-command.ts";
import { serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { startPostgres, oldestAndNewest } from "../harness/postgres.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const SCRIPT = join(ROOT, "bin", "seawall-wal-fetch");
const SEGMENT = "000000010000000000000003";

let dir = "";
beforeAll(() => (dir = makeTempDir("restore-command")));
afterAll(() => removeTree(dir));

/** What PostgreSQL does with it: placeholders first, then `sh -c` in the data directory. */
function asPostgres(command: string, options: { file?: string; env?: NodeJS.ProcessEnv; wrap?: string[] } = {}) {
  const line = command.replace(/%(.)/g, (_, letter: string) =>
    letter === "f" ? (options.file ?? SEGMENT) : letter === "p" ? "pg_wal/RECOVERYXLOG" : letter,
  );
  mkdirSync(join(dir, "pg_wal"), { recursive: true });
  const [file = "sh", ...args] = [...(options.wrap ?? []), "sh", "-c", line];
  return spawnSync(file, args, { cwd: dir, encoding: "utf8", env: options.env ?? process.env });
}

/** Something in the place of Node.js. */
function standIn(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

describe("the line", () => {
  test("carries every word to the program as it was given", () => {
    const node = standIn("echo", 'shift 2; printf "%s|" "$@"; touch pg_wal/RECOVERYXLOG');
    const flags = [
      "--store",
      "s3://b/p?region=x&pathStyle=true",
      "--cluster",
      "a b",
      "it's",
      "100%",
      "$HOME",
      "%f",
      "\\",
    ];
    const { stdout, status } = asPostgres(restoreCommand({ flags, node }));
    expect(stdout).toBe([SEGMENT, "pg_wal/RECOVERYXLOG", ...flags, ""].join("|"));
    expect(status).toBe(0);
  });

  test("refuses a --config that the server would look for in its data directory, and line breaks", () => {
    expect(() => restoreCommand({ flags: ["--config", "seawall.yaml"] })).toThrow(/relative/);
    expect(() => restoreCommand({ flags: ["--cluster", "a\nb"] })).toThrow(/line breaks/);
  });

  test.each(oldestAndNewest())("PostgreSQL %i reads it from its configuration as it was meant", async (version) => {
    const options = { flags: ["--cluster", "it's \\ 100%"] };
    await using server = await startPostgres({ version });
    writeFileSync(
      join(server.dataDir, "postgresql.auto.conf"),
      `restore_command = ${quoteSetting(restoreCommand(options))}\n`,
    );
    await server.sql("SELECT pg_reload_conf()");
    await expect.poll(async () => server.value("SHOW restore_command")).toBe(restoreCommand(options));
  });
});

describe("exit statuses", () => {
  const produced = "touch pg_wal/RECOVERYXLOG";
  const cases: { title: string; node: string; status: number }[] = [
    { title: "the program has put the file there", node: `${produced}; exit 0`, status: 0 },
    { title: "the program says that it is not there", node: "exit 99", status: 1 },
    { title: "success without a file", node: "rm -f pg_wal/RECOVERYXLOG; exit 0", status: 200 },
    { title: "Node.js cannot load the program", node: "exit 1", status: 200 },
    { title: "a usage error", node: "exit 2", status: 200 },
    { title: "Node.js refuses an option", node: "exit 9", status: 200 },
    { title: "an outage", node: "exit 200", status: 200 },
    { title: "killed", node: "kill -9 $$", status: 200 },
    { title: "stopped with the server", node: "kill -15 $$", status: 143 },
  ];
  test.each(cases)("$title: $status", ({ title, node, status }) => {
    const path = standIn(title.replaceAll(/[^a-z]/gi, "-"), node);
    expect(asPostgres(restoreCommand({ flags: [], node: path })).status).toBe(status);
  });

  test("everything that can be missing or forbidden ends above 125", () => {
    const forbidden = join(dir, "forbidden");
    copyFileSync(SCRIPT, forbidden);
    chmodSync(forbidden, 0o644);
    const copied = join(dir, "lonely");
    copyFileSync(SCRIPT, copied);
    const lines = {
      "no script": restoreCommand({ flags: [], script: "/nonexistent/seawall-wal-fetch" }),
      "a script that may not be run": restoreCommand({ flags: [], script: forbidden }),
      "no Node.js": restoreCommand({ flags: [], node: "/nonexistent/node" }),
      "no program": restoreCommand({ flags: [], script: copied }),
      "no arguments": `exec ${SCRIPT}`,
      "an option that is none": restoreCommand({ flags: ["--nonsense"] }),
      "no store": restoreCommand({ flags: [] }),
    };
    for (const [title, line] of Object.entries(lines)) expect(asPostgres(line).status, title).toBeGreaterThan(125);
    const env = { ...process.env, NODE_OPTIONS: "--nonsense" };
    expect(asPostgres(restoreCommand({ flags: [] }), { env }).status).toBe(200);
  });

  const account = serverAccount();
  const canLimit = account !== undefined && existsSync("/usr/bin/prlimit") && existsSync("/usr/bin/setpriv");
  test.skipIf(!canLimit)("a machine that is out of processes, where dash by itself exits with 2", () => {
    const ids = account ?? { uid: 0, gid: 0 };
    const wrap = [
      "setpriv",
      "--reuid",
      `${ids.uid}`,
      "--regid",
      `${ids.gid}`,
      "--clear-groups",
      "prlimit",
      "--nproc=0",
    ];
    const script = join(dir, "open-to-all");
    copyFileSync(SCRIPT, script);
    expect(asPostgres(restoreCommand({ flags: [], script }), { wrap }).status).toBe(200);
  });
});
