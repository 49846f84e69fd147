/**
 * The verifier's state at a segment border, as plain JSON of a few hundred bytes: enough to continue in the next
 * segment. It is kept with a sealed segment, so that a receiver which starts at the next one skips nothing.
 */

/** A record that crosses the border. */
export interface CarriedRecord {
  /** LSN of the record's first byte. */
  readonly start: string;
  /** Bytes of it before the border. */
  readonly got: number;
  /** CRC register over its data so far (int32); the header enters it at the end. */
  readonly crc: number;
  /** The record's first bytes, at most CARRIED_PREFIX_SIZE, base64. */
  readonly prefix: string;
}

export interface RecordCarry {
  /** The segment border this was taken at. */
  readonly at: string;
  /** XLOG_PAGE_MAGIC of the stream. */
  readonly magic: number;
  /** `verifiedLsn` there: the border itself, or the end of the record before the one that crosses it. */
  readonly verifiedLsn: string;
  /** Start of the last complete record; absent when none was seen. */
  readonly prev?: string;
  /** The record that crosses the border; absent when none does. */
  readonly record?: CarriedRecord;
  /** Bytes still to come, padding included, of a record whose beginning was never seen. */
  readonly headLeft?: number;
}
