/**
 * Where a backup's files go: the data directory, and a directory for each tablespace. Files are written where they belong
 * from the start, never through the links below pg_tblspc. Pure.
 */
import { pathToBytes } from "../codec/tar.ts";

export interface LayoutFacts {
  readonly targetDir: string;
  /** OID → absolute directory. */
  readonly tablespaces: readonly (readonly [oid: number, directory: string])[];
  /** The same for those that recovery creates: nothing of the backup lies there. */
  readonly created: readonly (readonly [oid: number, directory: string])[];
}

/** Written under another name until everything else is in place and durable: without it no server starts. */
export const CONTROL_FILE = "global/pg_control";
export const HELD_CONTROL_FILE = "global/pg_control.restoring";

const IN_TABLESPACE = /^pg_tblspc\/(\d+)(?:\/(.+))?$/s;

export class Layout {
  readonly targetDir: string;
  readonly #tablespaces: ReadonlyMap<number, string>;

  constructor(facts: LayoutFacts) {
    this.targetDir = facts.targetDir;
    this.#tablespaces = new Map(facts.tablespaces);
  }

  /** The place of a path of the backup, as a path in the sense of `pathFromBytes`. */
  place(path: string): string {
    if (path === CONTROL_FILE) return `${this.targetDir}/${HELD_CONTROL_FILE}`;
    const match = IN_TABLESPACE.exec(path);
    const directory = match?.[1] === undefined ? undefined : this.#tablespaces.get(Number(match[1]));
    // A tablespace without a place of its own lies in the data directory (allow_in_place_tablespaces).
    if (match?.[2] === undefined || directory === undefined) return `${this.targetDir}/${path}`;
    return `${directory}/${match[2]}`;
  }
}

/** A path for the file system: names that are no UTF-8 as the bytes they are. */
export function fsPath(path: string): string | Buffer {
  return /\p{Surrogate}/u.test(path) ? pathToBytes(path) : path;
}
