/**
 * Data directories made by initdb, once per version and options, and copied for each server: a copy takes a tenth of the
 * time of an initdb. Copies share the template's system identifier; `freshIdentifier` makes a cluster of its own.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, chownSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { serverAccount } from "./account.ts";
import type { PostgresBinaries } from "./postgres-binaries.ts";
import { run } from "./run.ts";
import { cacheDir, removeTree, touch, unfinishedName } from "./temp.ts";

export interface ClusterOptions {
  readonly binaries: PostgresBinaries;
  readonly segmentSizeMiB: number;
  readonly initdbArgs: readonly string[];
  /** Run initdb for this cluster alone, so that no other server has its system identifier. */
  readonly freshIdentifier: boolean;
}

/** Makes the data directory `dataDir` (which must not exist; its parent must be writable for the server's account). */
export async function createCluster(dataDir: string, options: ClusterOptions): Promise<void> {
  if (options.freshIdentifier) return initdb(dataDir, options);
  const template = await ensureTemplate(options);
  await copyTree(template, dataDir);
}

/** Copies a directory tree as the server's account, so that the copy belongs to it. */
export async function copyTree(from: string, to: string): Promise<void> {
  await run("cp", ["-Rp", from, to], { account: serverAccount(), cwd: "/" });
}

/** Hands a folder to the server's account; nothing to do when that is us. */
export function giveToServer(path: string, mode: number): void {
  const account = serverAccount();
  if (account !== undefined) chownSync(path, account.uid, account.gid);
  chmodSync(path, mode);
}

/** Hands a folder and all that is in it to the server's account. */
export function giveTree(path: string): void {
  const account = serverAccount();
  if (account !== undefined) execFileSync("chown", ["-R", "-h", `${account.uid}:${account.gid}`, path]);
}

async function ensureTemplate(options: ClusterOptions): Promise<string> {
  const { binaries, segmentSizeMiB, initdbArgs } = options;
  const facts = JSON.stringify([binaries.binDir, initdbArgs, serverAccount()?.name]);
  const hash = createHash("sha256").update(facts).digest("hex").slice(0, 8);
  const name = `${binaries.fullVersion}-${segmentSizeMiB}-${hash}`;
  const template = join(cacheDir("template"), name);
  if (existsSync(join(template, "data"))) {
    touch(template);
    return join(template, "data");
  }
  // Made aside and renamed: two runs may be here at once, and either may be killed.
  const aside = unfinishedName(template);
  mkdirSync(aside);
  giveToServer(aside, 0o755);
  await initdb(join(aside, "data"), options);
  try {
    renameSync(aside, template);
  } catch (error) {
    removeTree(aside);
    if (!existsSync(join(template, "data"))) throw error;
  }
  return join(template, "data");
}

async function initdb(dataDir: string, options: ClusterOptions): Promise<void> {
  const args = ["-D", dataDir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
  args.push(`--wal-segsize=${options.segmentSizeMiB}`, ...options.initdbArgs);
  try {
    await run(join(options.binaries.binDir, "initdb"), args, { account: serverAccount(), cwd: "/", env: serverEnv() });
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true });
    throw error;
  }
}

/** The environment of server programs: nothing of ours that libpq or PostgreSQL would read (PG…, LC_…). */
export function serverEnv(): NodeJS.ProcessEnv {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };
}
