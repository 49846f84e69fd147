/**
 * The header of an age file: the stanzas that hold its file key, each for one recipient, and a MAC over them. Pure text; keys
 * are made and opened by recipients.ts and identities.ts.
 *
 * Source: C2SP "age-encryption.org/v1", section "Header". Unknown stanzas are ignored by every reader, so Seawall's own
 * (clear-envelope.ts) stands among them.
 */

/** The first line of every age file. */
const VERSION_LINE = "age-encryption.org/v1\n";
const STANZA_MARK = "-> ";
const MAC_MARK = "---";
const MAC_BYTES = 32;
/** Columns of base64 in a full line of a stanza's body, and the bytes that they hold. */
const LINE_COLUMNS = 64;
const LINE_BYTES = 48;
const NEWLINE = 0x0a;

/** A header with more bytes is refused: 24 KiB for Seawall's stanza, the rest for recipients. */
export const HEADER_BYTES_MAX = 64 << 10;

/**
 * A header with more stanzas is refused: a reader tries its identities on each, which costs time. A writer makes one for each
 * recipient (recipients.ts, RECIPIENTS_MAX) and Seawall's own.
 */
export const STANZAS_MAX = 64;

export interface Stanza {
  /** The kind first. */
  readonly args: readonly string[];
  readonly body: Uint8Array;
}

export interface AgeHeader {
  readonly stanzas: readonly Stanza[];
  /** Its length in the file, the line of the MAC included. */
  readonly byteLength: number;
  /** The text that the MAC covers: a view of the file. */
  readonly authenticated: Uint8Array;
  readonly mac: Uint8Array;
}

/** True for the front of an age file; `front` may be shorter than the first line. */
export function isAge(front: Uint8Array): boolean {
  const line = Buffer.from(VERSION_LINE, "latin1");
  return front.byteLength > 0 && line.subarray(0, front.byteLength).equals(front.subarray(0, line.length));
}

/** The header at the front of a file; undefined when it goes on behind `front`. Throws an error that says what is wrong. */
export function parseHeader(front: Uint8Array): AgeHeader | undefined {
  const view = viewOf(front);
  const stanzas: Stanza[] = [];
  for (let at = VERSION_LINE.length; ;) {
    const next = readStanza(view, at);
    if (next === undefined) return incomplete(view);
    if (next !== "mac") {
      if (stanzas.length === STANZAS_MAX) throw new Error(`the header has more than ${STANZAS_MAX} stanzas`);
      stanzas.push(next.stanza);
      at = next.end;
      continue;
    }
    const line = readLine(view, at);
    if (line === undefined) return incomplete(view);
    const [mark, text, ...rest] = line.text.split(" ");
    if (mark !== MAC_MARK || text === undefined || rest.length > 0) throw new Error("the header ends with no MAC");
    const mac = decodeBase64(text);
    if (mac.byteLength !== MAC_BYTES) throw new Error("the MAC of the header has another length");
    if (stanzas.length === 0) throw new Error("the header has no stanza");
    return { stanzas, byteLength: line.end, authenticated: front.subarray(0, at + MAC_MARK.length), mac };
  }
}

/** The text of all stanzas behind the first one. */
export function textBehindFirst({ stanzas, authenticated }: AgeHeader): Uint8Array {
  const [first] = stanzas;
  // A stanza has one spelling, so its length is that of the text that was read.
  const from = VERSION_LINE.length + (first === undefined ? 0 : encodeStanza(first).byteLength);
  return authenticated.subarray(from, authenticated.byteLength - MAC_MARK.length);
}

/** The first stanza of a header that may go on behind `front`; undefined when the stanza itself does. Throws as `parseHeader`. */
export function firstStanza(front: Uint8Array): Stanza | undefined {
  const view = viewOf(front);
  const next = readStanza(view, VERSION_LINE.length);
  if (next === "mac") throw new Error("the header has no stanza");
  return next === undefined ? incomplete(view) : next.stanza;
}

/** The text that the MAC covers, for stanzas that are text already. */
export function encodeHeader(stanzas: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([Buffer.from(VERSION_LINE), ...stanzas, Buffer.from(MAC_MARK)]);
}

/** The rest of the header, behind that text. */
export function encodeMac(mac: Uint8Array): Uint8Array {
  return Buffer.from(` ${encodeBase64(mac)}\n`);
}

/** Bytes of the line of a MAC behind `authenticated`. */
export const MAC_LINE_BYTES = 1 + Math.ceil((MAC_BYTES * 4) / 3) + 1;

export function encodeStanza({ args, body }: Stanza): Uint8Array {
  const lines = [`${STANZA_MARK}${args.join(" ")}`];
  // The last line is shorter than a full one, and may be empty.
  for (let at = 0; at <= body.byteLength; at += LINE_BYTES)
    lines.push(encodeBase64(body.subarray(at, at + LINE_BYTES)));
  return Buffer.from(`${lines.join("\n")}\n`);
}

/** The stanza at `at`, "mac" where none begins there, or undefined where the bytes end too soon. */
function readStanza(view: Buffer, at: number): { readonly stanza: Stanza; readonly end: number } | "mac" | undefined {
  expectVersion(view);
  const first = readLine(view, at);
  if (first === undefined) return undefined;
  if (!first.text.startsWith(STANZA_MARK)) return "mac";
  const args = first.text.slice(STANZA_MARK.length).split(" ");
  if (args.some((arg) => arg === "")) throw new Error("a stanza has an empty argument");
  const body: Buffer[] = [];
  for (let end = first.end; ;) {
    const line = readLine(view, end);
    if (line === undefined) return undefined;
    if (line.text.length > LINE_COLUMNS) throw new Error("a stanza has a line that is too long");
    body.push(decodeBase64(line.text));
    end = line.end;
    if (line.text.length < LINE_COLUMNS) return { stanza: { args, body: Buffer.concat(body) }, end };
  }
}

function expectVersion(view: Buffer): void {
  if (!isAge(view)) throw new Error("does not begin as an age file of version 1");
}

/** A line of printable ASCII without its newline; undefined where the bytes end before it does. */
function readLine(view: Buffer, at: number): { readonly text: string; readonly end: number } | undefined {
  const newline = view.indexOf(NEWLINE, at);
  if (newline >= HEADER_BYTES_MAX) throw new Error(`the header is longer than ${HEADER_BYTES_MAX} bytes`);
  if (newline < 0) return undefined;
  const text = view.toString("latin1", at, newline);
  if (!/^[\x20-\x7e]*$/.test(text)) throw new Error("the header has a byte that is no printable ASCII");
  return { text, end: newline + 1 };
}

function incomplete(view: Buffer): undefined {
  if (view.length >= HEADER_BYTES_MAX) throw new Error(`the header is longer than ${HEADER_BYTES_MAX} bytes`);
  return undefined;
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function encodeBase64(bytes: Uint8Array): string {
  return viewOf(bytes).toString("base64").replaceAll("=", "");
}

/** Takes the one spelling of the bytes and no other: no padding, no stray bits. */
function decodeBase64(text: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  if (encodeBase64(bytes) !== text) throw new Error("the header has a line that is no canonical base64");
  return bytes;
}
