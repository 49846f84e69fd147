/** The demo's write load: small commits whose position and time are noted, beside bulk writes that fill segments. */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Lsn, parseLsn } from "../../src/wal/lsn.ts";
import type { PostgresServer } from "../harness/postgres.ts";

export interface Commit {
  /** Of its row: 1 and up, in the order of commits. */
  readonly id: number;
  /** End of the WAL flushed when the commit had returned: the commit lies before it. */
  readonly lsn: Lsn;
  /** On the clock of `performance.now()`. */
  readonly atMs: number;
}

/** Between two noted commits; the bulk writers leave so much between two of theirs. */
const PAUSE_MS = 10;
const BULK_PAUSE_MS = 20;
/** WAL beyond this is not written: the demo is bounded on a fast disk too. */
const WAL_BYTES_MAX = 600_000_000;

export class Load {
  readonly commits: Commit[] = [];
  readonly #clients: readonly pg.Client[];
  readonly #running: Promise<void>[];
  readonly #startLsn: Lsn;
  #issued = 0;
  #stopped = false;
  #failure: unknown;

  static async start(server: PostgresServer): Promise<Load> {
    await server.sql("CREATE TABLE tide (id int PRIMARY KEY, at timestamptz DEFAULT now())");
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

  /** Commits that were begun: the last of them may or may not have taken effect. */
  get issued(): number {
    return this.#issued;
  }

  /** A write that fails from now on is no news: the server is about to die. */
  async die(kill: () => Promise<void>): Promise<void> {
    if (this.#failure !== undefined) throw new Error("the write load failed", { cause: this.#failure });
    await kill();
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  /** Ends the writing; for when something else has failed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    await Promise.allSettled(this.#clients.map(async (open) => open.end()));
  }

  async #note(client: pg.Client): Promise<void> {
    while (!this.#stopped) {
      const id = ++this.#issued;
      await client.query("INSERT INTO tide (id) VALUES ($1)", [id]);
      const atMs = performance.now();
      const { rows } = await client.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
      this.commits.push({ id, lsn: parseLsn(rows[0]?.lsn ?? ""), atMs });
      await sleep(PAUSE_MS);
    }
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
