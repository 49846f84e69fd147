/**
 * Keeps a checksum of every received file until the server's manifest confirms it, and writes the file's line in the
 * index. A backup is good when both name the same files with the same sizes and checksums.
 */
import { type BackupFile, encodeBackupFile } from "./document.ts";
import type { ManifestFile } from "./manifest.ts";
import { type ChecksumAlgorithm, type FileChecksum, startChecksum } from "../../codec/checksum.ts";
import type { FrameWriter } from "../../codec/frames.ts";
import type { TarHeader } from "../../codec/tar.ts";
import { SeawallError, invariant } from "../../errors.ts";
import { ReceivedFiles } from "./received-files.ts";

export interface FileLedgerOptions {
  /** Takes the lines of the file index. */
  readonly index: Pick<FrameWriter, "write">;
  /** The algorithm of the manifest that the server will send; without one the index gets CRC-32Cs. */
  readonly algorithm: ChecksumAlgorithm | "NONE";
}

/** Files named in the error; there may be thousands. */
const NAMED_MAX = 10;

export class FileLedger {
  entries = 0;
  files = 0;
  /** Sum of all files' sizes. */
  bytes = 0;
  readonly #index: FileLedgerOptions["index"];
  readonly #algorithm: ChecksumAlgorithm;
  readonly #hasChecksums: boolean;
  readonly #received = new ReceivedFiles();
  readonly #wrong: string[] = [];
  #wrongCount = 0;
  #current: { readonly file: BackupFile; readonly checksum: FileChecksum; bytes: number } | undefined;

  constructor(options: FileLedgerOptions) {
    this.#index = options.index;
    this.#hasChecksums = options.algorithm !== "NONE";
    this.#algorithm = options.algorithm === "NONE" ? "CRC32C" : options.algorithm;
  }

  /** `path` as in the data directory. */
  begin(header: TarHeader, path: string, part: string): void {
    const { type, size, mode, mtime, linkTarget } = header;
    const file = { path, part, type, size, mode, mtime, ...(linkTarget === undefined ? {} : { linkTarget }) };
    this.#current = { file, checksum: startChecksum(this.#algorithm), bytes: 0 };
  }

  data(bytes: Uint8Array): void {
    invariant(this.#current !== undefined, "content outside of a file");
    this.#current.checksum.update(bytes);
    this.#current.bytes += bytes.length;
  }

  /** The file is complete. A promise where its line has to wait for memory. */
  end(): Promise<void> | undefined {
    invariant(this.#current !== undefined, "the end of no file");
    const { file, checksum, bytes } = this.#current;
    this.#current = undefined;
    this.entries++;
    if (file.type !== "file") return this.#index.write(Buffer.from(encodeBackupFile(file)));
    const hex = checksum.hex();
    if (!this.#received.add(file.path, { size: bytes, checksum: hex })) this.#report(`${shown(file.path)} came twice`);
    this.files++;
    this.bytes += bytes;
    return this.#index.write(Buffer.from(encodeBackupFile({ ...file, checksum: `${this.#algorithm}:${hex}` })));
  }

  /** Compares the manifest's line on one file with what came. */
  compare(listed: ManifestFile): void {
    const received = this.#received.take(listed.path);
    const name = shown(listed.path);
    if (received === undefined) this.#report(`${name} is in the manifest and did not come`);
    else if (received.size !== listed.size) {
      this.#report(`${name} came with ${received.size} bytes, the manifest says ${listed.size}`);
    } else if (this.#hasChecksums && (listed.algorithm !== this.#algorithm || received.checksum !== listed.checksum)) {
      const theirs = `${listed.algorithm ?? "no checksum"} ${listed.checksum}`;
      this.#report(`${name} came with ${this.#algorithm} ${received.checksum}, the manifest says ${theirs}`);
    }
  }

  /** The manifest is through. Throws `backup-mismatch` naming the files in which it and the data differ. */
  finish(): void {
    for (const path of this.#received.left()) this.#report(`${shown(path)} came and is not in the manifest`);
    this.finishUnlisted();
  }

  /** Ends a backup without a manifest. Throws `backup-mismatch` where a file came twice. */
  finishUnlisted(): void {
    if (this.#wrongCount === 0) return;
    const more = this.#wrongCount > this.#wrong.length ? `; and ${this.#wrongCount - this.#wrong.length} more` : "";
    throw new SeawallError("backup-mismatch", `${this.#wrong.join("; ")}${more}`);
  }

  #report(what: string): void {
    this.#wrongCount++;
    if (this.#wrong.length < NAMED_MAX) this.#wrong.push(what);
  }
}

function shown(path: string): string {
  return /^[\w./ -]+$/.test(path) ? path : JSON.stringify(path);
}
