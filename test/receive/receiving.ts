/** A receiver in this process, for tests that look inside; and the comparison of its archive with the server's pg_wal. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Archive } from "../../src/archive/archive.ts";
import { parseWalKey, walPrefix } from "../../src/archive/keys.ts";
import { readTail } from "../../src/archive/wal/tail.ts";
import { readSegment } from "../../src/archive/wal/objects.ts";
import { silentLog } from "../../src/log.ts";
import { parseConninfo } from "../../src/replication/conninfo.ts";
import type { ReceiverOptions } from "../../src/receive/options.ts";
import { type SpoolOptions, runSpooledReceiver } from "../../src/receive/spool.ts";
import { ReceiverState } from "../../src/receive/status.ts";
import { runReceiver } from "../../src/receive/walreceiver.ts";
import type { Store } from "../../src/store/store.ts";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import { segmentFileName } from "../../src/wal/names.ts";
import { firstDifference } from "../../src/archive/put-once.ts";
import { openRunArchive, recipientsOf } from "../harness/encryption.ts";
import type { PostgresServer } from "../harness/postgres.ts";

export interface Receiving {
  readonly state: ReceiverState;
  /** Rejects when the receiver ends with an error, resolves after a graceful stop. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
  /** Ends it at once, as a crash would, and waits until its work has settled. */
  kill(): Promise<void>;
  /** Waits until everything up to `lsn` is stored; fails when the receiver ends before. */
  stored(lsn: Lsn, timeoutMs?: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Recipients in an encrypted run (harness/encryption.ts). */
const recipients = await recipientsOf();

export function receive(
  server: { readonly dsn: string },
  store: Store,
  changes: Partial<ReceiverOptions> = {},
  spool?: SpoolOptions,
): Receiving {
  const stop = new AbortController();
  const kill = new AbortController();
  const state = new ReceiverState({
    cluster: changes.cluster ?? "main",
    synchronous: changes.shipIntervalMs === 0,
    durability: spool === undefined ? "store" : "spool",
    nowMs: () => Date.now(),
  });
  const options: ReceiverOptions = {
    settings: parseConninfo({ dsn: server.dsn, env: {}, files: () => undefined }),
    store,
    cluster: "main",
    slot: "seawall",
    createSlot: true,
    shipIntervalMs: 200,
    statusIntervalMs: 1000,
    receiverTimeoutMs: 60_000,
    compressLevel: 1,
    codecThreads: 2,
    recipients,
    chunksInFlightMax: 4,
    bufferSegments: 4,
    bufferBytesMax: 64 << 20,
    reconnectDelayMaxMs: 500,
    confirmChunks: false,
    shutdownTimeoutMs: 10_000,
    serverStopTimeoutMs: 30_000,
    once: false,
    log: silentLog,
    state,
    stop: stop.signal,
    kill: kill.signal,
    random: Math.random,
    ...changes,
  };
  const done = spool === undefined ? runReceiver(options) : runSpooledReceiver(options, spool);
  done.catch(() => undefined);
  const ended = async (): Promise<void> => done.catch(() => undefined);
  return {
    state,
    done,
    async stop() {
      stop.abort();
      await done;
    },
    async kill() {
      kill.abort();
      await ended();
    },
    async stored(lsn, timeoutMs = 30_000) {
      const deadline = Date.now() + timeoutMs;
      let failure: unknown;
      void done.catch((error: unknown) => (failure = error));
      while ((state.storedLsn ?? 0n) < lsn) {
        if (failure !== undefined) throw failure instanceof Error ? failure : new Error("the receiver failed");
        if (Date.now() > deadline)
          throw new Error(`not stored in time: ${JSON.stringify(state.snapshot(), undefined, 1)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async [Symbol.asyncDispose]() {
      kill.abort();
      await ended();
    },
  };
}

export async function flushLsn(server: PostgresServer): Promise<Lsn> {
  const [row] = await server.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn");
  return parseLsn(String(row?.["lsn"]));
}

/**
 * Every sealed segment and the open segment's tail equal the server's own files byte for byte. Returns how many segments
 * were compared.
 */
export async function expectEqualsServer(server: PostgresServer, store: Store, cluster = "main"): Promise<number> {
  const archive: Archive = await openRunArchive(store, cluster);
  const { segmentSize } = archive.identity;
  let compared = 0;
  for await (const { key } of store.list(walPrefix(cluster))) {
    const found = parseWalKey(key, segmentSize);
    if (found?.kind !== "segment") continue;
    const name = segmentFileName(found.timeline, found.segment, segmentSize);
    const ours = await readSegment(archive, { ...found, segmentSize });
    const theirs = readFileSync(join(server.walDir, name));
    expect({ name, firstDifference: firstDifference(ours?.raw ?? new Uint8Array(), theirs) }).toEqual({
      name,
      firstDifference: -1,
    });
    compared++;
    const next = { timeline: found.timeline, segment: (found.segment + 1) as typeof found.segment, segmentSize };
    const tail = await readTail(archive, next);
    if (tail === undefined) continue;
    const nextName = segmentFileName(next.timeline, next.segment, segmentSize);
    const open = readFileSync(join(server.walDir, nextName)).subarray(0, tail.bytes.byteLength);
    expect({ nextName, firstDifference: firstDifference(tail.bytes, open) }).toEqual({ nextName, firstDifference: -1 });
  }
  return compared;
}
