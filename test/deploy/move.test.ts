/** The commands of docs/move.md, as they stand there, on a real server: nothing is lost, and the receiver goes on in the new place. */
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../campaigns/campaign.ts";
import { statusOf, streaming } from "../daemon/hooked.ts";
import { ROOT } from "../harness/build.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { type CliProcess, runCli, startCli } from "../harness/process.ts";
import { findPrograms } from "../harness/programs.ts";
import { findRclone } from "../harness/rclone.ts";
import { run } from "../harness/run.ts";
import { startS3 } from "../harness/s3.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { pageBlock } from "./page-blocks.ts";

const s3 = await startS3();
const rclone = await findRclone();
const programs = await findPrograms();

let dir: string;
let server: PostgresServer;
beforeAll(async () => {
  dir = makeTempDir("move");
  server = await startPostgres({ version: 18, segmentSizeMiB: 1 });
  await server.sql("CREATE TABLE t (i int)");
  // The page's `seawall` is the program that was built here.
  const bin = join(dir, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "seawall"), `#!/bin/sh\nexec '${process.execPath}' '${ROOT}/dist/cli/main.js' "$@"\n`);
  chmodSync(join(bin, "seawall"), 0o755);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  removeTree(dir);
});

/** The commands of a block of the page, without their comments. */
function commandsOf(marker: string): string[] {
  return pageBlock("docs/move.md", marker)
    .trim()
    .split("\n")
    .map((line) => line.replace(/\s+# .*$/, ""));
}

interface Move {
  readonly marker: string;
  readonly slot: string;
  readonly cluster: string;
  readonly from: string;
  readonly to: string;
  /** Of a directory: its copy must be the same when it is verified. */
  readonly folders?: { readonly from: string; readonly to: string };
  readonly env: Readonly<Record<string, string>>;
  /** The page's names, and those of here. */
  readonly names: readonly (readonly [string, string])[];
}

const filesBelow = (folder: string): string[] =>
  readdirSync(join(folder, "orders"), { recursive: true, encoding: "utf8" }).sort();

/** Does what the page says, with WAL coming in at each step. */
async function move({ marker, slot, cluster, from, to, folders, env, names }: Move): Promise<void> {
  const place = (store: string): string[] => ["--store", store, "--cluster", cluster];
  const receiver = (store: string): CliProcess =>
    startCli(
      [
        "receive",
        ...place(store),
        "--dsn",
        server.dsn,
        "--slot",
        slot,
        "--listen",
        "127.0.0.1:0",
        "--log-format",
        "json",
      ],
      { env },
    );
  let daemon = receiver(from);
  let address = await streaming(daemon);
  try {
    const backup = await runCli(["backup", ...place(from), "--dsn", server.dsn, "--checkpoint", "fast"], { env });
    expect(backup, backup.stderr).toMatchObject({ code: 0 });
    const PATH = [join(dir, "bin"), "binDir" in rclone ? rclone.binDir : "", process.env["PATH"]].join(delimiter);
    for (const command of commandsOf(marker)) {
      await server.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()");
      if (command === "systemctl stop seawall") expect(await daemon.end("SIGTERM")).toMatchObject({ code: 0 });
      else if (command === "systemctl start seawall") {
        daemon = receiver(to);
        address = await streaming(daemon);
      } else {
        const given = names.reduce((text, [name, own]) => text.replaceAll(name, own), command);
        // The page says what 24 means.
        const here = given.startsWith("rsync ") ? `${given} || [ $? = 24 ]` : given;
        if (folders !== undefined && here.startsWith("seawall verify")) {
          expect(filesBelow(folders.to)).toEqual(filesBelow(folders.from));
        }
        await run("/bin/bash", ["-ec", here], { env: { ...env, PATH, HOME: dir }, timeoutMs: 240_000 });
      }
    }
    const lsn = await server.value("SELECT pg_current_wal_flush_lsn()");
    const isBehind = async () =>
      server.value("SELECT ($1::pg_lsn < $2::pg_lsn)::text", [(await statusOf(address)).storedLsn, lsn]);
    await until("WAL is stored in the new place", async () => (await isBehind()) === "false");
    expect((await statusOf(address)).gaps).toEqual([]);
    const target = join(dir, `restored-${marker}`);
    const restored = await runCli(["restore", ...place(to), "--target-dir", target], { env, timeoutMs: 120_000 });
    expect(restored, restored.stderr).toMatchObject({ code: 0 });
    const verified = await runCli(["verify", ...place(to), "--deep"], { env, timeoutMs: 120_000 });
    expect(verified, verified.stdout).toMatchObject({ code: 0 });
  } finally {
    await daemon[Symbol.asyncDispose]();
  }
}

test.skipIf("unavailable" in programs)(
  "a directory is moved",
  async () => {
    const [from, to] = [join(dir, "old"), join(dir, "new")];
    mkdirSync(from);
    mkdirSync(to);
    await move({
      ...{ marker: "directory", slot: "directory", cluster: "orders", env: {} },
      ...{ from: `file://${from}`, to: `file://${to}`, folders: { from, to } },
      names: [
        ["/mnt/old", from],
        ["/mnt/new", to],
      ],
    });
  },
  300_000,
);

describe.skipIf(!s3.available || "unavailable" in rclone)("with S3", () => {
  test("a bucket is moved", async () => {
    await using old = await s3.bucket();
    await using target = await s3.bucket();
    const keys = {
      ACCESS_KEY_ID: s3.env["AWS_ACCESS_KEY_ID"] ?? "",
      SECRET_ACCESS_KEY: s3.env["AWS_SECRET_ACCESS_KEY"] ?? "",
    };
    const remote = { TYPE: "s3", PROVIDER: "Ceph", ENDPOINT: s3.endpoint, REGION: s3.region, ...keys };
    const remotes = ["OLD", "NEW"].flatMap((name) =>
      Object.entries(remote).map(([key, value]) => [`RCLONE_CONFIG_${name}_${key}`, value]),
    );
    const [from, to] = [old.urlFor("prod"), target.urlFor("prod")];
    await move({
      ...{ marker: "bucket", slot: "bucket", cluster: "main", from, to },
      env: { ...s3.env, ...(Object.fromEntries(remotes) as Record<string, string>) },
      names: [
        ["old:wal/", `old:${old.name}/`],
        ["new:archive/", `new:${target.name}/`],
        ["s3://archive/prod", to],
      ],
    });
  }, 300_000);
});
