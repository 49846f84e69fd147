/** Reads backup.info and backup.manifest of a repository: the file itself, or its copy where the file is damaged or missing. */
import { hasCode } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { refused } from "../base/found.ts";
import { hasFile, readPlain } from "../base/small-file.ts";
import type { ImportSource } from "../source.ts";
import { type IniEntry, IniReader } from "./ini.ts";

const ENCRYPTED = Buffer.from("Salted__");

/** The path of the one of both that is whole. `take` is given its entries alone. Throws `import-source`, `backup-corrupt`. */
export async function readWholeIni<T>(
  source: ImportSource,
  path: string,
  start: () => { readonly take: (entry: IniEntry) => void; readonly end: () => T },
  options: RequestOptions,
): Promise<{ readonly path: string; readonly read: T }> {
  for (const name of [path, `${path}.copy`]) {
    const isLast = name !== path;
    if (!(await hasFile(source, name, options))) continue;
    const { take, end } = start();
    try {
      await readIni(source, name, take, options);
      return { path: name, read: end() };
    } catch (error) {
      if (isLast || !hasCode(error, "backup-corrupt")) throw error;
      const hasCopy = await hasFile(source, `${path}.copy`, options);
      if (!hasCopy) throw error;
    }
  }
  throw refused(`${source.description} has no ${path}`, "Name the folder of a stanza below backup/.");
}

/** Throws `import-source` for an encrypted repository. */
export async function readIni(
  source: ImportSource,
  path: string,
  take: (entry: IniEntry) => void,
  options: RequestOptions,
): Promise<void> {
  const reader = new IniReader(`${path} of ${source.description}`, take);
  for await (const piece of piecesOf(source, path, options)) reader.push(piece);
  reader.end();
}

/** Entries one by one, for a manifest that was read once: its checksum is right. */
export async function* iniEntries(
  source: ImportSource,
  path: string,
  options: RequestOptions,
): AsyncGenerator<IniEntry> {
  const found: IniEntry[] = [];
  const reader = new IniReader(`${path} of ${source.description}`, (entry) => found.push(entry));
  for await (const piece of piecesOf(source, path, options)) {
    reader.push(piece);
    yield* found.splice(0);
  }
  reader.end();
  yield* found;
}

async function* piecesOf(source: ImportSource, path: string, options: RequestOptions): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const piece of readPlain(source, path, options)) {
    if (isFirst && ENCRYPTED.equals(piece.subarray(0, ENCRYPTED.length))) {
      throw refused(
        `the repository is encrypted: ${path} of ${source.description} cannot be read`,
        "An encrypted repository is not imported. Restore its backup with pgbackrest, and take one with seawall backup.",
      );
    }
    isFirst = false;
    yield piece;
  }
}
