/** Prepares the site for a block of a page: files, roles and backups that its reader has, and the values of its names. */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { expect } from "vitest";
import { encodeMarker } from "../../src/restore/marker.ts";
import { installPackages } from "../harness/apt.ts";
import { provideNode } from "../harness/node-versions.ts";
import { providePgbackrest } from "../harness/pgbackrest.ts";
import { run } from "../harness/run.ts";
import { removeTree } from "../harness/temp.ts";
import { Repository } from "../import/pgbackrest-repository.ts";
import type { PageBlock } from "./page-blocks.ts";
import type { Names } from "./page-names.ts";
import type { PageSite } from "./page-site.ts";

export interface Preparation {
  readonly names?: Names;
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of a shell before those of the page, in the same folder. */
  readonly first?: string;
  /** Looks at what the block has done. */
  readonly after?: (stdout: string) => Promise<void>;
}

export type Prepare = (site: PageSite, block: PageBlock) => Promise<Preparation> | Preparation;

/** By a part of the block's lines; the first that fits. */
const PREPARATIONS: readonly (readonly [RegExp, Prepare])[] = [
  [/^zstd -d </, storedSegment],
  [/^for part in parts/m, storedParts],
  [/^SEAWALL_ZSTD=node/, newerNode],
  [/ROLE seawall/, role],
  [/^for f in .* gpg /m, encryptedByGpg],
  [/^for f in .* lzop /m, packedByLzop],
  [/\/var\/lib\/pgbackrest|archive\/main\/17-1/, pgbackrest],
  [/_command = '|^seawall wal-/, ownSegment],
  [/seawall import/, archivedElsewhere],
  [/SEAWALL_EVENT/, hook],
  [/seawall check +--config \/etc\/seawall\.yaml --(?:cluster orders|all)/, severalClusters],
  [/^rm .*postmaster\.pid/m, crashedServer],
  [/seawall\.restore\.unfinished/, interruptedRestore],
  [/seawall\.isolated/, isolatedCopy],
  [/ \bID\b/, freshBackup],
  [/^seawall cluster remove/m, otherCluster],
  [/--max-drill-age/, passedDrill],
  [/^(?!.*--isolate)[^]*pg_ctl start/, alone],
];

export async function preparationOf(block: PageBlock, site: PageSite): Promise<Preparation> {
  const [, prepare] = PREPARATIONS.find(([part]) => part.test(block.text)) ?? [];
  const isNamed = /--config|--store|seawall init/.test(block.text);
  const { env, ...rest } = (await prepare?.(site, block)) ?? {};
  return { ...rest, env: { ...(isNamed ? {} : { SEAWALL_CONFIG: site.config }), ...env } };
}

const archive = (site: PageSite): string => site.path("/srv/archive/main");

function storedSegment(site: PageSite): Preparation {
  const stored = readdirSync(join(archive(site), "wal"), { recursive: true, encoding: "utf8" }).filter((name) =>
    /\/[0-9A-F]{24}\.zst$/.test(name),
  );
  const [path = ""] = stored.sort();
  const name = basename(path, ".zst");
  const after = async (): Promise<void> => {
    const [content] = site.written(name);
    expect(content?.equals(readFileSync(join(site.server.walDir, name)))).toBe(true);
  };
  const names: Names = [
    [/wal\/0{7}1\/0{8}\/[0-9A-F]{24}\.zst/, join(archive(site), "wal", path)],
    [/[0-9A-F]{24}$/m, name],
  ];
  return { names, after };
}

function storedParts(site: PageSite): Preparation {
  const [id = ""] = readdirSync(join(archive(site), "backups")).sort();
  const after = async (): Promise<void> => {
    expect(site.written("data/PG_VERSION").map(String)).toEqual([`${site.server.version}\n`]);
  };
  return { first: `cp -r ${join(archive(site), "backups", id, "parts")} .`, after };
}

async function newerNode(): Promise<Preparation> {
  const { node } = await provideNode(24);
  const after = async (stdout: string): Promise<void> => expect(stdout).toContain("compresses with its own zstd");
  return { env: { PAGE_NODE: node }, after };
}

async function role({ server }: PageSite, { text }: PageBlock): Promise<Preparation> {
  if (/ALTER ROLE/.test(text)) await server.sql("CREATE ROLE seawall LOGIN REPLICATION");
  const after = async (): Promise<void> => {
    const has = "SELECT rolpassword IS NOT NULL AND rolreplication FROM pg_authid WHERE rolname = 'seawall'";
    expect(String(await server.value(`SELECT (${has})::text`))).toBe("true");
    await server.sql("DROP ROLE seawall");
  };
  return { first: "touch ~/.pgpass", after };
}

/** WAL and a base backup of the site's server, as the other tools leave them. */
function archivedElsewhere(site: PageSite, { text }: PageBlock): Preparation {
  const places = ["/mnt/wal_archive", "/var/lib/barman/main/wals", "/mnt/old-backups/main/wals"];
  for (const place of places) if (text.includes(basename(place))) site.copyWal(place);
  if (text.includes("wal_005")) site.copyWal("/mnt/old-backups/main/wal_005", byBrotli);
  const base = site.path("/mnt/backups/2026-10-01");
  const isBase = text.includes("/mnt/backups/");
  return {
    names: [[/--cluster orders/g, "--cluster main"]],
    ...(isBase ? { first: `rm -rf ${base}; pg_basebackup -D ${base} -Ft -X stream -c fast` } : {}),
  };
}

function byBrotli(name: string, content: Buffer): readonly [string, Buffer] {
  return [`${name}.br`, brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })];
}

async function packedByLzop(site: PageSite): Promise<Preparation> {
  await provide("lzop", "lzop");
  const folder = site.copyWal("/mnt/wal_005");
  return { first: `lzop -U ${folder}/*` };
}

async function encryptedByGpg(site: PageSite): Promise<Preparation> {
  await provide("lzop", "lzop");
  await provide("gpg", "gnupg");
  const folder = site.copyWal("/mnt/wal_005");
  const first = [
    "mkdir -m 700 ~/.gnupg; gpg --batch --quiet --passphrase '' --quick-generate-key wal-e",
    `lzop -U ${folder}/*`,
    `for f in ${folder}/*.lzo; do gpg --quiet -e -r wal-e -o "$f.gpg" "$f"; mv "$f.gpg" "$f"; done`,
  ].join("\n");
  const after = async (): Promise<void> => {
    for (const name of readdirSync(folder)) {
      expect(readFileSync(join(folder, name)).equals(readFileSync(join(site.server.walDir, name)))).toBe(true);
    }
    await site.shell("gpgconf --kill all");
  };
  return { first, after };
}

/** A repository with the WAL and two backups of the site's server. */
async function pgbackrest(site: PageSite): Promise<Preparation> {
  const access = await providePgbackrest();
  if ("unavailable" in access) throw new Error(access.unavailable);
  await using repository = new Repository(access.program);
  repository.configure(site.server, ["archive-check=n", "start-fast=y", "compress-type=gz"]);
  await repository.run("--no-online", "stanza-create");
  for (const name of site.segments()) await repository.run("archive-push", join(site.server.walDir, name));
  await repository.run("--type=full", "backup");
  const backups = join(repository.path, "backup", "demo");
  const label = readdirSync(backups).find((name) => /^\d{8}-\d{6}F$/.test(name)) ?? "";
  for (const place of ["/var/lib/pgbackrest", "/mnt/old-backups"]) {
    removeTree(site.path(place));
    cpSync(repository.path, site.path(place), { recursive: true, verbatimSymlinks: true });
  }
  await run("chmod", ["-R", "a+rX", site.path("/var/lib/pgbackrest"), site.path("/mnt/old-backups")]);
  const names: Names = [
    [
      /(archive|backup)\/main(?:\/17-1)?/g,
      (found) => (found.endsWith("17-1") ? "archive/demo/15-1" : found.replace("main", "demo")),
    ],
    [/\d{8}-\d{6}F/, label],
  ];
  return { names };
}

function ownSegment(site: PageSite): Preparation {
  site.copyWal("/mnt/wal_archive");
  rmSync(join(site.path("/mnt/wal_archive"), site.segment));
  const names: Names = [
    ["/opt/seawall/bin/seawall-wal-fetch", "seawall-wal-fetch"],
    [/pg_wal\/[0-9A-F]{24}/, `pg_wal/${site.segment}`],
  ];
  return { names, first: `mkdir pg_wal; cp ${join(site.server.walDir, site.segment)} pg_wal/` };
}

function hook(site: PageSite, { text }: PageBlock): Preparation {
  const path = "/usr/local/bin/around-seawall";
  site.write(path, text, 0o755);
  const after = async (): Promise<void> => {
    await site.shell(`seawall backup --config ${site.config} --hook ${site.path(path)}`);
    expect(site.serviceCalls.splice(0)).toEqual(["stop nightly-report", "start nightly-report"]);
  };
  return { names: [[/^[^]+$/, ":"]], after };
}

const restored = (site: PageSite, ...flags: string[]): string =>
  ["seawall restore", "--config", site.config, ...flags].join(" ");

function crashedServer(site: PageSite): Preparation {
  const target = site.path("/var/lib/postgresql/data");
  return { first: `${restored(site, "--target-dir", target)}\necho 1 > ${target}/postmaster.pid` };
}

async function interruptedRestore(site: PageSite): Promise<Preparation> {
  const target = site.path("/var/lib/postgresql/data");
  const restorer = { pid: 1, boot: undefined, namespaces: undefined, startTicks: undefined };
  const facts = {
    systemIdentifier: await site.server.systemIdentifier(),
    backup: "x",
    startedAt: "",
    tablespaces: [],
    walDir: undefined,
    isDistrusted: false,
  };
  const again = restored(site, "--target-dir", target, "--delta");
  const marked = `${target}/seawall.restore.unfinished`;
  const marker = join(site.work(), "marker");
  writeFileSync(marker, encodeMarker({ ...facts, restorer }), { mode: 0o644 });
  return {
    first: `${restored(site, "--target-dir", target)}\ncat ${marker} > ${marked}\n! ${again}`,
    after: async () => void (await site.shell(again)),
  };
}

function isolatedCopy(site: PageSite): Preparation {
  const target = site.path("/restore/data");
  const after = async (): Promise<void> => {
    expect(readFileSync(join(target, "postgresql.auto.conf"), "utf8")).not.toContain("listen_addresses = ''");
  };
  return { names: [[/\bDATA\b/g, target]], first: restored(site, "--target-dir", target, "--isolate"), after };
}

async function freshBackup(site: PageSite): Promise<Preparation> {
  const backup = `seawall backup --config ${site.config}`;
  const { id } = JSON.parse(await site.shell(`${backup} --json\n${backup} >&2`)) as { readonly id: string };
  return { names: [[/\bID\b/g, id]] };
}

/** A cluster of its own beside the site's, whose WAL has been stored an hour ago. */
export function otherCluster(site: PageSite): Preparation {
  const segment = join(site.server.walDir, site.segment);
  const push = `seawall wal-push --config ${site.config} --cluster orders ${segment}`;
  return { first: `${push}\nfind ${site.path("/srv/archive/orders")} -exec touch -d '1 hour ago' {} +` };
}

/** The configuration is one of two clusters; both are received and have a backup. */
export async function severalClusters(site: PageSite): Promise<Preparation> {
  const file = site.path("/etc/clusters.yaml");
  await site.receive(["--config", file]);
  const backups = ["orders", "billing"].map((name) => `seawall backup --config ${file} --cluster ${name}`);
  const slots = ["orders", "billing"].map((name) => `seawall slot drop --config ${file} --cluster ${name}`);
  const after = async (): Promise<void> => {
    await site.stopReceiving();
    await site.shell(slots.join("\n"));
  };
  const first = site.hasClusters ? "" : backups.join("\n");
  site.hasClusters = true;
  return { names: [["/etc/seawall.yaml", file]], first, after };
}

async function passedDrill(site: PageSite): Promise<Preparation> {
  if (site.hasDrill) return {};
  site.hasDrill = true;
  return { first: `seawall drill --config ${site.config}` };
}

async function alone(site: PageSite): Promise<Preparation> {
  await site.stopProduction();
  return {};
}

async function provide(program: string, name: string): Promise<void> {
  const { code } = await run("/bin/sh", ["-c", `command -v ${program}`], { accept: [0, 1, 127] });
  if (code !== 0) await installPackages([name], "tests of pages", program);
}
