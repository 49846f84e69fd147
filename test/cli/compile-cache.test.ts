/** The folder in which Node.js keeps compiled code between runs: whose it may be, and what is never written to. */
import { chmodSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../harness/build.ts";
import { provideNode } from "../harness/node-versions.ts";
import { run } from "../harness/run.ts";
import { makeTempDir } from "../harness/temp.ts";

const { node } = await provideNode(24);
const MAIN = join(ROOT, "dist/cli/main.js");

/** Runs `seawall completion bash` with this home, and says whether compiled code was kept. */
async function keeps(home: string, env: Readonly<Record<string, string>> = {}): Promise<boolean> {
  const { stdout } = await run(node, [MAIN, "completion", "bash"], { env: { PATH: "/bin", HOME: home, ...env } });
  expect(stdout).toContain("seawall");
  const folder = join(env["XDG_CACHE_HOME"] ?? join(home, ".cache"), "seawall");
  return existsSync(folder) && readdirSync(folder).length > 0;
}

function newHome(mode: number): string {
  const home = join(makeTempDir("compile-cache"), "home");
  mkdirSync(home);
  chmodSync(home, mode);
  return home;
}

test("compiled code is kept below the account's home", async () => {
  expect(await keeps(newHome(0o700))).toBe(true);
});

test("XDG_CACHE_HOME goes before the home", async () => {
  expect(await keeps("/nonexistent", { XDG_CACHE_HOME: newHome(0o700) })).toBe(true);
});

test("nothing is kept in a home that others can write to", async () => {
  expect(await keeps(newHome(0o777))).toBe(false);
});

test("nothing is kept in a folder of the cache that others can write to", async () => {
  const home = newHome(0o700);
  mkdirSync(join(home, ".cache/seawall"), { recursive: true });
  chmodSync(join(home, ".cache/seawall"), 0o777);
  expect(await keeps(home)).toBe(false);
});

test("NODE_DISABLE_COMPILE_CACHE keeps nothing, and leaves no folder", async () => {
  const home = newHome(0o700);
  expect(await keeps(home, { NODE_DISABLE_COMPILE_CACHE: "1" })).toBe(false);
  expect(readdirSync(home)).toEqual([]);
});

test("a command runs without a home, and with one that does not exist", async () => {
  expect(await keeps("")).toBe(false);
  expect(await keeps("/nonexistent/home")).toBe(false);
});
