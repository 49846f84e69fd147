/** What the server says of its receiver, asked many times a second: the demo's lag and rates come from here. */
import type pg from "pg";
import { bytesBetween, type Lsn, maxLsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import type { Commit } from "./load.ts";

export interface Sight {
  readonly atMs: number;
  readonly serverLsn: Lsn;
  /** What the server was last told is flushed; undefined before the first receiver. */
  readonly flushedLsn: Lsn | undefined;
  readonly connected: boolean;
}

const POLL_MS = 20;

export class Watch {
  readonly #client: pg.Client;
  readonly #timer: NodeJS.Timeout;
  readonly #commits: readonly Commit[];
  readonly #delaysMs: number[] = [];
  #measured = 0;
  #asking: Promise<void> | undefined;
  #last: Sight;
  #failure: unknown;

  static async start(server: PostgresServer, commits: readonly Commit[]): Promise<Watch> {
    return new Watch(await server.connect(), await server.currentFlushLsn(), commits);
  }

  private constructor(client: pg.Client, serverLsn: Lsn, commits: readonly Commit[]) {
    this.#client = client;
    this.#commits = commits;
    this.#last = { atMs: performance.now(), serverLsn, flushedLsn: undefined, connected: false };
    this.#timer = setInterval(() => {
      this.#asking ??= this.#ask()
        .catch((error: unknown) => void (this.#failure ??= error))
        .finally(() => (this.#asking = undefined));
    }, POLL_MS);
  }

  get last(): Sight {
    if (this.#failure !== undefined) throw new Error("the server does not answer", { cause: this.#failure });
    return this.#last;
  }

  /** WAL the server has and was not yet told is stored, in bytes. */
  get lagBytes(): number {
    const { serverLsn, flushedLsn } = this.last;
    return flushedLsn === undefined || flushedLsn > serverLsn ? 0 : bytesBetween(flushedLsn, serverLsn);
  }

  /** From each commit's return until the server was told that it is stored; commits of a receiver's absence left out. */
  get delaysMs(): readonly number[] {
    return this.#delaysMs;
  }

  /** Commits before now are not measured: no receiver was there to store them. */
  skipToNow(): void {
    this.#measured = this.#commits.length;
  }

  /** Also when the server is gone. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#asking;
    await this.#client.end().catch(() => undefined);
  }

  async #ask(): Promise<void> {
    const { rows } = await this.#client.query<{ server: string; flushed: string | null; connected: boolean }>(
      "SELECT pg_current_wal_flush_lsn()::text AS server, max(flush_lsn)::text AS flushed, count(*) > 0 AS connected " +
        "FROM pg_stat_replication",
    );
    const [row] = rows;
    if (row === undefined) return;
    const atMs = performance.now();
    const told = row.flushed === null ? undefined : parseLsn(row.flushed);
    const before = this.#last.flushedLsn;
    const flushedLsn = told !== undefined && before !== undefined ? maxLsn(told, before) : (told ?? before);
    this.#last = { atMs, serverLsn: parseLsn(row.server), flushedLsn, connected: row.connected };
    for (; flushedLsn !== undefined && this.#measured < this.#commits.length; this.#measured++) {
      const commit = this.#commits[this.#measured];
      if (commit === undefined || commit.lsn > flushedLsn) break;
      this.#delaysMs.push(atMs - commit.atMs);
    }
  }
}
