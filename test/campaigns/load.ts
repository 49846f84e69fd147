/**
 * A write load: several sessions that commit rows, with now and then a bulk insert, a record larger than a page or a
 * segment, a switch to the next segment. Notes the transactions whose commit the server has acknowledged.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { PostgresServer } from "../harness/postgres.ts";
import type { Random } from "../harness/random.ts";

export interface LoadOptions {
  readonly sessions?: number;
  /** Longest pause between two transactions of a session. */
  readonly pauseMsMax?: number;
  /** Largest single record, in bytes. */
  readonly recordBytesMax?: number;
  readonly random: Random;
}

export class WriteLoad implements AsyncDisposable {
  /** Acknowledged transactions: their 32-bit xids as WAL records carry them. */
  readonly acknowledged = new Set<number>();
  /** Numbers of acknowledged rows in table `load`. */
  readonly rows = new Set<number>();
  readonly #options: Required<LoadOptions>;
  readonly #clients: pg.Client[] = [];
  #sessions: Promise<void>[] = [];
  #ended = false;
  #nextRow = 1;

  private constructor(options: LoadOptions) {
    this.#options = { sessions: 3, pauseMsMax: 10, recordBytesMax: 300_000, ...options };
  }

  /** Makes the table before anything waits for a standby. */
  static async prepare(server: PostgresServer): Promise<void> {
    await server.sql("CREATE TABLE IF NOT EXISTS load (row int, pad text)");
  }

  static async start(server: PostgresServer, options: LoadOptions): Promise<WriteLoad> {
    const load = new WriteLoad(options);
    for (let i = 0; i < load.#options.sessions; i++) load.#clients.push(await server.connect());
    load.#sessions = load.#clients.map(async (client) => load.#session(client));
    return load;
  }

  /** Ends the sessions after the transaction under way; a session that waits for a standby is left to its server. */
  async stop(): Promise<void> {
    this.#ended = true;
    await Promise.allSettled(this.#sessions);
    await Promise.allSettled(this.#clients.map(async (client) => client.end()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    // A session may wait for a synchronous standby that will never come: the server's end is its end.
    await Promise.race([this.stop(), sleep(2000)]);
  }

  async #session(client: pg.Client): Promise<void> {
    const { random, pauseMsMax } = this.#options;
    try {
      while (!this.#ended) {
        await this.#transaction(client);
        await sleep(random.between(0, pauseMsMax));
      }
    } catch {
      // The server went away or was told to: what was not acknowledged is not counted.
    }
  }

  async #transaction(client: pg.Client): Promise<void> {
    const { random, recordBytesMax } = this.#options;
    const dice = random.between(1, 100);
    const row = this.#nextRow;
    const count = dice <= 90 ? random.between(1, 5) : random.between(100, 800);
    this.#nextRow += count;
    await client.query("BEGIN");
    const pad = random.between(1, 400);
    const { rows } = await client.query<{ xid: string }>(
      "INSERT INTO load SELECT i, repeat(md5(i::text), $3) FROM generate_series($1::int, $2::int) i " +
        "RETURNING txid_current()::text AS xid",
      [row, row + count - 1, Math.ceil(pad / 32)],
    );
    if (dice === 91 || dice === 92) {
      const bytes = random.between(1, recordBytesMax);
      await client.query("SELECT pg_logical_emit_message(true, 'load', repeat('m', $1::int))", [bytes]);
    }
    if (dice === 93) await client.query("SELECT pg_switch_wal()");
    await client.query("COMMIT");
    this.acknowledged.add(Number(BigInt(rows[0]?.xid ?? "0") & 0xffffffffn));
    for (let i = 0; i < count; i++) this.rows.add(row + i);
  }
}
