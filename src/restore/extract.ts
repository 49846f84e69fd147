/**
 * All parts of a backup onto disk: several at a time, each fetched in ranges, taken apart in a worker thread, and its files
 * made durable while the next ones arrive. Threads that have no part left write stretches of large files in the parts of others.
 * Memory is bounded by lanes × (ranges in flight × their size), and a frame for each thread.
 */
import type { Archive } from "../archive/archive.ts";
import { mapBounded, readAhead } from "../archive/bounded.ts";
import type { BackupDocument, BackupFile, BackupPart } from "../archive/backups/document.ts";
import type { HandedBack } from "../archive/backups/part-reader.ts";
import { backupPartKey } from "../archive/keys.ts";
import { HEADER_FRONT_BYTES } from "../codec/codec.ts";
import { SeawallError, invariant } from "../errors.ts";
import type { GetResult } from "../store/store.ts";
import { throwIfAborted } from "../store/signal.ts";
import { ThreadCrew, type WorkerThread } from "../worker-thread.ts";
import type { CompareFile, ExtractAnswer, ExtractQuestion } from "./extract-worker.ts";
import type { DiskFlush } from "./disk-flush.ts";
import { Layout, type LayoutFacts } from "./layout.ts";
import type { HelperCount, Owner, PartJob, PartResult } from "./part-writer.ts";
import type { Stretch } from "./stretch.ts";

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
  readonly flush: DiskFlush;
  readonly onProgress: (storedBytes: number) => void;
  readonly signal: AbortSignal;
}

/** A part is fetched in ranges of this size, so many ahead of the one at hand. */
const RANGE_BYTES = 4 << 20;
const RANGES_AHEAD = 1;

/**
 * Parts in which nothing has to be written are not fetched. Throws `backup-corrupt` naming part and file,
 * `target-unwritable`, and what the store throws; files that were begun are then left as they are.
 */
export async function extractParts(options: ExtractOptions): Promise<PartResult> {
  const { backup, filesByPart, unchanged, crew, flush, signal } = options;
  const layout = new Layout(options.layout);
  // The largest first: the last one to end should be a small one.
  const parts = [...backup.parts].sort((a, b) => b.storedBytes - a.storedBytes);
  let filesWritten = 0;
  let bytesWritten = 0;
  const helpers: HelperCount = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  let partsLeft = parts.length;
  const countHelpers = (): void => void Atomics.store(helpers, 0, Math.max(0, crew.threadsMax - partsLeft));
  countHelpers();
  const onFlush = (places: readonly string[]): void => void flush.addEach(places).catch(() => undefined);
  await mapBounded(parts, crew.threadsMax, async (part) => {
    const files = filesByPart.get(part.name) ?? [];
    const toWrite = files.filter(({ type, path }) => type === "file" && !unchanged.has(path));
    if (toWrite.length === 0 && options.replace) options.onProgress(part.storedBytes);
    else {
      const result = await crew.lend((thread) => extractPart(thread, part, { ...options, onFlush, helpers }));
      filesWritten += result.filesWritten;
      bytesWritten += result.bytesWritten;
      await flush.addFiles(toWrite.map(({ path }) => layout.place(path)));
    }
    partsLeft--;
    countHelpers();
  });
  throwIfAborted(signal);
  return { filesWritten, bytesWritten };
}

async function extractPart(
  thread: ExtractThread,
  part: BackupPart,
  options: ExtractOptions & {
    readonly onFlush: (places: readonly string[]) => void;
    readonly helpers: HelperCount;
  },
): Promise<PartResult> {
  const { archive, backup, filesByPart, unchanged, layout, owner, replace, crew, signal } = options;
  const entries = (filesByPart.get(part.name) ?? []).map(({ path, type, size, checksum }) => ({
    path,
    type,
    size,
    checksum,
    write: !unchanged.has(path),
  }));
  const { name, tablespace, storedBytes, bytes, crc32c } = part;
  const job: PartJob = {
    part: name,
    tablespace,
    storedBytes,
    bytes,
    crc32c,
    entries,
    identities: archive.codec.identities?.texts,
    layout,
    owner,
    replace,
    umask: process.umask(),
    helpers: options.helpers,
  };
  const key = backupPartKey(archive.cluster, backup.id, name);
  const ranges = new PartRanges(archive, { key, subject: `part ${name} of backup ${backup.id}`, part });
  const written: HandedBack[] = [];
  const writeStretch = async (stretch: Stretch): Promise<void> => {
    const answer = await crew.ask({ kind: "stretch", stretch }, [stretch.stored.buffer]);
    invariant(answer.written !== undefined, "a stretch was not written");
    written.push(answer.written);
    options.onFlush(answer.flush ?? []);
  };
  const asked: Promise<unknown>[] = [];
  const ask = (question: ExtractQuestion, transfer?: readonly ArrayBuffer[]): void => {
    const done = thread.ask(question, transfer).then(async ({ flush = [], stretches = [] }) => {
      options.onFlush(flush);
      await Promise.all(stretches.map(writeStretch));
    });
    done.catch(() => undefined);
    asked.push(done);
  };
  ask({ kind: "part", job });
  for await (const { result } of readAhead(ranges.offsets(), RANGES_AHEAD, ranges.fetch, { signal })) {
    const bytes = await result;
    const { byteLength } = bytes;
    if (byteLength === 0) continue;
    ask({ kind: "data", bytes }, ownMemory(bytes));
    options.onProgress(byteLength);
    // One piece under work with its stretches, one waiting.
    while (asked.length > 1) await asked.shift();
  }
  await Promise.all(asked);
  const { result } = await thread.ask({ kind: "end", written });
  invariant(result !== undefined, "a part ended without a result");
  return result;
}

/** How often a header may be replaced while one range is fetched. */
const REPLACEMENTS_MAX = 3;

/**
 * Fetches a part in ranges. `seawall rekey` may have replaced its header, or replaces it now. A new header may have another length, so
 * the payload lies elsewhere. The first range has the whole header; ranges behind it are fetched where the payload lies now.
 */
class PartRanges {
  readonly #archive: Archive;
  readonly #input: { readonly key: string; readonly subject: string; readonly part: BackupPart };
  /** Size of the object that the first range is of. */
  #bytes: number | undefined;
  #first: Promise<number> | undefined;

  constructor(archive: Archive, input: { readonly key: string; readonly subject: string; readonly part: BackupPart }) {
    this.#archive = archive;
    this.#input = input;
  }

  /** The last ones may lie behind the end while its length is not known. */
  *offsets(): Generator<number> {
    const { storedBytes } = this.#input.part;
    for (let offset = 0; offset < (this.#bytes ?? storedBytes + HEADER_FRONT_BYTES); offset += RANGE_BYTES)
      yield offset;
  }

  readonly fetch = async (offset: number, signal: AbortSignal): Promise<Uint8Array> => {
    if (offset === 0) {
      const beginning = this.#get(0, signal);
      this.#first = beginning.then(({ body, objectBytes }) => this.#checkedSize(body, objectBytes));
      this.#bytes = await this.#first;
      return (await beginning).body;
    }
    // Each answer says where the payload lay when it was given: it counts only if it was asked for there.
    let at = offset;
    for (let asked = 0; ; asked++) {
      const found = await this.#get(at, signal);
      const bytes = (await this.#first) ?? found.objectBytes;
      const moved = found.objectBytes - bytes;
      // Where the answer was that nothing lies there, the size came later, perhaps of the object as it is by now.
      const isWhole = found.body.byteLength === Math.max(0, Math.min(RANGE_BYTES, found.objectBytes - at));
      if (at === offset + moved && (isWhole || asked === REPLACEMENTS_MAX)) return found.body;
      if (Math.abs(moved) > HEADER_FRONT_BYTES || asked === REPLACEMENTS_MAX)
        throw this.#resized(found.objectBytes, bytes);
      at = offset + moved;
    }
  };

  /** Throws `backup-corrupt` when it is neither the size that was stored nor the one that follows from a new header. */
  #checkedSize(front: Uint8Array, objectBytes: number): number {
    const { storedBytes, crc32c } = this.#input.part;
    if (objectBytes === storedBytes) return objectBytes;
    const { bytes } = this.#archive.codec.storedNow({ bytes: storedBytes, crc32c }, front);
    if (objectBytes !== bytes) throw this.#resized(objectBytes, bytes);
    return bytes;
  }

  async #get(offset: number, signal: AbortSignal): Promise<GetResult> {
    const { key, subject } = this.#input;
    const found = await this.#archive.store.get(key, { signal, range: { offset, length: RANGE_BYTES } });
    if (found === undefined) throw corrupt(`${subject} is missing: there is no ${key}`);
    return found;
  }

  #resized(bytes: number, expected: number): SeawallError {
    return corrupt(`${this.#input.subject} has ${bytes} bytes, ${expected} were stored`);
  }
}

/** Memory that is the piece's own is given away, so that nothing is copied. */
function ownMemory({ buffer, byteLength }: Uint8Array): readonly ArrayBuffer[] {
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
}

type ExtractThread = WorkerThread<ExtractQuestion, ExtractAnswer>;
export type ExtractCrew = ThreadCrew<ExtractQuestion, ExtractAnswer>;

/** Worker threads that live as long as one restore. */
export function extractCrew(threadsMax: number): ExtractCrew {
  return new ThreadCrew({ kind: "extract", name: "a restore worker" }, threadsMax);
}

/** Which of the files are there with the right content, in the order given. */
export async function compareFiles(crew: ExtractCrew, files: readonly CompareFile[]): Promise<boolean[]> {
  const batches: (readonly CompareFile[])[] = [];
  for (let at = 0; at < files.length;) {
    let bytes = 0;
    let end = at;
    while (end < files.length && end - at < BATCH_FILES_MAX && bytes < BATCH_BYTES) bytes += files[end++]?.size ?? 0;
    batches.push(files.slice(at, end));
    at = end;
  }
  const answers = await mapBounded(batches, crew.threadsMax, (batch) =>
    crew.lend(async (thread) => thread.ask({ kind: "compare", files: batch })),
  );
  return answers.flatMap(({ same }) => same ?? []);
}

const BATCH_FILES_MAX = 256;
const BATCH_BYTES = 64 << 20;

function corrupt(message: string): SeawallError {
  return new SeawallError("backup-corrupt", message);
}
