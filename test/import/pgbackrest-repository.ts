/** A pgBackRest repository of a real server, for tests of imports. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../campaigns/campaign.ts";
import { serverAccount } from "../harness/account.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import type { PostgresServer } from "../harness/postgres.ts";
import { run } from "../harness/run.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

/** A repository of one stanza, `demo`, in a folder of its own. */
export class Repository implements AsyncDisposable {
  readonly folder = makeTempDir("pgbackrest");
  readonly path = join(this.folder, "repo");
  readonly store = join(this.folder, "store");
  readonly #config = join(this.folder, "pgbackrest.conf");
  readonly #program: string;

  constructor(program: string) {
    this.#program = program;
    for (const name of ["repo", "log", "lock", "spool", "store"]) {
      mkdirSync(join(this.folder, name));
      giveToServer(join(this.folder, name), 0o755);
    }
  }

  /** Names the server to pgBackRest. */
  configure(server: PostgresServer, more: readonly string[] = []): void {
    const { folder } = this;
    const general = ["repo1-path", "log-path", "lock-path", "spool-path"].map(
      (key) => `${key}=${join(folder, key.replace(/1?-path/, ""))}`,
    );
    const own = [`pg1-path=${server.dataDir}`, `pg1-socket-path=${server.socketDir}`, `pg1-port=${server.port}`];
    writeFileSync(
      this.#config,
      ["[global]", ...general, ...more, "[demo]", ...own, "pg1-user=postgres", ""].join("\n"),
    );
  }

  command(...args: readonly string[]): string[] {
    return [this.#program, `--config=${this.#config}`, "--stanza=demo", ...args];
  }

  async run(...args: readonly string[]): Promise<void> {
    const [file = "", ...rest] = this.command(...args);
    await run(file, rest, { account: serverAccount(), cwd: "/" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    removeTree(this.folder);
  }
}

/** Switches to a new segment, and waits until the old one is in the repository. */
export async function archive(server: PostgresServer): Promise<void> {
  await server.sql("INSERT INTO filler SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i");
  const name = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
  await until(`${name} is archived`, async () => {
    const last = await server.value("SELECT coalesce(max(last_archived_wal), '') FROM pg_stat_archiver");
    return last >= name;
  });
}
