/**
 * Stretches of large files: one thread takes a part apart (part-writer.ts), and any thread decompresses the frames that lie inside of
 * a file and writes them to their place. File calls are synchronous.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { crc32c } from "@node-rs/crc32";
import type { HandedBack } from "../archive/backups/part-reader.ts";
import { Codec } from "../codec/codec.ts";
import { messageOf, SeawallError } from "../errors.ts";
import { fsPath } from "./layout.ts";

/** A file that another thread made. */
export interface OpenFile {
  readonly place: string;
  /** Tell the file itself, whatever has its name by now. */
  readonly dev: bigint;
  readonly ino: bigint;
}

export interface Stretch extends OpenFile {
  /** Names of the part and the file, for messages and for the thread that has the part. */
  readonly part: string;
  readonly path: string;
  /** Offset in the file. */
  readonly at: number;
  readonly rawBytes: number;
  /** The frame, and its offset in the part. */
  readonly stored: Uint8Array<ArrayBuffer>;
  readonly frameAt: number;
}

const OPEN = constants.O_WRONLY | constants.O_NOFOLLOW;
/** The kernel lets one thread at a time write to a file: short calls let the others in between. */
const WRITE_BYTES = 1 << 20;
const codec = new Codec();

/** Throws `backup-corrupt` naming part and file, `target-unwritable`. */
export function writeStretch({ part, path, at, rawBytes, stored, frameAt, ...file }: Stretch): HandedBack {
  const content = decoded({ part, path, frame: { stored, rawBytes, at: frameAt } });
  const fd = open(file);
  try {
    writeAt(fd, content, { place: file.place, at });
  } finally {
    closeSync(fd);
  }
  return { path, at, bytes: rawBytes, crc32c: crc32c(content) };
}

function decoded(input: {
  readonly part: string;
  readonly path: string;
  readonly frame: Parameters<Codec["decodeFrame"]>[0];
}): Uint8Array {
  try {
    return codec.decodeFrame(input.frame);
  } catch (cause) {
    const message = `part ${input.part} is damaged in ${input.path}: ${messageOf(cause)}`;
    throw new SeawallError("backup-corrupt", message, { cause });
  }
}

/** Writes to nothing but the file that was made: its folder may belong to another account, which can put other files there. */
function open({ place, dev, ino }: OpenFile): number {
  let fd: number | undefined;
  try {
    fd = openSync(fsPath(place), OPEN);
    const found = fstatSync(fd, { bigint: true });
    if (found.dev === dev && found.ino === ino) return fd;
    throw new Error("it was replaced");
  } catch (cause) {
    if (fd !== undefined) closeSync(fd);
    throw new SeawallError("target-unwritable", `cannot write ${place}`, { cause });
  }
}

/** Writes all of `view` at an offset of the file. Throws `target-unwritable` naming its place. */
export function writeAt(
  fd: number,
  view: Uint8Array,
  { place, at }: { readonly place: string; readonly at: number },
): void {
  try {
    for (let from = 0; from < view.byteLength;) {
      from += writeSync(fd, view, from, Math.min(view.byteLength - from, WRITE_BYTES), at + from);
    }
  } catch (cause) {
    throw new SeawallError("target-unwritable", `cannot write ${place}`, { cause });
  }
}
