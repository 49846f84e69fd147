/**
 * Recipients: the public keys to which objects are encrypted. Each object has a file key of its own; the library puts it into a
 * stanza for each recipient. Writers have nothing else: what they have stored they cannot read.
 */
import { createHash, randomBytes } from "node:crypto";
import type { Encrypter } from "age-encryption";
import { SeawallError } from "../../errors.ts";
import { encodeStanza, parseHeader } from "./header.ts";
import { headerMac, NONCE_BYTES } from "./payload.ts";

/** The keys of one object. They are used once. */
export interface ObjectKeys {
  readonly fileKey: Uint8Array;
  /** The stanzas of all recipients, as text. */
  readonly stanzas: Uint8Array;
  readonly nonce: Uint8Array;
}

/** A header has room for so many of the largest kind. */
export const RECIPIENTS_MAX = 16;
/** Keys that lie ready, so that a commit does not wait for them. */
const STOCK = 4;
/** A longer recipient is a post-quantum one, of two thousand characters: its name is its beginning and its fingerprint. */
const NAME_CHARACTERS_MAX = 80;

export class Recipients {
  /** The recipients in short: what an object says of itself, and messages show. */
  readonly names: readonly string[];
  readonly #texts: readonly string[];
  readonly #encrypter: Encrypter;
  readonly #stock: Promise<ObjectKeys>[] = [];
  /** Set while `encrypt` runs, one at a time. */
  #fileKey: Uint8Array | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** More than one object was asked for. */
  #isBusy = false;

  private constructor(texts: readonly string[], encrypter: Encrypter) {
    this.names = texts.map(recipientName);
    this.#texts = texts;
    this.#encrypter = encrypter;
    // The library shows the file key to recipients only; this one takes it and adds no stanza.
    encrypter.addRecipient({
      wrapFileKey: (fileKey) => {
        this.#fileKey = fileKey;
        return [];
      },
    });
  }

  /** Throws `usage` for what is no recipient. */
  static async of(texts: readonly string[]): Promise<Recipients> {
    const known = [...new Set(texts)];
    if (known.length === 0 || known.length > RECIPIENTS_MAX) {
      throw new SeawallError(
        "usage",
        `${known.length} recipients were given, and an object has 1 to ${RECIPIENTS_MAX}`,
      );
    }
    const library = await import("age-encryption");
    const encrypter = new library.Encrypter();
    for (const text of known) {
      refuseOtherKinds(text);
      try {
        encrypter.addRecipient(text);
      } catch (cause) {
        throw new SeawallError("usage", `"${recipientName(text)}" is no recipient of age`, {
          cause,
          hint: "A recipient is the public key that age-keygen prints: age1… .",
        });
      }
    }
    return new Recipients(known, encrypter);
  }

  /** Keys for one object. From the second one on, the next ones are made in the background. */
  async take(): Promise<ObjectKeys> {
    const next = this.#stock.shift() ?? this.#make();
    while (this.#isBusy && this.#stock.length < STOCK) {
      const made = this.#make();
      // No object may come to take these keys and their error.
      made.catch(() => undefined);
      this.#stock.push(made);
    }
    this.#isBusy = true;
    return next;
  }

  /** The stanzas of all recipients, as text, for a file key that exists already. */
  async stanzasFor(fileKey: Uint8Array): Promise<Uint8Array> {
    const { Encrypter } = await import("age-encryption");
    const encrypter = new Encrypter();
    // The library makes a file key and shows it to one recipient after the other. The first one puts ours in its place, and
    // the last one looks whether those between have seen it.
    let isOurs = false;
    encrypter.addRecipient({
      wrapFileKey: (made) => {
        made.set(fileKey);
        return [];
      },
    });
    for (const text of this.#texts) encrypter.addRecipient(text);
    encrypter.addRecipient({
      wrapFileKey: (wrapped) => {
        isOurs = Buffer.from(wrapped).equals(fileKey);
        return [];
      },
    });
    const header = parseHeader(await encrypter.encrypt(""));
    const isWhole = header !== undefined && Buffer.from(headerMac(fileKey, header.authenticated)).equals(header.mac);
    if (!isOurs || !isWhole) throw new SeawallError("internal", "the library has put another file key into a header");
    return Buffer.concat(header.stanzas.map(encodeStanza));
  }

  async #make(): Promise<ObjectKeys> {
    const made = this.#last.then(async () => {
      const header = parseHeader(await this.#encrypter.encrypt(""));
      const fileKey = this.#fileKey;
      if (header === undefined || fileKey === undefined)
        throw new SeawallError("internal", "the library made no header");
      const stanzas = Buffer.concat(header.stanzas.map(encodeStanza));
      return { fileKey, stanzas, nonce: randomBytes(NONCE_BYTES) };
    });
    // Reported to the object that takes these keys.
    this.#last = made.catch(() => undefined);
    return made;
  }
}

/** A recipient in short. */
export function recipientName(text: string): string {
  if (text.length <= NAME_CHARACTERS_MAX) return text;
  return `${text.slice(0, 16)}…${createHash("sha256").update(text).digest("hex").slice(0, 16)}`;
}

function refuseOtherKinds(text: string): void {
  if (/^AGE-SECRET-KEY-/i.test(text)) {
    throw new SeawallError("usage", "a recipient was given that is a private key", {
      hint: "Give the public key to writers: age-keygen -y FILE prints it. Replace this identity if others saw it.",
    });
  }
  if (text.startsWith("ssh-")) {
    throw new SeawallError("usage", `recipients of the kind ${text.split(" ")[0]} cannot be used`, {
      hint: "Make an identity with age-keygen and give its public key.",
    });
  }
}

/** The recipients in a file: one a line, empty lines and comments (`#`) aside. */
export function recipientsIn(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}
