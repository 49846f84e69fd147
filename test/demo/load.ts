/** The demo's write load: small commits whose position and time are noted, beside bulk writes that fill segments. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";

export interface Commit {
  /** End of the WAL flushed when the commit had returned: the commit lies before it. */
  readonly lsn: Lsn;
  /** On the clock of `performance.now()`. */
  readonly atMs: number;
}

/** Between two noted commits; the bulk writers leave so much between two of theirs. */
const PAUSE_MS = 10;
const BULK_PAUSE_MS = 20;
/** WAL beyond this is not written: the demo is bounded on a fast disk too. */
const WAL_BYTES_MAX = 1_500_000_000;

export class Load {
  readonly commits: Commit[] = [];
  readonly #clients: readonly pg.Client[];
  readonly #running: Promise<void>[];
  readonly #startLsn: Lsn;
  #stopped = false;
  #failure: unknown;

  static async start(server: PostgresServer): Promise<Load> {
    await server.sql(
      "CREATE TABLE tide (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT now(), note text)",
    );
    await server.sql("CREATE TABLE cargo (id int, data text)");
    await server.sql("CREATE INDEX ON cargo (data)");
    const clients = await Promise.all([server.connect(), server.connect(), server.connect()]);
    return new Load(clients, await server.currentFlushLsn());
  }

  private constructor(clients: readonly pg.Client[], startLsn: Lsn) {
    this.#clients = clients;
    this.#startLsn = startLsn;
    const [noted, ...bulk] = clients;
    const loops = noted === undefined ? [] : [this.#note(noted), ...bulk.map(async (client) => this.#fill(client))];
    this.#running = loops.map(async (loop) => loop.catch((error: unknown) => void (this.#failure ??= error)));
  }

  /** Ends the writing and commits once more: that commit is the last of all, and returned. */
  async stop(): Promise<Commit> {
    this.#stopped = true;
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw new Error("the write load failed", { cause: this.#failure });
    const [client] = this.#clients;
    if (client === undefined) throw new Error("no connection");
    const last = await this.#commit(client, "the last one");
    await Promise.all(this.#clients.map(async (open) => open.end()));
    return last;
  }

  async #note(client: pg.Client): Promise<void> {
    while (!this.#stopped) {
      await this.#commit(client, "tide");
      await sleep(PAUSE_MS);
    }
  }

  async #commit(client: pg.Client, note: string): Promise<Commit> {
    await client.query("INSERT INTO tide (note) VALUES ($1)", [note]);
    const atMs = performance.now();
    const { rows } = await client.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
    const commit = { lsn: parseLsn(rows[0]?.lsn ?? ""), atMs };
    this.commits.push(commit);
    return commit;
  }

  async #fill(client: pg.Client): Promise<void> {
    while (!this.#stopped) {
      const { rows } = await client.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
      if (parseLsn(rows[0]?.lsn ?? "") - this.#startLsn > WAL_BYTES_MAX) return;
      await client.query(
        "INSERT INTO cargo SELECT g, md5(random()::text || g) || repeat(md5(g::text), 3) FROM generate_series(1, 2000) g",
      );
      await sleep(BULK_PAUSE_MS);
    }
  }
}
