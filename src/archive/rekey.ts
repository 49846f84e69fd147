/**
 * Encrypts what is stored to other recipients: gives every encrypted object of an archive a new header, behind which the payload stays
 * as it is. An object states its recipients, so the archive itself says what is left to do, and an interrupted run goes on.
 *
 * Objects that may vanish at any moment are left out: chunks of the open segment, and those of a backup that is being taken.
 */
import { hasCode, SeawallError } from "../errors.ts";
import { HEADER_FRONT_BYTES } from "../codec/codec.ts";
import type { RequestOptions } from "../store/store.ts";
import type { Archive } from "./archive.ts";
import { mapBounded } from "./bounded.ts";
import { isSame } from "./encryption.ts";
import {
  backupDocumentKey,
  backupPrefix,
  backupsPrefix,
  isBackupId,
  isBackupObject,
  parseChunkKey,
  tailsPrefix,
  walPrefix,
} from "./keys.ts";
import { removalStepOf } from "./retention/belongings.ts";

export interface RekeyOptions extends RequestOptions {
  /** Looks, opens file keys, and changes nothing. */
  readonly isDry: boolean;
  /** Only the objects of this backup. */
  readonly backup?: string | undefined;
  /** Objects under work at once. */
  readonly jobs: number;
  readonly onBegin?: ((objects: number) => void) | undefined;
  readonly onObject?: (() => void) | undefined;
}

/** An object that keeps its header. */
export interface Kept {
  readonly key: string;
  readonly error: SeawallError;
}

export interface Rekeyed {
  /** Objects with a new header; of a dry run those that would get one. */
  objects: number;
  /** Their stored bytes. */
  bytes: number;
  /** Objects that were encrypted to the new recipients already. */
  already: number;
  plain: number;
  /** Chunks of the open segment. */
  open: number;
  /** Objects of backups that are being taken, or failed. */
  unfinished: number;
  /** Objects that were deleted meanwhile. */
  gone: number;
  /** Old objects that the store keeps as old versions, with the old header. */
  hidden: number;
  /** Encrypted to others than the identity's recipients. */
  readonly locked: Kept[];
  /** In a storage class that has to be restored before it can be read. */
  readonly cold: Kept[];
  readonly damaged: Kept[];
}

interface Listed {
  readonly key: string;
  readonly bytes: number;
  /** Id of the backup that it belongs to. */
  readonly backup: string | undefined;
}

/** Most headers are shorter than this. */
const FRONT_BYTES = 8 << 10;
/** Other processes may give the same object a new header: so often it is looked at again. */
const RACES_MAX = 5;

/**
 * `archive.codec` has the new recipients, and identities of the old ones. Throws what the store throws: run it again then. Objects that
 * cannot be opened or read are counted.
 */
export async function rekeyArchive(archive: Archive, options: RekeyOptions): Promise<Rekeyed> {
  const counts: Rekeyed = {
    objects: 0,
    bytes: 0,
    already: 0,
    plain: 0,
    open: 0,
    unfinished: 0,
    gone: 0,
    hidden: 0,
    locked: [],
    cold: [],
    damaged: [],
  };
  const listed = await listEncryptable(archive, options, counts);
  options.onBegin?.(listed.length);
  const names = (await archive.codec.identities?.recipients()) ?? [];
  const isProvable = names.some((name) => archive.codec.recipients?.includes(name) === true);
  await mapBounded(listed, options.jobs, async (object) => {
    try {
      await rekeyObject(archive, object, { ...options, counts, isProvable });
    } catch (error) {
      if (hasCode(error, "identity-missing")) counts.locked.push({ key: object.key, error });
      else if (isCold(error)) counts.cold.push({ key: object.key, error });
      else if (error instanceof SeawallError && error.isDamage) counts.damaged.push({ key: object.key, error });
      else throw error;
    }
    options.onObject?.();
  });
  return counts;
}

/** Lists what may be encrypted. */
async function listEncryptable(
  archive: Archive,
  { backup, signal }: Pick<RekeyOptions, "backup" | "signal">,
  counts: Rekeyed,
): Promise<Listed[]> {
  const { store, cluster, identity } = archive;
  const { segmentSize } = identity;
  const listed: Listed[] = [];
  const finished = new Set<string>();
  const backups = backup === undefined ? backupsPrefix(cluster) : backupPrefix(cluster, backup);
  for await (const { key, bytes } of store.list(backups, { signal })) {
    const id = key.slice(backupsPrefix(cluster).length).split("/", 1)[0] ?? "";
    if (!isBackupId(id)) continue;
    if (key === backupDocumentKey(cluster, id)) finished.add(id);
    else if (isBackupObject(cluster, id, key)) listed.push({ key, bytes, backup: id });
  }
  const whole = listed.filter(({ backup: id = "" }) => finished.has(id));
  counts.unfinished = listed.length - whole.length;
  if (backup !== undefined) return whole;
  const chunks: (Listed & { readonly place: string })[] = [];
  for await (const { key, bytes } of store.list(tailsPrefix(cluster), { signal })) {
    const chunk = parseChunkKey(key, segmentSize);
    if (chunk !== undefined) chunks.push({ key, bytes, backup: undefined, place: key.slice(0, key.lastIndexOf("/")) });
  }
  // In byte order of the keys the newest segment of the newest timeline is the last one.
  const open = chunks.at(-1)?.place;
  const settled = chunks.filter(({ place }) => place !== open);
  counts.open = chunks.length - settled.length;
  const others: Listed[] = [];
  for (const prefix of [`${cluster}/evidence/`, walPrefix(cluster)]) {
    for await (const { key, bytes } of store.list(prefix, { signal })) {
      const step = removalStepOf(cluster, key, segmentSize);
      if (key.endsWith(".zst") && (step === "WAL" || step === "records"))
        others.push({ key, bytes, backup: undefined });
    }
  }
  return [...whole, ...settled, ...others];
}

async function rekeyObject(
  archive: Archive,
  { key, backup }: Listed,
  {
    counts,
    isProvable,
    isDry,
    signal,
  }: RekeyOptions & {
    readonly counts: Rekeyed;
    /** An identity is of a new recipient. */
    readonly isProvable: boolean;
  },
): Promise<void> {
  const { store, codec, cluster } = archive;
  const wanted = codec.recipients ?? [];
  for (let race = 0; race < RACES_MAX; race++) {
    const found = await readFront(archive, key, { signal });
    if (found === undefined) return void counts.gone++;
    const to = codec.recipientsOf(found.front, key);
    if (to === undefined) return void counts.plain++;
    if (isSame(to, wanted)) {
      // A writer of the store can forge these names, but not the MAC over them.
      if (isProvable) await codec.checkHeader(found, key);
      return void counts.already++;
    }
    const made = await codec.newHeader(found, key);
    if (!isDry) {
      const old = found.front.subarray(0, made.replacesBytes);
      const { header: front, startCheck: checkRest } = made;
      const replacement = { old, front, objectBytes: found.objectBytes, checkRest };
      const onHidden = (): void => void counts.hidden++;
      const result = await store.replaceFront(key, replacement, { signal, onHidden });
      if (result === "absent") return void counts.gone++;
      if (result === "changed") continue;
      if (backup !== undefined && (await isExpired(archive, backup, { signal }))) {
        // Its parts go behind its document, so this one may have come back.
        await store.delete([key], { signal });
        return void counts.gone++;
      }
      const length = Math.max(made.header.byteLength, FRONT_BYTES);
      const now = await store.get(key, { signal, range: { offset: 0, length } });
      if (now === undefined) return void counts.gone++;
      // Neither ours nor the old one: another process has replaced it since.
      if (!beginsWith(now.body, made.header) && !beginsWith(now.body, old)) continue;
      await codec.checkNewHeader({ front: now.body, objectBytes: now.objectBytes }, made, key);
      checkLength(now, { bytes: found.objectBytes - old.length + made.header.length, beginning: made.header, key });
    }
    counts.objects++;
    counts.bytes += found.objectBytes;
    return;
  }
  throw new SeawallError("store-unavailable", `other processes give ${key} in "${cluster}" new headers all the time`);
}

/** True when an object has to be restored from an archive storage class first. */
function isCold(error: unknown): error is SeawallError {
  return error instanceof SeawallError && error.details["s3Code"] === "InvalidObjectState";
}

/** A part of a backup does not state its length. Throws `store-lied`: the next object would suffer the same. */
function checkLength(
  { body, objectBytes }: { readonly body: Uint8Array; readonly objectBytes: number },
  { bytes, beginning, key }: { readonly bytes: number; readonly beginning: Uint8Array; readonly key: string },
): void {
  if (!beginsWith(body, beginning) || objectBytes === bytes) return;
  throw new SeawallError("store-lied", `${key}: has ${objectBytes} bytes behind its new header, ${bytes} were stored`);
}

function beginsWith(body: Uint8Array, front: Uint8Array): boolean {
  return Buffer.compare(body.subarray(0, front.byteLength), front) === 0;
}

/** The front of an object, with its whole header. */
async function readFront(
  { store, codec }: Archive,
  key: string,
  options: RequestOptions,
): Promise<{ readonly front: Uint8Array; readonly objectBytes: number } | undefined> {
  for (const length of [FRONT_BYTES, HEADER_FRONT_BYTES]) {
    const found = await store.get(key, { ...options, range: { offset: 0, length } });
    if (found === undefined) return undefined;
    const { body: front, objectBytes } = found;
    if (length === HEADER_FRONT_BYTES || front.byteLength === objectBytes || codec.hasWholeHeader(front)) {
      return { front, objectBytes };
    }
  }
  return undefined;
}

async function isExpired({ store, cluster }: Archive, id: string, options: RequestOptions): Promise<boolean> {
  return (await store.head(backupDocumentKey(cluster, id), options)) === undefined;
}
