/**
 * Pins: base backups that expiry must not delete. A new pin is the next generation, and older generations are removed
 * afterwards. So a backup that is pinned again is never without a pin, and nothing is overwritten.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { hasCode, isAbort, SeawallError } from "../../errors.ts";
import { throwIfAborted } from "../../store/signal.ts";
import type { RequestOptions } from "../../store/store.ts";
import type { Archive } from "../archive.ts";
import { mapBounded } from "../bounded.ts";
import { isRefusal } from "../retention/bulk-delete.ts";
import { isMarked } from "../retention/marks.ts";
import { decodeDocument, encodeDocument } from "../json-document.ts";
import { type PinKey, backupDocumentKey, isBackupId, parsePinKey, pinKey, pinsPrefix } from "../keys.ts";

export interface Pin {
  /** The backup's id. */
  readonly backup: string;
  /** ISO 8601, UTC. */
  readonly pinnedAt: string;
  /** The pin ends at this moment; null: when it is removed. */
  readonly expiresAt: string | null;
  readonly note: string;
}

export interface PinOptions extends RequestOptions {
  /** How long an expiry that has marked the backup may take to decide. */
  readonly waitMs?: number | undefined;
}

const EXPIRY_WAIT_MS = 5_000;
const LOOK_MS = 100;
const READS_IN_FLIGHT = 8;
/** Another process may pin the same backup at the same time: the next generation is tried this often. */
const RACES_MAX = 8;

export function isInForce(pin: Pin, now: Date): boolean {
  return pin.expiresAt === null || Date.parse(pin.expiresAt) > now.getTime();
}

/**
 * Lists the pin of each pinned backup, or of one, those that have run out included. One whose document cannot be read
 * counts as a pin without end: what is doubtful is kept.
 */
export async function listPins(
  archive: Archive,
  options: RequestOptions & { readonly backup?: string } = {},
): Promise<Pin[]> {
  const newest = new Map<string, PinKey>();
  for (const found of await generations(archive, options.backup, { signal: options.signal })) {
    const known = newest.get(found.backup);
    if (known === undefined || known.generation < found.generation) newest.set(found.backup, found);
  }
  const pins = await mapBounded([...newest.values()], READS_IN_FLIGHT, (found) => readPin(archive, found, options));
  return pins.filter((pin) => pin !== undefined);
}

/**
 * Pins a backup, or pins it anew: the last one counts. Throws `backup-absent` when there is no such backup (any more),
 * `backup-removed` when it is being removed.
 */
export async function putPin(archive: Archive, pin: Pin, options: PinOptions = {}): Promise<void> {
  await refuseAbsent(archive, pin.backup, options);
  const before = await generations(archive, pin.backup, options);
  let generation = Math.max(0, ...before.map((found) => found.generation)) + 1;
  const document = encodeDocument({ ...pin });
  let key = pinKey(archive.cluster, pin.backup, generation);
  for (let race = 0; (await archive.store.put(key, document, options)) === "exists"; race++) {
    // Our own request, tried again after it had taken effect, would find itself there.
    const there = await archive.store.get(key, options);
    if (there !== undefined && Buffer.compare(there.body, document) === 0) break;
    if (race === RACES_MAX) throw new SeawallError("store-unavailable", `${pin.backup} is being pinned by others`);
    key = pinKey(archive.cluster, pin.backup, ++generation);
  }
  const older = before.filter((found) => found.generation < generation).map((found) => found.key);
  await deleteIfAllowed(archive, older, options);
  try {
    await refuseExpiring(archive, pin.backup, options);
    await refuseAbsent(archive, pin.backup, options);
  } catch (error) {
    if (hasCode(error, "backup-absent")) await deleteIfAllowed(archive, [key], options);
    throw error;
  }
}

/** Older generations do not count, nor does the pin of a backup that is gone: what the store keeps of them does no harm. */
async function deleteIfAllowed(archive: Archive, keys: readonly string[], options: RequestOptions): Promise<void> {
  await archive.store.delete(keys, options).catch((error: unknown) => {
    if (!isRefusal(error)) throw error;
  });
}

/**
 * An expiry may have been quicker than we were. From its mark on it either sees our pin and takes the mark away, or the
 * backup goes; in between it is unknown, and the pin stays.
 */
async function refuseExpiring(archive: Archive, id: string, options: PinOptions): Promise<void> {
  const deadlineMs = performance.now() + (options.waitMs ?? EXPIRY_WAIT_MS);
  while (await isMarked(archive, id, options)) {
    await refuseAbsent(archive, id, options);
    if (performance.now() >= deadlineMs) {
      throw new SeawallError("backup-removed", `an expiry is about to remove backup ${id}`, {
        hint: "If it was interrupted, the next expiry sees the pin and leaves the backup alone; otherwise the backup is gone.",
      });
    }
    await sleep(LOOK_MS, undefined, { signal: options.signal }).catch(() => undefined);
    throwIfAborted(options.signal);
  }
}

/** False when the backup was not pinned. */
export async function removePin(archive: Archive, backup: string, options: RequestOptions = {}): Promise<boolean> {
  const found = await generations(archive, backup, options);
  await archive.store.delete(
    found.map(({ key }) => key),
    options,
  );
  return found.length > 0;
}

async function generations(
  archive: Archive,
  backup: string | undefined,
  options: RequestOptions,
): Promise<readonly PinKey[]> {
  const prefix = pinsPrefix(archive.cluster);
  const found: PinKey[] = [];
  for await (const { key } of archive.store.list(backup === undefined ? prefix : `${prefix}${backup}.`, options)) {
    const pin = parsePinKey(key);
    if (pin !== undefined) found.push(pin);
  }
  return found;
}

/** Undefined when it was replaced or removed since it was listed. */
async function readPin(archive: Archive, found: PinKey, options: RequestOptions): Promise<Pin | undefined> {
  const stored = await archive.store.get(found.key, options);
  if (stored === undefined) {
    const others = await generations(archive, found.backup, options);
    const next = others.filter(({ generation }) => generation > found.generation).at(-1);
    return next === undefined ? undefined : readPin(archive, next, options);
  }
  try {
    const fields = decodeDocument(stored.body, found.key);
    if (fields.text("backup") !== found.backup) throw fields.wrong("backup");
    return {
      backup: found.backup,
      pinnedAt: fields.time("pinnedAt"),
      expiresAt: fields.raw("expiresAt") === null ? null : fields.time("expiresAt"),
      note: fields.text("note"),
    };
  } catch (error) {
    if (!(error instanceof SeawallError) || isAbort(error)) throw error;
    const note = `this pin cannot be read: ${error.message}`;
    return { backup: found.backup, pinnedAt: new Date(0).toISOString(), expiresAt: null, note };
  }
}

async function refuseAbsent(archive: Archive, id: string, options: RequestOptions): Promise<void> {
  const exists =
    isBackupId(id) && (await archive.store.head(backupDocumentKey(archive.cluster, id), options)) !== undefined;
  if (exists) return;
  throw new SeawallError(
    "backup-absent",
    `there is no backup ${id} of "${archive.cluster}" in ${archive.store.description}`,
  );
}
