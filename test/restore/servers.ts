/** An archive that a real primary has filled, copies of its files from before, and recoveries of those through it. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openStore } from "../../src/store/open.ts";
import type { Store } from "../../src/store/store.ts";
import { pauseSince } from "../harness/patience.ts";
import { type PostgresServer, type Settings, startPostgres } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import type { S3Server } from "../harness/s3.ts";
import { serverRestoreCommand } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { flushLsn, receive } from "../receive/receiving.ts";

export type Version = 14 | 15 | 16 | 17 | 18 | 19;

export interface Place extends AsyncDisposable {
  readonly url: string;
  readonly env: Readonly<Record<string, string>>;
  readonly store: Store;
  /** Lets the server's account read what we have stored. */
  share(): Promise<void>;
}

export async function directoryPlace(): Promise<Place & { readonly folder: string }> {
  const folder = join(makeTempDir("archive"), "store");
  mkdirSync(folder, { mode: 0o755 });
  const store = openStore(`file://${folder}`, { env: {} });
  return {
    folder,
    url: `file://${folder}`,
    env: {},
    store,
    share: async () => void (await run("chmod", ["-R", "a+rX", folder])),
    [Symbol.asyncDispose]: async () => {
      await store.close();
      removeTree(join(folder, ".."));
    },
  };
}

export async function s3Place(s3: S3Server): Promise<Place> {
  const bucket = await s3.bucket();
  const store = openStore(bucket.url, { env: s3.env });
  return {
    url: bucket.url,
    env: s3.env,
    store,
    share: async () => undefined,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await bucket[Symbol.asyncDispose]();
    },
  };
}

export interface Archived extends AsyncDisposable {
  readonly primary: PostgresServer;
  /** Never started; `recovery.signal` is there. */
  readonly copies: readonly PostgresServer[];
  /** Rows of table `t` at the end of the archive. */
  readonly rows: number;
}

export const ROWS_A_SEGMENT = 100;

export interface ArchivedOptions {
  readonly version: Version;
  readonly place: Place;
  readonly segments: number;
  readonly copies?: number;
  readonly settings?: Settings;
}

/** So many sealed segments of 1 MiB, and a tail, in the archive; each holds `ROWS_A_SEGMENT` rows. */
export async function archivedPrimary(options: ArchivedOptions): Promise<Archived> {
  const { version, place, segments } = options;
  const settings = { wal_keep_size: "1GB", log_replication_commands: false, ...options.settings };
  const primary = await startPostgres({ version, segmentSizeMiB: 1, freshIdentifier: true, settings });
  try {
    await primary.sql("CREATE TABLE t (i int, pad text)");
    await using receiver = receive(primary, place.store);
    // Streaming: the copies begin in WAL that is archived.
    await receiver.stored(await flushLsn(primary));
    const copies: PostgresServer[] = [];
    for (let i = 0; i < (options.copies ?? 1); i++)
      copies.push(await primary.clone({ signal: "recovery", start: false }));
    for (let i = 0; i < segments; i++) {
      await fill(primary);
      await primary.sql("SELECT pg_switch_wal()");
    }
    await fill(primary);
    await receiver.stored(await flushLsn(primary));
    await receiver.stop();
    await place.share();
    const rows = (segments + 1) * ROWS_A_SEGMENT;
    return { primary, copies, rows, [Symbol.asyncDispose]: async () => primary[Symbol.asyncDispose]() };
  } catch (error) {
    await primary[Symbol.asyncDispose]();
    throw error;
  }
}

export async function fill(server: PostgresServer): Promise<void> {
  await server.sql(`INSERT INTO t SELECT i, repeat('x', 5000 + i) FROM generate_series(1, ${ROWS_A_SEGMENT}) i`);
}

export async function rowsOf(server: PostgresServer): Promise<number> {
  return Number(await server.value("SELECT count(*)::text FROM t"));
}

/** Waits until a recovering server takes writes. */
export async function recovered(server: PostgresServer, timeoutMs = 60_000): Promise<void> {
  const startedMs = Date.now();
  while ((await server.value("SELECT pg_is_in_recovery()::text")) === "true") {
    if (Date.now() > startedMs + timeoutMs) throw new Error(`still recovering:\n${server.log().slice(-2000)}`);
    await pauseSince(startedMs);
  }
}

/** Configures the copy's recovery through this command. */
export function recoverThrough(copy: PostgresServer, command: string, settings: Settings = {}): void {
  copy.writeConfiguration({ restore_command: command, ...settings });
}

export class CountedCommand implements Disposable {
  /** Counts each start of Node.js that it makes. */
  readonly command: string;
  readonly #folder: string;

  constructor(place: Place, flags: readonly string[] = [], url = place.url) {
    this.#folder = makeTempDir("count");
    chmodSync(this.#folder, 0o777);
    const plain = serverRestoreCommand(["--store", url, ...flags], { env: place.env });
    const node = / --node (\S+) /.exec(plain)?.[1] ?? "";
    const wrapper = join(this.#folder, "node");
    writeFileSync(wrapper, `#!/bin/sh\n: >"${this.#folder}/start-$$"\nexec ${node} "$@"\n`);
    chmodSync(wrapper, 0o755);
    this.command = plain.replace(` --node ${node} `, ` --node ${wrapper} `);
  }

  get starts(): number {
    return readdirSync(this.#folder).filter((name) => name.startsWith("start-")).length;
  }

  [Symbol.dispose](): void {
    removeTree(this.#folder);
  }
}

/** Process IDs of the prefetchers that fetch from this store. */
export function prefetchersOf(url: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return words.includes("wal-prefetch") && words.includes(url);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** What a process has open. */
export function filesOpenIn(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}
