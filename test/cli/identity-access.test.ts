/** A command that reads an identity warns when other accounts can read its file. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makeKeys } from "../harness/encryption.ts";
import { runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

const folder = makeTempDir("identity-access");
afterAll(() => removeTree(folder));
const { identityFile } = await makeKeys(folder);
const WARNING = "other accounts can read this identity";

async function warnings(...command: string[]): Promise<number> {
  const where = ["--store", `file://${folder}`, "--identity", identityFile, "--log-format", "json"];
  const { stderr } = await runCli([...command, ...where]);
  return stderr.split("\n").filter((line) => line.includes(WARNING)).length;
}

test.each([
  [0o600, "list", 0],
  [0o400, "list", 0],
  [0o640, "list", 1],
  [0o604, "list", 1],
  [0o644, "verify", 1],
  [0o620, "list", 0],
] as const)("mode %o and %s: %i warnings", async (mode, command, expected) => {
  chmodSync(identityFile, mode);
  expect(await warnings(command)).toBe(expected);
});

test("recovery, which starts a command for each segment, is not warned", async () => {
  chmodSync(identityFile, 0o644);
  expect(await warnings("wal-fetch", "00000002.history", join(folder, "target"))).toBe(0);
});

test("each open file of several clusters is named once", async () => {
  chmodSync(identityFile, 0o644);
  const config = join(folder, "clusters.yaml");
  writeFileSync(config, `store: file://${folder}\nidentity: ${identityFile}\nclusters:\n  a: {}\n  b: {}\n`);
  const { stderr } = await runCli(["list", "--config", config, "--all", "--log-format", "json"]);
  expect(stderr.split("\n").filter((line) => line.includes(WARNING))).toHaveLength(1);
});
