/** The harness cleans up after itself and after others, shares what is shared, and says at the end what was missing. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { isOpenToAll, serverAccount } from "../harness/account.ts";
import { ROOT } from "../harness/build.ts";
import { missingCephPrograms, startCeph } from "../harness/ceph.ts";
import { startPostgres } from "../harness/postgres.ts";
import { embeddedBinaries, tool } from "../harness/postgres-binaries.ts";
import { endStaleServers } from "../harness/postgres-process.ts";
import { closingLines } from "../harness/reporter.ts";
import { run, tiedToUs } from "../harness/run.ts";
import { RunServices, askRunServices } from "../harness/run-services.ts";
import { cacheDir, dropOldCaches, isAlive, makeTempDir, removeTree, staleTempDirs } from "../harness/temp.ts";

const folders: string[] = [];
afterEach(() => folders.splice(0).forEach(removeTree));

function scratch(kind = "scratch"): string {
  const folder = makeTempDir(kind);
  folders.push(folder);
  return folder;
}

/** The pid of a process that has ended. */
async function deadPid(): Promise<number> {
  const child = spawn("true");
  await new Promise((resolve) => child.once("exit", resolve));
  return child.pid ?? 0;
}

describe("leftovers of a killed run", () => {
  test("a folder is stale when its owner is dead or its pid is now another's, and not while the owner lives", async () => {
    const [mine, dead, reused] = [scratch("stale"), scratch("stale"), scratch("stale")];
    writeFileSync(join(dead, ".owner"), `${await deadPid()} 1\n`);
    writeFileSync(join(reused, ".owner"), `${process.pid} 1\n`);
    const stale = staleTempDirs("stale");
    expect(stale).toContain(dead);
    expect(stale).not.toContain(mine);
    expect(staleTempDirs()).toContain(dead);
    expect(staleTempDirs()).not.toContain(mine);
    if (process.platform === "linux") expect(stale).toContain(reused);
  });

  test("a server whose owner is dead is ended and its folder removed; a living owner's is left alone", async () => {
    await using kept = await startPostgres();
    await using orphan = await startPostgres();
    writeFileSync(join(orphan.socketDir, ".owner"), `${await deadPid()} 1\n`);
    await endStaleServers();
    await orphan.exited();
    expect([orphan.running, existsSync(orphan.socketDir)]).toEqual([false, false]);
    expect(await kept.value("SELECT 1")).toBe("1");
  });

  test("caches unused for two weeks go, and halves of copies whose maker is dead", async () => {
    const cache = cacheDir("native");
    const [old, half, used] = ["test-old", `test-half.pid${await deadPid()}`, "test-used"].map((name) =>
      join(cache, name),
    );
    for (const folder of [old, half, used]) {
      mkdirSync(folder ?? "", { recursive: true });
      folders.push(folder ?? "");
    }
    utimesSync(old ?? "", 1_000_000, 1_000_000);
    dropOldCaches();
    expect([old, half, used].map((folder) => existsSync(folder ?? ""))).toEqual([false, false, true]);
  });

  test.runIf(process.platform === "linux")(
    "a tied process dies with the one that started it, killed without a chance to clean up",
    async () => {
      const { file, args } = tiedToUs("KILL", ["sleep", "60"]);
      const script = `const c = require("child_process").spawn(process.argv[1], process.argv.slice(2)); console.log(c.pid); setInterval(() => {}, 1000);`;
      const parent: ChildProcess = spawn(process.execPath, ["-e", script, file, ...args], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const pid = await new Promise<number>((resolve) =>
        parent.stdout?.once("data", (text: Buffer) => resolve(Number(text))),
      );
      expect(isAlive(pid)).toBe(true);
      // Before that it is still setpriv, which may not have asked the kernel yet.
      await expect.poll(() => readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("sleep\n");
      parent.kill("SIGKILL");
      await expect.poll(() => isAlive(pid)).toBe(false);
    },
  );
});

describe("what servers run from", () => {
  test("a copy of the programs runs as the server's account, its links to libraries whole", async () => {
    const { binDir, version } = await embeddedBinaries(18, { copy: true });
    expect(version).toBe(18);
    expect(isOpenToAll(join(binDir, "postgres"))).toBe(true);
    const { stdout } = await run(join(binDir, "initdb"), ["--version"], { account: serverAccount(), cwd: "/" });
    expect(stdout).toMatch(/^initdb \(PostgreSQL\) 18/);
  });

  test("a folder closed to others is seen as such", async () => {
    const folder = scratch();
    mkdirSync(join(folder, "closed"), { mode: 0o700 });
    writeFileSync(join(folder, "closed", "file"), "");
    expect([isOpenToAll(join(folder, ".owner")), isOpenToAll(join(folder, "closed", "file"))]).toEqual([true, false]);
  });

  test("a tool that is nowhere is undefined; one that is there is found with its path", () => {
    expect(tool("pg_no_such_tool")).toBeUndefined();
    expect(basename(tool("sh") ?? "")).toBe("sh");
  });
});

describe("services of a run", () => {
  test("start once, on the first request, and end with the run", async () => {
    const events: string[] = [];
    const services = await RunServices.open({
      tide: async () => {
        events.push("start");
        return { answer: { level: 3 }, stop: async () => void events.push("stop") };
      },
    });
    expect(events).toEqual([]);
    const answers = await Promise.all([1, 2, 3].map(async () => askRunServices("tide", services.folder)));
    expect(answers).toEqual([{ level: 3 }, { level: 3 }, { level: 3 }]);
    expect(await askRunServices("moon", services.folder)).toEqual({ unknown: "moon" });
    await services[Symbol.asyncDispose]();
    expect(events).toEqual(["start", "stop"]);
    expect(existsSync(services.folder)).toBe(false);
  });

  test.runIf(missingCephPrograms().length === 0)(
    "two S3 servers at once do not meet, and a stopped one leaves nothing",
    async () => {
      const [a, b] = await Promise.all([startCeph(), startCeph()]);
      try {
        expect(a.endpoint).not.toBe(b.endpoint);
        expect((await fetch(a.endpoint)).status).toBe(200);
      } finally {
        await Promise.all([a.stop(), b.stop()]);
      }
      await expect(fetch(a.endpoint)).rejects.toThrow();
    },
  );
});

describe("the last lines of a run", () => {
  const counts = { passed: 3, failed: 1, skipped: 0 };
  test("are the counts alone when nothing was missing", () => {
    expect(closingLines(counts, [], true)).toEqual(["3 passed, 1 failed"]);
    expect(closingLines({ ...counts, skipped: 2 }, [], false)).toEqual(["3 passed, 1 failed, 2 skipped"]);
  });

  test("say what to install when tests were skipped for want of it", () => {
    const [s3, clock] = [
      {
        tests: "S3 tests",
        why: "radosgw not found\nand more",
        remedies: ["apt-get install radosgw", "or name a server"],
      },
      { tests: "Tests of a calendar", why: "not found", remedies: ["apt-get install libfaketime"] },
    ];
    expect(closingLines(counts, [s3, clock], false)).toEqual([
      "S3 tests were skipped: radosgw not found",
      "To run them: apt-get install radosgw",
      "or name a server",
      "Tests of a calendar were skipped: not found",
      "To run them: apt-get install libfaketime",
      "3 passed, 1 failed",
    ]);
    expect(closingLines(counts, [clock], true)[0]).toBe(
      "Tests of a calendar were skipped, which is a failure under CI: not found",
    );
  });

  test.each([
    { ci: "true", status: 1, last: "1 passed, 3 failed, 1 skipped" },
    { ci: "", status: 1, last: "1 passed, 2 failed, 1 skipped" },
  ])(
    "of a real run with CI=$ci count everything, a file that does not load and missing S3 included",
    async ({ ci, status, last }) => {
      const { code, stdout } = await runFixture({
        ci,
        files: {
          "a.test.ts": `import { test, expect } from "vitest"; test("good", () => {}); test("bad", () => expect(1).toBe(2)); test.skipIf(true)("s3", () => {});`,
          "b.test.ts": `throw new Error("does not load");`,
        },
      });
      expect(code).toBe(status);
      expect(stdout.trimEnd().split("\n").at(-1)).toBe(last);
      expect(stdout).toContain("S3 tests were skipped");
    },
  );

  test("of a run in which only S3 was missing: a success here, a failure under CI", async () => {
    const files = { "a.test.ts": `import { test } from "vitest"; test("good", () => {});` };
    expect((await runFixture({ ci: "", files })).code).toBe(0);
    const strict = await runFixture({ ci: "true", files });
    expect(strict.code).toBe(1);
    expect(strict.stdout.trimEnd().split("\n").at(-1)).toBe("1 passed, 1 failed");
  });
});

/** Runs vitest with our reporter, on these files, in a run whose S3 server could not be had. */
async function runFixture(o: { ci: string; files: Record<string, string> }): Promise<{ code: number; stdout: string }> {
  const folder = scratch();
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const reporter = JSON.stringify(join(ROOT, "test", "harness", "reporter.ts"));
  const files = {
    "package.json": `{ "type": "module" }`,
    "setup.ts": `import { lastLines } from ${reporter}; export default () => lastLines.noteS3({ unavailable: "not here" });`,
    "vitest.config.ts": `import { LastLineReporter } from ${reporter};
      export default { test: { globalSetup: ["setup.ts"], reporters: ["default", new LastLineReporter()] } };`,
    ...o.files,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(VITEST|CI$|NODE_ENV$|TEST$)/.test(name)),
  );
  const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
  return run(process.execPath, [vitest, "run"], { cwd: folder, env: { ...env, CI: o.ci }, accept: [0, 1] });
}
