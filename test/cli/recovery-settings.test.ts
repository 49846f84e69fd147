/** The restore_command that is made of our own options finds what we found, also in a file with clusters. */
import { expect, it } from "vitest";
import { fetchCommand } from "../../src/cli/recovery-settings.ts";
import { type Given, load } from "../config/given.ts";

const command = async (given: Given): Promise<string> =>
  fetchCommand(await load({ command: "restore", flags: { "target-dir": "/data", ...given.flags }, ...given }), {
    followsLine: given.flags?.["standby"] === "true",
  });
const CLUSTERS = "store: file:///archive\nclusters:\n  orders:\n  billing:\n    dsn: host=b password=secret\n";

it("names the file and the cluster, whose store the file knows", async () => {
  const flags = { "target-dir": "/data", cluster: "billing" };
  const text = await command({ file: CLUSTERS, flags });
  expect(text).toMatch(/--config \S*seawall\.yaml\b/);
  expect(text).toMatch(/ --cluster billing\b/);
  expect(text).not.toMatch(/secret|--store/);
});

it("names the cluster also where the file has only one, because another may come", async () => {
  const one = "store: file:///archive\nclusters:\n  orders:\n";
  expect(await command({ file: one, flags: { "target-dir": "/data" } })).toMatch(/ --cluster orders\b/);
});

it("leaves the name to a file that has no clusters", async () => {
  const plain = "store: file:///archive\ncluster: orders\n";
  expect(await command({ file: plain, flags: { "target-dir": "/data" } })).not.toMatch(/--cluster/);
});

it("names identity files by their whole path: the server runs it in its data directory", async () => {
  const flags = { "target-dir": "/data", identity: "a.txt\n/keys/b.txt", "identity-passphrase-file": "c.txt" };
  const here = process.cwd();
  const expected = `--identity ${here}/a.txt --identity /keys/b.txt --identity-passphrase-file ${here}/c.txt`;
  expect(await command({ file: "store: file:///archive\n", flags })).toContain(expected);
  const inFile = "store: file:///archive\nidentity:\n  - a.txt\n  - /keys/b.txt\nidentity-passphrase-file: c.txt\n";
  expect(await command({ file: inFile, flags: { "target-dir": "/data" } })).toContain(expected);
});

it("leaves identity files to a file that names them by their whole path", async () => {
  const file = "store: file:///archive\nidentity: /keys/a.txt\nidentity-passphrase-file: /keys/c.txt\n";
  expect(await command({ file, flags: { "target-dir": "/data" } })).not.toContain("identity");
});
