/**
 * A base backup that `pg_basebackup -Ft` has written: base.tar, a tar for each tablespace by its OID, pg_wal.tar, and
 * backup_manifest; each tar plain or packed. base.tar is read once for its facts, before anything is stored.
 */
import type { RequestOptions } from "../../store/store.ts";
import type { ImportSource } from "../source.ts";
import { parseTablespaceMap } from "./label.ts";
import { FACT_FILE_BYTES_MAX, factsOf } from "./facts.ts";
import { type BackupEntry, type FoundBackup, refused } from "./found.ts";
import { FACT_FILES, readManifestOf } from "./manifest.ts";
import { firstOf, readUnpacked } from "./small-file.ts";
import { tarEvents } from "./tar-events.ts";
import { BackupWal, TarSource } from "./wal.ts";

const ENDINGS = ["", ".gz", ".lz4", ".zst", ".bz2", ".xz"];
const MAP = "tablespace_map";
const IN_WAL_FOLDER = /^pg_wal\/[0-9A-F]{24}$/;

/** The name of the tar, with the ending that it has; undefined where there is none. */
export async function findTar(
  source: ImportSource,
  name: string,
  options: RequestOptions,
): Promise<string | undefined> {
  return firstOf(
    source,
    ENDINGS.map((ending) => `${name}.tar${ending}`),
    options,
  );
}

/** `base`: the name of base.tar. Throws `import-source`, `backup-corrupt`, and what a store throws. */
export async function findTarBackup(source: ImportSource, base: string, options: RequestOptions): Promise<FoundBackup> {
  const manifest = await readManifestOf(source, options);
  const survey = await surveyBase(source, base, options);
  const tars = new Map<number, string>();
  for (const { oid, path } of survey.tablespaces) {
    const name = await findTar(source, String(oid), options);
    if (name === undefined) {
      throw refused(
        `${source.description} lacks ${oid}.tar, the tablespace at ${path}`,
        "Copy the whole backup again.",
      );
    }
    tars.set(oid, name);
  }
  const facts = factsOf(source, survey.files, manifest, survey.tablespaces);
  const wal = await findWal(source, base, survey.hasWal, options);
  return {
    tool: "pg_basebackup",
    name: manifest.sha256,
    facts,
    algorithm: manifest.facts.algorithm,
    manifest,
    wal: wal === undefined ? undefined : new BackupWal(wal, facts),
    async *entries(request): AsyncGenerator<BackupEntry> {
      for (const [oid, name] of tars) {
        yield { kind: "archive", tablespace: oid };
        yield* eventsOf(source, name, request);
      }
      yield { kind: "archive", tablespace: null };
      yield* eventsOf(source, base, request);
    },
  };
}

function eventsOf(source: ImportSource, tar: string, options: RequestOptions): ReturnType<typeof tarEvents> {
  return tarEvents(readUnpacked(source, tar, options), whereOf(source, tar));
}

function whereOf(source: ImportSource, tar: string): string {
  return `${tar} of ${source.description}`;
}

/** `-X stream` writes pg_wal.tar, `-X fetch` puts the WAL into base.tar. */
async function findWal(
  source: ImportSource,
  base: string,
  isInBase: boolean,
  options: RequestOptions,
): Promise<ImportSource | undefined> {
  const name = await findTar(source, "pg_wal", options);
  const [tar, folder] = name === undefined ? [base, "pg_wal/"] : [name, ""];
  if (name === undefined && !isInBase) return undefined;
  return new TarSource(whereOf(source, tar), (request) => readUnpacked(source, tar, request), { folder });
}

interface BaseSurvey {
  readonly files: ReadonlyMap<string, Buffer>;
  readonly tablespaces: readonly { readonly oid: number; readonly path: string }[];
  readonly hasWal: boolean;
}

/** Reads all of base.tar: pg_control is its last file. */
async function surveyBase(source: ImportSource, base: string, options: RequestOptions): Promise<BaseSurvey> {
  const wanted = new Set<string>([...FACT_FILES, MAP]);
  const files = new Map<string, Buffer>();
  let hasWal = false;
  let taking: { readonly path: string; readonly pieces: Buffer[] } | undefined;
  for await (const event of eventsOf(source, base, options)) {
    if (event.kind === "entry") {
      const { path, type, size } = event.header;
      hasWal ||= type === "file" && IN_WAL_FOLDER.test(path);
      if (type === "file" && wanted.has(path) && size <= FACT_FILE_BYTES_MAX) taking = { path, pieces: [] };
    } else if (event.kind === "data") taking?.pieces.push(Buffer.from(event.bytes));
    else {
      if (taking !== undefined) files.set(taking.path, Buffer.concat(taking.pieces));
      taking = undefined;
    }
  }
  return { files, tablespaces: parseTablespaceMap(files.get(MAP)?.toString("utf8") ?? ""), hasWal };
}
