/** Reads files of a base backup: small ones whole, others as streams, and tells a missing file from one that cannot be read. */
import { messageOf, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import { RefusedFile } from "../content.ts";
import { type ImportSource, type OpenOptions, pathOf, type SourceFile, UnreadableFile } from "../source.ts";
import { unpack } from "../unpack.ts";
import { refused } from "./found.ts";

export function fileAt(path: string): SourceFile {
  const end = path.lastIndexOf("/") + 1;
  return { folder: path.slice(0, end), name: path.slice(end) };
}

/** Whether the source has the file. Throws `import-source` where it cannot be read. */
export async function hasFile(source: ImportSource, path: string, options: RequestOptions): Promise<boolean> {
  try {
    await (await source.open(fileAt(path), options)).close();
    return true;
  } catch (error) {
    if (error instanceof UnreadableFile && error.isAbsent) return false;
    throw named(source, path, error);
  }
}

/** The first of the names that the source has. */
export async function firstOf(
  source: ImportSource,
  names: readonly string[],
  options: RequestOptions,
): Promise<string | undefined> {
  for (const name of names) if (await hasFile(source, name, options)) return name;
  return undefined;
}

/** The content, unpacked whatever it was packed by. Throws `import-source`, and what a store throws. */
export async function* readUnpacked(
  source: ImportSource,
  path: string,
  options: RequestOptions,
): AsyncGenerator<Uint8Array> {
  try {
    const { body, close } = await source.open(fileAt(path), options);
    try {
      yield* unpack(body, { isBrotli: false, signal: options.signal });
    } finally {
      await close();
    }
  } catch (error) {
    throw named(source, path, error);
  }
}

/** The content as it is. Throws as `readUnpacked` does. */
export async function* readPlain(source: ImportSource, path: string, options: OpenOptions): AsyncGenerator<Uint8Array> {
  try {
    const { body, close } = await source.open(fileAt(path), options);
    try {
      yield* body;
    } finally {
      await close();
    }
  } catch (error) {
    throw named(source, path, error);
  }
}

/** All of a small file; undefined where it is missing. */
export async function readWhole(
  source: ImportSource,
  path: string,
  { bytesMax, signal }: RequestOptions & { readonly bytesMax: number },
): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  if (!(await hasFile(source, path, { signal }))) return undefined;
  for await (const piece of readPlain(source, path, { signal })) {
    bytes += piece.byteLength;
    if (bytes > bytesMax) throw refused(`${pathOf(fileAt(path))} has more than ${bytesMax} bytes`, NO_BACKUP);
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

const NO_BACKUP = "Name the directory that holds a complete base backup.";

function named(source: ImportSource, path: string, error: unknown): unknown {
  if (error instanceof SeawallError) return error;
  const where = `${path} of ${source.description}`;
  if (error instanceof UnreadableFile) {
    const why = error.isAbsent ? "it is missing" : error.message;
    return refused(`cannot read ${where}: ${why}`, "Make the file readable, or copy the backup again.", error);
  }
  if (error instanceof RefusedFile) return refused(`cannot take ${where}: ${error.message}`, NO_BACKUP, error);
  return refused(
    `cannot unpack ${where}: ${messageOf(error)}`,
    "The file is damaged or cut off: copy it again.",
    error,
  );
}
