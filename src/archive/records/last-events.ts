/** Reads an archive's newest backup, verification and drill, for `status`, and whether a drill has opened what is encrypted. */
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { backupRecipients } from "../backups/encrypted-to.ts";
import { findBackup } from "../backups/list.ts";
import { ifReadable } from "../damage.ts";
import { mustEncrypt, readEncryption } from "../encryption.ts";
import { lastDrill, lastProof } from "./drills.ts";
import { backupDocumentKey, backupsPrefix, isBackupId, parseGivenName } from "../keys.ts";
import { oldestFirst } from "./records.ts";
import { readVerifyRecord, type VerifyOutcome } from "../verify/state.ts";

export interface LastEvents {
  /** The generation that was looked at (`main@2`); absent for a cluster that was never upgraded. */
  readonly generation?: string;
  /** The newest finished one. Null, like the others, when there is none. */
  readonly backup: { readonly id: string; readonly finishedAt: string; readonly bytes: number } | null;
  /** The last verification that came to its end. */
  readonly verify: VerifyOutcome | null;
  readonly drill: { readonly finishedAt: string; readonly ok: boolean } | null;
  /** Absent for an archive that takes plain data. */
  readonly encryption?: EncryptionProof;
}

/** To whom the archive is encrypted, and whether it was shown that an identity opens it. */
export interface EncryptionProof {
  /** Recipients in short. */
  readonly to: readonly string[];
  /** ISO 8601. */
  readonly since: string;
  /** When a drill last opened a backup with an identity of a recipient that the newest backup has; null when none did. */
  readonly provedAt: string | null;
}

/**
 * Takes some lists and three small reads; a document that cannot be read is passed over, and one dated ahead of `now` counts
 * only where there is no other. Throws what the store throws.
 */
export async function readLastEvents(archive: Archive, now: Date, options: RequestOptions = {}): Promise<LastEvents> {
  const [backup, verify, drill, encryption] = await Promise.all([
    newestBackup(archive, now, options),
    readVerifyRecord(archive, options),
    ifReadable(lastDrill(archive, now, options)),
    ifReadable(readProof(archive, now, options)),
  ]);
  const isLater = parseGivenName(archive.cluster).generation !== undefined;
  return {
    ...(isLater ? { generation: archive.cluster } : {}),
    backup,
    verify: verify.record?.last ?? null,
    drill: drill === undefined ? null : { finishedAt: drill.finishedAt, ok: drill.ok },
    ...(encryption === undefined ? {} : { encryption }),
  };
}

/** Undefined for an archive that takes plain data. Throws what the store throws. */
export async function readProof(
  archive: Archive,
  now: Date,
  options: RequestOptions = {},
): Promise<EncryptionProof | undefined> {
  const note = await readEncryption(archive.store, archive.cluster, options);
  if (!mustEncrypt(note)) return undefined;
  const { to, since } = note;
  // After a rekey the newest backup may have other recipients than new WAL: an identity of one of them opens it.
  const held = await ifReadable(newestRecipients(archive, now, options));
  return { to, since, provedAt: (await lastProof(archive, now, held ?? to, options)) ?? null };
}

/** Undefined without a backup, and when the newest one is plain. */
async function newestRecipients(
  archive: Archive,
  now: Date,
  options: RequestOptions,
): Promise<readonly string[] | undefined> {
  const backup = await newestBackup(archive, now, options);
  return backup === null ? undefined : backupRecipients(archive, backup.id, options);
}

async function newestBackup(archive: Archive, now: Date, options: RequestOptions): Promise<LastEvents["backup"]> {
  const prefix = backupsPrefix(archive.cluster);
  const folders = await archive.store.listPrefixes(prefix, options);
  const ids = folders.map((folder) => folder.slice(prefix.length, -1)).filter(isBackupId);
  for (const id of oldestFirst(ids, now).reverse()) {
    if ((await archive.store.head(backupDocumentKey(archive.cluster, id), options)) === undefined) continue;
    const found = await ifReadable(findBackup(archive, id, options));
    if (found !== undefined) return { id, finishedAt: found.finishedAt, bytes: found.bytes };
  }
  return null;
}
