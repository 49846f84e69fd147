/** Reading stored files: whole or in ranges into memory, or as a stream. */
import { close, constants, createReadStream, fchmod, fchown, fstat, open, read, type Stats } from "node:fs";
import { promisify } from "node:util";
import { errnoOf, SeawallError } from "../../errors.ts";
import { isGone } from "./errors.ts";
import { throwIfAborted } from "../signal.ts";

/** One write(2) or read(2) at most: an abort is noticed between two. */
const IO_BYTES = 8 * 1024 * 1024;
const STREAM_BYTES = 256 * 1024;
/** A streamed read that has not begun after so long is given up, and its file closed. */
const UNREAD_MS = 60_000;

const fs = {
  open: promisify(open),
  read: promisify(read),
  close: promisify(close),
  fchmod: promisify(fchmod),
  fchown: promisify(fchown),
  fstat: promisify(fstat) as (fd: number) => Promise<Stats>,
};

/** Opens a file for readRange or streamFile, which close it. */
export interface OpenFile {
  readonly path: string;
  readonly fd: number;
  readonly bytes: number;
}

/** Undefined when there is no such file, or something that is no file. Rejects with the system's own errors. */
export async function openFile(path: string): Promise<OpenFile | undefined> {
  let fd: number;
  try {
    // Not blocking: a pipe at this place would hold us until it has a writer.
    fd = await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  const stats = await fs.fstat(fd);
  if (stats.isFile()) return { path, fd, bytes: stats.size };
  await fs.close(fd);
  return undefined;
}

/** The part of the range that the file has. */
export async function readRange(
  file: OpenFile,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  try {
    const body = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, file.bytes - offset)));
    for (let at = 0; at < body.length;) {
      throwIfAborted(signal);
      const { bytesRead } = await fs.read(file.fd, body, at, Math.min(IO_BYTES, body.length - at), offset + at);
      if (bytesRead === 0) throw new SeawallError("object-corrupt", `${file.path} shrank while it was read`);
      at += bytesRead;
    }
    return body;
  } finally {
    await fs.close(file.fd);
  }
}

/** True when the file has this size and begins with these bytes. Leaves it open. */
export async function beginsWith(
  file: OpenFile,
  { old, objectBytes }: { readonly old: Uint8Array; readonly objectBytes: number },
): Promise<boolean> {
  if (file.bytes !== objectBytes) return false;
  const front = Buffer.allocUnsafeSlow(old.length);
  const { bytesRead } = await fs.read(file.fd, front, 0, front.length, 0);
  return bytesRead === old.length && front.equals(old);
}

/** The bytes of the file from `offset` on; each piece is borrowed until the next one. Leaves it open. */
export async function* piecesOf(file: OpenFile, offset: number): AsyncGenerator<Uint8Array> {
  const memory = Buffer.allocUnsafeSlow(Math.max(1, Math.min(IO_BYTES, file.bytes - offset)));
  for (let at = offset; at < file.bytes;) {
    const { bytesRead } = await fs.read(file.fd, memory, 0, Math.min(memory.length, file.bytes - at), at);
    if (bytesRead === 0) throw new SeawallError("object-corrupt", `${file.path} shrank while it was read`);
    at += bytesRead;
    yield memory.subarray(0, bytesRead);
  }
}

/** Gives a file the mode of another one, and its owner where this account may. */
export async function copyAccess(from: number, to: number): Promise<void> {
  const { mode, uid, gid } = await fs.fstat(from);
  await fs.fchown(to, uid, gid).catch((error: unknown) => {
    if (errnoOf(error) !== "EPERM") throw error;
  });
  await fs.fchmod(to, mode & 0o777);
}

/** True when both are open on one file. */
export async function isOneFile(a: number, b: number): Promise<boolean> {
  const [first, second] = await Promise.all([fs.fstat(a), fs.fstat(b)]);
  return first.dev === second.dev && first.ino === second.ino;
}

export function streamFile(file: OpenFile, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  let isGivenUp = false;
  const unread = setTimeout(() => {
    isGivenUp = true;
    fs.close(file.fd).catch(() => undefined);
  }, UNREAD_MS);
  unread.unref();
  return (async function* () {
    clearTimeout(unread);
    if (isGivenUp) {
      throw new SeawallError(
        "store-unavailable",
        `${file.path} was closed: its reader asked for nothing for ${UNREAD_MS / 1000} s`,
      );
    }
    // It closes the file however the iteration ends.
    const pieces = createReadStream("", { fd: file.fd, highWaterMark: STREAM_BYTES });
    for await (const piece of pieces) {
      throwIfAborted(signal);
      // A stream without an encoding yields Buffers.
      yield piece as Buffer;
    }
  })();
}
