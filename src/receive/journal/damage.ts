/** Says where the WAL of a journal has changed on its disk, and which files wait behind the damage. Pure. */
import { SeawallError } from "../../errors.ts";
import { counted } from "../../plural.ts";
import { type Lsn, type TimelineId, formatLsn, segmentOf } from "../../wal/lsn.ts";
import { fileNameOf, type SegmentFile } from "./layout.ts";

export interface DamageFacts {
  /** The journal's folder. */
  readonly where: string;
  readonly segments: readonly SegmentFile[];
  readonly segmentSize: number;
  readonly timeline: TimelineId;
  /** All bytes before this verify. */
  readonly verifiedLsn: Lsn;
  /** The bytes from here on do not. */
  readonly receivedLsn: Lsn;
}

/** WAL was verified before it was acknowledged: what does not verify now has changed in the spool. */
export function changedOnDisk(facts: DamageFacts, cause: SeawallError): SeawallError {
  const { where, segments, segmentSize, timeline, verifiedLsn, receivedLsn } = facts;
  const [first, last] = [segmentOf(verifiedLsn, segmentSize), segmentOf(receivedLsn, segmentSize)];
  const names = (from: number, to: number): string[] =>
    segments
      .filter((file) => file.timeline === timeline && file.segment >= from && file.segment <= to)
      .map((file) => fileNameOf(file, segmentSize));
  const damaged = names(first, last).join(" or ");
  const behind = names(last + 1, Infinity);
  const waiting =
    behind.length === 0
      ? "no file waits behind it"
      : `${counted(behind.length, "file")} of WAL from ${behind[0]} on wait${behind.length === 1 ? "s" : ""} behind it`;
  const message =
    `WAL has changed on the disk of the spool ${where}: ${cause.message}. ` +
    `${damaged} is damaged behind ${formatLsn(verifiedLsn)}, and ${waiting}`;
  return new SeawallError("wal-corrupt", message, {
    cause,
    hint:
      "Keep the spool: this WAL was acknowledged, and may be nowhere else. If the server's pg_wal or another copy still has the " +
      `damaged segment, stop Seawall, copy that file over the one in ${where}, and start again. Otherwise move that folder to ` +
      "another place and start Seawall without it. Then seawall import FOLDER stores the files behind the damage, and what is " +
      "missing stays a gap. Take a base backup after that.",
  });
}
