/**
 * Takes in the files of a base backup that another tool has made: each entry goes into a part and into the ledger of files, and
 * the ledger is compared with the manifest.
 */
import { ManifestReader } from "../../archive/backups/manifest.ts";
import type { Parts } from "../../archive/backups/parts.ts";
import type { DataSinks } from "../../archive/backups/stored-data.ts";
import type { TarHeader } from "../../codec/tar.ts";
import { hasCode, messageOf, SeawallError } from "../../errors.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { FoundBackup, FoundManifest } from "./found.ts";
import { ADDED, MANIFEST } from "./manifest.ts";

/** Takes entries, as `Parts` does. */
export type EntrySink = Pick<Parts, "beginArchive" | "endArchive" | "beginEntry" | "data" | "endEntry">;

export interface TakeInOptions extends RequestOptions {
  /** Told of each piece of content. */
  readonly onBytes: (bytes: number) => void;
}

/** Gives sums of file sizes by tablespace OID. Throws `backup-mismatch`, and what is wrong with the source. */
export async function takeIn(
  backup: FoundBackup,
  { parts, ledger, manifest }: Omit<DataSinks, "parts"> & { readonly parts: EntrySink },
  { signal, onBytes }: TakeInOptions,
): Promise<ReadonlyMap<number, number>> {
  const tablespaceBytes = new Map<number, number>();
  let tablespace: number | null = null;
  /** Content of the entry that is still wanted; undefined for an entry that is left out. */
  let left: number | undefined;
  for await (const event of backup.entries({ signal })) {
    switch (event.kind) {
      case "archive":
        await parts.endArchive();
        tablespace = event.tablespace;
        if (tablespace !== null) tablespaceBytes.set(tablespace, tablespaceBytes.get(tablespace) ?? 0);
        await parts.beginArchive(tablespace);
        break;
      case "entry": {
        const header = admitted(event.header, tablespace, backup.manifest);
        left = header?.size;
        if (header === undefined) break;
        const part = await parts.beginEntry(header);
        const path = tablespace === null ? header.path : `pg_tblspc/${tablespace}/${header.path}`;
        ledger.begin(header, path, part);
        if (tablespace !== null) {
          tablespaceBytes.set(tablespace, (tablespaceBytes.get(tablespace) ?? 0) + header.size);
        }
        break;
      }
      case "data": {
        if (left === undefined) break;
        const bytes = event.bytes.subarray(0, left);
        left -= bytes.byteLength;
        ledger.data(bytes);
        await parts.data(bytes);
        onBytes(bytes.byteLength);
        break;
      }
      case "entry-end":
        if (left === undefined) break;
        left = undefined;
        await parts.endEntry();
        await ledger.end();
        break;
    }
  }
  await parts.endArchive();
  if (backup.manifest === undefined) ledger.finishUnlisted();
  else await compareWith(backup.manifest, { ledger, manifest }, { signal });
  return tablespaceBytes;
}

async function compareWith(
  found: FoundManifest,
  { ledger, manifest }: Omit<DataSinks, "parts">,
  options: RequestOptions,
): Promise<void> {
  const reader = new ManifestReader(`the backup's ${MANIFEST}`, { onFile: (file) => ledger.compare(file) });
  for await (const piece of found.read(options)) {
    reader.push(piece);
    await manifest?.write(piece);
  }
  manifest?.end();
  reader.end();
  try {
    ledger.finish();
  } catch (error) {
    if (!hasCode(error, "backup-mismatch")) throw error;
    throw new SeawallError("backup-mismatch", `the files differ from the backup's ${MANIFEST}: ${messageOf(error)}`, {
      hint:
        "A file that is not in the manifest was added after the backup: move it away. " +
        "Any other was changed, now or since the backup: copy the backup again, and let no program write to it.",
      cause: error,
    });
  }
}

const AUTO_CONF = "postgresql.auto.conf";
const IN_WAL_FOLDER = /^pg_wal\/./s;

/**
 * The entry as it is to be stored; undefined where it is no part of the backup. WAL lies in the archive, and the manifest beside
 * the parts. What `pg_basebackup -R` has added to make a standby of the copy is left out. Pure.
 */
export function admitted(
  header: TarHeader,
  tablespace: number | null,
  manifest: Pick<FoundManifest, "autoConfBytes" | "listed"> | undefined,
): TarHeader | undefined {
  const { path, type, size } = header;
  if (tablespace !== null || type === "directory") return header;
  if (path === MANIFEST) return undefined;
  if (manifest === undefined) return IN_WAL_FOLDER.test(path) ? undefined : header;
  if (ADDED.test(path) && !manifest.listed.has(path)) return undefined;
  const { autoConfBytes } = manifest;
  const isLonger = path === AUTO_CONF && autoConfBytes !== undefined && size > autoConfBytes;
  return isLonger ? { ...header, size: autoConfBytes } : header;
}
