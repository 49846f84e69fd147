/** The worker thread of a restore: takes parts apart, and compares existing files with the index. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { assertNever } from "../errors.ts";
import { freeNow } from "../idle-memory.ts";
import { answerQuestions } from "../worker-thread.ts";
import { checksumFor } from "../codec/checksum.ts";
import { fsPath } from "./layout.ts";
import type { HandedBack } from "../archive/backups/part-reader.ts";
import { FLUSH_EVERY_BYTES, type PartJob, type PartResult, PartWriter } from "./part-writer.ts";
import { type Stretch, writeStretch } from "./stretch.ts";

export interface CompareFile {
  readonly place: string;
  readonly size: number;
  readonly checksum?: string | undefined;
}

export type ExtractQuestion =
  /** The next questions hold stored bytes of this part, then its end. */
  | { readonly kind: "part"; readonly job: PartJob }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  /** All bytes have come, and these stretches are all that were left to others. */
  | { readonly kind: "end"; readonly written: readonly HandedBack[] }
  /** A stretch of any part. */
  | { readonly kind: "stretch"; readonly stretch: Stretch }
  | { readonly kind: "compare"; readonly files: readonly CompareFile[] };

export interface ExtractAnswer {
  /** Files of which much is written, although they are not complete: let the disk begin with them. */
  readonly flush?: readonly string[];
  /** For data: stretches for other threads, or this one, to write. */
  readonly stretches?: readonly Stretch[];
  /** For a stretch. */
  readonly written?: HandedBack;
  /** For the end of a part. */
  readonly result?: PartResult | undefined;
  /** For files to compare, in their order: whether each is the same. */
  readonly same?: readonly boolean[];
}

const READ_BYTES = 1 << 20;

let writer: PartWriter | undefined;
let flush: string[] = [];
let unflushedStretchBytes = 0;
const buffer = Buffer.allocUnsafe(READ_BYTES);

answerQuestions<ExtractQuestion, ExtractAnswer>(answer, ({ stretches = [] }) =>
  stretches.map(({ stored }) => stored.buffer),
);

async function answer(question: ExtractQuestion): Promise<ExtractAnswer> {
  switch (question.kind) {
    case "part":
    case "data":
    case "end":
      try {
        return await answerForPart(question);
      } catch (error) {
        writer?.close();
        writer = undefined;
        throw error;
      }
    case "stretch":
      return answerForStretch(question.stretch);
    case "compare":
      return { same: question.files.map(isSame) };
    default:
      return assertNever(question);
  }
}

async function answerForPart(
  question: Extract<ExtractQuestion, { readonly kind: "part" | "data" | "end" }>,
): Promise<ExtractAnswer> {
  switch (question.kind) {
    case "part":
      flush = [];
      writer = new PartWriter(question.job, (place) => flush.push(place));
      return {};
    case "data": {
      const stretches = await writer?.push(question.bytes);
      freeNow(question.bytes);
      return { flush: flush.splice(0), ...(stretches === undefined ? {} : { stretches }) };
    }
    case "end":
      return { result: await writer?.finish(question.written) };
  }
}

function answerForStretch(stretch: Stretch): ExtractAnswer {
  const written = writeStretch(stretch);
  freeNow(stretch.stored);
  unflushedStretchBytes += written.bytes;
  if (unflushedStretchBytes < FLUSH_EVERY_BYTES) return { written };
  unflushedStretchBytes = 0;
  return { written, flush: [stretch.place] };
}

/** Whether the file is a regular one with this content. What cannot be read is not the same. */
function isSame(file: CompareFile): boolean {
  const checksum = checksumFor(file);
  if (checksum === undefined) return false;
  let fd: number | undefined;
  try {
    fd = openSync(fsPath(file.place), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size !== file.size) return false;
    for (let length = 1; length > 0;) {
      length = readSync(fd, buffer, 0, READ_BYTES, null);
      checksum.update(buffer.subarray(0, length));
    }
    return checksum.hex() === file.checksum?.split(":")[1];
  } catch {
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
