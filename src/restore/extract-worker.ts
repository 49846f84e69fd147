/** The worker thread of a restore: takes parts apart, and compares existing files with the index. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { assertNever } from "../errors.ts";
import { answerQuestions } from "../worker-thread.ts";
import { checksumFor } from "../codec/checksum.ts";
import { fsPath } from "./layout.ts";
import { type PartJob, type PartResult, PartWriter } from "./part-writer.ts";

export interface CompareFile {
  readonly place: string;
  readonly size: number;
  readonly checksum?: string | undefined;
}

export type ExtractQuestion =
  /** The next questions hold stored bytes of this part, then its end. */
  | { readonly kind: "part"; readonly job: PartJob }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  | { readonly kind: "compare"; readonly files: readonly CompareFile[] };

export interface ExtractAnswer {
  /** Files of which much is written, although they are not complete: let the disk begin with them. */
  readonly flush?: readonly string[];
  /** For the end of a part. */
  readonly result?: PartResult | undefined;
  /** For files to compare, in their order: whether each is the same. */
  readonly same?: readonly boolean[];
}

const READ_BYTES = 1 << 20;

let writer: PartWriter | undefined;
let flush: string[] = [];
const buffer = Buffer.allocUnsafe(READ_BYTES);

answerQuestions<ExtractQuestion, ExtractAnswer>(async (question) => {
  try {
    return await answer(question);
  } catch (error) {
    writer?.close();
    writer = undefined;
    throw error;
  }
});

async function answer(question: ExtractQuestion): Promise<ExtractAnswer> {
  switch (question.kind) {
    case "part":
      flush = [];
      writer = new PartWriter(question.job, (place) => flush.push(place));
      return {};
    case "data":
      await writer?.push(question.bytes);
      return { flush: flush.splice(0) };
    case "end":
      return { result: await writer?.finish() };
    case "compare":
      return { same: question.files.map(isSame) };
    default:
      return assertNever(question);
  }
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
