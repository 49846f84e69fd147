/**
 * The place that pages write about: a server, a receiver with its archive, and a shell in which the names of the pages stand for
 * folders and addresses of a test. Commands run as the server's account. `receive` and `systemctl` end as soon as the receiver streams,
 * as a service does.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, dirname, join } from "node:path";
import type { StatusDocument } from "../../src/daemon/status/document.ts";
import { until } from "../campaigns/campaign.ts";
import { addressOf } from "../daemon/hooked.ts";
import { serverAccount } from "../harness/account.ts";
import { freePort } from "../harness/postgres-process.ts";
import { type PostgresServer, startPostgres } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type CliProcess, plainEnvironment, startCli } from "../harness/process.ts";
import { run } from "../harness/run.ts";
import { serverCli } from "../harness/server-cli.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";
import { type Names, withValues } from "./page-names.ts";

const WAIT_MS = 240_000;

/** /status.json of one cluster or of several. */
type Shown = Partial<StatusDocument> & { readonly clusters?: readonly StatusDocument[] };

export class PageSite implements AsyncDisposable {
  readonly dir = makeTempDir("pages");
  readonly server: PostgresServer;
  /** After the first rows, and before the last one. */
  moment = "";
  /** A position in WAL at that moment. */
  lsn = "";
  readonly #listen: string;
  readonly #door: Server;
  readonly #receivers: CliProcess[] = [];
  /** The calls of `systemctl` for services other than Seawall. */
  readonly serviceCalls: string[] = [];
  /** A drill of this site has passed. */
  hasDrill = false;
  /** Both clusters of clusters.yaml have a backup. */
  hasClusters = false;
  #blocks = 0;
  #isUsual = false;
  /** The last segment that is complete when the site opens. */
  #end = "";

  static async start(): Promise<PageSite> {
    const server = await startPostgres({
      system: true,
      segmentSizeMiB: 1,
      freshIdentifier: true,
      settings: { wal_keep_size: "64MB" },
    });
    const site = new PageSite(server, `127.0.0.1:${await freePort()}`);
    await site.#open();
    return site;
  }

  private constructor(server: PostgresServer, listen: string) {
    this.server = server;
    this.#listen = listen;
    this.#door = createServer((request, response) => {
      void this.#serve(request).then(
        () => response.end(),
        (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
      );
    });
  }

  get config(): string {
    return this.path("/etc/seawall.yaml");
  }

  /** Takes any message. */
  get hook(): string {
    return `${this.#address()}/hook`;
  }

  get url(): string {
    return `file://${this.path("/srv/archive")}`;
  }

  /** The place of a path of the pages. */
  path(path: string): string {
    return join(this.dir, "root", path);
  }

  /** Replaces the names of a page by their values here: first `names`, then the names that every page uses. */
  here(text: string, names: Names = []): string {
    const { server, url, moment } = this;
    return withValues(text, names, {
      root: join(this.dir, "root"),
      url,
      dsn: server.dsn,
      listen: this.#listen,
      moment,
    });
  }

  /**
   * Runs lines of a shell in a folder of their own, and gives what they print on standard output. Throws with all output when one
   * fails. The output goes to files: a server that the lines start keeps it open.
   */
  async shell(lines: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
    const cwd = this.work();
    const [out, err] = [`${cwd}.out`, `${cwd}.err`];
    const path = [join(this.dir, "bin"), this.server.binDir, process.env["PATH"]].join(delimiter);
    for (const file of [out, err]) {
      writeFileSync(file, "");
      giveToServer(file, 0o644);
    }
    const script = `exec >'${out}' 2>'${err}' </dev/null\n${lines}`;
    const home = { HOME: join(this.dir, "home"), USER: "postgres" };
    try {
      await run("/bin/bash", ["-euo", "pipefail", "-c", script], {
        account: serverAccount(),
        cwd,
        timeoutMs: WAIT_MS,
        env: { ...plainEnvironment(), ...this.#env(), ...home, PATH: path, ...env },
      });
    } catch (error) {
      const printed = [out, err].map((file) => readFileSync(file, "utf8").slice(-4000));
      throw new Error(`${lines}\n${printed.join("\n")}`, { cause: error });
    }
    return readFileSync(out, "utf8");
  }

  /** Makes a folder in which lines of a shell may write. */
  work(): string {
    const folder = join(this.dir, "work", String(this.#blocks++));
    mkdirSync(folder, { recursive: true });
    giveToServer(folder, 0o700);
    return folder;
  }

  /** Starts a receiver in place of the one that runs. */
  async receive(args: readonly string[] = ["--config", this.config]): Promise<void> {
    await this.stopReceiving();
    this.#isUsual = args.length === 2 && args[1] === this.config;
    const env = { ...this.#env(), SEAWALL_LOG_LEVEL: "info", SEAWALL_LOG_FORMAT: "json" };
    const receiver = startCli(["receive", ...args], { asServer: true, env });
    this.#receivers.push(receiver);
    try {
      await addressOf(receiver);
      const isStreaming = async (): Promise<boolean> => {
        const status = await this.#status();
        // The slot is made when the stream begins, and seen at the next look.
        return (status.clusters ?? [status]).every(
          ({ state, slot }) => state === "streaming" && slot?.exists !== false,
        );
      };
      await until("the stream", isStreaming, WAIT_MS);
    } catch (error) {
      throw new Error(receiver.stderr.slice(-2000), { cause: error });
    }
  }

  async stopReceiving(): Promise<void> {
    for (const receiver of this.#receivers.splice(0)) if (receiver.running) await receiver.end("SIGTERM");
  }

  /** All WAL that is written by now is stored. */
  async stored(): Promise<void> {
    const lsn = await this.server.value("SELECT pg_current_wal_flush_lsn()");
    const isBehind = async (): Promise<string> =>
      this.server.value("SELECT ($1::pg_lsn < $2::pg_lsn)::text", [(await this.#status()).storedLsn, lsn]);
    await until("the WAL is stored", async () => (await isBehind()) === "false", WAIT_MS);
  }

  /** Stops receiver and server: a restored server takes the server's place. */
  async stopProduction(): Promise<void> {
    await this.stopReceiving();
    await this.server.stop("fast");
  }

  /** Undoes what a block has done to server, receiver and folders. */
  async restore(): Promise<void> {
    await this.clear();
    if (!this.server.running) await this.server.start();
    await this.server.sql("ALTER SYSTEM RESET ALL");
    await this.server.sql("SELECT pg_reload_conf()");
    if (!this.#isUsual || !this.#receivers.some(({ running }) => running)) await this.receive();
  }

  /** Complete segments in the server's pg_wal, in order. */
  segments(): string[] {
    const all = readdirSync(this.server.walDir).filter((name) => /^[0-9A-F]{24}$/.test(name));
    return all.sort().filter((name) => name <= this.#end);
  }

  get segment(): string {
    return this.segments()[0] ?? "";
  }

  /** Copies the complete segments into a new folder, packed by `pack`. Gives its path. */
  copyWal(place: string, pack = (name: string, content: Buffer): readonly [string, Buffer] => [name, content]): string {
    const folder = this.path(place);
    removeTree(folder);
    mkdirSync(folder, { recursive: true });
    giveToServer(folder, 0o755);
    for (const name of this.segments()) {
      const [file, bytes] = pack(name, readFileSync(join(this.server.walDir, name)));
      writeFileSync(join(folder, file), bytes, { mode: 0o644 });
      giveToServer(join(folder, file), 0o644);
    }
    return folder;
  }

  /** The content of a file in each folder that blocks have worked in. */
  written(name: string): Buffer[] {
    const files = readdirSync(join(this.dir, "work")).map((folder) => join(this.dir, "work", folder, name));
    return files.filter(existsSync).map((file) => readFileSync(file));
  }

  /** Stops the servers that a block has started in restored directories, and removes these. */
  async clear(): Promise<void> {
    await this.stopCopies();
    for (const folder of this.#restored()) removeTree(folder);
    this.#makeFolders();
  }

  /** Starts a restored server, which takes the place of the site's, and waits for the end of its recovery. */
  async startCopy(path: string): Promise<void> {
    const data = this.path(path);
    const isPromoted = `[ "$(psql -d postgres -Atc 'SELECT pg_is_in_recovery()')" = f ]`;
    await this.shell(
      [
        `pg_ctl start -w -D ${data} -l ${data}.log`,
        `seawall restore --check ${data} --wait`,
        `for i in $(seq 600); do ${isPromoted} && exit; sleep 0.1; done; exit 1`,
      ].join("\n"),
    );
  }

  async stopCopies(): Promise<void> {
    for (const folder of this.#restored()) await this.#stopServersBelow(folder);
  }

  #restored(): string[] {
    const folders = ["/restore", "/var/lib/postgresql", "/srv/restored", "/data", "/wal"];
    return [...folders.map((name) => this.path(name)), join(this.dir, "work")];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopReceiving();
    await this.clear();
    this.#door.close();
    await this.server[Symbol.asyncDispose]();
    removeTree(this.dir);
  }

  async #open(): Promise<void> {
    giveToServer(this.dir, 0o755);
    this.#makeFolders();
    await new Promise<void>((resolve) => this.#door.listen(0, "127.0.0.1", resolve));
    this.#writePrograms();
    const { dsn } = this.server;
    const clusters = ["orders", "billing"].map((name) => `  ${name}:\n    dsn: ${dsn}\n    slot: ${name}\n`);
    this.write("/etc/clusters.yaml", `store: ${this.url}\nnotify-command: /bin/true\nclusters:\n${clusters.join("")}`);
    this.write(
      "/etc/seawall.yaml",
      `dsn: ${dsn}\nstore: ${this.url}\nscratch-dir: ${this.path("/scratch")}\nnotify-command: /bin/true\nrecovery-window: 14d\n`,
    );
    await this.server.sql("CREATE DATABASE shop");
    const shop = await this.server.connect("shop");
    await shop.query("CREATE TABLE orders AS SELECT 1 AS id");
    await shop.end();
    await this.receive();
    await this.shell(`seawall backup --config ${this.config}`);
    await this.server.sql("CREATE TABLE t AS SELECT 1 AS i");
    this.moment = await this.server.value("SELECT (clock_timestamp()::timestamptz(0) + interval '1 s')::text");
    await this.server.sql("SELECT pg_sleep_until($1::timestamptz + interval '0.1 s')", [this.moment]);
    await this.server.sql("INSERT INTO t VALUES (2)");
    this.lsn = await this.server.value("SELECT pg_current_wal_flush_lsn()");
    this.#end = await this.server.value("SELECT pg_walfile_name(pg_switch_wal())");
    await this.server.sql("INSERT INTO t VALUES (3)");
    await this.stored();
    await this.shell(`seawall backup --config ${this.config}`);
  }

  /** A file of the pages. */
  write(path: string, text: string, mode = 0o644): void {
    const file = this.path(path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    chmodSync(file, mode);
  }

  #makeFolders(): void {
    const folders = [
      "/etc",
      "/srv",
      "/srv/archive",
      "/mnt",
      "/restore",
      "/scratch",
      "/wal",
      "/data",
      "/var/lib/postgresql",
      "/usr/local",
    ];
    for (const path of [...folders.map((name) => this.path(name)), join(this.dir, "home"), join(this.dir, "bin")]) {
      if (existsSync(path)) continue;
      mkdirSync(path, { recursive: true });
      giveToServer(path, 0o755);
    }
  }

  async #status(): Promise<Shown> {
    return (await (await fetch(`http://${this.#listen}/status.json`)).json()) as Shown;
  }

  #env(): Record<string, string> {
    const seawall = { SEAWALL_LISTEN: this.#listen, SEAWALL_CHECKPOINT: "fast", SEAWALL_LOG_LEVEL: "warn" };
    return { ...seawall, PGHOST: "127.0.0.1", PGPORT: String(this.server.port), PGUSER: "postgres" };
  }

  /** The programs that the pages call. */
  #writePrograms(): void {
    const { node, main } = serverCli();
    const door = this.#address();
    const ask = (what: string): string =>
      `printf '%s\\0' "$@" | curl -sS --fail-with-body --data-binary @- ${door}/${what}`;
    const scripts = {
      seawall: `if [ "$1" = receive ]; then shift; ${ask("receive")}; else exec "\${PAGE_NODE-${node}}" '${main}' "$@"; fi`,
      "seawall-wal-fetch": `exec '${join(dirname(main), "..", "..", "bin", "seawall-wal-fetch")}' --node '${node}' "$@"`,
      systemctl: ask("systemctl"),
      sudo: `[ "$1" != -u ] || shift 2\nexec "$@"`,
    };
    for (const [name, script] of Object.entries(scripts)) {
      writeFileSync(join(this.dir, "bin", name), `#!/bin/bash\n${script}\n`, { mode: 0o755 });
    }
  }

  #address(): string {
    return `http://127.0.0.1:${(this.#door.address() as AddressInfo).port}`;
  }

  /** Does as `receive` and `systemctl` ask. */
  async #serve(request: IncomingMessage): Promise<void> {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += String(chunk);
    if (request.url === "/hook") return;
    const args = body.split("\0").slice(0, -1);
    if (request.url === "/receive") return this.receive(args);
    const [verb = "", ...units] = args;
    if (!units.some((unit) => unit.startsWith("seawall"))) return void this.serviceCalls.push(args.join(" "));
    if (verb === "stop") return this.stopReceiving();
    if (/^(?:start|restart|enable)$/.test(verb)) return this.receive();
    throw new Error(`systemctl ${args.join(" ")} is not known here`);
  }

  async #stopServersBelow(folder: string): Promise<void> {
    if (!existsSync(folder)) return;
    // A recovering server makes and removes folders meanwhile: find passes over those that are gone.
    const search = [folder, "-maxdepth", "3", "-name", "postmaster.pid"];
    const { stdout } = await run("find", search, { accept: [0, 1] });
    for (const pid of stdout.split("\n").filter((path) => path !== "")) {
      await run(join(this.server.binDir, "pg_ctl"), ["stop", "-m", "immediate", "-D", dirname(pid)], {
        ...{ account: serverAccount(), cwd: "/", accept: [0, 1] },
      });
    }
  }
}
