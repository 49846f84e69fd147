/** Child processes of tests: output by line, signals, memory, time limits, and nothing left running. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { serverAccount } from "./account.ts";
import { runCli, startCli } from "./process.ts";
import { run } from "./run.ts";
import { serverCommand } from "./server-cli.ts";
import { isAlive, makeTempDir, removeTree } from "./temp.ts";

let folder: string;
beforeAll(() => {
  folder = makeTempDir("scratch");
});
afterAll(() => removeTree(folder));

function scriptOf(text: string): string {
  const path = join(folder, `${text.length}-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(path, text);
  return path;
}

const FOREVER = "setInterval(() => {}, 1000);";

describe("a child process", () => {
  test("gives its output, its arguments' effect and its exit status", async () => {
    const script = scriptOf(`console.log(process.argv[2]); console.error(process.env.TIDE); process.exitCode = 3;`);
    const result = await runCli(["high"], { script, env: { TIDE: "low" } });
    expect(result).toEqual({ code: 3, signal: null, stdout: "high\n", stderr: "low\n" });
  });

  test("does not inherit PG… and AWS_… variables", async () => {
    process.env["PGHOST"] = "elsewhere";
    try {
      const { stdout } = await runCli([], { script: scriptOf(`console.log(process.env.PGHOST ?? "none");`) });
      expect(stdout).toBe("none\n");
    } finally {
      delete process.env["PGHOST"];
    }
  });

  test("is waited for by a line, past or to come, and says what it printed when the line never comes", async () => {
    const script = scriptOf(`console.log("one"); setTimeout(() => console.error("two of three"), 50); ${FOREVER}`);
    await using child = startCli([], { script });
    expect(await child.waitForLine(/^two/)).toBe("two of three");
    expect(await child.waitForLine(/one/)).toBe("one");
    await expect(child.waitForLine(/three$/)).resolves.toBe("two of three");
    await expect(child.waitForLine(/four/, { timeoutMs: 50 })).rejects.toThrow(/no line .*two of three/s);
    const ended = startCli([], { script: scriptOf(`console.log("only this");`) });
    await expect(ended.waitForLine(/never/)).rejects.toThrow(/ended before .*only this/s);
  });

  test("is ended by the signal asked for", async () => {
    const script = scriptOf(`process.on("SIGTERM", () => process.exit(7)); console.log("up"); ${FOREVER}`);
    await using polite = startCli([], { script });
    await polite.waitForLine(/up/);
    expect(await polite.end("SIGTERM")).toEqual({ code: 7, signal: null });
    await using killed = startCli([], { script });
    await killed.waitForLine(/up/);
    expect(await killed.end("SIGKILL")).toEqual({ code: null, signal: "SIGKILL" });
  });

  test("is gone after its scope, and after its time limit", async () => {
    const script = scriptOf(FOREVER);
    let pid: number;
    {
      await using child = startCli([], { script });
      pid = child.pid ?? 0;
      expect(isAlive(pid)).toBe(true);
    }
    expect(isAlive(pid)).toBe(false);
    await using slow = startCli([], { script });
    await expect(slow.ended(100)).rejects.toThrow(/did not end within 100 ms/);
    expect(slow.running).toBe(false);
  });

  test.runIf(process.platform === "linux")("tells its peak memory, also when it has since given it back", async () => {
    const script = scriptOf(
      `let a = Buffer.alloc(100 << 20, 1); a = undefined; globalThis.gc(); console.log("ok"); ${FOREVER}`,
    );
    await using child = startCli([], { script, nodeArgs: ["--expose-gc"] });
    await child.waitForLine(/ok/);
    const peak = child.peakRssBytes();
    expect(peak).toBeGreaterThan(100 << 20);
    expect(child.rssBytes()).toBeLessThanOrEqual(peak);
    expect(child.cpuSeconds()).toBeGreaterThan(0);
    await child.end("SIGKILL");
    expect(child.peakRssBytes()).toBeGreaterThanOrEqual(peak);
  });
});

test("the server's account can run a copy of the command line with its packages, quoted for the shell", async () => {
  const command = serverCommand(["wal-fetch", "%f", "it's 100%"], { copy: true, env: { A: "b c" } });
  const [, node = "", main = ""] =
    /^'env' 'A=b c' '([^']+)' '([^']+)' 'wal-fetch' '%f' 'it'\\''s 100%%'$/.exec(command) ?? [];
  expect(main).toMatch(/dist\/cli\/main\.js$/);
  const program = `await import("zstd-napi"); await import("pg"); console.log("loaded");`;
  const options = { account: serverAccount(), cwd: join(main, "..", "..", "..") };
  const { stdout } = await run(node, ["--input-type=module", "-e", program], options);
  expect(stdout).toBe("loaded\n");
});
