/**
 * `seawall restore --delta` in a container beside the server's: the processes of one are not seen in the other, and both may
 * have the same process ID.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../harness/build.ts";
import { Archived } from "./restored.ts";

let archived: Archived;

beforeAll(async () => {
  archived = await Archived.start({ version: 18 });
  await archived.insert(1);
  await archived.backup();
  await archived.insert(2);
  await archived.stored();
  await archived.stopReceiving();
}, 300_000);

afterAll(() => archived[Symbol.asyncDispose]());

test("a restore in another PID namespace overwrote the directory of a living server", async () => {
  const { dataDir } = archived.server;
  await archived.server.sql("CREATE TABLE later AS SELECT 1 AS id; CHECKPOINT");
  const pid = readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0];
  const main = join(ROOT, "dist", "cli", "main.js");
  const flags = ["restore", "--store", archived.url, "--target-dir", dataDir, "--delta", "--log-level", "warn"];
  const namespace = ["--pid", "--fork", "--mount-proc"];
  const result = spawnSync("unshare", [...namespace, process.execPath, main, ...flags], {
    env: { ...process.env, ...archived.env },
    encoding: "utf8",
    timeout: 120_000,
  });
  expect(readFileSync(join(dataDir, "postmaster.pid"), "utf8").split("\n")[0]).toBe(pid);
  expect(result).toMatchObject({ status: 3, stdout: "" });
  expect(result.stderr).toContain("target-occupied");
  expect(await archived.server.value("SELECT count(*)::text FROM later")).toBe("1");
}, 300_000);
