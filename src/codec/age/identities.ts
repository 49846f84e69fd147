/**
 * Identities: the private keys that open what was encrypted to their recipients. Readers have them, and writers do not. They
 * are kept as text, so that threads can be given them; no message and no log line holds one.
 */
import { SeawallError } from "../../errors.ts";

const IDENTITY = /^AGE-SECRET-KEY-(PQ-)?1[02-9AC-HJ-NP-Z]+$/;
const ARMOR_MARK = "-----BEGIN AGE ENCRYPTED FILE-----";
const BINARY_MARK = "age-encryption.org/";

/** True for an identity file that is itself encrypted, by a passphrase. */
export function isProtected(file: Uint8Array): boolean {
  const front = Buffer.from(file.subarray(0, 64)).toString("latin1").trimStart();
  return front.startsWith(BINARY_MARK) || front.startsWith(ARMOR_MARK);
}

/** The identities in a file; `name` is for messages. Throws `usage`. */
export async function identitiesIn(file: Uint8Array, name: string, passphrase?: string): Promise<string[]> {
  if (!isProtected(file)) return parseLines(Buffer.from(file).toString("utf8"), name);
  if (passphrase === undefined) {
    throw new SeawallError("usage", `${name} is protected by a passphrase, and none was given`, {
      hint: "Give the file of the passphrase with --identity-passphrase-file.",
    });
  }
  const { Decrypter, armor } = await import("age-encryption");
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase);
  const text = Buffer.from(file).toString("latin1");
  try {
    const binary = text.trimStart().startsWith(ARMOR_MARK) ? armor.decode(text) : Uint8Array.from(file);
    return parseLines(await decrypter.decrypt(binary, "text"), name);
  } catch (cause) {
    if (cause instanceof SeawallError) throw cause;
    throw new SeawallError("usage", `the passphrase does not open ${name}`, { cause });
  }
}

export interface NewIdentity {
  /** The public key, for `--encrypt-to`. */
  readonly recipient: string;
  /** Content of its file: as `age-keygen` writes it, or an age file around that with a passphrase. */
  readonly file: string;
}

/** Makes an identity that no one else has. `createdAt`: ISO 8601, for the file's comment. */
export async function makeIdentity(options: {
  readonly isPostQuantum: boolean;
  readonly passphrase: string | undefined;
  readonly createdAt: string;
}): Promise<NewIdentity> {
  const { isPostQuantum, passphrase, createdAt } = options;
  const library = await import("age-encryption");
  const identity = await (isPostQuantum ? library.generateHybridIdentity() : library.generateX25519Identity());
  const recipient = await library.identityToRecipient(identity);
  const text = `# created: ${createdAt}\n# public key: ${recipient}\n${identity}\n`;
  if (passphrase === undefined) return { recipient, file: text };
  const encrypter = new library.Encrypter();
  encrypter.setPassphrase(passphrase);
  return { recipient, file: `${library.armor.encode(await encrypter.encrypt(text)).trimEnd()}\n` };
}

function parseLines(text: string, name: string): string[] {
  const found: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    // The line itself is a secret, or something that was pasted by mistake.
    if (!IDENTITY.test(trimmed)) {
      throw new SeawallError("usage", `${name}, line ${index + 1}, is no identity of age`, {
        hint: "An identity file is what age-keygen writes: AGE-SECRET-KEY-1… . SSH keys and plugins cannot be used.",
      });
    }
    found.push(trimmed);
  }
  if (found.length === 0) throw new SeawallError("usage", `${name} holds no identity of age`);
  return found;
}

export class Identities {
  readonly texts: readonly string[];
  #recipients: Promise<string[]> | undefined;

  constructor(texts: readonly string[]) {
    this.texts = texts;
  }

  /** Their recipients in short. */
  async recipients(): Promise<string[]> {
    return (this.#recipients ??= this.#findRecipients());
  }

  async #findRecipients(): Promise<string[]> {
    const [{ identityToRecipient }, { recipientName }] = await Promise.all([
      import("age-encryption"),
      import("./recipients.ts"),
    ]);
    return Promise.all(this.texts.map(async (text) => recipientName(await identityToRecipient(text))));
  }

  /** The file key in a whole header; undefined when none of the identities opens it. Throws when the header was changed. */
  async open(header: Uint8Array): Promise<Uint8Array | undefined> {
    const { Decrypter } = await import("age-encryption");
    const decrypter = new Decrypter();
    for (const text of this.texts) decrypter.addIdentity(text);
    let isForOthers = false;
    // Asked last: when the identities before it have opened nothing.
    decrypter.addIdentity({
      unwrapFileKey: () => {
        isForOthers = true;
        return null;
      },
    });
    try {
      return await decrypter.decryptHeader(Uint8Array.from(header));
    } catch (cause) {
      if (isForOthers) return undefined;
      throw new Error("the header was changed", { cause });
    }
  }
}
