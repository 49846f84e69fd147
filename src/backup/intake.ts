/**
 * Takes in the data of a base backup, event by event. Archives are decompressed and parsed as tar; each entry goes into
 * a part and into the ledger of files. The manifest goes into the store and is compared with the ledger.
 */
import { ManifestReader } from "../archive/backups/manifest.ts";
import type { DataSinks } from "../archive/backups/stored-data.ts";
import { type Inflater, startInflating } from "../codec/inflate.ts";
import { type TarEvent, TarScanner } from "../codec/tar-reader.ts";
import { SeawallError, assertNever } from "../errors.ts";
import type { BackupTablespaceSent } from "../replication/base-backup-command.ts";
import type { BaseBackupStream } from "../replication/base-backup.ts";
import type { Lsn } from "../wal/lsn.ts";
import type { BackupProgress } from "./options.ts";

export interface IntakeOptions extends DataSinks {
  readonly compression: "none" | "zstd" | "gzip";
  readonly progress: BackupProgress;
}

export interface TakenIn {
  readonly stopLsn: Lsn;
  /** Sums of file sizes by tablespace OID. */
  readonly tablespaceBytes: ReadonlyMap<number, number>;
}

/** Reads the stream to its end. Everything has been handed on then, and every file compared with the manifest. */
export async function takeIn(stream: BaseBackupStream, options: IntakeOptions): Promise<TakenIn> {
  const { parts, ledger, manifest, progress } = options;
  const tablespaceBytes = new Map<number, number>();
  const manifestReader = new ManifestReader("the server's backup manifest", {
    onFile: (file) => ledger.compare(file),
  });
  let archive: ArchiveIntake | undefined;
  const endArchive = async (): Promise<void> => {
    await archive?.end();
    if (archive?.tablespace !== undefined) tablespaceBytes.set(archive.tablespace, archive.fileBytes);
    archive = undefined;
    await parts.endArchive();
  };
  let inManifest = false;
  for (;;) {
    const event = stream.nextAtHand() ?? (await stream.next());
    if (event === undefined) break;
    switch (event.kind) {
      case "archive":
        await endArchive();
        archive = new ArchiveIntake(event.tablespace, options);
        await parts.beginArchive(event.tablespace.oid ?? null);
        progress.tablespace = event.tablespace.oid === undefined ? undefined : event.tablespace.path;
        break;
      case "manifest":
        await endArchive();
        inManifest = true;
        break;
      case "data":
        if (inManifest) {
          manifestReader.push(event.bytes);
          await manifest?.write(event.bytes);
        } else {
          const waiting = archive?.take(event.bytes);
          if (waiting !== undefined) await waiting;
        }
        break;
      case "end": {
        if (event.timeline !== stream.start.timeline) throw changedTimeline(stream, event.timeline);
        manifest?.end();
        manifestReader.end();
        ledger.finish();
        return { stopLsn: event.stopLsn, tablespaceBytes };
      }
      default:
        assertNever(event);
    }
  }
  throw new SeawallError("server-protocol", "the base backup ended without its end");
}

function changedTimeline(stream: BaseBackupStream, timeline: number): SeawallError {
  return new SeawallError(
    "server-error",
    `the server went from timeline ${stream.start.timeline} to ${timeline} during the backup`,
    { hint: "It was promoted meanwhile: take the backup again." },
  );
}

/** One archive: of a tablespace, or of the data directory. */
class ArchiveIntake {
  readonly tablespace: number | undefined;
  fileBytes = 0;
  readonly #prefix: string;
  readonly #options: IntakeOptions;
  readonly #inflater: Inflater;
  readonly #scanner = new TarScanner();

  constructor(tablespace: BackupTablespaceSent, options: IntakeOptions) {
    this.tablespace = tablespace.oid;
    this.#prefix = tablespace.oid === undefined ? "" : `pg_tblspc/${tablespace.oid}/`;
    this.#options = options;
    this.#inflater = startInflating(options.compression);
  }

  /** Borrows `bytes` until the promise settles; undefined when nothing had to wait. */
  take(bytes: Uint8Array): Promise<void> | undefined {
    // Without compression: no iterator in between.
    return this.#options.compression === "none" ? this.#takeTar(bytes) : this.#inflate(bytes);
  }

  async end(): Promise<void> {
    for await (const piece of this.#inflater.end()) await this.#takeTar(piece);
    this.#scanner.end();
  }

  async #inflate(bytes: Uint8Array): Promise<void> {
    for await (const piece of this.#inflater.push(bytes)) await this.#takeTar(piece);
  }

  #takeTar(bytes: Uint8Array): Promise<void> | undefined {
    const { parts, ledger, progress } = this.#options;
    this.#scanner.feed(bytes);
    progress.bytes += bytes.length;
    const waiting = this.#takeEvents();
    progress.files = ledger.files;
    progress.storedBytes = parts.storedBytes;
    return waiting;
  }

  /** Goes on until something has to wait: an await for each step of each small file would cost as much as the steps. */
  #takeEvents(): Promise<void> | undefined {
    for (let event = this.#scanner.next(); event !== undefined; event = this.#scanner.next()) {
      const waiting = this.#takeEvent(event);
      if (waiting !== undefined) return waiting.then(() => this.#takeEvents());
    }
    return undefined;
  }

  #takeEvent(event: TarEvent): Promise<void> | undefined {
    const { parts, ledger } = this.#options;
    switch (event.kind) {
      case "entry": {
        const { header } = event;
        const path = `${this.#prefix}${header.path}`;
        this.fileBytes += header.size;
        const part = parts.beginEntry(header);
        if (typeof part !== "string") return part.then((name) => ledger.begin(header, path, name));
        ledger.begin(header, path, part);
        return undefined;
      }
      case "data":
        ledger.data(event.bytes);
        return parts.data(event.bytes);
      case "entry-end": {
        const waiting = parts.endEntry();
        return waiting === undefined ? ledger.end() : waiting.then(() => ledger.end());
      }
      default:
        return assertNever(event);
    }
  }
}
