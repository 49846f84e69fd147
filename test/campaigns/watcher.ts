/** The server's side of the promise: the highest flush LSN it was ever told, asked every few milliseconds. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { until } from "./campaign.ts";

const QUERY = `
  SELECT (SELECT max(r.flush_lsn)::text FROM pg_stat_replication r JOIN pg_replication_slots a ON a.active_pid = r.pid
           WHERE a.slot_name = $1) AS flush,
         (SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = $1) AS restart,
         (SELECT active FROM pg_replication_slots WHERE slot_name = $1) AS active,
         (SELECT count(*) FROM pg_stat_replication r JOIN pg_replication_slots a ON a.active_pid = r.pid
           WHERE a.slot_name = $1 AND r.state = 'streaming') AS streaming`;

interface Seen {
  readonly flush: string | null;
  readonly restart: string | null;
  readonly active: boolean | null;
  readonly streaming: string;
}

export class FlushWatcher implements AsyncDisposable {
  /** Highest flush LSN, or restart LSN that feedback moved, seen so far. */
  flushLsn = 0n as Lsn;
  samples = 0;
  active = false;
  streaming = false;
  readonly #client: pg.Client;
  readonly #slot: string;
  readonly #initialRestart: Lsn;
  readonly #running: Promise<void>;
  #ended = false;
  #failure: unknown;

  private constructor(client: pg.Client, slot: string, initialRestart: Lsn) {
    this.#client = client;
    this.#slot = slot;
    this.#initialRestart = initialRestart;
    this.#running = this.#run();
  }

  /** Makes the slot, so that its first restart LSN, which no feedback has moved, is known. */
  static async start(server: PostgresServer, slot = "seawall"): Promise<FlushWatcher> {
    const client = await server.connect();
    await client.query("SELECT pg_create_physical_replication_slot($1, true)", [slot]);
    const { rows } = await client.query<{ lsn: string }>(
      "SELECT restart_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1",
      [slot],
    );
    return new FlushWatcher(client, slot, parseLsn(rows[0]?.lsn ?? "0/0"));
  }

  /**
   * The walsender of a receiver that is gone has read its last feedback and ended: from here on nothing it was told is
   * unknown to us. Returns the highest flush LSN.
   */
  async afterTheEnd(): Promise<Lsn> {
    if (this.#failure !== undefined) throw new Error("the watcher failed", { cause: this.#failure });
    await until("the walsender to end", () => !this.active);
    // One more look: the slot's restart LSN is the last flush LSN the walsender was told.
    const { samples } = this;
    await until("another look at the slot", () => this.samples >= samples + 2);
    return this.flushLsn;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#ended) {
        const { rows } = await this.#client.query<Seen>(QUERY, [this.#slot]);
        const seen = rows[0];
        this.#take(seen?.flush ?? null);
        this.#take(seen?.restart ?? null);
        this.active = seen?.active === true;
        this.streaming = Number(seen?.streaming ?? 0) > 0;
        this.samples++;
        await sleep(3);
      }
    } catch (error) {
      this.#failure = error;
    }
  }

  /** Up to where the slot began nothing was promised: an archive begins with the segment that holds this place. */
  #take(text: string | null): void {
    const lsn = text === null ? undefined : parseLsn(text);
    if (lsn !== undefined && lsn > this.#initialRestart && lsn > this.flushLsn) this.flushLsn = lsn;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#running;
    await this.#client.end().catch(() => undefined);
  }
}
