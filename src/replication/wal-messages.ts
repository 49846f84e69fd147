/**
 * The messages inside CopyData while WAL is streamed: XLogData and keepalives from the server, status updates to it.
 * Pure.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol", START_REPLICATION.
 */
import { invariant, SeawallError } from "../errors.ts";
import { addBytes, type Lsn, lsnOf, type TimelineId } from "../wal/lsn.ts";
import type { Frame } from "./copy-both.ts";

/** Microseconds since 2000-01-01 00:00 UTC: PostgreSQL's TimestampTz. */
export type PgTimestamp = bigint;

/** Messages from the server in CopyData. */
export type StreamedEvent =
  /** WAL that begins at `startLsn`. `bytes` is borrowed: valid until the next pull. One message may come as several events. */
  | {
      readonly kind: "wal";
      readonly startLsn: Lsn;
      readonly bytes: Uint8Array;
      /** The server's end of WAL when it sent this. */
      readonly serverEnd: Lsn;
    }
  | {
      readonly kind: "keepalive";
      readonly serverEnd: Lsn;
      /** The server wants a status update at once. */
      readonly replyRequested: boolean;
    };

export type WalEvent =
  | StreamedEvent
  /** The timeline ends here on the server's history; `nextTimeline` goes on from `switchLsn`. */
  | {
      readonly kind: "end";
      readonly reason: "timeline";
      readonly nextTimeline: TimelineId;
      readonly switchLsn: Lsn;
    }
  /** The server ended the stream because it shuts down, having sent everything. */
  | { readonly kind: "end"; readonly reason: "shutdown" };

export interface StandbyStatus {
  /** Position up to which WAL is received, durable, applied; each is the LSN after the last such byte. */
  readonly write: Lsn;
  readonly flush: Lsn;
  readonly apply: Lsn;
  /** Ask the server for a keepalive in return. */
  readonly replyRequested?: boolean;
  readonly clock: PgTimestamp;
}

const PG_EPOCH_MS = 946_684_800_000;

export function pgTimestamp(unixMs: number): PgTimestamp {
  return BigInt(Math.round((unixMs - PG_EPOCH_MS) * 1000));
}

const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
const XLOG_HEADER_BYTES = 25;
const KEEPALIVE_BYTES = 18;

/** Turns the parts of CopyData bodies into WAL events; keeps only the fixed header of a message across parts. */
export class WalMessageDecoder {
  readonly #header = Buffer.alloc(XLOG_HEADER_BYTES);
  #headerBytes = 0;
  #inWal = false;
  #position = 0n as Lsn;
  #serverEnd = 0n as Lsn;

  /** The event in one part; undefined when the part completes none. Throws `server-protocol`. */
  decode(frame: Frame & { kind: "copy" }): StreamedEvent | undefined {
    if (frame.first) {
      this.#headerBytes = 0;
      this.#inWal = false;
    }
    let bytes = frame.bytes;
    if (!this.#inWal) {
      bytes = this.#gather(bytes);
      const kind = this.#header[0];
      if (this.#headerBytes > 0 && kind !== XLOG_DATA && kind !== KEEPALIVE) {
        throw new SeawallError("server-protocol", `unknown replication message 0x${(kind ?? 0).toString(16)}`);
      }
      if (this.#headerBytes > 0 && kind === KEEPALIVE) return this.#keepalive(bytes, frame.last);
      if (this.#headerBytes < XLOG_HEADER_BYTES) {
        if (frame.last) throw truncated("XLogData", this.#headerBytes);
        return undefined;
      }
      this.#inWal = true;
      this.#position = lsnOf(this.#header.readBigUInt64BE(1));
      this.#serverEnd = lsnOf(this.#header.readBigUInt64BE(9));
    }
    if (bytes.length === 0) return undefined;
    const startLsn = this.#position;
    this.#position = addBytes(startLsn, bytes.length);
    return { kind: "wal", startLsn, bytes, serverEnd: this.#serverEnd };
  }

  /** Moves header bytes from a part into the header; returns what is left of the part. */
  #gather(bytes: Uint8Array): Uint8Array {
    const kind = this.#headerBytes > 0 ? this.#header[0] : bytes[0];
    const wanted = kind === KEEPALIVE ? KEEPALIVE_BYTES : XLOG_HEADER_BYTES;
    const take = Math.min(wanted - this.#headerBytes, bytes.length);
    this.#header.set(bytes.subarray(0, take), this.#headerBytes);
    this.#headerBytes += take;
    return bytes.subarray(take);
  }

  #keepalive(rest: Uint8Array, last: boolean): StreamedEvent | undefined {
    if (this.#headerBytes < KEEPALIVE_BYTES || !last) {
      if (last) throw truncated("keepalive", this.#headerBytes);
      if (rest.length > 0) throw new SeawallError("server-protocol", "keepalive message is too long");
      return undefined;
    }
    if (rest.length > 0) throw new SeawallError("server-protocol", "keepalive message is too long");
    return {
      kind: "keepalive",
      serverEnd: lsnOf(this.#header.readBigUInt64BE(1)),
      replyRequested: this.#header[17] === 1,
    };
  }
}

function truncated(what: string, bytes: number): SeawallError {
  return new SeawallError("server-protocol", `${what} message ends after ${bytes} bytes, inside its header`);
}

/** A whole CopyData message with a standby status update. */
export function encodeStatus(status: StandbyStatus): Buffer {
  invariant(status.flush <= status.write, `flush ${status.flush} is beyond write ${status.write}`);
  const packet = Buffer.alloc(5 + 34);
  packet.write("d", 0, "latin1");
  packet.writeInt32BE(4 + 34, 1);
  packet.write("r", 5, "latin1");
  packet.writeBigUInt64BE(status.write, 6);
  packet.writeBigUInt64BE(status.flush, 14);
  packet.writeBigUInt64BE(status.apply, 22);
  packet.writeBigInt64BE(status.clock, 30);
  packet.writeUInt8(status.replyRequested === true ? 1 : 0, 38);
  return packet;
}
