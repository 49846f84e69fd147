/** The worker thread of a restore: takes parts apart, and compares files that are there with what they should be. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { SeawallError } from "../errors.ts";
import { checksumFor } from "../codec/checksum.ts";
import { fsPath } from "./layout.ts";
import { type PartJob, type PartResult, PartWriter } from "./part-writer.ts";

export interface CompareFile {
  readonly place: string;
  readonly size: number;
  readonly checksum?: string | undefined;
}

export type ToWorker =
  | { readonly kind: "part"; readonly job: PartJob }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "end" }
  | { readonly kind: "compare"; readonly files: readonly CompareFile[] };

export type FromWorker =
  /** A piece of data is used up. */
  | { readonly kind: "taken"; readonly bytes: number }
  /** Much of this file is written: let the disk begin with it. */
  | { readonly kind: "flush"; readonly place: string }
  | { readonly kind: "done"; readonly result: PartResult }
  | { readonly kind: "compared"; readonly same: readonly boolean[] }
  | { readonly kind: "failed"; readonly code: SeawallError["code"]; readonly message: string; readonly cause: string };

const READ_BYTES = 1 << 20;

let writer: PartWriter | undefined;
const buffer = Buffer.allocUnsafe(READ_BYTES);

function answer(message: ToWorker): FromWorker | undefined {
  switch (message.kind) {
    case "part":
      writer = new PartWriter(message.job, (place) => tell({ kind: "flush", place }));
      return undefined;
    case "data":
      writer?.push(message.bytes);
      return { kind: "taken", bytes: message.bytes.byteLength };
    case "end": {
      const result = writer?.end();
      return result === undefined ? undefined : { kind: "done", result };
    }
    case "compare":
      return { kind: "compared", same: message.files.map(isSame) };
  }
}

function tell(message: FromWorker): void {
  parentPort?.postMessage(message);
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

parentPort?.on("message", (message: ToWorker) => {
  try {
    const reply = answer(message);
    if (reply !== undefined) tell(reply);
  } catch (error) {
    writer?.abandon();
    writer = undefined;
    const known = error instanceof SeawallError ? error : undefined;
    const cause = known?.cause instanceof Error ? known.cause.message : "";
    const reply: FromWorker = {
      kind: "failed",
      code: known?.code ?? "internal",
      message: error instanceof Error ? error.message : String(error),
      cause,
    };
    tell(reply);
  }
});
