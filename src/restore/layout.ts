/**
 * Decides where a backup's files go: the data directory, a directory for each tablespace, and one for WAL where it is
 * kept elsewhere. Files are written to their final place from the start, never through the links in the data directory.
 * Pure.
 */
import { dirname } from "node:path";
import type { BackupIndex } from "../archive/backups/index.ts";
import { pathToBytes } from "../codec/tar.ts";

export interface LayoutFacts {
  readonly targetDir: string;
  /** The tablespaces of the backup: OID → absolute directory. */
  readonly tablespaces: readonly (readonly [oid: number, directory: string])[];
  /** The tablespaces that recovery creates; nothing of the backup lies there. */
  readonly created: readonly (readonly [oid: number, directory: string])[];
  /** `--waldir`: the absolute directory to which pg_wal is a link; undefined: pg_wal is a directory. */
  readonly walDir?: string | undefined;
}

/** Written under another name until everything else is in place and durable: without it no server starts. */
export const CONTROL_FILE = "global/pg_control";
export const HELD_CONTROL_FILE = "global/pg_control.restoring";

/** In the data directory: a directory, or a link to one. */
export const WAL_FOLDER = "pg_wal";

const IN_TABLESPACE = /^pg_tblspc\/(\d+)(?:\/(.+))?$/s;

export class Layout {
  readonly targetDir: string;
  readonly #tablespaces: ReadonlyMap<number, string>;
  readonly #walDir: string | undefined;

  constructor(facts: LayoutFacts) {
    this.targetDir = facts.targetDir;
    this.#tablespaces = new Map(facts.tablespaces);
    this.#walDir = facts.walDir;
  }

  /** The place of a path of the backup, as a path in the sense of `pathFromBytes`. */
  place(path: string): string {
    if (path === CONTROL_FILE) return `${this.targetDir}/${HELD_CONTROL_FILE}`;
    if (this.#walDir !== undefined && (path === WAL_FOLDER || path.startsWith(`${WAL_FOLDER}/`))) {
      return `${this.#walDir}${path.slice(WAL_FOLDER.length)}`;
    }
    const match = IN_TABLESPACE.exec(path);
    const directory = match?.[1] === undefined ? undefined : this.#tablespaces.get(Number(match[1]));
    // A tablespace without a place of its own lies in the data directory (allow_in_place_tablespaces).
    if (match?.[2] === undefined || directory === undefined) return `${this.targetDir}/${path}`;
    return `${directory}/${match[2]}`;
  }
}

/** Every directory that holds something of the backup, listed in it or not, and those that are made for it. */
export function directoriesOf(index: Pick<BackupIndex, "byPath">, facts: LayoutFacts): Set<string> {
  const layout = new Layout(facts);
  const { targetDir, tablespaces, created, walDir } = facts;
  const directories = new Set([targetDir, ...[...tablespaces, ...created].map(([, directory]) => directory)]);
  if (walDir !== undefined) directories.add(walDir);
  for (const { path, type } of index.byPath.values()) {
    const place = layout.place(path);
    directories.add(type === "directory" ? place : dirname(place));
  }
  return directories;
}

/** A path for the file system: names that are no UTF-8 as the bytes they are. */
export function fsPath(path: string): string | Buffer {
  return /\p{Surrogate}/u.test(path) ? pathToBytes(path) : path;
}
