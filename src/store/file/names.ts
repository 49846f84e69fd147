/** Decides which names of a directory belong to a listing. Pure: the listing and its threads share it. */
import { isKeyPart } from "../key.ts";

export interface NamesRequest {
  /** Absolute path of the store's root. */
  readonly root: string;
  readonly prefix: string;
  readonly startAfter: string;
  /** Ends with `/` or is empty. */
  readonly folder: string;
  /** Only names past this one. */
  readonly cursor: string;
  /** Held in memory (twice as many meanwhile). */
  readonly namesMax: number;
}

/** The part of a `Dirent` that counts. */
interface Entry {
  readonly name: string;
  isFile(): boolean;
  isDirectory(): boolean;
}

/** The first names of a folder past the cursor, as whole keys, directories with a trailing slash. */
export class FirstNames {
  readonly #request: NamesRequest;
  readonly #names: string[] = [];

  constructor(request: NamesRequest) {
    this.#request = request;
  }

  add(entry: Entry): void {
    const { folder, cursor, prefix, startAfter, namesMax } = this.#request;
    const name = keyOf(folder, entry);
    if (name === undefined || name <= cursor) return;
    // A directory counts while a key below it could: on the way to the prefix, or around the key to start after.
    const isFolder = name.endsWith("/");
    if (!name.startsWith(prefix) && !(isFolder && prefix.startsWith(name))) return;
    if (name <= startAfter && !(isFolder && startAfter.startsWith(name))) return;
    this.#names.push(name);
    if (this.#names.length >= 2 * namesMax) {
      this.#names.sort();
      this.#names.length = namesMax;
    }
  }

  sorted(): string[] {
    return this.#names.sort().slice(0, this.#request.namesMax);
  }
}

/** Gives an entry's key; undefined for names outside the alphabet, links, devices, and what mkfs leaves in a mounted root. */
export function keyOf(folder: string, entry: Entry): string | undefined {
  if (!isKeyPart(entry.name)) return undefined;
  if (entry.isFile()) return folder + entry.name;
  if (!entry.isDirectory() || (folder === "" && entry.name === "lost+found")) return undefined;
  return `${folder}${entry.name}/`;
}
