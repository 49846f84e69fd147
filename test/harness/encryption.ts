/**
 * Runs tests of the command line in encrypted form: with SEAWALL_TEST_ENCRYPTED=1 every command that stores is given a recipient,
 * and every command that reads an identity. Tests of their own need no variable: `makeKeys`.
 */
import { chownSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Decrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { type Archive, openArchive } from "../../src/archive/archive.ts";
import { Identities, identitiesIn } from "../../src/codec/age/identities.ts";
import { Recipients } from "../../src/codec/age/recipients.ts";
import { Codec } from "../../src/codec/codec.ts";
import type { Store } from "../../src/store/store.ts";
import { serverAccount } from "./account.ts";

/** The names of the keys' variables, as the run's main process leaves them to its workers. */
const [RECIPIENT, IDENTITY] = ["SEAWALL_TEST_RECIPIENT", "SEAWALL_TEST_IDENTITY"];

export interface Keys {
  readonly recipient: string;
  /** File of the identity, which only we and the servers' account can read. */
  readonly identityFile: string;
}

export async function makeKeys(folder: string): Promise<Keys> {
  const identity = await generateX25519Identity();
  const identityFile = join(folder, "identity.txt");
  writeFileSync(identityFile, `# for tests\n${identity}\n`, { mode: 0o600 });
  const account = serverAccount();
  if (account !== undefined) chownSync(identityFile, account.uid, account.gid);
  return { recipient: await identityToRecipient(identity), identityFile };
}

/** In the main process, before workers start. */
export async function provideRunKeys(folder: string): Promise<void> {
  if (process.env["SEAWALL_TEST_ENCRYPTED"] !== "1") return;
  const { recipient, identityFile } = await makeKeys(folder);
  process.env[RECIPIENT] = recipient;
  process.env[IDENTITY] = identityFile;
}

/** The keys of this run; undefined where it is not encrypted. */
function keysOfRun(): Keys | undefined {
  const [recipient, identityFile] = [process.env[RECIPIENT], process.env[IDENTITY]];
  return recipient === undefined || identityFile === undefined ? undefined : { recipient, identityFile };
}

/** Variables for every command of this run. */
export function runKeys(): Readonly<Record<string, string>> {
  const keys = keysOfRun();
  return keys === undefined ? {} : keysEnv(keys);
}

export function keysEnv({ recipient, identityFile }: Keys): Readonly<Record<string, string>> {
  return { SEAWALL_ENCRYPT_TO: recipient, SEAWALL_IDENTITY: identityFile };
}

/** For tests that store in their own process. */
export async function recipientsOf(keys = keysOfRun()): Promise<Recipients | undefined> {
  return keys === undefined ? undefined : Recipients.of([keys.recipient]);
}

/** For tests that read in their own process. */
export async function identitiesOf(keys = keysOfRun()): Promise<Identities | undefined> {
  if (keys === undefined) return undefined;
  return new Identities(await identitiesIn(readFileSync(keys.identityFile), keys.identityFile));
}

/** Reads and writes the archives of this run, encrypted or not. */
export const runCodec = new Codec({ recipients: await recipientsOf(), identities: await identitiesOf() });

/** Writes them as a receiver does: it has no identity. */
export const writingCodec = new Codec({ recipients: await recipientsOf() });

/** The bytes that an archive with this codec stores for content that is ready: as they are, or as an age file around them. */
export async function asStored(codec: Codec, bytes: Uint8Array): Promise<Buffer> {
  const writer = await codec.writePlain({ signal: new AbortController().signal });
  await writer.write(bytes);
  writer.end();
  const pieces: Uint8Array[] = [];
  for await (const piece of writer.body()) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Opens an archive of this run. Tests that open one without the run's keys cannot read it in an encrypted run. */
export async function openRunArchive(store: Store, name: string): Promise<Archive> {
  return openArchive(store, name, { codec: runCodec });
}

/** True where archives are encrypted: for tests of what a plain object looks like. Each names its reason where it asks. */
export const isEncryptedRun = keysOfRun() !== undefined;

/** The bytes of an object as a plain archive stores them, by the age library alone. */
export async function withoutAge(stored: Uint8Array): Promise<Buffer> {
  const keys = keysOfRun();
  if (keys === undefined) return Buffer.from(stored);
  const decrypter = new Decrypter();
  const identity = /^AGE-SECRET-KEY-\S+/m.exec(readFileSync(keys.identityFile, "utf8"))?.[0] ?? "";
  decrypter.addIdentity(identity);
  return Buffer.from(await decrypter.decrypt(stored));
}
