/** Verifies base backups: every object is stored at its size, and with `deep` every file in them is right. */
import { hasCode, SeawallError } from "../../errors.ts";
import type { ObjectInfo, RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import type { BackupDocument } from "../backups/document.ts";
import { checkManifest, readIndex, readStored } from "../backups/index.ts";
import { HEADER_FRONT_BYTES } from "../../codec/codec.ts";
import { type StoredObject, storedObjects } from "../backups/stored-objects.ts";
import { mapBounded } from "../bounded.ts";
import { damageOf } from "../damage.ts";
import { backupDocumentKey, backupFilesKey, backupManifestKey, backupPartKey, backupPrefix } from "../keys.ts";
import { checkPart } from "./part.ts";
import type { VerifyCrew } from "./questions.ts";
import type { Findings } from "./report.ts";
import { digestOf, type ProofLevel, type ProvenBackup } from "./state.ts";

export interface VerifyBackupOptions extends RequestOptions {
  readonly deep: boolean;
  readonly jobs: number;
  readonly crew: VerifyCrew;
  readonly findings: Findings;
  readonly proven: readonly ProvenBackup[];
  readonly onBytes: (bytes: number) => void;
}

/** Verifies a backup; undefined when it is not good or has expired meanwhile. Throws what the store throws. */
export async function verifyBackup(
  archive: Archive,
  backup: BackupDocument,
  options: VerifyBackupOptions,
): Promise<ProvenBackup | undefined> {
  const { deep, findings, proven, signal } = options;
  const { id } = backup;
  const objects = await listObjects(archive, backup, { signal });
  const digest = digestOf(
    [...objects.values()].map(({ key, bytes, modifiedAt }) => ({
      name: key,
      bytes,
      modifiedAtMs: modifiedAt.getTime(),
    })),
  );
  const known = proven.find((proof) => proof.id === id && proof.digest === digest);
  const level: ProofLevel = deep ? "content" : "envelope";
  if (known !== undefined && (known.level === "content" || level === "envelope")) {
    findings.checked.unchangedBackups++;
    return known;
  }
  const problems = await checkListing(archive, backup, objects, { findings, signal });
  findings.checked.backups++;
  findings.checked.parts += backup.parts.length;
  const read = deep ? await readAll(archive, backup, options) : { problems: [], isLocked: false };
  problems.push(...read.problems);
  // What was checked from outside is proven as it is without `deep`.
  if (problems.length === 0) return { id, level: read.isLocked ? "envelope" : level, digest };
  // What an expiry removes while we look is not damaged.
  const document = await archive.store.head(backupDocumentKey(archive.cluster, id), { signal });
  if (document === undefined) return undefined;
  for (const { key, error } of unique(problems)) {
    const kind = error.code === "foreign-cluster" ? "foreign-backup" : "damaged-backup";
    findings.report({ kind, object: key, message: `${error.message}: backup ${id} cannot be restored` });
  }
  return undefined;
}

interface Damage {
  readonly key: string;
  readonly error: SeawallError;
}

async function listObjects(
  archive: Archive,
  backup: BackupDocument,
  options: RequestOptions,
): Promise<Map<string, ObjectInfo>> {
  const objects = new Map<string, ObjectInfo>();
  for await (const object of archive.store.list(backupPrefix(archive.cluster, backup.id), options)) {
    objects.set(object.key, object);
  }
  return objects;
}

async function checkListing(
  archive: Archive,
  backup: BackupDocument,
  objects: ReadonlyMap<string, ObjectInfo>,
  { findings, signal }: Pick<VerifyBackupOptions, "findings" | "signal">,
): Promise<Damage[]> {
  const expected = storedObjects(archive, backup);
  const problems: Damage[] = [];
  for (const stored of expected) {
    const { key } = stored;
    const found = objects.get(key);
    if (found === undefined) problems.push(damage(key, `${key} is missing`));
    else if (found.bytes !== stored.bytes) {
      const resized = await sizeProblem(archive, stored, { signal });
      if (resized !== undefined) problems.push(damage(key, resized));
    }
  }
  const known = new Set(expected.map(({ key }) => key));
  for (const key of objects.keys()) {
    if (known.has(key) || key === backupDocumentKey(archive.cluster, backup.id)) continue;
    findings.note({ kind: "unknown-object", object: key, message: `backup ${backup.id} does not know it` });
  }
  return problems;
}

/** Looks whether another size is that of a new header (`seawall rekey`); undefined when it is. */
async function sizeProblem(
  archive: Archive,
  stored: StoredObject,
  options: RequestOptions,
): Promise<string | undefined> {
  const { key } = stored;
  const range = { offset: 0, length: HEADER_FRONT_BYTES };
  const found = await archive.store.get(key, { ...options, range });
  if (found === undefined) return `${key} is missing`;
  const { bytes } = archive.codec.storedNow(stored, found.body);
  return found.objectBytes === bytes ? undefined : `${key} has ${found.objectBytes} bytes, ${bytes} were stored`;
}

function damage(key: string, message: string): Damage {
  return { key, error: new SeawallError("backup-corrupt", message) };
}

async function readAll(
  archive: Archive,
  backup: BackupDocument,
  options: VerifyBackupOptions,
): Promise<{ readonly problems: Damage[]; readonly isLocked: boolean }> {
  const { crew, jobs, findings, onBytes, signal } = options;
  const { cluster } = archive;
  const problems: Damage[] = [];
  let key = backupFilesKey(cluster, backup.id);
  try {
    const index = await readIndex(archive, backup, { signal });
    key = backupManifestKey(cluster, backup.id);
    await checkManifest(archive, backup, index, { signal });
    await mapBounded(backup.parts, jobs, async (part) => {
      const partKey = backupPartKey(cluster, backup.id, part.name);
      try {
        const entries = index.byPart.get(part.name) ?? [];
        const identities = archive.codec.identities?.texts;
        const input = { key: partKey, part, entries, identities, onBytes };
        const files = await crew.lend((thread) => checkPart(archive, { ...input, thread }, { signal }));
        findings.checked.files += files;
        findings.checked.readBytes += part.storedBytes;
      } catch (error) {
        problems.push({ key: partKey, error: damageOf(error) });
      }
    });
  } catch (error) {
    if (hasCode(error, "identity-missing")) {
      findings.noteLocked(error.details["to"]);
      return { problems: await readFromOutside(archive, backup, options), isLocked: true };
    }
    problems.push({ key, error: damageOf(error) });
  }
  return { problems, isLocked: false };
}

/** Compares each encrypted object with the CRC-32C that the document has of it. */
async function readFromOutside(
  archive: Archive,
  backup: BackupDocument,
  { jobs, findings, onBytes, signal }: VerifyBackupOptions,
): Promise<Damage[]> {
  const found = await mapBounded(storedObjects(archive, backup), jobs, async (object) => {
    try {
      await readStored(archive, object, { signal }, ({ byteLength }) => onBytes(byteLength));
      findings.checked.readBytes += object.bytes;
      return [];
    } catch (error) {
      return [{ key: object.key, error: damageOf(error) }];
    }
  });
  return found.flat();
}

/** Reports one finding for each object: a part with the wrong size is not called damaged as well. */
function unique(problems: readonly Damage[]): Damage[] {
  const byKey = new Map<string, Damage>();
  for (const problem of problems) if (!byKey.has(problem.key)) byKey.set(problem.key, problem);
  return [...byKey.values()];
}
