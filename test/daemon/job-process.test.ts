/** A job of the routine as a process: what came of it, and that it never runs for ever. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type JobOutcome, runJob } from "../../src/daemon/jobs/process.ts";
import { type Log, silentLog } from "../../src/log.ts";
import { UNBUNDLED } from "../harness/build.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

let dir: string;
beforeAll(() => void (dir = makeTempDir("job")));
afterAll(() => removeTree(dir));

async function jobOf(script: string, timeoutMs = 60_000, log: Log = silentLog): Promise<JobOutcome> {
  const program = join(dir, "program.mjs");
  writeFileSync(program, script);
  const signal = new AbortController().signal;
  return runJob({ job: "verify", program, env: process.env, log, timeoutMs, signal });
}

test("a job that hangs is stopped after its time, and says which option does that", async () => {
  const outcome = await jobOf("setInterval(() => {}, 1000);", 300);
  expect(outcome).toMatchObject({ ok: false, exit: null });
  expect(outcome.message).toBe("it was stopped because it took longer than 300ms (job-timeout)");
});

test("a job that leaves something running, which holds its output open, has ended all the same", async () => {
  const left = `import { spawn } from "node:child_process";
    const child = spawn("sleep", ["10"], { stdio: "inherit", detached: true });
    child.unref();
    process.stdout.write("{}\\n");
    process.disconnect();`;
  expect(await jobOf(left)).toMatchObject({ ok: true, exit: 0 });
}, 20_000);

test("a job that ends is what it says", async () => {
  expect(await jobOf("process.exitCode = 0;")).toMatchObject({ ok: true, exit: 0, message: "done" });
  expect(await jobOf("process.exitCode = 5;")).toMatchObject({ ok: false, exit: 5, message: "it exited with 5" });
  const complaint = JSON.stringify({ error: { message: "the store is away", code: "store-unavailable" } });
  const failing = `process.stderr.write(${JSON.stringify(complaint)} + "\\n"); process.exitCode = 5;`;
  expect((await jobOf(failing)).message).toBe("the store is away [store-unavailable]");
});

test("a job that cannot even be given its environment has failed, and nothing else has", async () => {
  const signal = new AbortController().signal;
  const env = { SEAWALL_CLUSTER: "a\0b" };
  const outcome = await runJob({ job: "verify", program: "x", env, log: silentLog, timeoutMs: 60_000, signal });
  expect(outcome).toMatchObject({ ok: false, exit: null });
  expect(outcome.message).toMatch(/^it could not be started: .*null bytes/);
});

test("a job that finds no file descriptor left has failed, and nothing else has", () => {
  const script = join(dir, "starved.mjs");
  const built = pathToFileURL(join(UNBUNDLED, "daemon/jobs/process.js")).href;
  writeFileSync(
    script,
    `import { openSync, closeSync } from "node:fs";
import { runJob } from ${JSON.stringify(built)};
const open = [];
try { for (;;) open.push(openSync("/dev/null")); } catch {}
const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
const signal = new AbortController().signal;
const outcome = await runJob({ job: "verify", program: "x", env: process.env, log, timeoutMs: 60000, signal });
for (const fd of open) closeSync(fd);
process.stdout.write(JSON.stringify(outcome));`,
  );
  const said = execFileSync("/bin/sh", ["-c", `ulimit -n 100; exec "$0" "$1"`, process.execPath, script]);
  const outcome = JSON.parse(said.toString()) as JobOutcome;
  expect(outcome).toMatchObject({ ok: false, exit: null });
  expect(outcome.message).toMatch(/^it could not be started: .*EMFILE/);
});

test("what a job logs becomes a line of ours, an event its message", async () => {
  const lines: unknown[] = [];
  const note =
    (level: string) =>
    (message: string, fields?: object): void =>
      void lines.push([level, message, fields]);
  const log: Log = { ...silentLog, info: note("info"), warn: note("warn") };
  const said = [
    { level: "warn", time: "2026-11-22T00:00:00Z", msg: "trying again", attempt: 2 },
    { event: "progress", bytes: 1 },
    { event: "verified", files: 969 },
  ];
  await jobOf(
    `process.stderr.write(${JSON.stringify(said.map((line) => `${JSON.stringify(line)}\n`).join(""))});`,
    60_000,
    log,
  );
  expect(lines).toEqual([
    ["warn", "trying again", { attempt: 2 }],
    ["info", "verified", { event: "verified", files: 969 }],
  ]);
});
