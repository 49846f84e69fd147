/**
 * Receives a base backup event by event; not pulling is backpressure. One shape for both protocols: 15 and later send
 * one stream of typed messages, 14 one plain stream for each tablespace and one for the manifest.
 *
 * Source: PostgreSQL docs "Streaming Replication Protocol", BASE_BACKUP; basebackup_copy.c; pg_basebackup.c.
 */
import { serialize } from "pg-protocol";
import { SeawallError } from "../errors.ts";
import type { Lsn, TimelineId } from "../wal/lsn.ts";
import {
  type BackupTablespaceSent,
  type BaseBackupOptions,
  baseBackupText,
  parsePosition,
  parseTablespaces,
} from "./base-backup-command.ts";
import { type CommandResult, nextReply, readResult, unexpected } from "./commands.ts";
import type { Frame } from "./copy-both.ts";
import { fromServer, lostConnection } from "./errors.ts";
import type { Reply } from "./replies.ts";
import { KeptWarnings } from "./notice-limit.ts";
import type { WireSession } from "./wire-session.ts";

export type BackupEvent =
  /** A tar begins: of this tablespace. Data belongs to it until the next event of this kind or `manifest`. */
  | { readonly kind: "archive"; readonly tablespace: BackupTablespaceSent }
  /** All archives are through; data is the backup manifest from here on. */
  | { readonly kind: "manifest" }
  /** Borrowed until the next pull. */
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  /** The last event: the backup is complete on the server's side. */
  | { readonly kind: "end"; readonly stopLsn: Lsn; readonly timeline: TimelineId };

export interface BackupStart {
  readonly startLsn: Lsn;
  readonly timeline: TimelineId;
  /** In the order in which they come; the data directory (without OID) last. */
  readonly tablespaces: readonly BackupTablespaceSent[];
}

/** A server that says nothing for so long in the middle of the data is gone. Before the data a checkpoint may take its time. */
const SILENCE_MS = 600_000;
/** Archive name and tablespace location, or a progress count. */
const SMALL_MESSAGE_BYTES_MAX = 16_384;
const DOING = "BASE_BACKUP";

/** Sends BASE_BACKUP and reads up to the first byte of data. Throws the server's error, mapped. */
export async function startBaseBackup(
  session: WireSession,
  options: BaseBackupOptions,
  context: { readonly serverVersion: number; readonly unwatch: () => void },
): Promise<BaseBackupStream> {
  const { serverVersion, unwatch } = context;
  const { texts: warnings, keep } = new KeptWarnings();
  try {
    const text = baseBackupText(options, serverVersion);
    session.commandNotices = keep;
    session.write(serialize.query(text));
    const position = parsePosition(await readTable(session));
    const tablespaces = parseTablespaces(await readTable(session));
    const base = tablespaces.at(-1);
    if (base === undefined || base.oid !== undefined) throw unexpected(session, "order of tablespaces", DOING);
    const reply = await nextReply(session, DOING);
    if (reply.kind !== "copy-out") throw await failed(session, reply, warnings);
    const start = { startLsn: position.lsn, timeline: position.timeline, tablespaces };
    return new BaseBackupStream(session, { start, warnings, unwatch, typed: serverVersion >= 150000 });
  } catch (error) {
    session.commandNotices = undefined;
    unwatch();
    throw error;
  }
}

interface StreamFacts {
  readonly start: BackupStart;
  readonly warnings: string[];
  readonly unwatch: () => void;
  /** Messages carry their type in their first byte (15 and later). */
  readonly typed: boolean;
}

export class BaseBackupStream {
  readonly start: BackupStart;
  /** The server's warnings so far, in its own words: pages with wrong checksums among them. */
  readonly warnings: readonly string[];
  readonly #session: WireSession;
  readonly #facts: StreamFacts;
  #state: "copying" | "between" | "done" = "copying";
  #ready = false;
  /** Typed: the type of the message under way, and what has been gathered of a small one. */
  #type: number | undefined;
  #small: Buffer = Buffer.alloc(0);
  /** A message that `nextAtHand` has come upon. */
  #held: Frame | undefined;
  /** Plain: how many streams have begun. The first one has when this object is made. */
  #streams = 0;
  #announced = false;

  constructor(session: WireSession, facts: StreamFacts) {
    this.#session = session;
    this.#facts = facts;
    this.start = facts.start;
    this.warnings = facts.warnings;
    session.holdLastChunk(false);
  }

  /** True when the backup has ended in order and the connection can take the next command. */
  get reusable(): boolean {
    return this.#ready;
  }

  /**
   * The next event if it has arrived and is no message of the protocol; undefined: call `next`. Throws `server-protocol`. Most of
   * a backup goes this way: a promise for each of its pieces would cost a tenth of the receiving thread's time.
   */
  nextAtHand(): BackupEvent | undefined {
    if (this.#state === "done" || this.#held !== undefined) return undefined;
    try {
      for (;;) {
        const announced = this.#announce();
        if (announced !== undefined) return announced;
        const frame = this.#session.frameAtHand();
        if (frame?.kind !== "copy") {
          this.#held = frame;
          return undefined;
        }
        const event = this.#data(frame);
        if (event !== undefined) return event;
      }
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  /** The next event; undefined after `end`. Throws `server-lost`, `aborted`, or the server's error mapped. */
  async next(): Promise<BackupEvent | undefined> {
    if (this.#state === "done") return undefined;
    try {
      for (;;) {
        const announced = this.#announce();
        if (announced !== undefined) return announced;
        const frame = this.#held ?? this.#session.frameAtHand() ?? (await this.#awaited());
        this.#held = undefined;
        const event = frame.kind === "copy" ? this.#data(frame) : await this.#message(frame);
        if (event === undefined) continue;
        if (event.kind === "end") this.#finish();
        return event;
      }
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  /** Plain streams say nothing of themselves: the nth is of the nth tablespace, the one after them is the manifest. */
  #announce(): BackupEvent | undefined {
    if (this.#facts.typed || this.#announced || this.#state !== "copying") return undefined;
    this.#announced = true;
    const tablespace = this.start.tablespaces[this.#streams++];
    return tablespace === undefined ? { kind: "manifest" } : { kind: "archive", tablespace };
  }

  #data(frame: Frame & { kind: "copy" }): BackupEvent | undefined {
    if (this.#state !== "copying") throw unexpected(this.#session, "CopyData", DOING);
    let { bytes } = frame;
    if (!this.#facts.typed) return bytes.length === 0 ? undefined : { kind: "data", bytes };
    if (this.#type === undefined) {
      if (bytes.length === 0) return undefined;
      this.#type = bytes[0];
      bytes = bytes.subarray(1);
    }
    const type = String.fromCharCode(this.#type ?? 0);
    if (frame.last) this.#type = undefined;
    if (type === "d") return bytes.length === 0 ? undefined : { kind: "data", bytes };
    this.#small = Buffer.concat([this.#small, bytes]);
    if (this.#small.length > SMALL_MESSAGE_BYTES_MAX) throw unexpected(this.#session, `length of a "${type}"`, DOING);
    if (!frame.last) return undefined;
    const whole = this.#small;
    this.#small = Buffer.alloc(0);
    return this.#typed(type, whole);
  }

  #typed(type: string, body: Buffer): BackupEvent | undefined {
    switch (type) {
      case "n":
        return this.#archive(body);
      case "m":
        return { kind: "manifest" };
      case "p":
        // The server's own count of what it has read: we count what arrives.
        return undefined;
      default:
        throw unexpected(this.#session, `message "${type}"`, DOING);
    }
  }

  /** A new archive: its name (`base.tar`, `16400.tar.gz`) and the tablespace's location, both ending with a zero byte. */
  #archive(body: Buffer): BackupEvent {
    const name = body.toString("utf8", 0, Math.max(0, body.indexOf(0)));
    const oid = /^(\d+)\.tar/.exec(name)?.[1];
    const tablespace = this.start.tablespaces.find((one) => String(one.oid ?? "base") === (oid ?? "base"));
    if (tablespace === undefined || (oid === undefined && !name.startsWith("base.tar"))) {
      throw unexpected(this.#session, `archive "${name}"`, DOING);
    }
    return { kind: "archive", tablespace };
  }

  async #message(frame: Frame & { kind: "message" }): Promise<BackupEvent | undefined> {
    const reply = this.#session.parse(frame);
    if (reply === undefined) return undefined;
    if (reply.kind === "copy-done" && this.#state === "copying") {
      this.#state = "between";
      return undefined;
    }
    if (reply.kind === "copy-out" && this.#state === "between" && !this.#facts.typed) {
      this.#state = "copying";
      this.#announced = false;
      return undefined;
    }
    if (reply.kind === "row-description" && this.#state === "between") {
      const result = await readResult(this.#session, DOING, reply).catch((error: unknown) => {
        // Only after its last result set does the server say that pages were wrong (basebackup.c, perform_base_backup).
        throw withFiles(error, this.#facts.warnings);
      });
      const position = parsePosition(result);
      this.#ready = true;
      return { kind: "end", stopLsn: position.lsn, timeline: position.timeline };
    }
    throw await failed(this.#session, reply, this.#facts.warnings);
  }

  /** A frame that has not arrived yet. */
  async #awaited(): Promise<Frame> {
    const late = (): void =>
      this.#session.destroy(lostConnection(this.#session.context, `as nothing came for ${SILENCE_MS / 1000} s`));
    const timer = setTimeout(late, SILENCE_MS);
    try {
      const frame = await this.#session.nextFrame();
      if (frame !== undefined) return frame;
    } finally {
      clearTimeout(timer);
    }
    this.#session.destroy();
    throw lostConnection(this.#session.context, "during the base backup");
  }

  #finish(): void {
    this.#state = "done";
    this.#session.commandNotices = undefined;
    this.#facts.unwatch();
  }
}

/** One result set, up to its CommandComplete: several follow one another in the answer to BASE_BACKUP. */
async function readTable(session: WireSession): Promise<CommandResult> {
  let columns: readonly string[] = [];
  const rows: (readonly (Buffer | null)[])[] = [];
  for (;;) {
    const reply = await nextReply(session, DOING);
    if (reply.kind === "row-description") columns = reply.columns;
    else if (reply.kind === "row" && rows.length < TABLESPACES_MAX) rows.push(reply.fields);
    else if (reply.kind === "complete") return { columns, rows };
    else throw await failed(session, reply, []);
  }
}

const TABLESPACES_MAX = 100_000;

/** The server's error, mapped, once it is ready for the next command; anything else is not the protocol. */
async function failed(session: WireSession, reply: Reply, warnings: readonly string[]): Promise<SeawallError> {
  if (reply.kind !== "error") return unexpected(session, reply.kind === "stray" ? reply.name : reply.kind, DOING);
  const mapped = fromServer(reply.error, session.context, reply.error);
  await readResult(session, DOING).catch(() => session.destroy());
  return withFiles(mapped, warnings);
}

/** The server's last word is only that there were wrong pages; which ones, it has warned of before. */
function withFiles(error: unknown, warnings: readonly string[]): SeawallError {
  const known = error instanceof SeawallError ? error : new SeawallError("internal", String(error), { cause: error });
  if (known.code !== "backup-page-checksum") return known;
  const files = damagedFiles(warnings);
  return new SeawallError("backup-page-checksum", `${known.message}: ${files.join(", ") || "no file named"}`, {
    cause: known.cause,
    details: { ...known.details, files: files.join(", "), warnings: warnings.join("; ") },
  });
}

/** The files that warnings name, in quotation marks of any language (basebackup.c, sendFile). */
function damagedFiles(warnings: readonly string[]): string[] {
  const named = warnings.flatMap((text) => /["«„“»]\s?([^"«»„“”]+?)\s?["»“”«]/u.exec(text)?.[1] ?? []);
  return [...new Set(named.map((path) => path.replace(/^\.\//, "")))];
}
