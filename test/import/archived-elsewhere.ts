/** WAL as another tool archives it: a real server whose archive_command copies into a folder, and every way to pack a file. */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { installPackages } from "../harness/apt.ts";
import { until } from "../campaigns/campaign.ts";
import { type PostgresServer, startPostgres, type PostgresOptions } from "../harness/postgres.ts";
import { giveToServer } from "../harness/postgres-template.ts";
import { type CliOptions, runCli } from "../harness/process.ts";
import { makeTempDir, removeTree } from "../harness/temp.ts";

/** What `seawall import --json` prints. */
export interface Imported {
  readonly ok: boolean;
  readonly dryRun: boolean;
  readonly systemIdentifier: string;
  readonly stored: Counts;
  readonly present: Counts;
  readonly duplicates: number;
  readonly passedOver: number;
  readonly ranges: readonly NamedRange[];
  readonly missing: readonly NamedRange[];
  readonly closedGaps: number;
  readonly unjoined: readonly string[];
  readonly refusals: number;
  readonly refused: readonly { readonly kind: string; readonly path: string; readonly problem: string }[];
}

interface Counts {
  readonly segments: number;
  readonly partials: number;
  readonly histories: number;
  readonly backupHistories: number;
}

interface NamedRange {
  readonly timeline: number;
  readonly first: string;
  readonly last: string;
  readonly segments: number;
}

export interface ElsewhereOptions extends PostgresOptions {
  readonly version: NonNullable<PostgresOptions["version"]>;
}

/** A server with segments of 1 MiB that archives into `folder`, and a store beside it. */
export class Elsewhere implements AsyncDisposable {
  readonly server: PostgresServer;
  /** The other tool's archive. */
  readonly folder: string;
  readonly store: string;
  readonly #place: string;

  private constructor(server: PostgresServer, place: string) {
    this.server = server;
    this.#place = place;
    this.folder = join(place, "wal");
    this.store = join(place, "store");
  }

  static async start(options: ElsewhereOptions): Promise<Elsewhere> {
    const place = makeTempDir("elsewhere");
    for (const name of ["wal", "store"]) {
      execFileSync("mkdir", [join(place, name)]);
      giveToServer(join(place, name), 0o755);
    }
    const wal = join(place, "wal");
    const settings = {
      archive_mode: "on",
      archive_command: `test ! -f ${wal}/%f && cp %p ${wal}/%f.tmp && mv ${wal}/%f.tmp ${wal}/%f`,
      ...options.settings,
    };
    try {
      const server = await startPostgres({ segmentSizeMiB: 1, ...options, settings });
      return new Elsewhere(server, place);
    } catch (error) {
      removeTree(place);
      throw error;
    }
  }

  get url(): string {
    return `file://${this.store}`;
  }

  /** Files of the other tool's archive, in order. */
  files(): string[] {
    return readdirSync(this.folder).sort();
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Writes WAL for so many segments, and waits until they are archived. */
  async fill(segments: number, server = this.server): Promise<void> {
    for (let i = 0; i < segments; i++) {
      await server.sql(`CREATE TABLE IF NOT EXISTS filler (i int, text text)`);
      await server.sql(`INSERT INTO filler SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i`);
      await this.archiveAll(server);
    }
  }

  /** Switches to a new segment, and waits until the old one is archived. */
  async archiveAll(server = this.server): Promise<void> {
    const name = await server.value("SELECT pg_walfile_name(pg_switch_wal())");
    await until(`${name} is archived`, async () => this.files().includes(name));
  }

  async import(args: readonly string[] = [], options: CliOptions = {}): ReturnType<typeof importFrom> {
    return importFrom([this.folder, "--store", this.url, ...args], options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
    removeTree(this.#place);
  }
}

export async function importFrom(
  args: readonly string[],
  options: CliOptions = {},
): Promise<{ readonly code: number | null; readonly report: Imported }> {
  const { code, stdout, stderr } = await runCli(["import", ...args, "--json"], { ...options, timeoutMs: 300_000 });
  if (stdout === "") throw new Error(`import said nothing on stdout:\n${stderr}`);
  return { code, report: JSON.parse(stdout) as Imported };
}

/** Installs the programs that pack WAL, where they are missing. */
export async function providePackers(): Promise<void> {
  const missing = ["lz4", "bzip2", "xz", "zstd"].filter((name) => {
    const folders = (process.env["PATH"] ?? "").split(delimiter);
    return !folders.some((folder) => existsSync(join(folder, name)));
  });
  if (missing.length === 0) return;
  const packages = missing.map((name) => (name === "xz" ? "xz-utils" : name));
  await installPackages(packages, "tests of imports", missing.join(", "));
}

export const PACKINGS = ["", ".gz", ".lz4", ".zst", ".bz2", ".xz", ".br"] as const;
export type PackingEnding = (typeof PACKINGS)[number];

/** The content as the program of this ending packs it. */
export function packed(content: Uint8Array, ending: PackingEnding): Uint8Array {
  const through = (program: string): Uint8Array =>
    execFileSync(program, ["-cq"], { input: content, maxBuffer: 1 << 30 });
  switch (ending) {
    case "":
      return content;
    case ".gz":
      return gzipSync(content);
    case ".br":
      return brotliCompressSync(content, { params: {} });
    case ".lz4":
      return through("lz4");
    case ".zst":
      return through("zstd");
    case ".bz2":
      return through("bzip2");
    case ".xz":
      return through("xz");
  }
}

/** Replaces a file by a packed one. */
export function packFile(path: string, ending: PackingEnding): string {
  const bytes = packed(readFileSync(path), ending);
  rmSync(path);
  writeFileSync(`${path}${ending}`, bytes);
  chmodSync(`${path}${ending}`, 0o644);
  return `${path}${ending}`;
}
