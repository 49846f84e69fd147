/**
 * A directory as an import's source. Links are not followed, and FIFOs and devices are never opened for reading: a folder
 * that others may write to must not lead elsewhere or make the import wait.
 */
import type { Dir, Dirent } from "node:fs";
import { constants } from "node:fs";
import { type FileHandle, open, opendir, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, messageOf, SeawallError } from "../errors.ts";
import { throwIfAborted, waitFor } from "../store/signal.ts";
import type { RequestOptions } from "../store/store.ts";
import {
  type ImportSource,
  type OpenedFile,
  type OpenOptions,
  pathOf,
  type SourceEntry,
  type SourceFile,
  UnreadableFile,
} from "./source.ts";

/** A file system that answers nothing for so long is given up. */
const ANSWER_MS = 60_000;
const PIECE_BYTES = 512 << 10;
/** Folders inside one another; links are not followed, so no file system goes on for ever. */
const DEPTH_MAX = 16;

export class DirectorySource implements ImportSource {
  readonly description: string;
  readonly #root: string;

  /** `root` is an absolute path. */
  constructor(root: string) {
    this.#root = root;
    this.description = root;
  }

  async *list({ signal }: RequestOptions): AsyncGenerator<SourceEntry> {
    await this.#requireFolder(signal);
    const folders: string[] = [""];
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const inside: string[] = [];
      yield* this.#listFolder(folder, inside, signal);
      folders.push(...inside.sort().reverse());
    }
  }

  async open(file: SourceFile, { signal, range }: OpenOptions): Promise<OpenedFile> {
    const path = join(this.#root, pathOf(file));
    // A FIFO without a writer would hold up an open that waits.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const opening = open(path, flags);
    let handle: FileHandle;
    try {
      handle = await answer(opening, signal);
    } catch (error) {
      void opening.then((late) => late.close()).catch(() => undefined);
      throw unreadable(error);
    }
    try {
      const facts = await answer(handle.stat(), signal);
      if (!facts.isFile()) throw new UnreadableFile("it is not a plain file");
      return { body: readPieces(handle, range, signal), bytes: facts.size, close: () => closed(handle) };
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw unreadable(error);
    }
  }

  async close(): Promise<void> {}

  async #requireFolder(signal: AbortSignal | undefined): Promise<void> {
    const root = await answer(stat(this.#root), signal).catch((cause: unknown) => {
      throw noSource(this.#root, cause);
    });
    if (!root.isDirectory()) throw new SeawallError("import-source", `${this.#root} is not a directory`);
  }

  async *#listFolder(folder: string, inside: string[], signal: AbortSignal | undefined): AsyncGenerator<SourceEntry> {
    const place = { folder, name: "" };
    let directory: Dir;
    try {
      directory = await answer(opendir(join(this.#root, folder), { bufferSize: 1024 }), signal);
    } catch (cause) {
      if (folder === "" || cause instanceof SeawallError) throw noSource(this.#root, cause);
      yield { kind: "odd", file: place, problem: unreadable(cause).message };
      return;
    }
    try {
      for (;;) {
        throwIfAborted(signal);
        const entry: Dirent | null = await answer(directory.read(), signal);
        if (entry === null) return;
        const file = { folder, name: entry.name };
        if (entry.isFile()) yield { kind: "file", file };
        else if (!entry.isDirectory()) yield { kind: "odd", file, problem: `it is ${kindOf(entry)}` };
        else if (folder.split("/").length > DEPTH_MAX) yield { kind: "odd", file, problem: "it lies too deep" };
        else inside.push(`${folder}${entry.name}/`);
      }
    } catch (cause) {
      if (cause instanceof SeawallError) throw cause;
      yield { kind: "odd", file: place, problem: unreadable(cause).message };
    } finally {
      await directory.close().catch(() => undefined);
    }
  }
}

function kindOf(entry: Dirent): string {
  if (entry.isSymbolicLink()) return "a symbolic link";
  if (entry.isFIFO()) return "a FIFO";
  if (entry.isSocket()) return "a socket";
  return "not a plain file";
}

async function* readPieces(
  handle: FileHandle,
  range: OpenOptions["range"],
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let left = range?.length ?? Number.POSITIVE_INFINITY;
  let at = range?.offset ?? 0;
  try {
    while (left > 0) {
      throwIfAborted(signal);
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left));
      const { bytesRead } = await answer(handle.read(piece, 0, piece.length, at), signal);
      if (bytesRead === 0) return;
      [at, left] = [at + bytesRead, left - bytesRead];
      yield piece.subarray(0, bytesRead);
    }
  } catch (error) {
    throw unreadable(error);
  }
}

/** A read that hangs keeps the file open: it is not waited for. */
async function closed(handle: FileHandle): Promise<void> {
  void handle.close().catch(() => undefined);
}

async function answer<T>(wanted: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const late = (): SeawallError =>
    new SeawallError("import-source", `the file system has not answered for ${ANSWER_MS / 1000} seconds`);
  return waitFor(wanted, { signals: [signal], timeoutMs: ANSWER_MS, late });
}

/** An error of one file. Those that end the import pass through. */
function unreadable(error: unknown): Error {
  if (error instanceof SeawallError || error instanceof UnreadableFile) return error;
  const errno = errnoOf(error);
  if (errno === "ELOOP") return new UnreadableFile("it is a symbolic link");
  const isAbsent = errno === "ENOENT" || errno === "ENOTDIR";
  return new UnreadableFile(`it cannot be read: ${errno ?? messageOf(error)}`, { isAbsent });
}

function noSource(root: string, cause: unknown): SeawallError {
  if (cause instanceof SeawallError) return cause;
  return new SeawallError("import-source", `cannot read the directory ${root}: ${errnoOf(cause) ?? messageOf(cause)}`, {
    cause,
  });
}
