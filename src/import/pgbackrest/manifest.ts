/** Reads backup.manifest: what a backup of pgBackRest is, and where each of its files lies. */
import { SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { type Lsn, parseLsn } from "../../wal/lsn.ts";
import { pathFromBytes, unsafePath } from "../../codec/tar.ts";
import { refused } from "../base/found.ts";
import type { ImportSource } from "../source.ts";
import { iniEntries, readWholeIni } from "./files.ts";
import type { IniEntry } from "./ini.ts";

/** A file of the backup. */
export interface RepoFile {
  /** The OID of its tablespace; null for the data directory. */
  readonly tablespace: number | null;
  /** Below the data directory or the tablespace. */
  readonly path: string;
  readonly size: number;
  readonly mode: number;
  /** Seconds since 1970 UTC. */
  readonly mtime: number;
  /** SHA-1 of its content; undefined for an empty file. */
  readonly sha1: string | undefined;
  readonly place: RepoPlace;
}

/** Where its content lies in the repository, below the stanza's folder. */
export interface RepoPlace {
  /** Without the ending of the compression. */
  readonly path: string;
  /** In a bundle of several files. */
  readonly range: { readonly offset: number; readonly length: number } | undefined;
}

export interface RepoFolder {
  readonly tablespace: number | null;
  readonly path: string;
  readonly mode: number;
}

export interface RepoManifest {
  /** The manifest, or its copy. */
  readonly path: string;
  readonly label: string;
  readonly systemIdentifier: bigint;
  readonly startLsn: Lsn;
  readonly stopLsn: Lsn;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  readonly fromStandby: boolean;
  readonly compression: Compression;
  /** Packed files in bundles have no header of their own. */
  readonly isBundleRaw: boolean;
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[];
  readonly folders: readonly RepoFolder[];
  /** Files that state facts, by path in the data directory. */
  readonly factFiles: ReadonlyMap<string, RepoFile>;
  readonly bytes: number;
  readonly fileMode: number;
}

const COMPRESSIONS = ["none", "gz", "lz4", "zst", "bz2"] as const;
export type Compression = (typeof COMPRESSIONS)[number];

const FACT_FILES = ["backup_label", "PG_VERSION", "global/pg_control"];
const NAMED_MAX = 3;

/** Throws `import-source`, `backup-corrupt`, `backup-page-checksum`. */
export async function readRepoManifest(
  source: ImportSource,
  label: string,
  options: RequestOptions,
): Promise<RepoManifest> {
  const { path, read } = await readWholeIni(
    source,
    `${label}/backup.manifest`,
    () => {
      const survey = new Survey(label);
      return { take: (entry) => survey.take(entry), end: () => survey };
    },
    options,
  );
  return read.manifest(path, source);
}

/** The files, in the manifest's order. `manifest` was read before. */
export async function* filesOf(
  source: ImportSource,
  manifest: RepoManifest,
  options: RequestOptions,
): AsyncGenerator<RepoFile> {
  for await (const entry of iniEntries(source, manifest.path, options)) {
    if (entry.section === "target:file") yield fileOf(entry, manifest.label, manifest.fileMode);
  }
}

class Survey {
  readonly #label: string;
  readonly #values = new Map<string, { readonly value: unknown; readonly text: string }>();
  readonly #tablespaces: { oid: number; path: string }[] = [];
  readonly #folders: IniEntry[] = [];
  readonly #facts: IniEntry[] = [];
  readonly #wrongPages: string[] = [];
  #blockFile: string | undefined;
  #bytes = 0;

  constructor(label: string) {
    this.#label = label;
  }

  take(entry: IniEntry): void {
    const { section, key, value, text } = entry;
    const name = key.toString();
    switch (section) {
      case "target:file":
        this.#takeFile(entry);
        break;
      case "target:path":
        this.#folders.push(entry);
        break;
      case "backup:target": {
        const [, oid] = /^pg_tblspc\/(\d+)$/.exec(name) ?? [];
        const path = membersOf(value)["path"];
        if (oid !== undefined && typeof path === "string") this.#tablespaces.push({ oid: Number(oid), path });
        break;
      }
      default:
        this.#values.set(`${section}/${name}`, { value, text });
    }
  }

  manifest(path: string, source: ImportSource): RepoManifest {
    const where = `${path} of ${source.description}`;
    const wrong = (name: string): SeawallError => new SeawallError("backup-corrupt", `${where} has no valid ${name}`);
    const text = (name: string): string => {
      const found = this.#values.get(name)?.value;
      if (typeof found !== "string") throw wrong(name);
      return found;
    };
    if (this.#values.get("backup:option/option-online")?.value === false) {
      throw refused(`${this.#label} was taken while the server was stopped`, "Import a backup that was taken online.");
    }
    if (this.#blockFile !== undefined) {
      throw refused(
        `${this.#label} keeps files as block increments (repo-block), such as ${this.#blockFile}`,
        "Take a full backup with --no-repo1-block and import that, or restore this one with pgbackrest.",
      );
    }
    if (this.#wrongPages.length > 0) {
      throw new SeawallError(
        "backup-page-checksum",
        `pgBackRest has found wrong page checksums in ${this.#wrongPages.slice(0, NAMED_MAX).join(", ")}`,
        { hint: "The files were damaged on the server when the backup was taken: import another backup." },
      );
    }
    const lsn = (name: string): Lsn => {
      try {
        return parseLsn(text(name));
      } catch {
        throw wrong(name);
      }
    };
    const time = (name: string): Date => {
      const seconds = this.#values.get(name)?.value;
      if (typeof seconds !== "number" || !Number.isSafeInteger(seconds) || seconds < 0) throw wrong(name);
      return new Date(seconds * 1000);
    };
    const identifier = this.#values.get("backup:db/db-system-id")?.text ?? "";
    if (!/^\d{1,20}$/.test(identifier)) throw wrong("db-system-id");
    const option = this.#values.get("backup:option/option-compress-type")?.value;
    const compression = COMPRESSIONS.find((known) => known === option);
    if (compression === undefined) throw wrong("option-compress-type");
    const modeOf = (name: string, usual: number): number => parseMode(this.#values.get(name)?.value) ?? usual;
    const fileMode = modeOf("target:file:default/mode", 0o600);
    const folderMode = modeOf("target:path:default/mode", 0o700);
    const facts = this.#facts.map((entry) => fileOf(entry, this.#label, fileMode));
    return {
      path,
      label: this.#label,
      systemIdentifier: BigInt(identifier),
      startLsn: lsn("backup/backup-lsn-start"),
      stopLsn: lsn("backup/backup-lsn-stop"),
      startedAt: time("backup/backup-timestamp-start"),
      finishedAt: time("backup/backup-timestamp-stop"),
      fromStandby: this.#values.get("backup:option/option-backup-standby")?.value === true,
      compression,
      isBundleRaw: this.#values.get("backup/backup-bundle-raw")?.value === true,
      tablespaces: this.#tablespaces,
      folders: this.#folders.flatMap((entry) => folderOf(entry, folderMode)),
      factFiles: new Map(facts.map((file) => [file.path, file])),
      bytes: this.#bytes,
      fileMode,
    };
  }

  #takeFile(entry: IniEntry): void {
    const members = membersOf(entry.value);
    const name = entry.key.toString();
    this.#bytes += Number(members["size"] ?? 0);
    if (members["bi"] !== undefined || members["bims"] !== undefined) this.#blockFile ??= name;
    if (members["checksum-page"] === false) this.#wrongPages.push(name);
    if (FACT_FILES.some((path) => name === `pg_data/${path}`)) this.#facts.push(entry);
  }
}

/** Throws `backup-corrupt`. Pure. */
export function fileOf({ key, value }: IniEntry, label: string, modeUsual: number): RepoFile {
  const name = pathFromBytes(key);
  const wrong = (what: string): SeawallError =>
    new SeawallError("backup-corrupt", `the manifest of ${label} has no valid ${what} of ${JSON.stringify(name)}`);
  const members = membersOf(value);
  const count = (member: string): number | undefined => {
    const found = members[member];
    if (found === undefined) return undefined;
    if (typeof found !== "number" || !Number.isSafeInteger(found) || found < 0) throw wrong(member);
    return found;
  };
  const text = (member: string, pattern: RegExp): string | undefined => {
    const found = members[member];
    if (found === undefined) return undefined;
    if (typeof found !== "string" || !pattern.test(found)) throw wrong(member);
    return found;
  };
  const place = placed(name);
  if (place === undefined) throw wrong("path");
  const size = count("size") ?? 0;
  const sha1 = text("checksum", /^[0-9a-f]{40}$/);
  if (size > 0 && sha1 === undefined) throw wrong("checksum");
  const folder = text("reference", LABEL) ?? label;
  const bundle = count("bni");
  const range = { offset: count("bno") ?? 0, length: count("repo-size") ?? size };
  return {
    ...place,
    size,
    mode: parseMode(members["mode"]) ?? modeUsual,
    mtime: count("timestamp") ?? 0,
    sha1,
    place:
      bundle === undefined
        ? { path: `${folder}/${name}`, range: undefined }
        : { path: `${folder}/bundle/${bundle}`, range },
  };
}

/** A backup's label: `20261001-020000F`, and behind it that of a differential or incremental backup. */
const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/;

function folderOf({ key, value }: IniEntry, modeUsual: number): RepoFolder[] {
  const name = pathFromBytes(key);
  // The roots: of the data directory, of all tablespaces, of one.
  if (/^(pg_data|pg_tblspc(\/\d+)?)$/.test(name)) return [];
  const place = placed(name);
  if (place === undefined) {
    throw new SeawallError("backup-corrupt", `the manifest lists the folder ${JSON.stringify(name)}`);
  }
  return [{ ...place, mode: parseMode(membersOf(value)["mode"]) ?? modeUsual }];
}

/** `pg_data/base/1/112` and `pg_tblspc/16384/PG_15_202209061/5/16388`. */
function placed(name: string): { readonly tablespace: number | null; readonly path: string } | undefined {
  const [, inside, oid, below] = /^(?:pg_data\/(.+)|pg_tblspc\/(\d+)\/(.+))$/s.exec(name) ?? [];
  const path = inside ?? below;
  if (path === undefined || unsafePath(path) !== undefined) return undefined;
  return { tablespace: oid === undefined ? null : Number(oid), path };
}

function parseMode(value: unknown): number | undefined {
  return typeof value === "string" && /^[0-7]{3,4}$/.test(value) ? Number.parseInt(value, 8) : undefined;
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}
