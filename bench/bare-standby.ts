/**
 * A standby that does the least: it PUTs what arrives, unsigned, unread and uncompressed, and reports it as flushed once it is answered.
 * Beside it the primary and Node.js cost what they cost anyone. Arguments: the server's socket, slot, port of the timed server, PUTs in
 * flight at most. The server must trust the socket. Never a receiver: after any error it ends.
 */
import { Agent, request } from "node:http";
import { connect } from "node:net";

const [socketPath = "", slot = "", port = "", inFlightMax = "4"] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, noDelay: true, scheduling: "lifo" });
const server = connect(socketPath);

let unread = Buffer.alloc(0);
let isStreaming = false;
let receivedLsn = 0n;
let flushedLsn = 0n;
let waiting: Buffer[] = [];
let inFlight = 0;
let puts = 0;

server.on("connect", () => {
  const facts = Buffer.from("user\0postgres\0replication\0true\0application_name\0seawall\0\0");
  const head = Buffer.alloc(8);
  head.writeInt32BE(head.length + facts.length, 0);
  // Protocol 3.0.
  head.writeInt32BE(3 << 16, 4);
  server.write(Buffer.concat([head, facts]));
});
server.on("data", (piece) => {
  unread = unread.length === 0 ? piece : Buffer.concat([unread, piece]);
  while (unread.length >= 5) {
    const end = 1 + unread.readInt32BE(1);
    if (unread.length < end) break;
    take(String.fromCharCode(unread.readUInt8(0)), unread.subarray(5, end));
    unread = unread.subarray(end);
  }
  ship();
});
process.on("SIGINT", () => process.exit(0)).on("SIGTERM", () => process.exit(0));

function take(type: string, body: Buffer): void {
  if (type === "E") throw new Error(body.toString());
  if (type === "D") begin(body.toString("latin1"));
  if (type === "Z" && !isStreaming) query(receivedLsn === 0n ? "IDENTIFY_SYSTEM" : startReplication());
  if (type === "W") report();
  if (type !== "d") return;
  if (body.readUInt8(0) === "w".charCodeAt(0)) {
    const bytes = body.subarray(25);
    receivedLsn = body.readBigUInt64BE(1) + BigInt(bytes.length);
    waiting.push(bytes);
  } else if (body.readUInt8(17) === 1) {
    report();
  }
}

/** IDENTIFY_SYSTEM's answer has one LSN. */
function begin(row: string): void {
  const [, high = "", low = ""] = /([0-9A-F]+)\/([0-9A-F]+)/.exec(row) ?? [];
  receivedLsn = flushedLsn = (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

function startReplication(): string {
  isStreaming = true;
  const lsn = `${(receivedLsn >> 32n).toString(16)}/${(receivedLsn & 0xffffffffn).toString(16)}`;
  return `START_REPLICATION SLOT ${slot} PHYSICAL ${lsn}`;
}

function ship(): void {
  if (waiting.length === 0 || inFlight >= Number(inFlightMax)) return;
  const body = Buffer.concat(waiting);
  const endLsn = receivedLsn;
  waiting = [];
  inFlight++;
  const headers = { "content-length": body.length };
  request({ host: "127.0.0.1", port, method: "PUT", path: `/bench/bare/${puts++}`, agent, headers }, (answer) => {
    answer.resume();
    inFlight--;
    // The timed server answers in order.
    if (endLsn > flushedLsn) flushedLsn = endLsn;
    report();
    ship();
  }).end(body);
}

function report(): void {
  const update = Buffer.alloc(34);
  update.write("r");
  update.writeBigUInt64BE(receivedLsn, 1);
  update.writeBigUInt64BE(flushedLsn, 9);
  update.writeBigUInt64BE(flushedLsn, 17);
  send("d", update);
}

function query(text: string): void {
  send("Q", Buffer.from(`${text}\0`));
}

function send(type: string, body: Buffer): void {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(4 + body.length, 1);
  server.write(Buffer.concat([head, body]));
}
