/**
 * All parts of a backup onto disk: several at a time, each fetched in ranges, taken apart in a worker thread, and its files
 * made durable while the next ones arrive. Memory is bounded by lanes × (ranges in flight × their size).
 */
import { open } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import type { Archive } from "../archive/archive.ts";
import type { BackupDocument, BackupFile, BackupPart } from "../archive/backups/document.ts";
import { backupPartKey } from "../archive/keys.ts";
import { SeawallError } from "../errors.ts";
import { throwIfAborted } from "../store/signal.ts";
import type { CompareFile, FromWorker, ToWorker } from "./extract-worker.ts";
import { fsPath, Layout, type LayoutFacts } from "./layout.ts";
import type { Owner, PartJob, PartResult } from "./part-writer.ts";

export interface ExtractOptions {
  readonly archive: Archive;
  readonly backup: BackupDocument;
  /** By part; directories and links included. */
  readonly filesByPart: ReadonlyMap<string, readonly BackupFile[]>;
  /** Paths that are there already, unchanged. */
  readonly unchanged: ReadonlySet<string>;
  readonly layout: LayoutFacts;
  readonly owner: Owner | undefined;
  /** Over an old data directory. */
  readonly replace: boolean;
  readonly crew: ExtractCrew;
  readonly onProgress: (storedBytes: number) => void;
  readonly signal: AbortSignal;
}

/** Ranges of a part: fetched so many at a time, this large. */
const RANGE_BYTES = 4 << 20;
const RANGES_IN_FLIGHT = 2;
const SYNCS_IN_FLIGHT = 8;

/**
 * Parts in which nothing has to be written are not fetched. Throws `backup-corrupt` naming part and file,
 * `target-unwritable`, and what the store throws; files that were begun are then left as they are.
 */
export async function extractParts(options: ExtractOptions): Promise<PartResult> {
  const { backup, filesByPart, unchanged, crew, signal } = options;
  const syncs = new SyncQueue();
  const layout = new Layout(options.layout);
  // The largest first: the last one to end should be a small one.
  const parts = [...backup.parts].sort((a, b) => b.storedBytes - a.storedBytes);
  let filesWritten = 0;
  let bytesWritten = 0;
  await crew.work(parts, async (lane, part) => {
    const files = filesByPart.get(part.name) ?? [];
    const toWrite = files.filter(({ type, path }) => type === "file" && !unchanged.has(path));
    if (toWrite.length === 0 && options.replace) {
      options.onProgress(part.storedBytes);
      return;
    }
    lane.onFlush = (place) => void syncs.add([place]).catch(() => undefined);
    const result = await extractPart(lane, part, options);
    filesWritten += result.filesWritten;
    bytesWritten += result.bytesWritten;
    await syncs.add(toWrite.map(({ path }) => layout.place(path)));
  });
  throwIfAborted(signal);
  await syncs.done();
  return { filesWritten, bytesWritten };
}

async function extractPart(lane: Lane, part: BackupPart, options: ExtractOptions): Promise<PartResult> {
  const { archive, backup, filesByPart, unchanged, layout, owner, replace, signal } = options;
  const entries = (filesByPart.get(part.name) ?? []).map(({ path, type, size, checksum }) => ({
    path,
    type,
    size,
    checksum,
    write: !unchanged.has(path),
  }));
  const { name, tablespace, storedBytes, bytes, crc32c } = part;
  const job: PartJob = {
    ...{ part: name, tablespace, storedBytes, bytes, crc32c, entries, layout, owner, replace },
    umask: process.umask(),
  };
  const key = backupPartKey(archive.cluster, backup.id, name);
  const fetch = async (offset: number): Promise<Uint8Array> => {
    const found = await archive.store.get(key, { signal, range: { offset, length: RANGE_BYTES } });
    if (found === undefined) throw corrupt(`part ${name} of backup ${backup.id} is missing: there is no ${key}`);
    if (found.objectBytes === storedBytes) return found.body;
    throw corrupt(`part ${name} of backup ${backup.id} has ${found.objectBytes} bytes, ${storedBytes} were stored`);
  };
  return lane.extract(job, fetch, options.onProgress);
}

/** Worker threads that live as long as one restore. */
export class ExtractCrew implements AsyncDisposable {
  readonly #lanes: Lane[];

  constructor(lanes: number) {
    this.#lanes = Array.from({ length: lanes }, () => new Lane());
  }

  /** Gives each item to the next free lane; the first failure rejects when those under way have ended. */
  async work<T>(items: readonly T[], hand: (lane: Lane, item: T) => Promise<void>): Promise<void> {
    const queue = [...items];
    let failed = false;
    const outcomes = await Promise.allSettled(
      this.#lanes.map(async (lane) => {
        try {
          for (let item = queue.shift(); item !== undefined && !failed; item = queue.shift()) await hand(lane, item);
        } catch (error) {
          failed = true;
          throw error;
        }
      }),
    );
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  /** Which of the files are there with the right content, in the order given. */
  async compare(files: readonly CompareFile[]): Promise<boolean[]> {
    const batches: { readonly at: number; readonly files: readonly CompareFile[] }[] = [];
    for (let at = 0; at < files.length;) {
      let bytes = 0;
      let end = at;
      while (end < files.length && end - at < BATCH_FILES_MAX && bytes < BATCH_BYTES) bytes += files[end++]?.size ?? 0;
      batches.push({ at, files: files.slice(at, end) });
      at = end;
    }
    const same: boolean[] = [];
    await this.work(batches, async (lane, batch) => {
      for (const [index, answer] of (await lane.compare(batch.files)).entries()) same[batch.at + index] = answer;
    });
    return same;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }
}

const BATCH_FILES_MAX = 256;
const BATCH_BYTES = 64 << 20;

/** One worker thread and what it is doing. */
export class Lane {
  /** A file that is not complete, but worth flushing. */
  onFlush: (place: string) => void = () => undefined;
  #worker: Worker | undefined;
  #taken = 0;
  #wake: () => void = () => undefined;
  #reply: FromWorker | undefined;
  #failure: Error | undefined;

  async extract(
    job: PartJob,
    fetch: (offset: number) => Promise<Uint8Array>,
    onProgress: (storedBytes: number) => void,
  ): Promise<PartResult> {
    this.#begin();
    this.#post({ kind: "part", job });
    const ranges: Promise<Uint8Array>[] = [];
    let next = 0;
    try {
      let sent = 0;
      for (let offset = 0; offset < job.storedBytes; offset += RANGE_BYTES) {
        for (; ranges.length < RANGES_IN_FLIGHT && next < job.storedBytes; next += RANGE_BYTES) {
          const range = fetch(next);
          range.catch(() => undefined);
          ranges.push(range);
        }
        const body = await (ranges.shift() ?? Promise.reject(corrupt("no range")));
        const { byteLength } = body;
        this.#send(body);
        sent += byteLength;
        onProgress(byteLength);
        // One piece under work, one waiting.
        while (this.#reply === undefined && sent - this.#taken > RANGE_BYTES) await this.#change();
        this.#throwIfFailed();
      }
      this.#post({ kind: "end" });
      const reply = await this.#answer();
      if (reply.kind !== "done") throw new SeawallError("internal", `a restore worker answered ${reply.kind}`);
      return reply.result;
    } finally {
      await Promise.allSettled(ranges);
    }
  }

  async compare(files: readonly CompareFile[]): Promise<readonly boolean[]> {
    this.#begin();
    this.#post({ kind: "compare", files });
    const reply = await this.#answer();
    if (reply.kind !== "compared") throw new SeawallError("internal", `a restore worker answered ${reply.kind}`);
    return reply.same;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #begin(): void {
    this.#taken = 0;
    this.#reply = undefined;
    this.#worker ??= this.#hire();
  }

  #hire(): Worker {
    // Under the test runner this file is TypeScript, which a worker cannot load: the built one can.
    const here = import.meta.url;
    const built = here.endsWith(".ts") ? "../../dist/restore/extract-worker.js" : "./extract-worker.js";
    const worker = new Worker(new URL(built, here));
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "flush") return this.onFlush(message.place);
      if (message.kind === "taken") this.#taken += message.bytes;
      else this.#reply ??= message;
      this.#wake();
    });
    const fail = (cause: unknown): void => {
      this.#failure ??= new SeawallError("internal", "a restore worker ended unexpectedly", { cause });
      this.#wake();
    };
    worker.on("error", fail);
    worker.on("exit", (code) => fail(new Error(`exit code ${code}`)));
    return worker;
  }

  #post(message: ToWorker): void {
    this.#worker?.postMessage(message);
  }

  /** Gives the memory away where it is the piece's own, so that nothing is copied. */
  #send(bytes: Uint8Array): void {
    const { buffer } = bytes;
    const isOwn = buffer instanceof ArrayBuffer && buffer.byteLength === bytes.byteLength;
    this.#worker?.postMessage({ kind: "data", bytes } satisfies ToWorker, isOwn ? [buffer] : []);
  }

  async #answer(): Promise<FromWorker> {
    for (;;) {
      this.#throwIfFailed();
      if (this.#reply !== undefined) return this.#reply;
      await this.#change();
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#reply?.kind !== "failed") return;
    const { code, message, cause } = this.#reply;
    throw new SeawallError(code, message, cause === "" ? {} : { cause: new Error(cause) });
  }

  async #change(): Promise<void> {
    if (this.#failure !== undefined) return;
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}

/** Files are flushed to disk behind the extraction, several at a time. */
export class SyncQueue {
  readonly #paths: string[] = [];
  readonly #hands: Promise<void>[] = [];
  #active = 0;
  #failure: unknown;

  /** Waits while too much is outstanding. Throws when something added earlier could not be flushed. */
  async add(paths: readonly string[]): Promise<void> {
    for (const path of paths) this.#paths.push(path);
    while (this.#active < SYNCS_IN_FLIGHT && this.#paths.length > 0) {
      this.#active++;
      this.#hands.push(this.#hand());
    }
    if (this.#failure !== undefined) await this.done();
  }

  /** Everything added is durable. */
  async done(): Promise<void> {
    await Promise.all(this.#hands.splice(0));
    if (this.#failure !== undefined) throw this.#failure instanceof Error ? this.#failure : new Error("fsync failed");
  }

  async #hand(): Promise<void> {
    for (let path = this.#paths.pop(); path !== undefined; path = this.#paths.pop()) {
      try {
        const file = await open(fsPath(path), "r");
        try {
          await file.sync();
        } finally {
          await file.close();
        }
      } catch (cause) {
        this.#failure ??= new SeawallError("target-unwritable", `cannot flush ${path} to disk`, { cause });
        this.#paths.length = 0;
      }
    }
    this.#active--;
  }
}

function corrupt(message: string): SeawallError {
  return new SeawallError("backup-corrupt", message);
}
