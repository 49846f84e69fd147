/** Lists the objects of a base backup, with size and CRC-32C as its document states them: those that they were stored with. Pure. */
import { backupFilesKey, backupManifestKey, backupPartKey } from "../keys.ts";
import type { BackupDocument } from "./document.ts";

export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
  readonly crc32c: number;
}

/** All but the document itself. */
export function storedObjects({ cluster }: { readonly cluster: string }, backup: BackupDocument): StoredObject[] {
  const { id, parts, files, manifest } = backup;
  return [
    { key: backupFilesKey(cluster, id), bytes: files.storedBytes, crc32c: files.crc32c },
    ...(manifest === null
      ? []
      : [{ key: backupManifestKey(cluster, id), bytes: manifest.bytes, crc32c: manifest.crc32c }]),
    ...parts.map(({ name, storedBytes: bytes, crc32c }) => ({ key: backupPartKey(cluster, id, name), bytes, crc32c })),
  ];
}
