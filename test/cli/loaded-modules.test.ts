/**
 * Each command loads only the packages that it needs: loading is most of what a short command costs. No clock is asked; the
 * command is run, and what it has loaded is compared with the table.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../harness/build.ts";
import { runCli, startCli } from "../harness/process.ts";
import { makeTempDir } from "../harness/temp.ts";

const folder = makeTempDir("loaded-modules");
/** Node.js has its fetch (undici) inside and loads it on demand: 40 ms of processor time. */
const NOTES_FETCH = join(folder, "notes-fetch.cjs");
writeFileSync(
  NOTES_FETCH,
  `process.on("exit", () => {
     const loaded = process.moduleLoadList.some((name) => name.endsWith("internal/deps/undici/undici"));
     require("node:fs").writeFileSync(process.env.NODE_V8_COVERAGE + "/fetch", String(loaded));
   });`,
);

/** Packages that package.json names; others come along with them. */
const DEPENDENCIES = Object.keys(dependenciesOf("dependencies")).concat(
  Object.keys(dependenciesOf("optionalDependencies")),
);

function dependenciesOf(member: string): object {
  const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Record<string, object>;
  return manifest[member] ?? {};
}

let runs = 0;

/** A new folder and the environment in which Node.js notes there, at its end, which scripts it has loaded. */
function notes(): { readonly into: string; readonly env: Record<string, string> } {
  const into = join(folder, String(++runs));
  mkdirSync(into);
  return { into, env: { NODE_V8_COVERAGE: into, NODE_OPTIONS: `--require=${NOTES_FETCH}` } };
}

/** The dependencies that were loaded, and `fetch`. */
function loadedIn(into: string): string[] {
  const urls = readdirSync(into)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => {
      const { result } = JSON.parse(readFileSync(join(into, name), "utf8")) as { result: { url: string }[] };
      return result.map(({ url }) => url);
    });
  // Without a script of our own, nothing was noted.
  expect(urls.some((url) => url.endsWith("/dist/cli/main.js"))).toBe(true);
  const packages = DEPENDENCIES.filter((name) => urls.some((url) => url.includes(`/node_modules/${name}/`)));
  return [...packages, ...(readFileSync(join(into, "fetch"), "utf8") === "true" ? ["fetch"] : [])];
}

const STORE = ["--store", `file://${join(ROOT, "test/fixtures/archive")}`];
const NO_SERVER = ["--dsn", "host=127.0.0.1 port=9 user=postgres sslmode=disable"];
const COMMAND_LINE = ["commander"];
const ARCHIVE = [...COMMAND_LINE, "@node-rs/crc32", "zstd-napi"];
const SERVER = [...ARCHIVE, "pg", "pg-protocol", "pino"];

test.each<{ args: readonly string[]; may: readonly string[] }>([
  { args: ["--version"], may: [] },
  { args: ["--help"], may: COMMAND_LINE },
  { args: ["list", "--help"], may: COMMAND_LINE },
  { args: ["list", "--no-such-option"], may: COMMAND_LINE },
  { args: ["list", ...STORE], may: ARCHIVE },
  { args: ["list", "--store", "s3://bucket?endpoint=nonsense"], may: ARCHIVE },
  { args: ["wal-fetch", "00000001000000000000000A", join(folder, "segment"), ...STORE], may: ARCHIVE },
  { args: ["wal-fetch", "0000000100000000000000FF", join(folder, "segment"), ...STORE], may: ARCHIVE },
  { args: ["show", "latest", ...STORE], may: ARCHIVE },
  { args: ["verify", "--help"], may: COMMAND_LINE },
  { args: ["status", "--listen", "127.0.0.1:9"], may: SERVER },
  { args: ["backup", ...NO_SERVER, "--store", `file://${join(folder, "backup")}`], may: SERVER },
])("$args loads at most $may", async ({ args, may }) => {
  const { into, env } = notes();
  await runCli(args, { env });
  const loaded = loadedIn(into);
  expect(loaded.filter((name) => !may.includes(name))).toEqual([]);
  expect(loaded.includes("commander")).toBe(may.includes("commander"));
});

test("receive loads the metrics too, and neither the AWS SDK nor fetch for a directory", async () => {
  const { into, env } = notes();
  const args = ["receive", ...NO_SERVER, "--store", `file://${join(folder, "receive")}`, "--listen", "127.0.0.1:0"];
  await using receiver = startCli(args, { env });
  await receiver.waitForLine(/server-unreachable/);
  await receiver.end();
  expect(loadedIn(into).filter((name) => ![...SERVER, "prom-client", "croner"].includes(name))).toEqual([]);
});

test("a bucket loads the AWS SDK, and no fetch", async () => {
  const { into, env } = notes();
  const keys = { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" };
  const store = ["--store", "s3://bucket?endpoint=http://127.0.0.1:9", "--store-retry-for", "0s"];
  await runCli(["list", ...store], { env: { ...env, ...keys } });
  const loaded = loadedIn(into);
  expect(loaded).toContain("@aws-sdk/client-s3");
  expect(loaded).not.toContain("fetch");
});
