/** Decides how much a spool may hold: `--spool-max`, and the room on its disk. It grows by whole segment files. Pure. */
import { SeawallError } from "../errors.ts";

/** The last complete segment, the open one, the next one's file, and one that the store is being given. */
const SPOOL_SEGMENTS_MIN = 4;

export interface DiskSpace {
  readonly totalBytes: number;
  /** For this account. */
  readonly freeBytes: number;
}

export interface SpoolUse {
  /** Size of all files of the spool. */
  readonly bytes: number;
  readonly spoolBytesMax: number;
  /** Most that the disk lets the spool hold; Infinity when that is not known. */
  readonly diskBytesMax: number;
  readonly segmentSize: number;
}

/** Undefined when the spool may have one more segment file; otherwise the limit in its way. */
export function lackOfRoom(use: SpoolUse): "spool-max" | "disk" | undefined {
  if (use.bytes + use.segmentSize > use.spoolBytesMax) return "spool-max";
  return use.bytes + use.segmentSize > use.diskBytesMax ? "disk" : undefined;
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
  const need = `The spool keeps whole segments, the last and the open one always: give it ${mib(bytesMin)} or more.`;
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

/** Describes the wait for room. */
export function noRoom(lack: "spool-max" | "disk", { bytes, spoolBytesMax }: SpoolUse, where: string): SeawallError {
  const limit = lack === "disk" ? "its disk has no more room" : `--spool-max is ${mib(spoolBytesMax)}`;
  return new SeawallError("store-full", `the spool ${where} is full: it holds ${mib(bytes)}, and ${limit}`, {
    hint: "It drains while the store takes its WAL. Free space on its disk, or raise --spool-max.",
  });
}

const mib = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MiB`;
