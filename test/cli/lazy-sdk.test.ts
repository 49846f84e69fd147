/** The AWS SDK is loaded when a bucket is asked, and by nothing else: importing it takes longer than such a command takes. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../harness/build.ts";
import { makeTempDir } from "../harness/temp.ts";

const folder = makeTempDir("lazy-sdk");
const COUNTER = join(folder, "count.cjs");
writeFileSync(
  COUNTER,
  `const { _cache } = require("node:module");
   process.on("exit", () => {
     const loaded = Object.keys(_cache).filter((path) => /node_modules.(@aws-sdk|@smithy)/.test(path));
     require("node:fs").writeFileSync(${JSON.stringify(join(folder, "loaded"))}, String(loaded.length));
   });`,
);

/** How many modules of the SDK the command has loaded. */
function modulesLoaded(args: readonly string[]): number {
  const { status, signal } = spawnSync(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args], {
    env: {
      PATH: process.env["PATH"],
      NODE_OPTIONS: `--require=${COUNTER}`,
      AWS_ACCESS_KEY_ID: "a",
      AWS_SECRET_ACCESS_KEY: "b",
    },
    timeout: 120_000,
  });
  expect({ signal, hasEnded: status !== null }).toEqual({ signal: null, hasEnded: true });
  return Number(readFileSync(join(folder, "loaded"), "utf8"));
}

test.each([
  ["--version"],
  ["--help"],
  ["list", "--help"],
  ["list", "--store", `file://${folder}`, "--cluster", "main"],
  ["list", "--store", "s3://bucket?endpoint=nonsense", "--cluster", "main"],
  ["wal-fetch", "000000010000000000000001", join(folder, "target"), "--store", `file://${folder}`, "--cluster", "main"],
])("not for: %s %s %s", (...args) => {
  expect(modulesLoaded(args)).toBe(0);
});

test("but for a bucket", () => {
  const store = "s3://bucket?endpoint=http://127.0.0.1:9";
  expect(modulesLoaded(["list", "--store", store, "--cluster", "main", "--store-retry-for", "0s"])).toBeGreaterThan(0);
});
