/**
 * Decides how much a spool may hold: `--spool-max`, and the room on its disk. Pure.
 *
 * A full spool drains only by sealing its open segment: the seal retires that segment's chunks, and the relay then removes
 * the segment before. So chunks leave room for one segment, and the seal finds it.
 */
import { SeawallError } from "../errors.ts";

/** The last segment, the open one's chunks and those they are merged into, and a segment on its way. */
const SPOOL_SEGMENTS_MIN = 4;

export interface DiskSpace {
  readonly totalBytes: number;
  /** For this account. */
  readonly freeBytes: number;
}

export interface SpoolUse {
  /** In the spool, and on the way into it. */
  readonly bytes: number;
  readonly spoolBytesMax: number;
  /** Most that the disk lets the spool hold; Infinity when that is not known. */
  readonly diskBytesMax: number;
  /** 0 before the server was asked. */
  readonly segmentSize: number;
}

/** Undefined when the object may be written now; otherwise the limit that it waits for. */
export function lackOfRoom(
  use: SpoolUse,
  object: { readonly bytes: number; readonly isChunk: boolean },
): "spool-max" | "disk" | undefined {
  const reservedBytes = object.isChunk ? use.segmentSize : 0;
  if (use.bytes + reservedBytes >= use.spoolBytesMax) return "spool-max";
  return use.bytes + object.bytes + reservedBytes > use.diskBytesMax ? "disk" : undefined;
}

export interface SpoolJudgement {
  /** `small`: never enough. `full`: not enough now. `tight`: less than --spool-max allows. */
  readonly kind: "ok" | "small" | "full" | "tight";
  readonly message: string;
  readonly hint: string;
}

/** Compares the limits of a spool with what its segments need. `heldBytes`: what the spool holds already. */
export function judgeSpool(facts: {
  readonly segmentSize: number;
  readonly spoolBytesMax: number;
  readonly disk: DiskSpace | undefined;
  readonly heldBytes: number;
}): SpoolJudgement {
  const { segmentSize, spoolBytesMax, disk, heldBytes } = facts;
  const bytesMin = SPOOL_SEGMENTS_MIN * segmentSize;
  const segments = `segments of ${mib(segmentSize)}`;
  const need = `The spool keeps the last segment and the open one's chunks: give it ${mib(bytesMin)} or more.`;
  if (spoolBytesMax < bytesMin) {
    return { kind: "small", message: `--spool-max: ${mib(spoolBytesMax)} cannot hold ${segments}`, hint: need };
  }
  if (disk === undefined) return { kind: "ok", message: `up to ${mib(spoolBytesMax)}`, hint: "" };
  if (disk.totalBytes < bytesMin) {
    const message = `--spool-dir: a disk of ${mib(disk.totalBytes)} cannot hold ${segments}`;
    return { kind: "small", message, hint: need };
  }
  const roomBytes = heldBytes + disk.freeBytes;
  const text = `the spool's disk has ${mib(disk.freeBytes)} free`;
  if (roomBytes < bytesMin) return { kind: "full", message: `${text}, too little for ${segments}`, hint: need };
  if (roomBytes < spoolBytesMax) {
    const hint = "The receiver stops reading when that is used: free space, or lower --spool-max.";
    return { kind: "tight", message: `${text}, and --spool-max is ${mib(spoolBytesMax)}`, hint };
  }
  return { kind: "ok", message: `${text} for up to ${mib(spoolBytesMax)}`, hint: "" };
}

/** Describes the wait of an object for room. */
export function noRoom(lack: "spool-max" | "disk", { bytes, spoolBytesMax }: SpoolUse, where: string): SeawallError {
  const limit = lack === "disk" ? "its disk has no more room" : `--spool-max is ${mib(spoolBytesMax)}`;
  return new SeawallError("store-full", `the spool ${where} is full: it holds ${mib(bytes)}, and ${limit}`, {
    hint: "It drains while the store takes its WAL. Free space on its disk, or raise --spool-max.",
  });
}

const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
