/**
 * The server's messages other than CopyData as one union: parsed by pg-protocol, except that a DataRow keeps its bytes.
 *
 * Source: PostgreSQL docs "Message Formats".
 */
import type {
  BackendMessage,
  DatabaseError,
  NoticeMessage,
  ParameterStatusMessage,
  RowDescriptionMessage,
} from "pg-protocol/dist/messages.js";
import { Parser } from "pg-protocol/dist/parser.js";
import { SeawallError } from "../errors.ts";
import { checkShape } from "./message-shape.ts";

export type Reply =
  | { readonly kind: "row-description"; readonly columns: readonly string[] }
  | { readonly kind: "row"; readonly fields: readonly (Buffer | null)[] }
  | { readonly kind: "complete" }
  | { readonly kind: "ready" }
  | { readonly kind: "error"; readonly error: DatabaseError }
  | { readonly kind: "notice"; readonly text: string }
  | { readonly kind: "parameter"; readonly name: string; readonly value: string }
  | { readonly kind: "copy-both" }
  | { readonly kind: "copy-out" }
  | { readonly kind: "copy-done" }
  /** A message of the protocol that no command of ours is answered with. */
  | { readonly kind: "stray"; readonly name: string };

const COPY_BOTH_RESPONSE = 0x57;
const COPY_OUT_RESPONSE = 0x48;
const DATA_ROW = 0x44;

/** Parses one whole message. Throws `server-protocol` when it does not hold together. */
export function parseReply(code: number, packet: Buffer): Reply {
  checkShape(packet);
  if (code === COPY_BOTH_RESPONSE) return { kind: "copy-both" };
  if (code === COPY_OUT_RESPONSE) return { kind: "copy-out" };
  if (code === DATA_ROW) return { kind: "row", fields: dataRowFields(packet) };
  let message: BackendMessage | undefined;
  try {
    new Parser().parse(packet, (parsed) => (message = parsed));
  } catch (cause) {
    throw new SeawallError("server-protocol", "a message from the server does not parse", { cause });
  }
  if (message === undefined) throw new SeawallError("server-protocol", "a message from the server does not parse");
  return replyOf(message);
}

/** `name` tells the type; pg-protocol's union is one interface, so each case is a cast. */
function replyOf(message: BackendMessage): Reply {
  const { name } = message;
  if (name === "rowDescription") {
    return { kind: "row-description", columns: (message as RowDescriptionMessage).fields.map((field) => field.name) };
  }
  if (name === "commandComplete") return { kind: "complete" };
  if (name === "readyForQuery") return { kind: "ready" };
  // DatabaseError is an Error besides being a message, which the interface does not say.
  if (name === "error") return { kind: "error", error: message as unknown as DatabaseError };
  if (name === "notice") return { kind: "notice", text: (message as NoticeMessage).message ?? "" };
  if (name === "parameterStatus") {
    const { parameterName, parameterValue } = message as ParameterStatusMessage;
    return { kind: "parameter", name: parameterName, value: parameterValue };
  }
  if (name === "copyDone") return { kind: "copy-done" };
  return { kind: "stray", name };
}

/** Fields of a DataRow as bytes: pg-protocol would decode them as UTF-8, which a history file need not be. */
function dataRowFields(packet: Buffer): (Buffer | null)[] {
  const broken = (): SeawallError => new SeawallError("server-protocol", "a DataRow is shorter than it claims");
  if (packet.length < 7) throw broken();
  const fields: (Buffer | null)[] = [];
  let at = 7;
  for (let left = packet.readUInt16BE(5); left > 0; left--) {
    if (at + 4 > packet.length) throw broken();
    const length = packet.readInt32BE(at);
    at += 4;
    if (length > packet.length - at) throw broken();
    fields.push(length < 0 ? null : packet.subarray(at, at + length));
    at += Math.max(length, 0);
  }
  return fields;
}
