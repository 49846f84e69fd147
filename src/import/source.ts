/**
 * The contract of an import's source: files in folders, found by name and read as streams. A directory (directory.ts) and a
 * bucket (bucket.ts) implement it. Nothing is ever written to a source.
 */
import type { RequestOptions } from "../store/store.ts";

/** A file, by its folder below the source (empty, or ending with a slash) and its name. */
export interface SourceFile {
  readonly folder: string;
  readonly name: string;
}

export type SourceEntry =
  | { readonly kind: "file"; readonly file: SourceFile }
  /** Something else than a plain file or a folder, or a folder that cannot be read. */
  | { readonly kind: "odd"; readonly file: SourceFile; readonly problem: string };

export interface OpenOptions extends RequestOptions {
  /** Only these bytes; all of the file without it. */
  readonly range?: { readonly offset: number; readonly length: number } | undefined;
}

export interface OpenedFile {
  readonly body: AsyncIterable<Uint8Array>;
  /** The size of the whole file. */
  readonly bytes: number;
  /** Lets go of the file, whether it was read or not. */
  readonly close: () => Promise<void>;
}

export interface ImportSource {
  /** For messages: without secrets. */
  readonly description: string;

  /** Every file below the source, in any order. Throws `import-source`, and what a store throws. */
  list(options: RequestOptions): AsyncIterable<SourceEntry>;

  /** Throws `UnreadableFile` where only this file cannot be read, and what a store throws. */
  open(file: SourceFile, options: OpenOptions): Promise<OpenedFile>;

  close(): Promise<void>;
}

/** One file cannot be read; others may be. */
export class UnreadableFile extends Error {
  override readonly name = "UnreadableFile";
  /** There is no such file. */
  readonly isAbsent: boolean;

  constructor(message: string, { isAbsent = false }: { readonly isAbsent?: boolean } = {}) {
    super(message);
    this.isAbsent = isAbsent;
  }
}

export function pathOf({ folder, name }: SourceFile): string {
  return folder + name;
}
