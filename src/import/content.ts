/**
 * Reads files of a source to their end or to a ceiling, and tells apart what is wrong with one file from what ends the
 * import: a store that fails, an abort.
 */
import { createHash } from "node:crypto";
import { messageOf, SeawallError } from "../errors.ts";
import type { RequestOptions } from "../store/store.ts";
import { readSourceName } from "./file-name.ts";
import type { RefusalKind } from "./findings.ts";
import { type ImportSource, type SourceFile, UnreadableFile } from "./source.ts";
import { unpack } from "./unpack.ts";

/** One file is refused; the import goes on. */
export class RefusedFile extends Error {
  override readonly name = "RefusedFile";
  readonly kind: RefusalKind;

  constructor(kind: RefusalKind, message: string) {
    super(message);
    this.kind = kind;
  }
}

/** A packed file is no larger than its content but for some headers; anything else is no such file. */
const PACKED_OVERHEAD_BYTES = 1 << 20;

/**
 * Gives the unpacked content to `take`, piece by piece, until the end or until `take` says false. Compares the SHA-1 of a
 * name that states one. Throws `RefusedFile`, what `take` throws, `aborted`, and what a store throws.
 */
export async function readContent(
  source: ImportSource,
  file: SourceFile,
  take: (piece: Uint8Array) => boolean,
  { bytesMax, signal }: RequestOptions & { readonly bytesMax: number },
): Promise<void> {
  const name = readSourceName(file.name);
  const stated = name !== undefined && "sha1" in name ? name.sha1 : undefined;
  const isBrotli = name !== undefined && "isBrotli" in name && name.isBrotli;
  const hash = stated === undefined ? undefined : createHash("sha1");
  let isEnough = false;
  await named(async () => {
    const { body, bytes, close } = await source.open(file, { signal });
    try {
      if (bytes > bytesMax + PACKED_OVERHEAD_BYTES) {
        throw new RefusedFile("size", `it has ${bytes} bytes, too many for its name`);
      }
      for await (const piece of unpack(body, { isBrotli, signal })) {
        hash?.update(piece);
        isEnough = !take(piece);
        if (isEnough) break;
      }
    } finally {
      await close();
    }
  });
  if (hash !== undefined && !isEnough && hash.digest("hex") !== stated) {
    throw new RefusedFile("damaged", "its content has another SHA-1 than its name states");
  }
}

/** The front of a file's content, at most `bytes` of it. */
export async function readFront(
  source: ImportSource,
  file: SourceFile,
  bytes: number,
  options: RequestOptions & { readonly bytesMax: number },
): Promise<Buffer> {
  const front: Uint8Array[] = [];
  let got = 0;
  const take = (piece: Uint8Array): boolean => {
    front.push(Uint8Array.from(piece.subarray(0, bytes - got)));
    got = Math.min(bytes, got + piece.byteLength);
    return got < bytes;
  };
  await readContent(source, file, take, options);
  return Buffer.concat(front);
}

/** All of a small file. Throws `RefusedFile` for one that is larger than `bytesMax`. */
export async function readSmall(
  source: ImportSource,
  file: SourceFile,
  { bytesMax, signal }: RequestOptions & { readonly bytesMax: number },
): Promise<Buffer> {
  const content = await readFront(source, file, bytesMax + 1, { bytesMax: bytesMax + 1, signal });
  if (content.byteLength > bytesMax) throw new RefusedFile("size", `it has more than ${bytesMax} bytes`);
  return content;
}

/** Errors of Seawall's own end the import, those of the verifier aside, which callers of `readContent` catch. */
async function named(reading: () => Promise<void>): Promise<void> {
  try {
    await reading();
  } catch (error) {
    if (error instanceof SeawallError || error instanceof RefusedFile) throw error;
    if (error instanceof UnreadableFile) throw new RefusedFile("unreadable", error.message);
    throw new RefusedFile("damaged", `it cannot be unpacked: ${messageOf(error)}`);
  }
}
