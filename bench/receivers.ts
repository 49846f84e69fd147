/** Who receives in a bench: `seawall receive` in a process of its own, and pg_receivewal, its yardstick. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatLsn, type Lsn, parseLsn } from "../src/wal/lsn.ts";
import type { PostgresServer } from "../test/harness/postgres.ts";
import { MeasuredChild } from "./measured-child.ts";
import { pgTool } from "./primary.ts";

export interface SeawallOptions {
  readonly slot: string;
  /** Store URL. */
  readonly store: string;
  /** Credentials of the store. */
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** For Node.js itself, such as `--cpu-prof`. */
  readonly nodeArgs?: readonly string[];
}

/** Built by `npm run bench` before it begins; this file lies in build/bench then. */
const SEAWALL = join(import.meta.dirname, "..", "..", "dist", "cli", "main.js");

export function startSeawall(server: PostgresServer, options: SeawallOptions): MeasuredChild {
  const { slot, store, env = {}, args = [], nodeArgs = [] } = options;
  const receive = [
    "receive",
    "--dsn",
    `${server.socketDsn} application_name=seawall`,
    "--store",
    store,
    "--slot",
    slot,
  ];
  const rest = ["--no-create-slot", "--listen", "127.0.0.1:0", "--log-level", "warn", ...args];
  return new MeasuredChild(process.execPath, [...nodeArgs, SEAWALL, ...receive, ...rest], {
    env: { ...process.env, ...env },
  });
}

export interface ReceivewalOptions {
  readonly slot: string;
  readonly directory: string;
  readonly endLsn?: Lsn;
  readonly synchronous?: boolean;
}

export function startReceivewal(server: PostgresServer, options: ReceivewalOptions): MeasuredChild {
  const { slot, directory, endLsn, synchronous = false } = options;
  const args = ["-D", directory, "-S", slot, "--no-loop", "-d", `${server.socketDsn} application_name=pg_receivewal`];
  if (endLsn !== undefined) args.push("--endpos", formatLsn(endLsn));
  if (synchronous) args.push("--synchronous");
  return new MeasuredChild(pgTool("pg_receivewal"), args);
}

const POLL_MS = 10;

/** Waits until the server has been told that everything up to `lsn` is flushed; milliseconds since the child started. */
export async function flushedUpTo(
  server: PostgresServer,
  child: MeasuredChild,
  slot: string,
  lsn: Lsn,
): Promise<number> {
  const client = await server.connect();
  try {
    for (;;) {
      const { rows } = await client.query<{ lsn: string | null }>(
        "SELECT flush_lsn::text AS lsn FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid " +
          "WHERE s.slot_name = $1",
        [slot],
      );
      const flushed = rows[0]?.lsn;
      if (flushed !== undefined && flushed !== null && parseLsn(flushed) >= lsn)
        return performance.now() - child.startedMs;
      if (!child.running) throw new Error(`the receiver ended early:\n${child.output}`);
      await sleep(POLL_MS);
    }
  } finally {
    await client.end();
  }
}
