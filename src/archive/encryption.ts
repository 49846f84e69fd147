/**
 * The documents `encryption/<n>.json` say who the archive is encrypted to. They are immutable and numbered without a hole; the
 * newest counts. A writer leaves one when its recipients are others than the last writer's. An archive whose newest document names
 * recipients takes nothing plain. One without recipients lets plain data in again: only an operator leaves it
 * (`seawall cluster allow-plain`).
 */
import type { RequestOptions, Store } from "../store/store.ts";
import { SeawallError } from "../errors.ts";
import { decodeDocument, encodeDocument } from "./json-document.ts";
import { encryptionKey, encryptionPrefix, parseEncryptionKey } from "./keys.ts";

export interface EncryptionNote {
  /** Counted from 1; the highest number counts. */
  readonly number: number;
  /** Recipients in short; none where plain data was let in again. */
  readonly to: readonly string[];
  /** ISO 8601, UTC. */
  readonly since: string;
}

/** So many documents are asked for one after the other; where there are more, a listing tells the newest. */
const ASKED_IN_TURN = 8;
/** Other writers may leave documents at the same time. */
const RACES_MAX = 8;

/** The newest document; undefined for an archive that was never encrypted. Throws `object-corrupt`, `archive-version`. */
export async function readEncryption(
  store: Store,
  folder: string,
  options: RequestOptions = {},
): Promise<EncryptionNote | undefined> {
  let newest: EncryptionNote | undefined;
  // One request in an archive that was never encrypted: every writer asks at its start.
  for (let number = 1; ; number++) {
    const key = encryptionKey(folder, number);
    const found = await store.get(key, options);
    if (found === undefined) return newest;
    newest = decodeEncryption(found.body, { key, number });
    // Writers that disagree leave a document at each of their starts.
    if (number === ASKED_IN_TURN) number = Math.max(number, (await lastNumber(store, folder, options)) - 1);
  }
}

async function lastNumber(store: Store, folder: string, options: RequestOptions): Promise<number> {
  let last = 0;
  for await (const { key } of store.list(encryptionPrefix(folder), options)) {
    last = Math.max(last, parseEncryptionKey(key) ?? 0);
  }
  return last;
}

function decodeEncryption(
  bytes: Uint8Array,
  { key, number }: { readonly key: string; readonly number: number },
): EncryptionNote {
  const fields = decodeDocument(bytes, key);
  const to = fields.raw("to");
  if (!Array.isArray(to) || !to.every((name): name is string => typeof name === "string")) throw fields.wrong("to");
  return { number, to, since: fields.text("since") };
}

/** True where nothing plain may be stored. */
export function mustEncrypt(newest: EncryptionNote | undefined): newest is EncryptionNote {
  return newest !== undefined && newest.to.length > 0;
}

type Folder = { readonly store: Store; readonly folder: string };

/**
 * Lets a writer in: one that encrypts leaves its recipients where they are new. Throws `encryption-required` for one that does not,
 * in an archive that is encrypted.
 */
export async function agreeOnEncryption(
  archive: Folder,
  writer: { readonly recipients: readonly string[] | undefined; readonly now: string },
  options: RequestOptions,
): Promise<void> {
  const { recipients: to, now } = writer;
  await (to === undefined ? refusePlain(archive, options) : putEncryption(archive, { to, now }, options));
}

/** Throws `encryption-required` where nothing plain may be stored. Writes nothing. */
export async function refusePlain({ store, folder }: Folder, options: RequestOptions): Promise<void> {
  const newest = await readEncryption(store, folder, options);
  if (!mustEncrypt(newest)) return;
  throw new SeawallError(
    "encryption-required",
    `the archive "${folder}" in ${store.description} is encrypted to ${newest.to.join(", ")}, and this writer does not encrypt`,
    { hint: plainHint(folder) },
  );
}

/** The next step for a writer that is refused. */
export function plainHint(folder: string): string {
  return (
    "Give this writer the same --encrypt-to. " +
    "If the archive was encrypted by mistake, let plain data in again, with the same --store or --config: " +
    `seawall cluster allow-plain --cluster ${folder} --confirm ${folder}.`
  );
}

/** Another folder begins with the encryption that this one has. Safe to repeat. */
export async function carryEncryption(
  store: Store,
  { from, to: folder, now }: { readonly from: string; readonly to: string; readonly now: string },
  options: RequestOptions,
): Promise<void> {
  const to = (await readEncryption(store, from, options))?.to ?? [];
  await putEncryption({ store, folder }, { to, now }, options);
}

/** Lets plain data into an encrypted archive again. What is encrypted stays so. Safe to repeat. */
export async function allowPlain(archive: Folder, now: string, options: RequestOptions): Promise<void> {
  await putEncryption(archive, { to: [], now }, options);
}

async function putEncryption(
  { store, folder }: Folder,
  { to, now: since }: { readonly to: readonly string[]; readonly now: string },
  options: RequestOptions,
): Promise<void> {
  for (let race = 0; race < RACES_MAX; race++) {
    const newest = await readEncryption(store, folder, options);
    if (isSame(newest?.to ?? [], to)) return;
    const key = encryptionKey(folder, (newest?.number ?? 0) + 1);
    if ((await store.put(key, encodeDocument({ to, since }), options)) === "created") return;
  }
  throw new SeawallError("store-unavailable", `other writers change the recipients of "${folder}" all the time`);
}

/** True when both name the same recipients, in any order. */
export function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}
